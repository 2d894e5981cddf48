"""Planes on disk while a volume is worked on, so that memory does not grow with it.

A plain file, not a compressed store: what is written plane by plane is read across the
planes, and a chunk would be decoded once for every plane that touches it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.errors import StorageError

if TYPE_CHECKING:
    import os

    from napari_fewshot._types import AnyArray


class PlaneFile:
    """Planes of one shape in one file, read by plane or by rows of all planes.

    Parameters
    ----------
    path : path
        Where; its folder must exist.
    count : int
        Planes; those never written are 0.
    shape : (int, int)
        Rows and columns of a plane.
    dtype : dtype
        Of the values.

    Raises
    ------
    StorageError
        If it can't be made, written (a full disk) or read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        count: int,
        shape: tuple[int, int],
        dtype: Any,
    ) -> None:
        self.path = Path(path)
        self.count, self.shape, self.dtype = count, shape, np.dtype(dtype)
        self._plane_bytes = int(np.prod(shape)) * self.dtype.itemsize
        try:
            self._file = self.path.open("w+b")
            self._file.truncate(count * self._plane_bytes)
        except OSError as error:
            raise self._trouble(error) from error

    def write(
        self,
        number: int,
        values: AnyArray,
        region: tuple[int, int, int, int] | None = None,
    ) -> None:
        """Write a plane, or the part of it within row and column limits.

        Parameters
        ----------
        number : int
            Which plane.
        values : array
            (rows, columns) of the plane or of the region.
        region : (int, int, int, int), optional
            Row and column minima, then maxima.
        """
        if region is not None:
            top, left, bottom, right = region
            whole = self.read(number)
            whole[top:bottom, left:right] = values
            values = whole
        data = np.ascontiguousarray(values, self.dtype)
        if data.shape != self.shape:
            raise ValueError(f"A plane of {data.shape} does not fit {self.shape}.")
        try:
            self._file.seek(number * self._plane_bytes)
            self._file.write(data.tobytes())
            # Here a full disk is noticed, not somewhere later.
            self._file.flush()
        except OSError as error:
            raise self._trouble(error) from error

    def read(self, number: int) -> AnyArray:
        """Read a plane."""
        return self._read(number, 0, self.shape[0])

    def rows(self, start: int, stop: int, numbers: range) -> AnyArray:
        """Read the same rows of several planes, (len(numbers), rows, columns)."""
        return np.stack([self._read(n, start, stop) for n in numbers])

    def close(self) -> None:
        """Close and delete the file; may be called twice."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _read(self, number: int, start: int, stop: int) -> AnyArray:
        columns = self.shape[1]
        row_bytes = columns * self.dtype.itemsize
        try:
            self._file.seek(number * self._plane_bytes + start * row_bytes)
            data = self._file.read((stop - start) * row_bytes)
        except OSError as error:
            raise self._trouble(error) from error
        found: AnyArray = np.frombuffer(data, self.dtype).reshape(-1, columns)
        return found.copy()

    def _trouble(self, error: OSError) -> StorageError:
        return StorageError(
            f"The volume can't be kept in {self.path.parent} while it is worked on "
            f"({error.strerror or error}). Free some space, or use view='planes'."
        )
