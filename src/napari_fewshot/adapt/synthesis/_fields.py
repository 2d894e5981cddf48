"""Smooth random fields and warps, the raw material of every synthetic scene."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray


def smooth_noise(
    rng: np.random.Generator, count: int, cells: float, size: int
) -> AnyArray:
    """Return smooth random fields of about unit variance.

    Parameters
    ----------
    rng : Generator
        Source of randomness.
    count : int
        How many.
    cells : float
        Bumps along a side: few is smooth.
    size : int
        Side in pixels.

    Returns
    -------
    array (count, size, size) float32
    """
    side = max(2, round(cells)) + 3
    grid = rng.standard_normal((count, 1, side, side)).astype(np.float32)
    # One cell more than is shown, at a random phase: no two fields share a lattice.
    cut = size * 3 // (side - 1) + 1
    full = F.interpolate(
        torch.from_numpy(grid), size=size + cut, mode="bicubic", align_corners=True
    )
    top, left = rng.integers(0, cut, 2)
    field: AnyArray = full[:, 0, top : top + size, left : left + size].numpy() * 1.4
    return field


def warped_grid(
    rng: np.random.Generator,
    count: int,
    size: int,
    bend: float = 0.05,
    turn: float = 0.15,
    zoom: float = 0.15,
    shift: float = 0.08,
) -> AnyArray:
    """Return the (row, column) in [-1, 1] that every pixel of every image looks at.

    Parameters
    ----------
    rng : Generator
        Source of randomness.
    count, size : int
        Images and their side.
    bend : float
        Standard deviation of the smooth displacement.
    turn : float
        Standard deviation of the angle in radians.
    zoom : float
        Standard deviation of the logarithm of the size, per axis.
    shift : float
        Standard deviation of the position.

    Returns
    -------
    array (count, size, size, 2) float32
    """
    line = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    base = np.stack(np.meshgrid(line, line, indexing="ij"), -1)
    grids = []
    for _ in range(count):
        angle = rng.normal(0, turn)
        rotation = np.array(
            [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        )
        matrix = (
            rotation * np.exp(rng.normal(0, zoom) + rng.normal(0, zoom / 3, 2))[:, None]
        )
        field = smooth_noise(rng, 2, rng.uniform(2, 5), size) * bend
        fine = smooth_noise(rng, 2, rng.uniform(6, 12), size) * bend / 4
        at = base @ matrix.T.astype(np.float32) + rng.normal(0, shift, 2)
        grids.append(at + np.moveaxis(field + fine, 0, -1))
    return np.stack(grids).astype(np.float32)


def sample_fields(fields: AnyArray, grid: AnyArray) -> AnyArray:
    """Look up fields (R, h, w) at a grid (N, H, W, 2) of (row, column) in [-1, 1].

    Returns
    -------
    array (N, R, H, W) float32
    """
    count = len(grid)
    source = torch.from_numpy(fields)[None].expand(count, -1, -1, -1)
    at = torch.from_numpy(np.ascontiguousarray(grid[..., ::-1]))
    found: AnyArray = F.grid_sample(
        source, at, padding_mode="reflection", align_corners=False
    ).numpy()
    return found
