"""Masks from models that find objects one by one: boxes, or masks of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.methods.grid import Ask
from napari_fewshot.methods.text._drawing import CERTAIN, Drawn, stability
from napari_fewshot.ops import mask_to_grid, suppress_masks
from napari_fewshot.ops.heatmaps import box_round, tidy_boxes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import BoolArray, FloatArray
    from napari_fewshot.data import Hooks
    from napari_fewshot.methods.grid import GridPlane
    from napari_fewshot.methods.text._base import TextFitted
    from napari_fewshot.methods.text._heat import Heat

# Of two masks that overlap by more (intersection over union) the better one stays.
MOST_UNION = 0.7
# Boxes over more of the plane are no objects (detectors return the whole plane where
# they find nothing).
MOST_SHARE = 0.8


def has_objects(heat: Heat, value: int) -> bool:
    """Whether a model found single objects of a class, or looked for them in vain."""
    return value in heat.objects or value in heat.boxes


def draw_objects(
    value: int,
    heat: Heat,
    odds: FloatArray,
    query: GridPlane,
    fitted: TextFitted,
    hooks: Hooks,
) -> Drawn:
    """Draw and number the single objects of a class.

    Masks that a model found are taken as they are; boxes are given to the decoder.

    Parameters
    ----------
    value : int
        The class.
    heat : Heat
        With objects or boxes of it, perhaps none.
    odds : array (h, w)
        Log-odds of the class, for decoders that look at the map.
    query : GridPlane
        On the grid of the map.
    fitted : TextFitted
        With the decoder.
    hooks : Hooks
        For cancelling.
    """
    drawn = Drawn(np.full(query.shape, -CERTAIN, np.float32))
    if value in heat.objects:
        masks = np.asarray(heat.objects[value], bool).reshape(-1, *query.shape)
        scores = _scores(heat, value, len(masks))
        logits = [np.where(m, CERTAIN, -CERTAIN).astype(np.float32) for m in masks]
    else:
        logits, scores, drawn.asks = _boxed(value, heat, odds, query, fitted, hooks)
    keep = [i for i, one in enumerate(logits) if (one > 0).any()]
    logits, worth = [logits[i] for i in keep], np.array([scores[i] for i in keep])
    order = _apart(logits, worth, query)
    for i in order:
        drawn.remember(float(worth[i]), logits[i] > 0)
        drawn.odds = np.maximum(drawn.odds, logits[i])
    numbers = np.zeros(query.shape, np.int32)
    # The best is painted last, and has the number 1.
    for rank, i in reversed(list(enumerate(order, 1))):
        numbers[logits[i] > 0] = rank
    _, dense = np.unique(np.append(numbers.ravel(), 0), return_inverse=True)
    drawn.objects = dense[:-1].reshape(query.shape).astype(np.int32)
    return drawn


def _boxed(
    value: int,
    heat: Heat,
    odds: FloatArray,
    query: GridPlane,
    fitted: TextFitted,
    hooks: Hooks,
) -> tuple[list[FloatArray], list[float], list[Ask]]:
    """Return logits (H, W) per box, scores, and what the decoder was given."""
    given = np.asarray(heat.boxes[value], np.float64).reshape(-1, 4)
    boxes, scores = tidy_boxes(
        given, np.array(_scores(heat, value, len(given))), query.shape, MOST_SHARE
    )
    asks = [Ask(box=box) for box in boxes]
    if not asks:
        return [], [], []
    decoder = fitted.decoder
    found, quality = decoder.decode(query, odds, asks, hooks, several=True)
    logits, worth = [], []
    for masks, good, score, box in zip(found, quality, scores, boxes, strict=True):
        hooks.check()
        best = filling(decoder.to_grid(query, masks), box, query, good)
        full = decoder.restore(query, masks[best][None])[0]
        logits.append(np.clip(full, -CERTAIN, CERTAIN).astype(np.float32))
        own = float(np.sqrt(np.clip(good[best], 0, 1) * stability(masks[best])))
        worth.append(float(score) * own)
    return logits, worth, asks


def filling(
    covers: FloatArray, box: FloatArray, query: GridPlane, scores: FloatArray
) -> int:
    """Return which mask fills its box best: whose own box is most like it.

    Parameters
    ----------
    covers : array (M, h, w)
        Cover of the cells by the masks.
    box : array (4,)
        In pixels of the plane.
    query : GridPlane
        On the grid.
    scores : array (M,)
        Predicted quality, multiplied with the overlap of the boxes.
    """
    scale = np.tile(np.array(query.shape) / np.array(query.grid), 2)
    overlaps = []
    for cover in covers:
        inside = cover >= 0.5
        if not inside.any():
            overlaps.append(0.0)
            continue
        own = box_round(inside, 0.0) * scale
        low, high = np.maximum(own[:2], box[:2]), np.minimum(own[2:], box[2:])
        both = float(np.clip(high - low, 0, None).prod())
        areas = [float((b[2:] - b[:2]).prod()) for b in (own, box)]
        overlaps.append(both / (sum(areas) - both))
    worth = np.array(overlaps) * (0.5 + 0.5 * np.clip(scores, 0, 1))
    return int(worth.argmax())


def _scores(heat: Heat, value: int, count: int) -> list[float]:
    """Return one score per object; 1 where the model gives none."""
    given = list(heat.scores.get(value, ()))
    if len(given) != count:
        return [1.0] * count
    return [float(s) if np.isfinite(s) else 0.0 for s in given]


def _apart(
    logits: Sequence[FloatArray], scores: FloatArray, query: GridPlane
) -> list[int]:
    """Return which masks stay, the best first; compared on the grid."""
    if not logits:
        return []
    covers: BoolArray = np.stack(
        [mask_to_grid(m > 0, query.grid) >= 0.5 for m in logits]
    )
    return suppress_masks(covers, scores, MOST_UNION)
