"""Outlines of masks along the borders of their pixels, and masks from outlines.

A vertex (row, column) is a corner of pixels: pixel (0, 0) has the corners (0, 0) and
(1, 1). So the outline of a mask holds exactly its pixels, holes included, and filling
it gives the mask back, where contours through the centres of pixels lose half a pixel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_fewshot._types import AnyArray, BoolArray

# Right, down, left, up: with the mask on the right-hand side.
RIGHT, DOWN, LEFT, UP = range(4)


def outlines(mask: BoolArray) -> list[list[AnyArray]]:
    """Return the polygons of a mask, one per 4-connected part.

    Parameters
    ----------
    mask : array (H, W) bool
        Of any shape, with holes and parts.

    Returns
    -------
    list of polygon
        A polygon is a list of rings, the outer one first, then holes. A ring is an int
        array (N, 2) of corners (row, column), not closed; an outer ring has positive
        area in (column, row), a hole negative. Rings of a polygon never cross and no
        ring touches itself; a hole may touch another ring in a point.
    """
    from scipy import ndimage

    parts, count = ndimage.label(mask)
    found = []
    for number, where in enumerate(ndimage.find_objects(parts), start=1):
        if where is not None and count:
            offset = np.array([where[0].start, where[1].start])
            rings = _trace(parts[where] == number)
            found.append([ring + offset for ring in rings])
    return found


def _trace(part: BoolArray) -> list[AnyArray]:
    """Return the rings of one 4-connected part, the outer one first.

    Every border between a pixel of the part and one outside is an edge from corner to
    corner. Where two pixels of the part touch in a corner only, the walk turns left:
    that keeps the two holes (or hole and outside) apart, so that no ring meets itself.
    """
    rows, columns = part.shape
    solid = np.pad(part, 1)
    inner = solid[1:-1, 1:-1]
    starts = np.zeros((4, rows + 1, columns + 1), bool)
    starts[RIGHT, :-1, :-1] = inner & ~solid[:-2, 1:-1]
    starts[DOWN, :-1, 1:] = inner & ~solid[1:-1, 2:]
    starts[LEFT, 1:, 1:] = inner & ~solid[2:, 1:-1]
    starts[UP, 1:, :-1] = inner & ~solid[1:-1, :-2]
    width, size = columns + 1, (rows + 1) * (columns + 1)
    exists = starts.ravel()
    edges = np.flatnonzero(exists)
    direction, corner = np.divmod(edges, size)
    end = corner + np.array([1, width, -1, -width])[direction]
    after = np.full(len(edges), -1)
    for turn in (1, 0, -1):  # the last one written wins: left
        target = (direction + turn) % 4 * size + end
        after = np.where(exists[target], target, after)
    follow = np.searchsorted(edges, after)
    is_corner = direction != direction[follow]
    found = [_ring(loop, end, is_corner, width) for loop in _loops(follow)]
    found.sort(key=lambda ring: -_area(ring))
    return found


def _loops(follow: AnyArray) -> Iterable[list[int]]:
    """Yield the cycles of a permutation."""
    after: list[int] = follow.tolist()
    seen = bytearray(len(after))
    for first in range(len(after)):
        if seen[first]:
            continue
        loop, at = [], first
        while not seen[at]:
            seen[at] = 1
            loop.append(at)
            at = after[at]
        yield loop


def _ring(loop: list[int], end: AnyArray, is_corner: AnyArray, width: int) -> AnyArray:
    steps = np.asarray(loop)
    corners = end[steps[is_corner[steps]]]
    return np.stack(np.divmod(corners, width), axis=1)


def _area(ring: AnyArray) -> float:
    """Signed area; positive for rings that run clockwise on the screen."""
    row, column = ring[:, 0], ring[:, 1]
    return float(np.sum(column * np.roll(row, -1) - np.roll(column, -1) * row)) / 2


def fill_outline(rings: Sequence[Any], shape: tuple[int, int]) -> BoolArray:
    """Return the pixels whose centres lie inside rings, by the even-odd rule.

    Parameters
    ----------
    rings : sequence of array (N, 2)
        Corners (row, column), of any polygon, whole numbers or not; what lies outside
        of the shape is cut off.
    shape : (int, int)
        Of the mask.

    Returns
    -------
    array (H, W) bool
    """
    height, width = shape
    toggles = np.zeros((height, width + 1), np.int32)
    for ring in rings:
        first = np.asarray(ring, np.float64)
        second = np.roll(first, -1, axis=0)
        is_down = first[:, 0] <= second[:, 0]
        top = np.where(is_down[:, None], first, second)
        bottom = np.where(is_down[:, None], second, first)
        # Rows whose centres the edge passes: the upper end counts, the lower does not.
        start = np.clip(np.ceil(top[:, 0] - 0.5), 0, height).astype(int)
        stop = np.clip(np.ceil(bottom[:, 0] - 0.5), 0, height).astype(int)
        counts = np.maximum(stop - start, 0)
        edge = np.repeat(np.arange(len(first)), counts)
        skipped = np.repeat(np.cumsum(counts) - counts, counts)
        row = start[edge] + np.arange(len(edge)) - skipped
        rise = (bottom - top)[edge]
        share = (row + 0.5 - top[edge, 0]) / rise[:, 0]
        column = np.ceil(top[edge, 1] + share * rise[:, 1] - 0.5)
        np.add.at(toggles, (row, np.clip(column, 0, width).astype(int)), 1)
    inside: BoolArray = np.cumsum(toggles[:, :-1], axis=1) % 2 == 1
    return inside
