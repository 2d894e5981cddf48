"""Prototypes and their similarity to a feature map."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray, BoolArray, FloatArray

EPSILON = 1e-6


def mask_to_grid(mask: BoolArray, grid: tuple[int, int]) -> FloatArray:
    """Return the covered share of every cell of a grid, in [0, 1].

    Parameters
    ----------
    mask : array (H, W)
        Full-resolution mask.
    grid : (int, int)
        Rows and columns of the grid; cells may have fractional size.
    """
    cover: AnyArray = mask.astype(np.float64)
    for axis, cells in enumerate(grid):
        cover = _area_average(cover, axis, cells)
    result: FloatArray = cover.astype(np.float32)
    return result


def masked_average(features: FloatArray, weights: FloatArray) -> FloatArray:
    """Masked average pooling: sum(F w) / (sum w + eps).

    Parameters
    ----------
    features : array (C, h, w)
        Feature map.
    weights : array (h, w)
        Share of every cell that belongs to the class.

    Returns
    -------
    array (C,)
    """
    total = float(weights.sum()) + EPSILON
    pooled: FloatArray = np.einsum("chw,hw->c", features, weights) / total
    return pooled


def cosine_maps(features: FloatArray, prototypes: FloatArray) -> FloatArray:
    """Return the cosine similarity of every cell to every prototype.

    Parameters
    ----------
    features : array (C, h, w)
        Feature map.
    prototypes : array (P, C)
        One row each.

    Returns
    -------
    array (P, h, w)
        In [-1, 1].
    """
    cells = features / (np.linalg.norm(features, axis=0, keepdims=True) + EPSILON)
    rows = prototypes / (np.linalg.norm(prototypes, axis=1, keepdims=True) + EPSILON)
    maps: FloatArray = np.tensordot(rows, cells, 1)
    return maps


def _area_average(values: AnyArray, axis: int, cells: int) -> AnyArray:
    """Average over cells of equal, possibly fractional, length along one axis."""
    length = values.shape[axis]
    total = np.concatenate(
        [np.zeros_like(values.take([0], axis)), np.cumsum(values, axis)], axis
    )
    edges = np.linspace(0, length, cells + 1)
    low = np.minimum(edges.astype(int), length - 1)
    share = (edges - low).reshape([-1 if a == axis else 1 for a in range(values.ndim)])
    at = total.take(low, axis) + share * values.take(low, axis)
    averaged: AnyArray = np.diff(at, axis=axis) * (cells / length)
    return averaged
