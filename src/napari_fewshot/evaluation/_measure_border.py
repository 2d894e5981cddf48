"""Perimeter and surface by counting crossings (Cauchy-Crofton), any pixel size.

The length of a curve is pi/2 times the mean over directions of the number of its
crossings with a family of parallel lines, times their distance; the area of a surface
is twice that mean in space. Lines are those through pixel centres along the 4 (plane)
or 13 (space) directions to neighbours; each direction stands for the part of the circle
or sphere that is nearest to it, measured with the pixel size. With square pixels in the
plane this is `skimage.measure.perimeter_crofton` with four directions.

Legland, Kieu, Devaux: Computation of Minkowski measures on 2D and 3D binary images,
Image Analysis & Stereology 26 (2007) 83-92; Ohser and Muecklich, Statistical Analysis
of Microstructures (2000), chapter 5.
"""

from __future__ import annotations

import functools
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray

N_SPHERE = 200_000


def half_directions(ndim: int) -> list[tuple[int, ...]]:
    """Return the steps to neighbours, one of each opposite pair: 4 or 13."""
    return [v for v in product((-1, 0, 1), repeat=ndim) if v > (0,) * ndim]


@functools.lru_cache(maxsize=32)
def crossing_weights(scale: tuple[float, ...]) -> tuple[float, ...]:
    """Return what one crossing along each of `half_directions` is worth.

    Parameters
    ----------
    scale : tuple of float
        Pixel size per axis, two or three.

    Returns
    -------
    tuple of float
        A length (plane) or an area (space) in the unit of ``scale``.
    """
    steps = np.array(half_directions(len(scale))) * np.array(scale)
    lengths = np.linalg.norm(steps, axis=1)
    shares = _circle(steps) if len(scale) == 2 else _sphere(steps / lengths[:, None])
    factor = np.pi / 2 if len(scale) == 2 else 2.0
    return tuple((factor * shares * np.prod(scale) / lengths).tolist())


def _circle(steps: AnyArray) -> AnyArray:
    """Return the part of all directions that is nearest to each."""
    angles = np.arctan2(steps[:, 0], steps[:, 1]) % np.pi
    order = np.argsort(angles)
    gaps = np.diff(np.append(angles[order], angles[order[0]] + np.pi))
    shares = np.empty(len(steps))
    shares[order] = (gaps + np.roll(gaps, 1)) / 2 / np.pi
    return shares


def _sphere(units: AnyArray) -> AnyArray:
    """Return the part of the sphere that is nearest to each direction.

    The sphere is sampled evenly along a spiral (Fibonacci lattice).
    """
    number = np.arange(N_SPHERE)
    height = 1 - (2 * number + 1) / N_SPHERE
    turn = number * np.pi * (3 - np.sqrt(5))
    radius = np.sqrt(1 - height**2)
    points = np.stack([height, radius * np.cos(turn), radius * np.sin(turn)])
    nearest = np.abs(units @ points).argmax(axis=0)
    return np.bincount(nearest, minlength=len(units)) / N_SPHERE


def count_crossings(
    counts: AnyArray, above: AnyArray | None, block: AnyArray, *, is_last: bool
) -> None:
    """Add the borders of a block of object numbers.

    Parameters
    ----------
    counts : array (objects + 1, directions)
        Receives the number of crossings; row 0 is the background.
    above : array, optional
        The slice before the block; None at the start: outside is background.
    block : array
        Object numbers.
    is_last : bool
        Whether the image ends here.
    """
    first = np.zeros_like(block[0]) if above is None else above
    parts = [first[None], block]
    if is_last:
        parts.append(np.zeros_like(block[:1]))
    padded = np.concatenate(parts)
    padded = np.pad(padded, [(0, 0)] + [(1, 1)] * (block.ndim - 1))
    for at, (down, *sides) in enumerate(half_directions(block.ndim)):
        # Level steps belong to the slices of this block; the last one is background.
        start = padded[:-1] if down else padded[1:]
        end = padded[1:]
        here, there = _shifted(start, end, sides)
        differ = here != there
        for side in (here[differ], there[differ]):
            values, n = np.unique(side, return_counts=True)
            counts[values, at] += n


def _shifted(
    start: AnyArray, end: AnyArray, sides: list[int]
) -> tuple[AnyArray, AnyArray]:
    """Return pairs of neighbours as two views of one shape."""
    keys = [
        slice(None, -1) if s > 0 else slice(1, None) if s else slice(None)
        for s in sides
    ]
    back = [
        slice(1, None) if s > 0 else slice(None, -1) if s else slice(None)
        for s in sides
    ]
    return start[(slice(None), *keys)], end[(slice(None), *back)]
