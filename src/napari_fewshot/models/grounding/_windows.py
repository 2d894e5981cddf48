"""Overlapping windows of large planes, in which small things are large enough."""

from __future__ import annotations

import math

# Windows along the longer side at most: the time grows with the square.
MOST = 7
# A plane is large where it is so many times the side of what a model reads.
LARGE = 2.0


def windows_of(shape: tuple[int, int], size: int) -> tuple[tuple[int, ...], ...]:
    """Return windows that cover a plane, each overlapping its neighbours by half.

    They are as large as what the model reads, or larger where more than `MOST` would
    be needed along a side.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns of the plane.
    size : int
        Side of what the model reads, in pixels.

    Returns
    -------
    tuple of (y0, x0, y1, x1)
        Inclusive-exclusive; one that is the plane if it is no larger than the window.
    """
    longest = max(shape)
    # n windows that overlap by half cover (n + 1) / 2 sides.
    side = max(size, math.ceil(2 * longest / (MOST + 1)))
    rows, columns = (_starts(length, side) for length in shape)
    height, width = min(side, shape[0]), min(side, shape[1])
    return tuple((y, x, y + height, x + width) for y in rows for x in columns)


def is_large(shape: tuple[int, int], size: int) -> bool:
    """Whether a plane is so large that small things vanish when it is shrunk."""
    return max(shape) >= LARGE * size


def _starts(length: int, side: int) -> list[int]:
    if length <= side:
        return [0]
    count = math.ceil(2 * (length - side) / side) + 1
    return [round(i * (length - side) / (count - 1)) for i in range(count)]
