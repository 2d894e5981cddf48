"""Points for a decoder, from the parts of a heat map."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.ops.clicks import interior_distance
from napari_fewshot.ops.rings import ring_mask

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray, BoolArray, FloatArray


def peak_points(part: BoolArray, values: FloatArray, most: int) -> AnyArray:
    """Return points deep inside a part, apart from each other.

    Peaks of the distance to the outside: the deepest cell, of equal ones the one with
    the largest value; then the deepest beyond the discs round those before, while it is
    at least half as deep as the first.

    Parameters
    ----------
    part : array (H, W) bool
        Not empty.
    values : array (H, W)
        In [0, 1].
    most : int
        At least 1.

    Returns
    -------
    array (N, 2) int
        (row, column).
    """
    depth = interior_distance(part) + 1e-3 * values * part
    rows, columns = np.ogrid[: part.shape[0], : part.shape[1]]
    found: list[AnyArray] = []
    first = float(depth.max())
    while len(found) < most:
        at = np.array(np.unravel_index(depth.argmax(), depth.shape))
        deep = float(depth[tuple(at)])
        if found and deep < first / 2:
            break
        found.append(at)
        away = np.hypot(rows - at[0], columns - at[1])
        depth = np.where(away < 2 * deep, 0, depth)
    return np.stack(found)


def quiet_points(
    part: BoolArray, taken: BoolArray, values: FloatArray, count: int
) -> AnyArray:
    """Return points in a ring outside a part where a map is least, one per sector.

    Parameters
    ----------
    part : array (H, W) bool
        Not empty.
    taken : array (H, W) bool
        Where no point may be: other parts.
    values : array (H, W)
        The map.
    count : int
        Sectors round the middle of the part.

    Returns
    -------
    array (N, 2) int
        (row, column); fewer than ``count`` where the plane ends.
    """
    radius = float(np.sqrt(part.sum() / np.pi))
    ring = ring_mask(part, max(1.0, 0.2 * radius), max(3.0, 0.6 * radius))
    at = np.argwhere(ring & ~taken)
    if not len(at) or not count:
        return np.zeros((0, 2), int)
    away = at - np.argwhere(part).mean(0)
    turn = np.mod(np.arctan2(away[:, 1], -away[:, 0]) / (2 * np.pi) + 0.5 / count, 1)
    sector = np.minimum((turn * count).astype(int), count - 1)
    found = []
    for number in range(count):
        mine = at[sector == number]
        if len(mine):
            found.append(mine[values[mine[:, 0], mine[:, 1]].argmin()])
    return np.stack(found)


def random_points(mask: BoolArray, count: int, seed: int) -> tuple[AnyArray, AnyArray]:
    """Return random points inside and outside a mask (as MedCLIP-SAMv2 draws them).

    Parameters
    ----------
    mask : array (H, W) bool
        Any.
    count : int
        Of each kind; fewer where there are fewer pixels.
    seed : int
        Of the choice.

    Returns
    -------
    inside, outside : array (N, 2), (M, 2) int
        (row, column), no point twice.
    """
    rng = np.random.default_rng(seed)

    def drawn(region: BoolArray) -> AnyArray:
        at: AnyArray = np.argwhere(region)
        return rng.permutation(at)[:count] if len(at) else at

    return drawn(mask), drawn(~mask)
