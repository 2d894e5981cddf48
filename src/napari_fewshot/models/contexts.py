"""What supports say, joined; and planes that are read and decoded in tiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_fewshot.models._copies import (
    cover,
    network_shape,
    resample,
    tile_windows,
    working_shape,
)
from napari_fewshot.models._network import Context, Moments
from napari_fewshot.ops import taper

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from napari_fewshot._types import BoolArray, FloatArray
    from napari_fewshot.models.incontext import InContextModel

# Beyond this many support positions attention reads a fair sample of them.
MAX_KEYS = 12288
# Tiles that are read of all supports together; of each at least one.
MAX_TILES = 24
# A tile counts this much at its very rim, where at the border nobody else counts.
MIN_WEIGHT = 1e-3


def join_contexts(parts: Sequence[Context], supports: Sequence[int] = ()) -> Context:
    """Join contexts; every support weighs the same.

    Parameters
    ----------
    parts : sequence of Context
        What the supports say.
    supports : sequence of int, optional
        How many supports each part was joined from; default one each.
    """
    counts = supports or [1] * len(parts)
    moments = []
    for stride in range(len(parts[0].moments)):
        found = [part.moments[stride] for part in parts]
        # Larger planes have more positions, not more say.
        scale = [
            count / m.weight.sum().clamp_min(1e-6)
            for m, count in zip(found, counts, strict=True)
        ]
        pairs = list(zip(found, scale, strict=True))
        moments.append(
            Moments(
                torch.stack([m.outer * s for m, s in pairs]).sum(0),
                torch.stack([m.total * s for m, s in pairs]).sum(0),
                torch.stack([m.weight * s for m, s in pairs]).sum(0),
            )
        )
    keys, values = [], []
    for level in range(len(parts[0].keys)):
        key = torch.cat([p.keys[level] for p in parts], 2)
        value = torch.cat([p.values[level] for p in parts], 2)
        if key.shape[2] > MAX_KEYS:
            kept = torch.linspace(0, key.shape[2] - 1, MAX_KEYS).long().to(key.device)
            key, value = key[:, :, kept], value[:, :, kept]
        keys.append(key)
        values.append(value)
    return Context(tuple(moments), tuple(keys), tuple(values))


def tiles_each(supports: int) -> int:
    """Return how many tiles are read of each support."""
    return max(1, MAX_TILES // max(supports, 1))


@torch.no_grad()
def read_tiles(
    model: InContextModel, image: FloatArray, mask: BoolArray, side: int, count: int
) -> Context:
    """Return what the most telling tiles of a plane say about a class.

    Parameters
    ----------
    model : InContextModel
        The network.
    image : array (H, W, C)
        Floats in [0, 1].
    mask : array (H, W) bool
        The class.
    side : int
        Longest side of the network's copy.
    count : int
        At most so many tiles: those that show both sides of the boundary.
    """
    shape = working_shape((image.shape[0], image.shape[1]), side)
    small = cover(mask, shape, model.device)
    windows = tile_windows(shape)
    shares = [float(small[0, 0][w].mean()) for w in windows]
    order = sorted(range(len(windows)), key=lambda i: -shares[i] * (1 - shares[i]))
    parts = []
    for number in order[:count]:
        rows, columns = windows[number]
        features = model.encoded(image, side, (rows, columns))
        parts.append(model.network.context(features, small[:, :, rows, columns]))
    return join_contexts(parts)


def decode_tiles(
    model: InContextModel,
    image: FloatArray,
    side: int,
    contexts: Mapping[int, Context],
    past: Mapping[int, FloatArray],
    check: Callable[[], None] = lambda: None,
) -> dict[int, FloatArray]:
    """Return mask logits of a plane that is read in tiles, with an earlier answer.

    Parameters
    ----------
    model : InContextModel
        The network.
    image : array (H, W, C)
        Floats in [0, 1].
    side : int
        Longest side of the network's copy.
    contexts : dict of int to Context
        What the supports say of each class at this size.
    past : dict of int to array (H, W)
        Logits of a look at the whole plane: tiles show neither shape nor position.
    check : callable, optional
        Called before every tile; may raise.

    Returns
    -------
    dict of int to array (H, W) float32
    """
    plane = (image.shape[0], image.shape[1])
    shape = working_shape(plane, side)
    before = {value: _resized(logits, shape) for value, logits in past.items()}
    totals = {value: np.zeros(shape, np.float32) for value in contexts}
    weights = np.zeros(shape, np.float32)
    for window in tile_windows(shape):
        check()
        features = model.encoded(image, side, window)
        size = network_shape(features)
        weight = np.maximum(taper(size), MIN_WEIGHT)
        weights[window] += weight
        for value, context in contexts.items():
            seen = before[value][window]
            found = model.decode(features, context, size, past=seen)
            totals[value][window] += weight * found
    return {value: _resized(t / weights, plane) for value, t in totals.items()}


def _resized(logits: FloatArray, shape: tuple[int, int]) -> FloatArray:
    tensor = torch.from_numpy(np.ascontiguousarray(logits))[None, None]
    resized: FloatArray = resample(tensor, shape)[0, 0].numpy()
    return resized
