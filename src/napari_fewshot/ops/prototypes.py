"""Prototypes: few vectors that stand for the look of a class or of its background."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.ops.rings import ring_mask, ring_points
from napari_fewshot.ops.similarity import masked_average

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray, BoolArray, FloatArray

EPSILON = 1e-6
KMEANS_ROUNDS = 12


def unit_rows(rows: AnyArray) -> FloatArray:
    """Return rows (N, C) divided by their lengths; rows of zeros stay."""
    found: FloatArray = rows / (np.linalg.norm(rows, axis=1, keepdims=True) + EPSILON)
    return found


def farthest_points(points: AnyArray, count: int) -> AnyArray:
    """Return the numbers of points that are spread as far apart as possible.

    Parameters
    ----------
    points : array (N, D)
        Places (row, column), or features; N >= 1.
    count : int
        At most so many; fewer if there are no more distinct points.

    Returns
    -------
    array (K,) int
        The first is nearest to the mean; each next one is farthest from all before.

    Notes
    -----
    Gonzalez, Clustering to minimize the maximum intercluster distance, Theoretical
    Computer Science 1985.
    """
    at = np.asarray(points, np.float64)
    chosen = [int(((at - at.mean(0)) ** 2).sum(1).argmin())]
    away = ((at - at[chosen[0]]) ** 2).sum(1)
    while len(chosen) < count and away.max() > EPSILON**2:
        chosen.append(int(away.argmax()))
        away = np.minimum(away, ((at - at[chosen[-1]]) ** 2).sum(1))
    return np.array(chosen)


def voronoi_parts(points: AnyArray, count: int) -> AnyArray:
    """Split points into the Voronoi cells of those that are farthest apart.

    Parameters
    ----------
    points : array (N, D)
        Such as the cells (row, column) of an object.
    count : int
        At most so many parts.

    Returns
    -------
    array (N,) int
        Number of the part of every point, from 0.
    """
    at = np.asarray(points, np.float64)
    seeds = at[farthest_points(at, count)]
    parts: AnyArray = np.stack([((at - s) ** 2).sum(1) for s in seeds]).argmin(0)
    return parts


def kmeans_parts(rows: FloatArray, count: int) -> tuple[FloatArray, AnyArray]:
    """Group rows by direction (spherical k-means), begun at `farthest_points`.

    Parameters
    ----------
    rows : array (N, C)
        Tokens; their lengths do not matter.
    count : int
        At most so many groups; none is empty.

    Returns
    -------
    centres : array (K, C)
        Of length one, the largest group first.
    parts : array (N,) int
        Group of every row.
    """
    units = unit_rows(rows)
    centres = units[farthest_points(units, count)]
    parts = (units @ centres.T).argmax(1)
    for _ in range(KMEANS_ROUNDS):
        held = np.unique(parts)
        centres = unit_rows((parts == held[:, None]).astype(units.dtype) @ units)
        before, parts = np.searchsorted(held, parts), (units @ centres.T).argmax(1)
        if np.array_equal(before, parts):
            break
    held, parts = np.unique(parts, return_inverse=True)
    centres = centres[held]
    order = np.argsort(-np.bincount(parts), kind="stable")
    return centres[order], np.argsort(order)[parts]


def max_and_mean(rows: FloatArray) -> FloatArray:
    """Return half the largest value of every channel plus half the mean.

    Parameters
    ----------
    rows : array (N, C)
        Tokens of a class; N >= 1.

    Returns
    -------
    array (C,)

    Notes
    -----
    The target embedding of PerSAM (arXiv 2305.03048).
    """
    found: FloatArray = 0.5 * rows.max(0) + 0.5 * rows.mean(0)
    return found


def grid_prototypes(
    features: FloatArray, cover: FloatArray, window: int, share: float = 0.95
) -> FloatArray:
    """Return the mean features of windows that lie in a class (adaptive local pooling).

    Parameters
    ----------
    features : array (C, h, w)
        Feature map.
    cover : array (h, w)
        Share of every cell that belongs to the class, in [0, 1].
    window : int
        Cells a side; windows do not overlap, those that stick out are left out.
    share : float
        A window counts if more than this share of it belongs to the class.

    Returns
    -------
    array (P, C)
        One row per window, perhaps none.

    Notes
    -----
    Ouyang et al., Self-supervision with superpixels (SSL-ALPNet), ECCV 2020, section
    3.3.
    """
    channels, height, width = features.shape
    rows, columns = height // window, width // window
    frame = np.s_[: rows * window, : columns * window]
    tiles = (rows, window, columns, window)
    inside = cover[frame].reshape(tiles).mean((1, 3)) > share
    means = features[(slice(None), *frame)].reshape(channels, *tiles).mean((2, 4))
    found: FloatArray = means[:, inside].T
    return found


def softmax_weighted(scores: FloatArray) -> FloatArray:
    """Return the mean of scores, each weighted by the softmax of the scores.

    Parameters
    ----------
    scores : array (P, h, w)
        Scaled similarity to every prototype; P >= 1.

    Returns
    -------
    array (h, w)
        Between their mean and their maximum; the score itself for one prototype.

    Notes
    -----
    SSL-ALPNet, equation 4.
    """
    weights = np.exp(scores - scores.max(0))
    found: FloatArray = (weights * scores).sum(0) / weights.sum(0)
    return found


def ring_prototypes(
    features: FloatArray, cover: FloatArray, count: int, distance: float, width: float
) -> FloatArray:
    """Return the look of background just outside an object, all the way round.

    Parameters
    ----------
    features : array (C, h, w)
        Feature map.
    cover : array (h, w)
        Share of every cell that belongs to the object; at least one is 0.5 or more.
    count : int
        Points round the object; fewer where it touches the rim.
    distance : float
        How far outside, in cells.
    width : float
        Standard deviation of the Gaussian round each point, in cells; what belongs
        to the object does not count.

    Returns
    -------
    array (P, C)
        Clockwise from straight up, perhaps none.

    Notes
    -----
    FoB (arXiv 2603.21287), support background prompts.
    """
    at = ring_points(cover >= 0.5, distance, count)
    grid = np.indices(cover.shape)
    found = []
    for row, column in at:
        away = (grid[0] - row) ** 2 + (grid[1] - column) ** 2
        weight = np.exp(-away / (2 * width**2)) * (1 - cover)
        found.append(masked_average(features, weight))
    if not found:
        return np.zeros((0, len(features)), np.float32)
    return np.stack(found).astype(np.float32)


def angular_best(
    scores: FloatArray, cover: BoolArray, inner: float, outer: float, bins: int
) -> tuple[FloatArray, AnyArray]:
    """Return the best cell of a band round an object in every direction.

    Parameters
    ----------
    scores : array (K, h, w)
        One map per prototype.
    cover : array (h, w) bool
        The object; not empty.
    inner, outer : float
        The band lies so many cells outside.
    bins : int
        Directions, clockwise from straight up.

    Returns
    -------
    best : array (K, bins)
        Largest score per direction; minus infinity where the band has no cell.
    cells : array (K, bins, 2) int
        (row, column) of it.
    """
    band = np.argwhere(ring_mask(cover, inner, outer))
    best = np.full((len(scores), bins), -np.inf)
    cells = np.zeros((len(scores), bins, 2), int)
    away = band - np.argwhere(cover).mean(0)
    angle = np.mod(np.arctan2(away[:, 1], -away[:, 0]), 2 * np.pi)
    number = np.minimum((angle / (2 * np.pi) * bins).astype(int), bins - 1)
    for k, score in enumerate(scores):
        values = score[band[:, 0], band[:, 1]]
        # The last to be written stays: the best of every direction.
        order = np.argsort(values, kind="stable")
        best[k, number[order]] = values[order]
        cells[k, number[order]] = band[order]
    return best, cells


def cyclic_match(scores: FloatArray, gap: int) -> AnyArray:
    """Give every prototype of a ring a direction, in the same order round the circle.

    Parameters
    ----------
    scores : array (K, M)
        Of K prototypes in M directions, both in order round a circle; minus infinity
        where nothing is.
    gap : int
        Neighbours are at least so many directions apart; K * gap <= M.

    Returns
    -------
    array (K,) int
        Directions of the largest total score; empty if there is no such choice.

    Notes
    -----
    Dynamic programming over prototypes for every direction of the first one, together
    O(K M^2). It stands for the learnt structure constraint of FoB.
    """
    count, size = scores.shape
    # Row s: the circle as it is met when the first prototype has direction s.
    turned = (np.arange(size)[:, None] + np.arange(size)[None]) % size
    total = np.full((size, size), -np.inf)
    total[:, 0] = scores[0]
    came = np.zeros((count, size, size), int)
    for k in range(1, count):
        best, where = _running_max(total)
        total = np.full((size, size), -np.inf)
        total[:, gap:] = best[:, : size - gap] + scores[k][turned[:, gap:]]
        came[k, :, gap:] = where[:, : size - gap]
    # The last one keeps its distance to the first one, too.
    ends = total[:, : size - gap + 1] if count > 1 else total
    start, at = np.unravel_index(int(ends.argmax()), ends.shape)
    if not np.isfinite(ends[start, at]):
        return np.zeros(0, int)
    path = [int(at)]
    for k in range(count - 1, 0, -1):
        path.append(int(came[k, start, path[-1]]))
    found: AnyArray = (int(start) + np.array(path[::-1])) % size
    return found


def _running_max(values: AnyArray) -> tuple[AnyArray, AnyArray]:
    """Return the largest value so far along rows, and where it was."""
    best = np.maximum.accumulate(values, axis=1)
    rises = np.concatenate(
        [np.ones((len(values), 1), bool), values[:, 1:] > best[:, :-1]], axis=1
    )
    where = np.maximum.accumulate(np.where(rises, np.arange(values.shape[1]), 0), 1)
    return best, where
