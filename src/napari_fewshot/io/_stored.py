"""`Stored`: a zarr array that says which chunk can't be read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_fewshot._types import AnyArray

# Chunks that are tried one by one to find the broken one.
MAX_TRIED = 10_000
METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")


class Stored:
    """A zarr array of a file; reading names the chunk that is damaged.

    A chunk that is not in the store reads as the fill value: writers leave out chunks
    that hold nothing else, so that a missing one can't be told from an empty one.

    Parameters
    ----------
    array : zarr array
        Opened for reading.
    name : str
        Of the file and the array in it, for messages.
    """

    def __init__(self, array: Any, name: str) -> None:
        self.source = array
        self.name = name
        self.shape = tuple(int(n) for n in array.shape)
        self.ndim = len(self.shape)
        self.dtype = array.dtype
        self.chunks = tuple(int(n) for n in array.chunks)
        self.size = int(np.prod(self.shape, dtype=np.int64))
        self.nbytes = self.size * np.dtype(self.dtype).itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> AnyArray:
        try:
            return np.asarray(self.source[key])
        except IndexError:
            raise
        except Exception as error:  # every codec has its own way to say "damaged"
            raise DataError(self._what(key, error)) from error

    def __array__(self, dtype: Any = None, copy: Any = None) -> AnyArray:
        found = self[...]
        return found if dtype is None else found.astype(dtype)

    def is_hollow(self) -> bool:
        """Whether not one chunk is there, of an array in a folder."""
        root = getattr(self.source.store, "root", None)
        if root is None:
            return False
        folder = Path(root) / self.source.path
        try:
            with os.scandir(folder) as entries:
                return not any(entry.name not in METADATA for entry in entries)
        except OSError:
            return False

    def missing(self) -> tuple[int, int]:
        """Return how many chunks are not in the store, and how many there may be."""
        total = int(self.source.nchunks)
        return max(0, total - int(self.source.nchunks_initialized)), total

    def _what(self, key: Any, error: Exception) -> str:
        for chunk, part in self._chunks_of(key):
            try:
                self.source[part]
            except Exception as found:  # noqa: BLE001 - as above; told, not hidden
                where = ", ".join(map(str, chunk))
                return (
                    f"{self.name} can't be read: its chunk ({where}), which holds "
                    f"{_extent(part)}, is damaged ({found}). Copy the file again, or "
                    "leave these planes out."
                )
        return f"{self.name} can't be read ({error}). Copy the file again."

    def _chunks_of(self, key: Any) -> Iterator[tuple[tuple[int, ...], Any]]:
        """Yield the number and the part of every chunk that a key touches."""
        keys = key if isinstance(key, tuple) else (key,)
        keys = tuple(k for k in keys if k is not Ellipsis)
        keys = (*keys, *[slice(None)] * (self.ndim - len(keys)))
        ranges = []
        for k, n, size in zip(keys, self.shape, self.chunks, strict=True):
            start, stop = 0, n
            if isinstance(k, slice):
                start, stop, _ = k.indices(n)
            elif np.ndim(k) == 0:
                start = int(k) % n
                stop = start + 1
            ranges.append(range(start // size, max(start, stop - 1) // size + 1))
        counts = tuple(len(r) for r in ranges)
        for i, index in enumerate(np.ndindex(*counts)):
            if i >= MAX_TRIED:
                return
            chunk = tuple(r[j] for r, j in zip(ranges, index, strict=True))
            yield (
                chunk,
                tuple(
                    slice(c * s, min((c + 1) * s, n))
                    for c, s, n in zip(chunk, self.chunks, self.shape, strict=True)
                ),
            )


def _extent(part: tuple[slice, ...]) -> str:
    sides = [f"{p.start}:{p.stop}" for p in part]
    return f"pixels [{', '.join(sides)}]"
