"""Where to put points: extremes, centres of clusters, rasters, subsets."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import AnyArray, BoolArray, FloatArray

ROUNDS = 20


def highest(values: FloatArray, allowed: BoolArray) -> AnyArray:
    """Return the cell (2,) int of the largest value among those allowed (h, w).

    Raises
    ------
    ValueError
        If none is allowed.
    """
    if not allowed.any():
        raise ValueError("No cell is allowed.")
    return _cell(np.where(allowed, values, -np.inf).argmax(), values.shape)


def lowest_outside(
    values: FloatArray, region: BoolArray, margin: float
) -> AnyArray | None:
    """Return the cell (2,) int of the smallest value that is well outside a region.

    The smallest of all may lie inside the object, and one such point spoils a mask.

    Parameters
    ----------
    values : array (h, w)
        Similarity.
    region : array (h, w) bool
        Coarse mask.
    margin : float
        Cells at most this far from the region are left out.

    Returns
    -------
    array (2,) int or None
        None if the region and its margin fill the plane.
    """
    from scipy import ndimage

    away = ndimage.distance_transform_edt(~region) if region.any() else None
    allowed = np.ones(values.shape, bool) if away is None else away > margin
    return highest(-values, allowed) if allowed.any() else None


def cluster_centres(
    rows: FloatArray, count: int, seed: int
) -> tuple[FloatArray, AnyArray]:
    """Cluster rows by k-means, begun with k-means++ (Arthur & Vassilvitskii 2007).

    Parameters
    ----------
    rows : array (N, D)
        At least one.
    count : int
        Clusters; fewer are made of fewer different rows.
    seed : int
        Of the first centres.

    Returns
    -------
    centres : array (K, D)
    owner : array (N,) int
        Cluster of every row.
    """
    random = np.random.default_rng(seed)
    points = np.asarray(rows, np.float64)
    centres = points[[int(random.integers(len(points)))]]
    while len(centres) < count:
        far = _square_distance(points, centres).min(1)
        if far.sum() <= 1e-12 * max(1.0, float((points**2).sum())):
            break
        chosen = int(random.choice(len(points), p=far / far.sum()))
        centres = np.concatenate([centres, points[[chosen]]])
    owner = _square_distance(points, centres).argmin(1)
    for _ in range(ROUNDS):
        centres = np.stack(
            [
                points[owner == k].mean(0) if (owner == k).any() else centre
                for k, centre in enumerate(centres)
            ]
        )
        before, owner = owner, _square_distance(points, centres).argmin(1)
        if (before == owner).all():
            break
    kept, owner = np.unique(owner, return_inverse=True)
    return centres[kept].astype(np.float32), owner


def spread_cells(cells: AnyArray, count: int, seed: int) -> AnyArray:
    """Return at most so many of the cells (N, 2), spread as evenly as they lie.

    Parameters
    ----------
    cells : array (N, 2)
        (row, column).
    count : int
        The cell next to the centre of each of so many clusters is taken.
    seed : int
        Of the clusters.
    """
    if len(cells) <= count:
        return cells
    centres, _ = cluster_centres(np.asarray(cells, np.float32), count, seed)
    near = _square_distance(np.asarray(cells, np.float64), centres).argmin(0)
    found: AnyArray = cells[np.unique(near)]
    return found


def raster_cells(values: FloatArray, level: float, most: int) -> AnyArray:
    """Return cells above a level, on the finest even raster that has few enough.

    Parameters
    ----------
    values : array (h, w)
        Similarity.
    level : float
        Cells with larger values count.
    most : int
        At most so many; the best of them where even one per raster is too many.

    Returns
    -------
    array (N, 2) int
        The best cell of every tile of the raster, the best first.
    """
    above = values > level
    if not above.any() or most < 1:
        return np.zeros((0, 2), int)
    step = max(1, math.floor(math.sqrt(above.sum() / most)))
    while True:
        cells = np.argwhere(above)
        worth = values[above]
        order = np.argsort(-worth, kind="stable")
        tiles = cells[order] // step
        _, first = np.unique(tiles, axis=0, return_index=True)
        if len(first) <= most or step > max(values.shape):
            return cells[order][np.sort(first)][:most]
        step += 1


def point_subsets(
    count: int, sizes: Sequence[int], most: int, seed: int
) -> list[tuple[int, ...]]:
    """Return different subsets of points, evenly over the sizes.

    Parameters
    ----------
    count : int
        Points.
    sizes : sequence of int
        Of the subsets; sizes above ``count`` give the set of all points.
    most : int
        At most so many subsets: all there are if that is few enough, else random ones.
    seed : int
        Of the choice.

    Returns
    -------
    list of tuple of int
        Each sorted.
    """
    wanted = sorted({min(size, count) for size in sizes if size > 0})
    if not count or not wanted:
        return []
    if sum(math.comb(count, size) for size in wanted) <= most:
        every = (itertools.combinations(range(count), size) for size in wanted)
        return list(itertools.chain.from_iterable(every))
    random = np.random.default_rng(seed)
    found: dict[tuple[int, ...], None] = {}
    for number in range(4 * most):
        size = wanted[number % len(wanted)]
        drawn = random.choice(count, size, replace=False)
        found[tuple(sorted(drawn.tolist()))] = None
        if len(found) == most:
            break
    return list(found)


def _cell(index: int | np.integer, shape: tuple[int, ...]) -> AnyArray:
    return np.array(np.unravel_index(int(index), shape))


def _square_distance(one: AnyArray, other: AnyArray) -> AnyArray:
    """Squared distances (N, K) of rows (N, D) to rows (K, D)."""
    lengths = (one**2).sum(1)[:, None] + (other**2).sum(1)[None]
    found: AnyArray = np.maximum(lengths - 2 * one @ other.T, 0)
    return found
