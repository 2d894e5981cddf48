"""`SparsePlanes`: a stack of which only some planes are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_fewshot._types import AnyArray


class SparsePlanes:
    """A read-only array that knows a few planes; the others are zero.

    Parameters
    ----------
    shape : tuple of int
        Full shape: leading axes, rows, columns and maybe channels.
    n_leading : int
        Number of leading (t, z) axes.
    planes : mapping of int to array
        Flat plane number to pixels.
    """

    def __init__(
        self, shape: tuple[int, ...], n_leading: int, planes: Mapping[int, AnyArray]
    ) -> None:
        self.shape = tuple(shape)
        self.ndim = len(self.shape)
        self.planes = dict(planes)
        self._leading = self.shape[:n_leading]
        kinds = {p.dtype for p in self.planes.values()}
        self.dtype = kinds.pop() if len(kinds) == 1 else np.dtype(np.int32)

    def __getitem__(self, key: Any) -> AnyArray:
        key = key if isinstance(key, tuple) else (key,)
        n = len(self._leading)
        index = tuple(int(k) for k in key[:n])
        plane = int(np.ravel_multi_index(index, self._leading)) if n else 0
        pixels: Any = self.planes.get(plane)
        if pixels is None:
            pixels = np.zeros(self.shape[n:], self.dtype)
        return pixels[key[n:]]  # type: ignore[no-any-return]

    def __array__(self, dtype: Any = None, copy: Any = None) -> AnyArray:
        full: AnyArray = np.zeros(self.shape, self.dtype)
        for plane, pixels in self.planes.items():
            at = np.unravel_index(plane, self._leading) if self._leading else ()
            full[at] = pixels
        return full if dtype is None else full.astype(dtype)
