"""Prompts from a coarse map: what every method does that brings none of its own.

Each connected part of the map becomes one mask: its innermost point, a padded box, and
points on a ring outside that look least like the class (systems of this kind: FoB,
ProtoSAM). A mask counts only if it agrees with the part it came from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.methods.grid._asks import Ask, Decoder
from napari_fewshot.methods.grid._edges import upsampled
from napari_fewshot.ops import interior_distance, ring_points

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_fewshot._types import BoolArray, FloatArray
    from napari_fewshot.data import Hooks
    from napari_fewshot.methods.grid._tokens import GridPlane

    MakeAsk = Callable[[BoolArray, FloatArray, GridPlane], Ask]

MOST_PARTS = 64
NEGATIVES = 4
PADDING = 0.1
# A mask is taken if it is so much larger or smaller than its part, and overlaps it.
MOST_RATIO, LEAST_DICE = 3.0, 0.5
CERTAIN = 6.0


def house_segment(
    odds: FloatArray,
    query: GridPlane,
    decoder: Decoder,
    edges: str,
    hooks: Hooks,
    make_ask: MakeAsk | None = None,
) -> tuple[FloatArray, tuple[Ask, ...]]:
    """Turn calibrated log-odds into a mask by prompting a decoder per part.

    Parameters
    ----------
    odds : array (h, w)
        Some are positive.
    query : GridPlane
        Where.
    decoder : Decoder
        Who draws.
    edges : str
        For parts whose mask is not taken; see `upsampled`.
    hooks : Hooks
        For cancelling.
    make_ask : callable, optional
        Returns the prompts for a part; default `house_ask`.

    Returns
    -------
    odds : array (H, W)
        Log-odds.
    asks : tuple of Ask
        The prompts, largest part first.
    """
    parts = parts_of(odds)
    asks = [(make_ask or house_ask)(part, odds, query) for part in parts]
    logits, scores = decoder.decode(query, odds, asks, hooks, several=True)
    rest = np.array(odds)
    found: list[FloatArray] = []
    for part, masks, quality in zip(parts, logits, scores, strict=True):
        chosen = agreeing(part, decoder.to_grid(query, masks), quality)
        if chosen is not None:
            found.append(decoder.restore(query, masks[chosen][None])[0])
            rest[part] = -np.abs(rest[part]) - 1.0
    total = upsampled(rest, query, edges)
    for mask in found:
        total = np.maximum(total, np.clip(mask, -CERTAIN, CERTAIN))
    return total.astype(np.float32), tuple(asks)


def parts_of(odds: FloatArray) -> list[BoolArray]:
    """Return the connected parts of a map above zero, the largest first."""
    from scipy import ndimage

    labels, count = ndimage.label(odds > 0, np.ones((3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    order = np.argsort(-sizes, kind="stable")[:MOST_PARTS]
    return [labels == i + 1 for i in order]


def house_ask(part: BoolArray, odds: FloatArray, query: GridPlane) -> Ask:
    """Return the prompts for one part of a map.

    Parameters
    ----------
    part : array (h, w) bool
        Not empty.
    odds : array (h, w)
        Calibrated log-odds.
    query : GridPlane
        Where.
    """
    depth = interior_distance(part)
    # Of equally deep cells the surest; a centroid may lie outside a ring.
    inner = np.unravel_index((depth + 1e-3 * odds * part).argmax(), part.shape)
    ring = ring_points(part, 2.0, NEGATIVES)
    if len(ring):
        ring = ring[
            odds[ring[:, 0], ring[:, 1]] < min(0.0, float(np.median(odds[part])))
        ]
    cells = np.concatenate([np.array([inner]), ring.reshape(-1, 2)])
    rows, columns = np.nonzero(part)
    low = np.array([rows.min(), columns.min()], float)
    high = np.array([rows.max() + 1, columns.max() + 1], float)
    pad = np.maximum(PADDING * (high - low), 0.5)
    scale = np.array(query.shape) / np.array(query.grid)
    box = np.concatenate([(low - pad) * scale, (high + pad) * scale])
    box = np.clip(box, 0, np.tile(query.shape, 2)).astype(np.float32)
    labels = np.array([1] + [0] * len(ring), np.int8)
    return Ask(query.to_pixels(cells), labels, box)


def agreeing(part: BoolArray, covers: FloatArray, scores: FloatArray) -> int | None:
    """Return which mask agrees best with a part, or None if none does.

    Parameters
    ----------
    part : array (h, w) bool
        Not empty.
    covers : array (M, h, w)
        Cover of the cells by the masks.
    scores : array (M,)
        Predicted quality, multiplied with the Dice.
    """
    areas = covers.sum((1, 2))
    both = (covers * part).sum((1, 2))
    overlap = 2 * both / np.maximum(areas + part.sum(), 1e-9)
    ratio = areas / part.sum()
    taken = (overlap >= LEAST_DICE) & (ratio <= MOST_RATIO) & (ratio >= 1 / MOST_RATIO)
    if not taken.any():
        return None
    worth = np.where(taken, overlap * (0.5 + 0.5 * np.clip(scores, 0, 1)), -1.0)
    return int(worth.argmax())
