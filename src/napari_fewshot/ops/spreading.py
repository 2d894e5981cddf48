"""Labels that are known in part, spread over the rest by random walkers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.ops.resize import fit_factor, resize_image, scaled_shape
from napari_fewshot.ops.walker import random_walk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import FloatArray, LabelArray

# Walkers walk on a small copy: edges matter, not pixels.
SIDE = 160
BETA = 400.0


def spread_labels(
    image: FloatArray, labels: LabelArray, values: Sequence[int]
) -> FloatArray:
    """Return how likely a walker from each pixel meets each label first.

    Random walks of Grady (IEEE TPAMI 28:1768, 2006): steps over strong edges are
    unlikely.

    Parameters
    ----------
    image : array (H, W, C)
        float32 in [0, 1].
    labels : array (H, W)
        Known labels; below zero they are not known.
    values : sequence of int
        The labels to tell apart, background included. Others count as not known.

    Returns
    -------
    array (len(values), H, W) float32
        They add up to 1. Where nothing says anything all are alike.
    """
    shape = (labels.shape[0], labels.shape[1])
    size = scaled_shape(shape, fit_factor(shape, SIDE))
    seeds = np.zeros(size, np.int32)
    found = [v for v in values if (labels == v).any()]
    # The rarest last: thin strokes must not drown where several pixels become one.
    for value in sorted(found, key=lambda v: -int((labels == v).sum())):
        at = np.argwhere(labels == value) * (np.array(size) / np.array(shape))
        rows, columns = at.astype(int).T
        seeds[rows, columns] = 1 + found.index(value)
    if not found:
        return np.full((len(values), *shape), 1 / len(values), np.float32)
    small = resize_image(image, size)
    chance = _walk(small, seeds, len(found))
    result = np.zeros((len(values), *shape), np.float32)
    for value, part in zip(found, chance, strict=True):
        result[list(values).index(value)] = resize_image(part, shape)
    total = result.sum(0, keepdims=True)
    blank = np.full_like(result, 1 / len(values))
    spread: FloatArray = np.where(total > 0, result / np.maximum(total, 1e-9), blank)
    return spread


def _walk(image: FloatArray, seeds: LabelArray, count: int) -> FloatArray:
    """Return chances (count, h, w) of labels 1..count; 0 is not known."""
    present = [k for k in range(1, count + 1) if (seeds == k).any()]
    every: FloatArray = np.stack([seeds == k for k in range(1, count + 1)]).astype(
        np.float32
    )
    if len(present) < 2 or seeds.all() or float(np.ptp(image)) == 0.0:
        # One label alone is everywhere as likely; certain where it was seen.
        return every
    numbered = np.zeros_like(seeds)
    for number, k in enumerate(present, 1):
        numbered[seeds == k] = number
    walked = random_walk(image, numbered, BETA)
    for number, k in enumerate(present):
        every[k - 1] = walked[number]
    return every
