"""`Written`: labels on their way to a file, with all that goes along."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import resolve_scale, unit_name
from napari_fewshot.errors import DataError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    from napari_fewshot._types import AnyArray

# Pixels that are read at a time, at most, where a plane is larger.
BLOCK_PIXELS = 1 << 24


@dataclass(frozen=True, eq=False)
class Written:
    """Labels, read in blocks, and what is known of them.

    Attributes
    ----------
    labels : array
        int labels; numpy, zarr, dask or anything that is sliced.
    axes : str
        One letter of ``tzyx`` per axis.
    scale : tuple of float, optional
        Pixel size per spatial axis.
    unit : str
        Its unit; empty if unknown.
    origin : tuple of float, optional
        Centre of the first pixel, per spatial axis.
    affine : array (4, 4), optional
        Pixels (z, y, x) to world (z, y, x), for NIfTI.
    like : path, optional
        The image that the labels are of.
    classes, colours : dict of int to str
        Names and ``#rrggbb`` of the label values.
    instances : array, optional
        Object numbers in the shape of the labels.
    has_levels : bool
        Whether the image has levels, so that TIFF labels get some, too.
    """

    labels: Any
    axes: str
    scale: tuple[float, ...] | None = None
    unit: str = ""
    origin: tuple[float, ...] | None = None
    affine: Any = None
    like: str | os.PathLike[str] | None = None
    classes: Mapping[int, str] = field(default_factory=dict)
    colours: Mapping[int, str] = field(default_factory=dict)
    instances: Any = None
    has_levels: bool = False

    @classmethod
    def of(
        cls,
        labels: Any,
        *,
        axes: str | None = None,
        scale: Any = None,
        unit: str = "",
        classes: Mapping[int, str] | None = None,
        colours: Mapping[int, str] | None = None,
        instances: Any = None,
        **rest: Any,
    ) -> Written:
        """Check labels and what belongs to them.

        Raises
        ------
        DataError
            If they are no labels, or the parts do not fit together.
        """
        if not hasattr(labels, "shape") or not hasattr(labels, "dtype"):
            labels = np.asarray(labels)
        if np.dtype(labels.dtype).kind not in "bui":
            raise DataError(
                f"Labels are whole numbers; these have dtype {labels.dtype}. Convert "
                "them first, for example labels.astype('int32')."
            )
        shape = tuple(int(n) for n in labels.shape)
        axes = axes or {2: "yx", 3: "zyx", 4: "tzyx"}.get(len(shape))
        if axes is None or len(axes) != len(shape) or axes[-2:] != "yx":
            raise DataError(
                f"Labels of shape {shape} don't fit axes={axes!r}: one letter of "
                "'tzyx' per axis is needed, with rows and columns last."
            )
        if instances is not None and tuple(instances.shape) != shape:
            raise DataError(
                f"Object numbers have shape {tuple(instances.shape)}, the labels "
                f"{shape}; they must be equal."
            )
        names = {int(v): str(n) for v, n in (classes or {}).items() if int(v) > 0}
        return cls(
            labels,
            axes,
            resolve_scale(scale, axes),
            unit_name(unit),
            classes=names,
            colours={int(v): str(c) for v, c in (colours or {}).items()},
            instances=instances,
            **rest,
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the labels."""
        return tuple(int(n) for n in self.labels.shape)

    def read(self, key: Any) -> AnyArray:
        """Read a part of the labels.

        Raises
        ------
        DataError
            If it holds negative numbers.
        """
        part: AnyArray = np.asarray(self.labels[key])
        if part.dtype.kind == "i" and part.size and part.min() < 0:
            raise DataError(
                "The labels hold negative numbers; 0 is background and classes start "
                "at 1. Set the negative pixels to 0 first."
            )
        return part.astype(np.uint8) if part.dtype == bool else part

    def planes(self) -> Iterator[tuple[tuple[int, ...], AnyArray]]:
        """Yield every plane with its index along the leading axes."""
        for index in np.ndindex(*self.shape[:-2]):
            yield index, self.read((*index, slice(None), slice(None)))

    def strips(self) -> Iterator[tuple[tuple[Any, ...], AnyArray]]:
        """Yield every plane in strips of whole rows, with the key of each."""
        rows = max(1, BLOCK_PIXELS // self.shape[-1])
        for index in np.ndindex(*self.shape[:-2]):
            for row in range(0, self.shape[-2], rows):
                key = (*index, slice(row, min(row + rows, self.shape[-2])))
                yield key, self.read(key)

    @cached_property
    def top(self) -> int:
        """The largest label."""
        return max((int(part.max(initial=0)) for _, part in self.strips()), default=0)

    def smallest_dtype(self) -> Any:
        """Return the smallest unsigned type that holds the labels."""
        return smallest_dtype(self.top)


def smallest_dtype(top: int) -> Any:
    """Return the smallest unsigned type that holds labels up to ``top``."""
    for kind in (np.uint8, np.uint16, np.uint32):
        if top <= np.iinfo(kind).max:
            return kind
    raise DataError(f"Label {top} is too large to be written.")
