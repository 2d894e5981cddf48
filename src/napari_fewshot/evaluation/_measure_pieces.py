"""Objects of labels that may not fit in memory, a few slices at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_fewshot._types import AnyArray

# Pixels that are looked at together.
BLOCK_PIXELS = 1 << 22


@dataclass(eq=False)
class Frame:
    """One point in time of labels: an array with spatial axes only, read in blocks.

    Attributes
    ----------
    array : array
        Labels, with their time axis if there is one.
    axes : str
        Of the array, of ``tzyx``.
    time : int, optional
        Which point in time; None without a time axis.
    """

    array: Any
    axes: str
    time: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the spatial axes."""
        size = zip(self.axes, self.array.shape, strict=True)
        return tuple(int(n) for a, n in size if a != "t")

    @property
    def ndim(self) -> int:
        """Number of spatial axes: 2 or 3."""
        return len(self.shape)

    def read(self, *spans: slice) -> AnyArray:
        """Read a box; spans of later axes may be left out.

        Raises
        ------
        DataError
            If it does not hold whole numbers of 0 and above.
        """
        left = iter((*spans, *[slice(None)] * (self.ndim - len(spans))))
        key = tuple(self.time if a == "t" else next(left) for a in self.axes)
        pixels = np.asarray(self.array[key])
        if pixels.dtype.kind == "b":
            return pixels.astype(np.uint8)
        if pixels.dtype.kind == "f" and np.array_equal(pixels, np.rint(pixels)):
            pixels = pixels.astype(np.int64)
        if pixels.dtype.kind not in "ui" or pixels.min(initial=0) < 0:
            raise DataError(
                "Labels must be whole numbers of 0 and above: one per class or object. "
                "Round them first."
            )
        return pixels

    def blocks(self) -> Iterator[tuple[int, AnyArray]]:
        """Yield blocks of slices along the first axis, with where they start."""
        per_slice = int(np.prod(self.shape[1:]))
        step = max(1, BLOCK_PIXELS // per_slice)
        for start in range(0, self.shape[0], step):
            yield start, self.read(slice(start, start + step))


@dataclass
class Merger:
    """Sets that grow together: union by lowest number, with shortened paths.

    Attributes
    ----------
    parents : list of int
        Of every element; a root is its own.
    """

    parents: list[int] = field(default_factory=list)

    def grow(self, count: int) -> None:
        """Add elements, each a set of its own."""
        top = len(self.parents)
        self.parents.extend(range(top, top + count))

    def root(self, item: int) -> int:
        """Return the lowest element of a set."""
        parents = self.parents
        while parents[item] != item:
            parents[item] = parents[parents[item]]
            item = parents[item]
        return item

    def join(self, one: int, other: int) -> None:
        """Make one set of two."""
        one, other = self.root(one), self.root(other)
        self.parents[max(one, other)] = min(one, other)


class Pieces:
    """Connected pieces of every class, diagonal neighbours included.

    Parameters
    ----------
    frame : Frame
        Class labels.
    """

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        merger = Merger([0])
        last: tuple[AnyArray, AnyArray] | None = None
        for _, classes in frame.blocks():
            pieces = self._label(classes, len(merger.parents))
            merger.grow(int(max(0, pieces.max(initial=0) - len(merger.parents) + 1)))
            if last is not None:
                _join_faces(merger, last, (pieces[0], classes[0]))
            last = pieces[-1], classes[-1]
        roots = np.array([merger.root(i) for i in range(len(merger.parents))])
        # Numbers follow the first pixel of each piece, without gaps.
        self._numbers = np.unique(roots, return_inverse=True)[1].astype(np.int64)
        self.count = int(self._numbers.max(initial=0))

    def blocks(self) -> Iterator[tuple[int, AnyArray, AnyArray]]:
        """Yield start, numbers (1 to ``count``) and classes of each block."""
        top = 1
        for start, classes in self.frame.blocks():
            pieces = self._label(classes, top)
            top = max(top, int(pieces.max(initial=0)) + 1)
            yield start, self._numbers[pieces], classes

    @staticmethod
    def _label(classes: AnyArray, first: int) -> AnyArray:
        from skimage.measure import label

        found = label(classes, background=0, connectivity=classes.ndim)
        numbered: AnyArray = np.where(found > 0, found + (first - 1), 0)
        return numbered


class Given:
    """Objects that are numbered already.

    Parameters
    ----------
    frame : Frame
        Object numbers, in any order, with gaps or without.
    classes : Frame, optional
        Class labels; without them every object is of class 1.
    """

    def __init__(self, frame: Frame, classes: Frame | None) -> None:
        self.frame, self.classes = frame, classes
        found = [np.unique(block) for _, block in frame.blocks()]
        values = np.unique(np.concatenate(found))
        self.values = values[values > 0].astype(np.int64)
        self.count = len(self.values)

    def blocks(self) -> Iterator[tuple[int, AnyArray, AnyArray]]:
        """Yield start, numbers (1 to ``count``) and classes of each block."""
        for start, block in self.frame.blocks():
            numbers = np.searchsorted(self.values, block) + 1
            numbers = np.where(block > 0, numbers, 0)
            if self.classes is None:
                classes = (block > 0).astype(np.uint8)
            else:
                classes = self.classes.read(slice(start, start + len(block)))
            yield start, numbers, classes


def _join_faces(
    merger: Merger, above: tuple[AnyArray, AnyArray], below: tuple[AnyArray, AnyArray]
) -> None:
    """Join pieces of one class that touch over the border of two blocks."""
    pieces, classes = (np.pad(a, 1) for a in above)
    for shift in product((0, 1, 2), repeat=below[0].ndim):
        spans = zip(shift, below[0].shape, strict=True)
        key = tuple(slice(s, s + n) for s, n in spans)
        touch = (below[0] > 0) & (classes[key] == below[1])
        pairs = np.stack([pieces[key][touch], below[0][touch]], axis=1)
        for one, other in np.unique(pairs, axis=0).tolist():
            merger.join(one, other)
