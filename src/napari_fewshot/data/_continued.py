"""`Continued`: an array that goes on from another one, which stays as it is."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_fewshot._types import AnyArray

# Side of the blocks of a plane that are taken over together, for stores without chunks.
BLOCK = 512
Box = tuple[tuple[int, int], ...]


class Continued:
    """A huge array and what was changed in it; the array below is never written to.

    Blocks that nobody wrote to are read from below. The first write to a block copies
    it, so that a change costs what it covers, however large the array is (copy on
    write).

    Parameters
    ----------
    base : array
        Any kind that is read by slices.
    own : array
        Of its shape and dtype; takes what is written.
    """

    def __init__(self, base: Any, own: Any) -> None:
        self.base, self.own = base, own
        self.shape = tuple(int(n) for n in own.shape)
        self.ndim, self.dtype = len(self.shape), np.dtype(own.dtype)
        self.size = int(np.prod(self.shape, dtype=np.int64))
        self.nbytes = self.size * self.dtype.itemsize
        sides = tuple(getattr(own, "chunks", (BLOCK,) * self.ndim))[-2:]
        self.chunks = (*(1,) * (self.ndim - 2), *(int(n) for n in sides))
        counts = [-(-n // c) for n, c in zip(self.shape, self.chunks, strict=True)]
        self._is_own = np.zeros(counts, bool)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: Any = None) -> AnyArray:
        found = self[...]
        return found if dtype is None else found.astype(dtype)

    def __getitem__(self, key: Any) -> AnyArray:
        box, local = self._split(key)
        return np.asarray(self._read(box)[local])

    def __setitem__(self, key: Any, values: Any) -> None:
        box, local = self._split(key)
        if any(low >= high for low, high in box):
            return
        touched = self._blocks(box)
        for index in itertools.product(*(range(s.start, s.stop) for s in touched)):
            if not self._is_own[index]:
                at = self._block(index)
                self.own[at] = np.asarray(self.base[at])
        self._is_own[touched] = True
        place = tuple(slice(low, high) for low, high in box)
        content = np.asarray(self.own[place])
        content = content if content.flags.writeable else content.copy()
        content[local] = values
        self.own[place] = content

    def changed(self) -> Iterator[tuple[slice, ...]]:
        """Yield the keys of the blocks that were written to."""
        for index in np.argwhere(self._is_own):
            yield self._block(tuple(int(i) for i in index))

    def _read(self, box: Box) -> AnyArray:
        place = tuple(slice(low, high) for low, high in box)
        if any(low >= high for low, high in box):
            return np.zeros([max(0, high - low) for low, high in box], self.dtype)
        touched = self._blocks(box)
        is_own = self._is_own[touched]
        if is_own.all():
            return np.asarray(self.own[place])
        found = np.asarray(self.base[place])
        if not is_own.any():
            return found
        found = np.array(found, self.dtype)
        for offset in np.argwhere(is_own):
            index = tuple(
                int(o) + s.start for o, s in zip(offset, touched, strict=True)
            )
            parts = [
                (max(b.start, low), min(b.stop, high))
                for b, (low, high) in zip(self._block(index), box, strict=True)
            ]
            inner = tuple(
                slice(a - low, b - low)
                for (a, b), (low, _) in zip(parts, box, strict=True)
            )
            found[inner] = np.asarray(self.own[tuple(slice(*p) for p in parts)])
        return found

    def _blocks(self, box: Box) -> tuple[slice, ...]:
        """Return the numbers of the blocks that a box touches."""
        return tuple(
            slice(low // size, (high - 1) // size + 1)
            for (low, high), size in zip(box, self.chunks, strict=True)
        )

    def _block(self, index: tuple[int, ...]) -> tuple[slice, ...]:
        together = zip(index, self.chunks, self.shape, strict=True)
        return tuple(slice(i * c, min((i + 1) * c, n)) for i, c, n in together)

    def _split(self, key: Any) -> tuple[Box, tuple[Any, ...]]:
        """Return the box that holds what a key asks for, and the key within it."""
        keys = list(key) if isinstance(key, tuple) else [key]
        if any(k is Ellipsis for k in keys):
            at = next(i for i, k in enumerate(keys) if k is Ellipsis)
            keys[at : at + 1] = [slice(None)] * (self.ndim - len(keys) + 1)
        keys += [slice(None)] * (self.ndim - len(keys))
        if len(keys) > self.ndim:
            raise IndexError(f"{len(keys)} indices for {self.ndim} axes")
        together = zip(keys, self.shape, strict=True)
        boxes, local = zip(*(_along(k, n) for k, n in together), strict=True)
        return boxes, local


def _along(key: Any, length: int) -> tuple[tuple[int, int], Any]:
    """Return first and last (exclusive) index of a key along an axis, and the rest."""
    if isinstance(key, slice):
        wanted = range(*key.indices(length))
        if not wanted:
            return (0, 0), slice(None)
        low, high = min(wanted[0], wanted[-1]), max(wanted[0], wanted[-1]) + 1
        return (low, high), slice(None, None, wanted.step)
    found = np.asarray(key)
    if found.dtype == bool or found.dtype.kind not in "iu":
        raise IndexError("only whole numbers, slices and arrays of whole numbers")
    if found.size == 0:
        return (0, 0), found.astype(int)
    if found.min() < -length or found.max() >= length:
        raise IndexError(f"index out of {length}")
    found = np.where(found < 0, found + length, found)
    low = int(found.min())
    return (low, int(found.max()) + 1), found - low if found.ndim else 0
