"""`Lattice`: overlapping windows of one size that cover a plane.

It follows from the shapes alone, never from memory or from who computes, so that every
run of the same request looks at the same windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.errors import DataError

if TYPE_CHECKING:
    from napari_fewshot._types import FloatArray

# Row and column minima, then maxima, exclusive.
Region = tuple[int, int, int, int]

# Neighbouring windows share this part of their side, and at least so many pixels.
OVERLAP_SHARE, LEAST_OVERLAP = 1 / 8, 48


@dataclass(frozen=True)
class Lattice:
    """Windows of a plane, and the cells that they are responsible for.

    Windows are numbered row by row. Every window has a **cell**; cells tile the plane,
    and meet in the middle of what windows share. Around the border of two cells the
    result changes over from one window to the other along a **ramp**.

    Attributes
    ----------
    shape : (int, int)
        Rows and columns of the plane.
    size : (int, int)
        Rows and columns of every window.
    rows, columns : tuple of int
        Where windows begin along either axis.
    ramp : (int, int)
        How many pixels the change takes along either axis; even.
    """

    shape: tuple[int, int]
    size: tuple[int, int]
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    ramp: tuple[int, int]

    @classmethod
    def of(
        cls,
        shape: tuple[int, int],
        size: tuple[int, int],
        overlap: int | None = None,
    ) -> Lattice:
        """Spread windows evenly.

        Parameters
        ----------
        shape : (int, int)
            Rows and columns of the plane.
        size : (int, int)
            Of a window; cut to the plane.
        overlap : int, optional
            Pixels that neighbours share at least; default an eighth of a window.

        Raises
        ------
        DataError
            If windows have no pixels or share more than half of their side.
        """
        full = (int(shape[0]), int(shape[1]))
        sides = (min(int(size[0]), full[0]), min(int(size[1]), full[1]))
        if min(sides) < 1:
            raise DataError(f"Windows of {size[0]} x {size[1]} pixels hold nothing.")
        shared = [_overlap(s, n, overlap) for s, n in zip(sides, full, strict=True)]
        starts = [_starts(n, s, o) for n, s, o in zip(full, sides, shared, strict=True)]
        # Half of what is shared is for the change, a quarter on either side is context.
        ramp = tuple(o // 4 * 2 for o in shared)
        return cls(full, sides, starts[0], starts[1], (ramp[0], ramp[1]))

    @property
    def grid(self) -> tuple[int, int]:
        """How many windows there are along either axis."""
        return len(self.rows), len(self.columns)

    @property
    def count(self) -> int:
        """How many windows there are."""
        return len(self.rows) * len(self.columns)

    def place(self, number: int) -> tuple[int, int]:
        """Return where in the grid a window is."""
        return divmod(number, len(self.columns))

    def window(self, number: int) -> Region:
        """Return what a window shows."""
        row, column = self.place(number)
        top, left = self.rows[row], self.columns[column]
        return top, left, top + self.size[0], left + self.size[1]

    def cell(self, number: int) -> Region:
        """Return the part of the plane that a window is responsible for."""
        row, column = self.place(number)
        ys, xs = self._edges
        return ys[row], xs[column], ys[row + 1], xs[column + 1]

    def zone(self, number: int) -> Region:
        """Return the cell and the ramps around it: all that a window adds to."""
        top, left, bottom, right = self.cell(number)
        down, across = self.ramp[0] // 2, self.ramp[1] // 2
        return (
            max(0, top - down),
            max(0, left - across),
            min(self.shape[0], bottom + down),
            min(self.shape[1], right + across),
        )

    def around(self, number: int) -> tuple[int, ...]:
        """Return a window and its neighbours, also across corners, in order."""
        row, column = self.place(number)
        down, across = self.grid
        return tuple(
            r * across + c
            for r in range(max(0, row - 1), min(down, row + 2))
            for c in range(max(0, column - 1), min(across, column + 2))
        )

    def touching(self, region: Region, *, ramps: bool = False) -> tuple[int, ...]:
        """Return the windows whose cell (or zone, with ``ramps``) meets a region."""
        found = []
        for axis, edges in enumerate(self._edges):
            low, high = region[axis], region[axis + 2]
            wide = self.ramp[axis] // 2 if ramps else 0
            found.append(
                [
                    k
                    for k in range(len(edges) - 1)
                    if edges[k] - wide < high and low < edges[k + 1] + wide
                ]
            )
        across = len(self.columns)
        return tuple(r * across + c for r in found[0] for c in found[1])

    def weights(self, number: int, region: Region) -> FloatArray:
        """Return what a window counts in a region, (rows, columns) float32.

        The weights of all windows add up to 1 everywhere on the plane.
        """
        row, column = self.place(number)
        ys, xs = self._edges
        down = _weight(ys, row, self.ramp[0], region[0], region[2])
        across = _weight(xs, column, self.ramp[1], region[1], region[3])
        return down[:, None] * across[None]

    @cached_property
    def _edges(self) -> tuple[list[int], list[int]]:
        """Where cells begin, and the end, along either axis."""
        return (
            _edges(self.rows, self.size[0], self.shape[0]),
            _edges(self.columns, self.size[1], self.shape[1]),
        )


def _overlap(side: int, length: int, wanted: int | None) -> int:
    if side >= length:
        return 0
    if wanted is None:
        return min(max(int(side * OVERLAP_SHARE), LEAST_OVERLAP), side // 3)
    if not 0 <= wanted <= side // 2:
        raise DataError(
            f"Windows of {side} pixels can't share {wanted}; at most {side // 2} do."
        )
    return wanted


def _starts(length: int, side: int, overlap: int) -> tuple[int, ...]:
    if side >= length:
        return (0,)
    count = int(np.ceil((length - overlap) / (side - overlap)))
    return tuple(int(n) for n in np.linspace(0, length - side, count).round())


def _edges(starts: tuple[int, ...], side: int, length: int) -> list[int]:
    middles = [(before + after + side) // 2 for before, after in pairwise(starts)]
    return [0, *middles, length]


def _weight(edges: list[int], k: int, ramp: int, low: int, high: int) -> FloatArray:
    """Return the weight of window k along an axis: up at its cell, down behind it."""
    # Without a ramp the change is sudden.
    at, width = np.arange(low, high, dtype=np.float32) + 0.5, max(ramp, 1e-3)
    weight: FloatArray = np.ones(high - low, np.float32)
    if k > 0:
        weight *= np.clip((at - edges[k]) / width + 0.5, 0, 1)
    if k < len(edges) - 2:
        weight *= 1 - np.clip((at - edges[k + 1]) / width + 0.5, 0, 1)
    return weight
