"""`Components`: connected parts of a mask of which only cells are seen at a time.

Parts are found cell by cell, then those that touch across cells become one: the
two-pass labelling of Rosenfeld & Pfaltz (J. ACM 1966), with cells for rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import AnyArray, BoolArray, LabelArray
    from napari_fewshot.data import Lattice


class Components:
    """Connected parts of a mask over the cells of a plane.

    Give it the mask cell by cell with `add`, then `close` it. After that `roots` finds
    the parts of a cell again, if it is given the same mask.

    Parameters
    ----------
    lattice : Lattice
        Of the plane.
    cells : sequence of int
        Those that are given; what lies beyond them is not known.
    corners : bool
        Whether pixels that meet at a corner touch (8 neighbours), or not (4).
    firsts : bool
        Whether `first` is wanted.

    Attributes
    ----------
    sizes : array (N,)
        Pixels of every part.
    first : array (N,)
        Its first pixel, as ``row * columns + column`` of the plane, if wanted.
    outer : array (N,) bool
        Whether it reaches the border of the cells that are known.
    """

    def __init__(
        self,
        lattice: Lattice,
        cells: Sequence[int],
        *,
        corners: bool,
        firsts: bool = False,
    ) -> None:
        self.lattice = lattice
        self._known = set(cells)
        self._corners, self._firsts = corners, firsts
        self._spans: dict[int, tuple[int, int]] = {}
        self._rims: dict[int, dict[str, AnyArray]] = {}
        self._found: list[tuple[AnyArray, AnyArray, AnyArray]] = []
        self._pairs: list[AnyArray] = []
        self._total = 0
        self._root: AnyArray = np.zeros(0, np.int64)
        self.sizes: AnyArray = np.zeros(0, np.int64)
        self.first: AnyArray = np.zeros(0, np.int64)
        self.outer: AnyArray = np.zeros(0, bool)

    def add(self, cell: int, mask: BoolArray) -> None:
        """Take the mask of a cell."""
        parts, count = self._label(mask)
        first = self._first(cell, parts, count)
        sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
        self._spans[cell] = self._total, self._total + count
        sides = {"n": parts[0], "s": parts[-1], "w": parts[:, 0], "e": parts[:, -1]}
        rims = {
            side: np.where(rim > 0, rim.astype(np.int64) - 1 + self._total, -1)
            for side, rim in sides.items()
        }
        outer = np.zeros(count, bool)
        for side, other in neighbours(self.lattice, cell).items():
            if other not in self._known and side in rims:
                touching = rims[side][rims[side] >= 0]
                outer[touching - self._total] = True
        self._found.append((sizes, first, outer))
        self._total += count
        self._rims[cell] = rims
        self._join(cell)
        for near in (cell, *neighbours(self.lattice, cell).values()):
            around = neighbours(self.lattice, near).values() if near >= 0 else ()
            if all(n in self._spans for n in around if n in self._known):
                # Nobody comes any more who could touch it.
                self._rims.pop(near, None)

    def close(self) -> None:
        """Make one of the parts that touch across cells."""
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components

        if not self._total:
            return
        pairs = np.concatenate([np.zeros((0, 2), np.int64), *self._pairs])
        ones = np.ones(len(pairs), np.int8)
        graph = coo_matrix((ones, (pairs[:, 0], pairs[:, 1])), (self._total,) * 2)
        count, self._root = connected_components(graph, directed=False)
        sizes, first, outer = (
            np.concatenate([f[i] for f in self._found]) for i in range(3)
        )
        self.sizes = np.bincount(self._root, sizes, count).astype(np.int64)
        self.first = np.full(count, np.iinfo(np.int64).max)
        np.minimum.at(self.first, self._root, first)
        self.outer = np.zeros(count, bool)
        self.outer[self._root[outer]] = True
        self._rims.clear()
        self._found.clear()
        self._pairs.clear()

    def roots(self, cell: int, mask: BoolArray) -> AnyArray:
        """Return the number of the part of every pixel of a cell, -1 outside of it."""
        parts, _ = self._label(mask)
        low, high = self._spans[cell]
        table = np.concatenate([[-1], self._root[low:high]])
        found: AnyArray = table[parts]
        return found

    def chosen(self, cell: int, mask: BoolArray, choice: BoolArray) -> BoolArray:
        """Return where a cell shows one of the chosen parts; choice is (N,) bool."""
        low, high = self._spans[cell]
        here = choice[self._root[low:high]]
        if not here.any():
            return np.zeros_like(mask)
        if here.all():
            return mask
        found: BoolArray = np.concatenate([choice, [False]])[self.roots(cell, mask)]
        return found

    def _first(self, cell: int, parts: LabelArray, count: int) -> AnyArray:
        """Return the first pixel of every part of a cell, as a number of the plane."""
        if not self._firsts:
            return np.zeros(count, np.int64)
        inside = np.flatnonzero(parts)
        # Written backwards, the first pixel of a part is what stays.
        first = np.zeros(count, np.int64)
        first[parts.ravel()[inside][::-1] - 1] = inside[::-1]
        rows, columns = np.divmod(first, parts.shape[1])
        top, left, _, _ = self.lattice.cell(cell)
        found: AnyArray = (rows + top) * self.lattice.shape[1] + columns + left
        return found

    def _label(self, mask: BoolArray) -> tuple[LabelArray, int]:
        from scipy import ndimage

        if mask.all():
            return np.ones(mask.shape, np.int32), 1
        shape = np.ones((3, 3), bool) if self._corners else None
        parts, count = ndimage.label(mask, shape, output=np.int32)
        return parts, int(count)

    def _join(self, cell: int) -> None:
        """Note which parts touch those of neighbours that were given before."""
        mine = self._rims[cell]
        for side, other in neighbours(self.lattice, cell).items():
            if other not in self._rims or (len(side) > 1 and not self._corners):
                continue
            theirs = self._rims[other]
            if len(side) > 1:
                self._note(
                    mine[side[0]][_end(side)], theirs[OPPOSITE[side[0]]][_back(side)]
                )
                continue
            a, b = mine[side], theirs[OPPOSITE[side]]
            self._note(a, b)
            if self._corners:
                self._note(a[1:], b[:-1])
                self._note(a[:-1], b[1:])

    def _note(self, a: AnyArray, b: AnyArray) -> None:
        a, b = np.atleast_1d(a), np.atleast_1d(b)
        both = (a >= 0) & (b >= 0)
        if both.any():
            self._pairs.append(np.unique(np.stack([a[both], b[both]], 1), axis=0))


OPPOSITE = {"n": "s", "s": "n", "w": "e", "e": "w"}


def neighbours(lattice: Lattice, cell: int) -> dict[str, int]:
    """Return the neighbours of a cell by where they are; -1 beyond the plane."""
    row, column = lattice.place(cell)
    down, across = lattice.grid
    steps = {"n": (-1, 0), "s": (1, 0), "w": (0, -1), "e": (0, 1)}
    steps |= {"nw": (-1, -1), "ne": (-1, 1), "sw": (1, -1), "se": (1, 1)}
    found = {}
    for side, (dy, dx) in steps.items():
        inside = 0 <= row + dy < down and 0 <= column + dx < across
        found[side] = cell + dy * across + dx if inside else -1
    return found


def _end(side: str) -> int:
    """Which end of my own rim a corner is at: rims run eastwards."""
    return 0 if side[1] == "w" else -1


def _back(side: str) -> int:
    """Which end of the rim across the corner touches it."""
    return -1 if side[1] == "w" else 0
