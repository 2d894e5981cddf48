"""Windows over a large plane, in whole cells, and how their maps become one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import FloatArray

# A plane this many times longer than what a model reads is large; one this many times
# longer than wide is long, and seen badly when it is squashed.
LARGE, LONG = 3.0, 4.0
# At most so many windows (side by side, without overlap) along the longest side: what
# a map costs in time and memory is bounded, whatever the plane.
AUTO_SIDES, MOST_SIDES = 3, 16


@dataclass(frozen=True)
class Layout:
    """Windows over a plane.

    Attributes
    ----------
    shape : (int, int)
        Rows and columns of pixels of the plane.
    canvas : (int, int)
        Rows and columns of cells that cover the plane.
    window : (int, int)
        Rows and columns of cells of every window.
    places : tuple of (int, int)
        First row and column of cells of each window; neighbours overlap by half.
    """

    shape: tuple[int, int]
    canvas: tuple[int, int]
    window: tuple[int, int]
    places: tuple[tuple[int, int], ...]

    def crop(self, image: FloatArray, place: tuple[int, int]) -> FloatArray:
        """Return the pixels (h, w, C) of a window, contiguous, at least one.

        Parameters
        ----------
        image : array (H, W, C)
            The plane.
        place : (int, int)
            One of ``places``.
        """
        cuts = []
        for start, cells, all_cells, pixels in zip(
            place, self.window, self.canvas, self.shape, strict=True
        ):
            first = int(start * pixels / all_cells)
            last = int(np.ceil((start + cells) * pixels / all_cells))
            cuts.append(slice(first, max(last, first + 1)))
        return np.ascontiguousarray(image[cuts[0], cuts[1]])


def lay_out(
    shape: tuple[int, int], size: int, grid: tuple[int, int], windows: str
) -> Layout | None:
    """Return where to look at a plane more closely; None where once is enough.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns of pixels.
    size : int
        Pixels along a side of what the model reads.
    grid : (int, int)
        Rows and columns of cells that it makes of it.
    windows : str
        ``"on"``: windows as large as what the model reads, or larger ones if there
        were more than `MOST_SIDES` along a side. ``"auto"``: at most `AUTO_SIDES`, and
        only on large or long planes (`LARGE`, `LONG`). ``"off"``.
    """
    longest, shortest = max(shape), min(shape)
    if windows == "off" or longest <= min(size, LONG * shortest):
        return None
    most = MOST_SIDES
    if windows == "auto":
        if longest < min(LARGE * size, LONG * shortest):
            return None
        most = int(np.clip(round(longest / shortest), AUTO_SIDES, MOST_SIDES))
    side = max(min(size, shortest), longest / most)
    rows, columns = (
        max(cells, round(pixels / side * cells))
        for pixels, cells in zip(shape, grid, strict=True)
    )
    if (rows, columns) == grid:
        return None
    places = tuple(
        (top, left)
        for top in starts(rows, grid[0])
        for left in starts(columns, grid[1])
    )
    return Layout(shape, (rows, columns), grid, places)


def starts(total: int, window: int) -> tuple[int, ...]:
    """Return the first cells of windows that overlap by half; the last one ends flush.

    Parameters
    ----------
    total, window : int
        Cells in all, and of a window.
    """
    step = max(1, window // 2)
    regular = range(0, total - window, step)
    return (*regular, total - window)


def bell(shape: tuple[int, int]) -> FloatArray:
    """Return Hann weights (h, w), above 0 everywhere: seams do not show.

    Parameters
    ----------
    shape : (int, int)
        Cells of a window.
    """
    rows, columns = (np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in shape)
    found: FloatArray = np.outer(rows, columns).astype(np.float32)
    return found


class Blend:
    """The weighted mean of maps of windows, one window at a time.

    Parameters
    ----------
    layout : Layout
        Where the windows are.
    count : int
        Number of maps, K.
    """

    def __init__(self, layout: Layout, count: int) -> None:
        self.layout = layout
        self.total = np.zeros((count, *layout.canvas), np.float32)
        self.weight = np.zeros(layout.canvas, np.float32)
        self.bell = bell(layout.window)

    def add(self, maps: FloatArray, place: Sequence[int]) -> None:
        """Add the maps (K, h, w) of a window, resized to its cells if need be."""
        rows, columns = (
            slice(start, start + cells)
            for start, cells in zip(place, self.layout.window, strict=True)
        )
        fitting = resized(maps, self.layout.window)
        self.total[:, rows, columns] += fitting * self.bell
        self.weight[rows, columns] += self.bell

    def mean(self) -> FloatArray:
        """Return the maps (K, R, C) on the canvas."""
        found: FloatArray = self.total / self.weight
        return found


def resized(maps: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """Return maps (K, h, w) on another grid over the same plane.

    Parameters
    ----------
    maps : array (K, h, w)
        Any values.
    shape : (int, int)
        New rows and columns.
    """
    from napari_fewshot.ops import resize_image

    if maps.shape[1:] == shape:
        return maps
    layers = np.ascontiguousarray(maps.transpose(1, 2, 0), np.float32)
    found = resize_image(layers, shape).transpose(2, 0, 1)
    return np.ascontiguousarray(found)
