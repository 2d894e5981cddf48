"""Parts of one object, and groups of sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray, BoolArray

# An object is cut along its own axis only if it is so much longer than wide, and the
# axis no more than 60 degrees from the direction that was said.
LONG = 1.5
ALIGNED = 0.5
DIRECTIONS = {"upper": (-1, 0), "lower": (1, 0), "left": (0, -1), "right": (0, 1)}


def part_of(mask: BoolArray, part: tuple[str, ...], share: float) -> BoolArray:
    """Return a part of one object.

    Along one direction, long objects are cut across their own long axis if it points
    roughly there (60 degrees): the upper pole of a slanted kidney is its upper end.
    Others are cut along rows or columns. The middle is what is left between both ends.

    Parameters
    ----------
    mask : array (H, W)
        The object.
    part : tuple of str
        Of ``"upper"``, ``"lower"``, ``"left"``, ``"right"``, ``"central"``.
    share : float
        Of its length along the direction, in (0, 1].
    """
    rows, columns = np.nonzero(mask)
    found: BoolArray = np.zeros(mask.shape, bool)
    if not len(rows):
        return found
    places = np.stack([rows, columns], 1).astype(np.float64)
    keep = np.ones(len(rows), bool)
    axis = _long_axis(places)
    for side in part:
        if side == "central":
            along = places @ (axis if axis is not None else np.array([1.0, 0.0]))
            low, high = (1 - share) / 2, (1 + share) / 2
        else:
            along = places @ _direction(side, axis if len(part) == 1 else None)
            low, high = 1 - share, 1.0
        # Places are centres of pixels, so that shares are of whole pixels.
        start, length = along.min() - 0.5, np.ptp(along) + 1
        place = (along - start) / length
        keep &= (place >= low - 1e-9) & (place <= high + 1e-9)
    found[rows[keep], columns[keep]] = True
    return found


def _direction(side: str, axis: AnyArray | None) -> AnyArray:
    """Return where a side lies, or the long axis if it points there, (2,)."""
    plain: AnyArray = np.array(DIRECTIONS[side], np.float64)
    if axis is None:
        return plain
    toward = float(axis @ plain)
    if abs(toward) < ALIGNED:
        return plain
    turned: AnyArray = axis * np.sign(toward)
    return turned


def _long_axis(places: AnyArray) -> AnyArray | None:
    """Return the direction (2,) of the long axis, None if it is not long."""
    # A pixel has a size: without it a line of one pixel has no width.
    spread = np.cov(places.T, bias=True) + np.eye(2) / 12
    lengths, axes = np.linalg.eigh(spread)
    if lengths[1] < LONG**2 * lengths[0]:
        return None
    found: AnyArray = axes[:, 1]
    return found


def two_groups(values: AnyArray) -> float:
    """Return the level between two groups of least squares (exact two-means).

    Parameters
    ----------
    values : array (n,)
        At least two; those up to the level are the lower group. If all are equal, they
        are one group.
    """
    ordered = np.sort(values)
    count = len(ordered)
    total = np.cumsum(ordered)
    # Between-group variance of every cut; the same number has no cut inside.
    n = np.arange(1, count)
    gap = total[:-1] / n - (total[-1] - total[:-1]) / (count - n)
    between = n * (count - n) * gap**2
    between[ordered[:-1] == ordered[1:]] = -1.0
    best = int(between.argmax())
    return float(ordered[best])
