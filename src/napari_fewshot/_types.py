"""Array aliases and small protocols; nothing here is imported at a cost."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

BoolArray: TypeAlias = npt.NDArray[np.bool_]
FloatArray: TypeAlias = npt.NDArray[np.float32]
LabelArray: TypeAlias = npt.NDArray[np.int32]
ByteArray: TypeAlias = npt.NDArray[np.uint8]
AnyArray: TypeAlias = npt.NDArray[Any]


@runtime_checkable
class LazyArray(Protocol):
    """What numpy, dask, zarr and memory-mapped arrays have in common."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of every axis."""

    @property
    def dtype(self) -> Any:
        """Kind of number that is stored."""

    def __getitem__(self, key: Any) -> Any:
        """Return a part; only ``numpy.asarray`` of it is guaranteed to be eager."""
