"""Which of several phrases tells a class apart best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.errors import DataError
from napari_fewshot.ops import mask_to_grid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import AnyArray, BoolArray

# Share of the cells that counts as what a phrase points at, where there is no mask.
TOP = 0.05


@dataclass(frozen=True)
class PhraseScore:
    """How well one phrase separates.

    Attributes
    ----------
    phrase : str
    score : float
        Of kind ``"auc"``: the chance that a cell of the class is warmer than another
        one; 0.5 is chance. Of kind ``"gap"``: cosine by which the warmest cells stand
        above what they are compared with.
    kind : str
    """

    phrase: str
    score: float
    kind: str


def separation(
    phrases: Sequence[str],
    cosines: AnyArray,
    mask: BoolArray | None = None,
    background: AnyArray | None = None,
    top: float = TOP,
) -> list[PhraseScore]:
    """Return phrases with their scores, the best first.

    With a mask, of a support, the score is the area under the ROC curve of the map.
    Without one it is the mean, over the warmest cells, of the map less the best map of
    what means nothing; or less the mean of all other cells if there is none such.

    Parameters
    ----------
    phrases : sequence of P str
        What was looked for.
    cosines : array (P, h, w)
        One map per phrase.
    mask : array (H, W) bool, optional
        Of the class, at any resolution.
    background : array (B, h, w), optional
        Maps of background words and nonsense.
    top : float
        Share of the cells that are the warmest; at least one cell.

    Raises
    ------
    DataError
        If there are not as many maps as phrases, or the mask is empty or full.
    """
    maps = np.asarray(cosines, np.float64)
    if maps.ndim != 3 or len(maps) != len(phrases):
        raise DataError(
            f"{len(phrases)} phrases need as many maps, not an array {maps.shape}."
        )
    if mask is not None:
        kind = "auc"
        cover = mask_to_grid(np.asarray(mask) > 0, maps.shape[1:]).astype(np.float64)
        if not 0 < cover.mean() < 1:
            raise DataError(
                "The mask is empty or covers everything; phrases are compared on a "
                "plane that shows the class and something else."
            )
        scores = [area_under_curve(m.ravel(), cover.ravel()) for m in maps]
    else:
        kind = "gap"
        scores = [_gap(m.ravel(), background, top) for m in maps]
    rows = [PhraseScore(p, s, kind) for p, s in zip(phrases, scores, strict=True)]
    return sorted(rows, key=lambda row: -row.score)


def area_under_curve(values: AnyArray, cover: AnyArray) -> float:
    """Return the area under the ROC curve of cells that belong by shares.

    The chance that a place of the class has a higher value than one outside, half of
    it where they are equal (Mann-Whitney); a cell counts for both by its share.

    Parameters
    ----------
    values : array (n,)
        Of the map.
    cover : array (n,)
        Share of each cell that belongs to the class, in [0, 1].
    """
    levels, where = np.unique(values, return_inverse=True)
    inside = np.bincount(where, cover, len(levels))
    outside = np.bincount(where, 1 - cover, len(levels))
    below = np.cumsum(outside) - outside
    total = inside.sum() * outside.sum()
    return float((inside * (below + outside / 2)).sum() / total)


def _gap(values: AnyArray, background: AnyArray | None, top: float) -> float:
    count = max(1, min(len(values) - 1, round(top * len(values))))
    order = np.argsort(-values, kind="stable")
    warm, others = order[:count], order[count:]
    if background is not None and len(background):
        against = np.asarray(background, np.float64).reshape(len(background), -1).max(0)
        return float((values[warm] - against[warm]).mean())
    if not len(others):
        return 0.0
    return float(values[warm].mean() - values[others].mean())
