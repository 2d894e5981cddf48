"""`Image`: a lazy array that knows its axes, read one plane at a time.

Nothing here may materialise more than one plane (plus, for the intensity window, a few
sampled ones, one after the other).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data._axes import (
    label_axes,
    label_shape,
    plane_axes,
    resolve_axes,
    resolve_scale,
)
from napari_fewshot.errors import DataError

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray, FloatArray, LazyArray
    from napari_fewshot.data._lattice import Region
    from napari_fewshot.data._levels import Levels

MAX_DEFAULT_CHANNELS = 4
WINDOW_PERCENTILES = (0.5, 99.5)
N_WINDOW_PLANES = 8
MAX_WINDOW_PIXELS = 1_000_000
# Larger planes are never read as a whole to look at their intensities; blocks per axis.
MAX_WHOLE_PIXELS, N_BLOCKS = 8192 * 8192, 12
MIN_SIDE = 4
# An image of a series is stretched to at most this many times the series' contrast.
MIN_WINDOW_SHARE = 0.1
_DTYPE_HELP = {
    "b": "true/false values, not intensities; convert it with image.astype('uint8') "
    "or use it as a mask",
    "c": "complex numbers; convert it first, for example with numpy.abs(image)",
}


@dataclass(frozen=True, eq=False)
class Image:
    """An image of any kind, seen as a list of planes.

    Build one with `Image.from_array`.

    Attributes
    ----------
    array : array
        numpy, dask, zarr or memory-mapped array; never read as a whole.
    axes : str
        One letter of ``tzcyx`` per axis of ``array``.
    channels : tuple of int
        Channels that are used; empty when there is no channel axis.
    scale : tuple of float, optional
        Pixel size per spatial axis (z, y, x), any one unit; None is unknown.
    name : str
        For messages and provenance.
    unit : str
        Name of the unit of ``scale``, such as ``"micrometer"``; empty if unknown.
    level : int
        Which resolution ``array`` is, where the image has several; 0 is the finest.
    levels : Levels, optional
        All of them.
    """

    array: LazyArray = field(repr=False)
    axes: str
    channels: tuple[int, ...] = ()
    scale: tuple[float, ...] | None = None
    name: str = ""
    unit: str = field(default="", kw_only=True)
    level: int = field(default=0, kw_only=True)
    levels: Levels | None = field(default=None, kw_only=True, repr=False)

    @classmethod
    def from_array(
        cls,
        array: Any,
        *,
        axes: str | None = None,
        channels: Any = None,
        scale: Any = None,
        name: str = "",
        unit: str = "",
    ) -> Image:
        """Check an array and wrap it.

        Raises
        ------
        DataError
            For a shape, dtype, axis string, channel choice or scale that can't be
            used; the message says what to change.
        """
        if not hasattr(array, "shape") or not hasattr(array, "dtype"):
            array = np.asarray(array)
        what = f"The image {name!r}" if name else "The image"
        kind = np.dtype(array.dtype).kind
        if kind not in "uif":
            problem = _DTYPE_HELP.get(kind, f"dtype {array.dtype}, not numbers")
            raise DataError(f"{what} holds {problem}.")
        shape = tuple(int(n) for n in array.shape)
        if len(shape) < 2:
            raise DataError(f"{what} has shape {shape}; rows and columns are needed.")
        if 0 in shape:
            raise DataError(f"{what} is empty (shape {shape}); choose another image.")
        axes = resolve_axes(shape, array.dtype, axes)
        picked = _resolve_channels(shape, array.dtype, axes, channels, what)
        sizes = resolve_scale(scale, axes)
        image = cls(array, axes, picked, sizes, name, unit=unit)
        if min(image.plane_shape) < MIN_SIDE:
            raise DataError(
                f"{what} has planes of {image.plane_shape[0]} x {image.plane_shape[1]} "
                f"pixels; at least {MIN_SIDE} x {MIN_SIDE} are needed. Check axes= or "
                "choose another image."
            )
        return image

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array with its channel axis."""
        return tuple(int(n) for n in self.array.shape)

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Shape of labels for this image: without the channel axis."""
        return label_shape(self.shape, self.axes)

    @property
    def label_axes(self) -> str:
        """Axes of labels for this image."""
        return label_axes(self.axes)

    @property
    def plane_shape(self) -> tuple[int, int]:
        """Rows and columns of a plane."""
        size = dict(zip(self.axes, self.shape, strict=True))
        return size["y"], size["x"]

    @property
    def leading_shape(self) -> tuple[int, ...]:
        """Lengths of the t and z axes, in array order; empty for a single plane."""
        size = dict(zip(self.axes, self.shape, strict=True))
        return tuple(size[a] for a in plane_axes(self.axes))

    @property
    def n_planes(self) -> int:
        """Number of planes: the product of `leading_shape`."""
        return int(np.prod(self.leading_shape, dtype=int))

    @property
    def n_channels(self) -> int:
        """Number of channels that are used (1 without a channel axis)."""
        return len(self.channels) or 1

    @property
    def pixel_size(self) -> tuple[float, float] | None:
        """Size of a pixel along (y, x), or None when unknown."""
        return None if self.scale is None else (self.scale[-2], self.scale[-1])

    def plane_index(self, plane: int) -> tuple[int, ...]:
        """Return the index along `leading_shape` of a flat plane number."""
        return tuple(
            int(i) for i in np.unravel_index(plane, self.leading_shape or (1,))
        )[: len(self.leading_shape)]

    def label_key(self, plane: int, region: Region | None = None) -> tuple[Any, ...]:
        """Return the index of a plane, or a part of it, in an array of `label_shape`.

        Parameters
        ----------
        plane : int
            Flat plane number.
        region : (int, int, int, int), optional
            Row and column minima, then maxima.
        """
        index = iter(self.plane_index(plane))
        part = {"y": slice(None), "x": slice(None)}
        if region is not None:
            part = {"y": slice(*region[::2]), "x": slice(*region[1::2])}
        return tuple(next(index) if a in "tz" else part[a] for a in self.label_axes)

    def raw_plane(self, plane: int) -> AnyArray:
        """Read one plane as stored, ``(y, x)`` or ``(y, x, c)`` of chosen channels."""
        if not 0 <= plane < self.n_planes:
            raise DataError(
                f"Plane {plane} does not exist: the image has {self.n_planes} planes "
                "(counted from 0)."
            )
        return self.raw_window(plane, slice(None), slice(None))

    def raw_window(self, plane: int, rows: slice, columns: slice) -> AnyArray:
        """Read a part of a plane as stored, as `raw_plane` does; only that is read."""
        index = iter(self.plane_index(plane))
        part = {"y": rows, "x": columns, "c": slice(None)}
        key = tuple(next(index) if a in "tz" else part[a] for a in self.axes)
        pixels = np.asarray(self.array[key])
        left = "".join(a for a in self.axes if a not in "tz")
        if "c" in left:
            pixels = np.moveaxis(pixels, left.index("c"), -1)
            if self.channels != tuple(range(pixels.shape[-1])):
                pixels = pixels[..., list(self.channels)]
        return np.ascontiguousarray(pixels)

    def sampled(self, plane: int, limit: int) -> AnyArray:
        """Return about ``limit`` pixels of a plane, (N,) or (N, M) or (N, M, c).

        Large planes are not read as a whole: blocks of them, evenly spread, stand for
        the rest.
        """
        height, width = self.plane_shape
        if height * width <= MAX_WHOLE_PIXELS:
            return _thin(self.raw_plane(plane), limit)
        side = max(1, int(np.sqrt(limit) / N_BLOCKS))
        blocks = []
        for top in np.linspace(0, height - min(side, height), N_BLOCKS).astype(int):
            for left in np.linspace(0, width - min(side, width), N_BLOCKS).astype(int):
                rows, columns = slice(top, top + side), slice(left, left + side)
                blocks.append(self.raw_window(plane, rows, columns).ravel())
        return np.concatenate(blocks)

    def plane(self, plane: int) -> FloatArray:
        """Read one plane as ``(y, x, c)`` float32 in [0, 1] by the intensity window.

        Raises
        ------
        DataError
            If the plane holds NaN or infinite pixels.
        """
        pixels = self.raw_plane(plane).astype(np.float32)
        if not np.isfinite(pixels).all():
            where = f" (plane {plane})" if self.n_planes > 1 else ""
            whose = f"The image {self.name!r}" if self.name else "The image"
            raise DataError(
                f"{whose} holds NaN or infinite pixels{where}; replace them first, for "
                "example with numpy.nan_to_num(image)."
            )
        pixels = pixels if pixels.ndim == 3 else pixels[..., None]
        return apply_window(pixels, self.window_of(plane, pixels))

    def window_of(
        self, plane: int, pixels: AnyArray | None = None
    ) -> tuple[float, float]:
        """Return the intensity window of a plane.

        Planes of a z stack share the window of the stack, so that depth keeps its
        meaning; images of a series (t axis) each have their own, so that a dim one is
        seen, but never so narrow that the noise of an empty one fills it.

        Parameters
        ----------
        plane : int
            Flat plane number.
        pixels : array, optional
            The plane, if it was read already.
        """
        if self.n_planes == 1 or "z" in self.axes:
            return self.window
        if pixels is None:
            seen = self.sampled(plane, MAX_WINDOW_PIXELS)
        else:
            seen = _thin(pixels, MAX_WINDOW_PIXELS)
        low, high = intensity_window([seen])
        least = MIN_WINDOW_SHARE * (self.window[1] - self.window[0])
        return low, max(high, low + least)

    @cached_property
    def window(self) -> tuple[float, float]:
        """Low and high intensity, from percentiles over a few evenly spaced planes."""
        step = max(1, self.n_planes // N_WINDOW_PLANES)
        planes = list(range(step // 2, self.n_planes, step))[:N_WINDOW_PLANES]
        limit = MAX_WINDOW_PIXELS // len(planes)
        return intensity_window([self.sampled(i, limit) for i in planes])

    def relative_position(self, plane: int) -> float | None:
        """Return where along z a plane lies, in [0, 1]; None without a z axis."""
        axes = plane_axes(self.axes)
        if "z" not in axes:
            return None
        depth = self.leading_shape[axes.index("z")]
        z = self.plane_index(plane)[axes.index("z")]
        return (z + 0.5) / depth

    def frame(self, plane: int) -> tuple[float, float, float, float] | None:
        """Return where on a larger plane a plane lies; None: it is a whole one."""
        return None

    def plane_digest(self, plane: int) -> str:
        """Return a hash of the pixels of one plane (chosen channels only)."""
        pixels = self.raw_plane(plane)
        head = f"{pixels.dtype.str}{pixels.shape}".encode()
        return hashlib.blake2b(head + pixels.tobytes(), digest_size=16).hexdigest()


def intensity_window(pixels: list[AnyArray]) -> tuple[float, float]:
    """Return the 0.5 and 99.5 percentiles of finite values, widened if equal."""
    values = np.concatenate([p.ravel() for p in pixels]).astype(np.float64)
    values = values[np.isfinite(values)]
    if values.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(values, WINDOW_PERCENTILES)
    if high <= low:
        low, high = float(values.min()), float(values.max())
    return (float(low), float(high)) if high > low else (float(low), float(low) + 1.0)


def apply_window(pixels: FloatArray, window: tuple[float, float]) -> FloatArray:
    """Map a window to [0, 1] and clip."""
    low, high = window
    scaled: FloatArray = np.clip((pixels - low) / (high - low), 0.0, 1.0)
    return scaled.astype(np.float32, copy=False)


def as_plane(image: AnyArray) -> FloatArray:
    """Return one plane as ``(y, x, c)`` float32 in [0, 1]; windowed if it is not."""
    if image.ndim == 2:
        image = image[..., None]
    pixels: FloatArray = image.astype(np.float32)
    if image.dtype.kind == "f" and pixels.min() >= 0 and pixels.max() <= 1:
        return pixels
    return apply_window(pixels, intensity_window([pixels]))


def _thin(pixels: AnyArray, limit: int) -> AnyArray:
    step = max(1, int(np.ceil(np.sqrt(pixels.size / limit))))
    return pixels[::step, ::step]


def _resolve_channels(
    shape: tuple[int, ...], dtype: object, axes: str, channels: Any, what: str
) -> tuple[int, ...]:
    if "c" not in axes:
        if channels is not None and tuple(np.atleast_1d(channels)) != (0,):
            raise DataError(f"{what} has no channel axis; leave channels out.")
        return ()
    count = shape[axes.index("c")]
    if channels is None:
        if count > MAX_DEFAULT_CHANNELS:
            raise DataError(
                f"{what} has {count} channels; choose up to {MAX_DEFAULT_CHANNELS} or "
                "more of them with channels=, for example channels=[0, 1]."
            )
        # The fourth channel of a colour image is opacity, not evidence.
        is_rgba = axes.endswith("c") and count == 4 and str(dtype) == "uint8"
        return (0, 1, 2) if is_rgba else tuple(range(count))
    picked = tuple(int(c) for c in np.atleast_1d(channels))
    if not picked or any(not 0 <= c < count for c in picked):
        raise DataError(
            f"{what} has channels 0 to {count - 1}; channels={picked} does not fit."
        )
    return picked
