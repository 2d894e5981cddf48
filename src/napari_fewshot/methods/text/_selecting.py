"""Relations in phrases, resolved on what was drawn: "the largest", "on the left"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.ops.referring import select

if TYPE_CHECKING:
    from napari_fewshot._types import FloatArray, LabelArray

# What is not meant is at least this far below the boundary, in log-odds.
NOT_MEANT = -1.0


def meant(
    odds: FloatArray,
    objects: LabelArray | None,
    words: Any,
    *,
    radiological: bool,
) -> tuple[FloatArray, LabelArray | None, tuple[str, ...]]:
    """Keep of a class what its phrase means.

    Parameters
    ----------
    odds : array (H, W)
        Log-odds of everything that the noun fits.
    objects : array (H, W) int32, optional
        Numbers of single objects; without, connected parts are objects.
    words : ClassWords or ClassPhrases
        Its ``referring`` tells what is meant.
    radiological : bool
        See `ops.referring.select`.

    Returns
    -------
    odds : array (H, W)
    objects : array (H, W) int32 or None
    notes : tuple of str
        What could not be satisfied.
    """
    said = getattr(words, "referring", None)
    if said is None or not (odds > 0).any():
        return odds, objects, ()
    given = odds > 0 if objects is None else np.where(odds > 0, objects, 0)
    chosen = select(given, said, radiological=radiological)
    lost = (odds > 0) & ~chosen.mask
    kept = np.where(lost, np.minimum(-np.abs(odds), np.float32(NOT_MEANT)), odds)
    left = None if objects is None else np.where(chosen.mask, objects, 0)
    notes = tuple(f"{said.phrase!r}: {note}" for note in chosen.notes)
    return kept.astype(np.float32), left, notes
