"""A second look: masks of all classes prompt the decoder that drew them.

A decoder that is given its own mask copies it. So the mask is given twice, each time
with the other half of its blocks hidden, and every place is taken from the time when
its own block was hidden (complementary blocks of Medal S, CVPR 2025 challenge).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.methods._fusion import log_odds, sigmoid
from napari_fewshot.methods.grid import Ask, MapDecoder
from napari_fewshot.ops import interior_distance, resize_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import BoolArray, FloatArray
    from napari_fewshot.data import Hooks
    from napari_fewshot.methods.grid import Decoder, GridPlane

# Blocks of the mask prompt along a side of its grid, and room round the box.
BLOCK, PADDING = 8, 0.05
# A second look that has less than this in common (Dice) with the first is not taken.
LEAST_DICE = 0.5
SURE = 6.0


def refine_masks(
    maps: dict[int, FloatArray],
    query: GridPlane,
    decoder: Decoder,
    seed: int,
    hooks: Hooks,
) -> dict[int, FloatArray]:
    """Let a decoder look again at the masks of all classes, in two passes.

    Parameters
    ----------
    maps : dict of int to array (H, W)
        Probabilities per class; 0.5 is the boundary.
    query : GridPlane
        The plane.
    decoder : Decoder
        Who drew them; a decoder that cuts the map itself has nothing to add.
    seed : int
        Of the blocks.
    hooks : Hooks
        For cancelling.

    Returns
    -------
    dict of int to array (H, W)
        New maps; a class that lost its shape keeps the old one. A pixel that several
        classes claim goes to the surest.
    """
    held = [v for v, p in maps.items() if (p >= 0.5).any()]
    if isinstance(decoder, MapDecoder) or not held:
        return maps
    odds = {v: log_odds(maps[v]) for v in held}
    prompts = {v: _whole(odds[v], query, decoder) for v in held}
    hidden = blocks(prompts[held[0]].shape, BLOCK, seed)
    passes = []
    for hide in (hidden, ~hidden):
        hooks.check()
        asks = [
            _ask(maps[v] >= 0.5, np.where(hide, 0.0, prompts[v]).astype(np.float32))
            for v in held
        ]
        # The map stands in for the features of decoders that read it.
        grid = _mean_odds([odds[v] for v in held], query)
        passes.append(decoder.decode(query, grid, asks, hooks)[0][:, 0])
    found = dict(maps)
    for number, value in enumerate(held):
        logits = np.where(_fitted(hidden, passes[0]), passes[0], passes[1])[number]
        again = decoder.restore(query, logits[None].astype(np.float32))[0]
        if _dice(again > 0, maps[value] >= 0.5) >= LEAST_DICE:
            mean = (np.clip(again, -SURE, SURE) + odds[value]) / 2
            found[value] = sigmoid(mean.astype(np.float32))
    return exclusive(found)


def blocks(shape: tuple[int, ...], size: int, seed: int) -> BoolArray:
    """Return a random half of the blocks of a grid, (h, w) bool.

    Parameters
    ----------
    shape : (int, int)
        Of the grid.
    size : int
        Cells along a side of a block.
    seed : int
        Makes it repeatable.
    """
    rng = np.random.default_rng(seed)
    rows, columns = (-(-n // size) for n in shape)
    chosen = np.zeros(rows * columns, bool)
    chosen[rng.permutation(rows * columns)[: rows * columns // 2]] = True
    grid = np.kron(chosen.reshape(rows, columns), np.ones((size, size), bool))
    found: BoolArray = grid[: shape[0], : shape[1]] > 0
    return found


def exclusive(maps: dict[int, FloatArray]) -> dict[int, FloatArray]:
    """Leave every pixel to the class that is surest of it.

    Parameters
    ----------
    maps : dict of int to array (H, W)
        Probabilities.
    """
    if len(maps) < 2:
        return maps
    stack = np.stack(list(maps.values()))
    best = stack.argmax(0)
    return {
        value: np.where(best == number, one, np.minimum(one, np.float32(0.49)))
        for number, (value, one) in enumerate(maps.items())
    }


def _whole(odds: FloatArray, query: GridPlane, decoder: Decoder) -> FloatArray:
    """Return log-odds (H, W) as a mask prompt."""
    small = resize_image(odds.astype(np.float32), query.grid)
    found: FloatArray = decoder.as_mask(query, small)
    return found


def _ask(mask: BoolArray, prompt: FloatArray) -> Ask:
    """Return box, innermost point and mask prompt of a mask (H, W)."""
    rows, columns = np.nonzero(mask)
    low = np.array([rows.min(), columns.min()], np.float32)
    high = np.array([rows.max() + 1, columns.max() + 1], np.float32)
    pad = PADDING * (high - low)
    box = np.concatenate([low - pad, high + pad])
    box = np.clip(box, 0, np.tile(mask.shape, 2)).astype(np.float32)
    deep = np.unravel_index(int(interior_distance(mask).argmax()), mask.shape)
    point = np.array([deep], np.float32)
    return Ask(point, np.ones(1, np.int8), box, prompt)


def _fitted(hidden: BoolArray, logits: FloatArray) -> Any:
    """Return blocks at the resolution of logits."""
    shape = logits.shape[-2:]
    if hidden.shape == shape:
        return hidden
    return resize_image(hidden.astype(np.float32), shape) >= 0.5


def _mean_odds(odds: Sequence[FloatArray], query: GridPlane) -> FloatArray:
    return resize_image(np.max(odds, 0).astype(np.float32), query.grid)


def _dice(one: BoolArray, other: BoolArray) -> float:
    size = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / size if size else 1.0
