"""From prompts to one mask of a class: passes of a decoder, and how masks are joined.

A mask counts only if it agrees with the calibrated map it was made from; parts of the
map that no mask took over stay as they are. So a decoder that errs costs little.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.methods.grid._edges import upsampled
from napari_fewshot.methods.grid._house import CERTAIN, agreeing
from napari_fewshot.methods.grid._vocabulary import Segment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import BoolArray, FloatArray
    from napari_fewshot.data import Hooks
    from napari_fewshot.methods.grid._asks import Ask, Decoder
    from napari_fewshot.methods.grid._tokens import GridPlane

# A mask takes over a part of the map if it covers this share of it.
TAKES_OVER = 0.3
# Where there are more objects, each is decoded once.
CROWD = 12
MOST_CANDIDATES = 8
CERTAINLY = np.ones(1, np.float32)


@dataclass(frozen=True, eq=False)
class Drawn:
    """One mask of a decoder.

    Attributes
    ----------
    logits : array (r, c)
        In the decoder's resolution.
    cover : array (h, w)
        Share of every cell that it covers.
    score : float
        Predicted quality, or what a method thinks of it.
    ask : Ask
        The prompts.
    """

    logits: FloatArray = field(repr=False)
    cover: FloatArray = field(repr=False)
    score: float
    ask: Ask = field(repr=False)


def draw(
    asks: Sequence[Ask],
    regions: Sequence[BoolArray],
    odds: FloatArray,
    query: GridPlane,
    decoder: Decoder,
    hooks: Hooks,
    *,
    several: bool = False,
    **guidance: Any,
) -> list[Drawn]:
    """Decode prompts, and of several candidates take the best.

    Parameters
    ----------
    asks : sequence of Ask
        One mask each.
    regions : sequence of array (h, w) bool
        What each mask should be about; decides among candidates, with their scores.
    odds, query, decoder, hooks, several, guidance
        As for `Decoder.decode`.
    """
    if not asks:
        return []
    logits, scores = decoder.decode(
        query, odds, asks, hooks, several=several, **guidance
    )
    found = []
    for ask, region, masks, quality in zip(asks, regions, logits, scores, strict=True):
        covers = decoder.to_grid(query, masks)
        worth = agreement(region, covers) * (0.5 + 0.5 * np.clip(quality, 0, 1))
        best = int(worth.argmax())
        found.append(Drawn(masks[best], covers[best], float(quality[best]), ask))
    return found


def refine(
    drawn: Sequence[Drawn],
    regions: Sequence[BoolArray],
    odds: FloatArray,
    query: GridPlane,
    decoder: Decoder,
    hooks: Hooks,
    boxes: Sequence[bool] = (False, True),
) -> list[Drawn]:
    """Give masks back as prompts, then with their boxes (the cascade of PerSAM).

    Parameters
    ----------
    drawn, regions
        From and as for `draw`. Empty masks stay as they are, and so do all masks of a
        crowd.
    odds, query, decoder, hooks
        As for `Decoder.decode`.
    boxes : sequence of bool
        One pass each: whether it uses the box of the mask.
    """
    found = list(drawn)
    if len(found) > CROWD:
        return found
    for with_box in boxes:
        live = [i for i, d in enumerate(found) if (d.logits > 0).any()]
        asks = [
            replace(
                found[i].ask,
                mask=found[i].logits,
                box=box_of(found[i].cover, query) if with_box else found[i].ask.box,
            )
            for i in live
        ]
        again = draw(
            asks, [regions[i] for i in live], odds, query, decoder, hooks, several=True
        )
        for i, better in zip(live, again, strict=True):
            if (better.logits > 0).any():
                found[i] = better
    return found


def box_of(cover: FloatArray, query: GridPlane) -> FloatArray | None:
    """Return the box of the cells that a mask covers in pixels; None for no cell."""
    rows, columns = np.nonzero(cover >= min(0.5, float(cover.max()) or 1.0))
    if not len(rows):
        return None
    scale = np.array(query.shape) / np.array(query.grid)
    low = np.array([rows.min(), columns.min()]) * scale
    high = np.array([rows.max() + 1, columns.max() + 1]) * scale
    return np.concatenate([low, high]).astype(np.float32)


def agreement(region: BoolArray, covers: FloatArray) -> FloatArray:
    """Return the Dice of a region (h, w) with covers (M, h, w), (M,)."""
    both = (covers * region).sum((1, 2))
    found: FloatArray = 2 * both / np.maximum(covers.sum((1, 2)) + region.sum(), 1e-9)
    return found


def joined_masks(
    drawn: Sequence[Drawn],
    odds: FloatArray,
    query: GridPlane,
    decoder: Decoder,
    edges: str,
) -> Segment:
    """Return the mask of a class: accepted masks, and the map where there are none.

    Parameters
    ----------
    drawn : sequence of Drawn
        The best first.
    odds : array (h, w)
        Calibrated log-odds; some are positive.
    query : GridPlane
        The plane.
    decoder : Decoder
        Who drew.
    edges : str
        For parts of the map that no mask took over; see `upsampled`.
    """
    from scipy import ndimage

    parts, count = ndimage.label(odds > 0, np.ones((3, 3)))
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    taken = np.zeros(count + 1, bool)
    accepted = []
    for one in drawn:
        shared = np.bincount(parts.ravel(), one.cover.ravel(), minlength=count + 1)
        touched = shared > TAKES_OVER * sizes
        touched[0] = False
        region = touched[parts]
        if region.any() and agreeing(region, one.cover[None], CERTAINLY) is not None:
            taken |= touched
            accepted.append(one)
    rest = np.where(taken[parts], -np.abs(odds) - 1.0, odds)
    total = upsampled(rest.astype(np.float32), query, edges)
    for one in accepted:
        full = decoder.restore(query, one.logits[None])[0]
        total = np.maximum(total, np.clip(full, -CERTAIN, CERTAIN))
    shown = list(drawn)[:MOST_CANDIDATES]
    candidates = None
    if shown:
        candidates = np.stack(
            [decoder.restore(query, one.logits[None])[0] > 0 for one in shown]
        )
    return Segment(
        total.astype(np.float32),
        tuple(one.ask for one in drawn),
        candidates,
        tuple(one.score for one in shown),
    )
