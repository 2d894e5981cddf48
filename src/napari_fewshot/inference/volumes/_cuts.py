"""A volume cut along y or x: planes from the side, read a slab at a time.

A cut is a plane of (z, x) or (z, y), with pixels that are square in physical units:
where planes are far apart, it is stretched along z. Every cut needs all planes of the
volume, so a slab of neighbouring cuts is kept; each plane is read once per slab, one
after the other, and a volume is never read as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import Image
from napari_fewshot.data._image import MIN_SIDE
from napari_fewshot.errors import DataError
from napari_fewshot.ops import resize_image, resize_labels

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_fewshot._types import AnyArray

SIDES = ("y", "x")
SLAB_BYTES = 64 * 1024**2
# Pixels are stretched by at most this factor; beyond, spacings can hardly be right.
MOST_STRETCH = 16.0
# Where planes are far apart cuts may be, too: at most so many pixels.
MOST_STEP = 8


@dataclass(frozen=True)
class Cutting:
    """How a volume is cut along y or x.

    Attributes
    ----------
    side : {"y", "x"}
        The axis that cuts lie along.
    positions : range
        Row (or column) numbers of the cuts.
    depth : (int, int)
        First plane and the one after the last that cuts run through.
    across : int
        Length of the other in-plane axis.
    shape : (int, int)
        Rows (z) and columns of a cut after stretching.
    scale : (float, float, float), optional
        Distance of cuts, then the size of a pixel; None when unknown.
    """

    side: str
    positions: range
    depth: tuple[int, int]
    across: int
    shape: tuple[int, int]
    scale: tuple[float, float, float] | None

    @property
    def stored(self) -> tuple[int, int]:
        """Rows and columns of a cut before stretching."""
        return self.depth[1] - self.depth[0], self.across


def cutting_of(
    image: Image, side: str, depth: tuple[int, int] | None = None
) -> Cutting:
    """Say how an image is cut.

    Parameters
    ----------
    image : Image
        With a z axis; its scale makes pixels of cuts square.
    side : {"y", "x"}
        Cut along the rows or the columns.
    depth : (int, int), optional
        Use these planes only; default all.

    Raises
    ------
    DataError
        If it has no z axis or too few planes.
    """
    n_planes = depth_of(image)
    first, last = depth or (0, n_planes)
    rows, columns = image.plane_shape
    along, across = (rows, columns) if side == "y" else (columns, rows)
    step, stretch, scale = 1, (1.0, 1.0), None
    if image.scale is not None and len(image.scale) == 3:
        z, y, x = image.scale
        at, other = (y, x) if side == "y" else (x, y)
        pixel = min(z, other)
        if max(z, other) / pixel > MOST_STRETCH:
            raise DataError(
                f"{_named(image)} has a pixel size of {image.scale} (z, y, x): too "
                "unequal to be looked at from the side. Check the scale, or use "
                "view='planes'."
            )
        stretch = (z / pixel, other / pixel)
        step = int(np.clip(round(z / at), 1, min(MOST_STEP, max(1, along // MIN_SIDE))))
        scale = (step * at, pixel, pixel)
    shape = (round((last - first) * stretch[0]), round(across * stretch[1]))
    if min(shape) < MIN_SIDE:
        raise DataError(
            f"{_named(image)} has {last - first} planes: too few to be looked at from "
            "the side. Use view='planes' or 'stack'."
        )
    count = -(-along // step)
    start = (along - 1 - (count - 1) * step) // 2
    start = max(start, 0)
    positions = range(start, along, step)
    return Cutting(side, positions, (first, last), across, shape, scale)


def depth_of(image: Image) -> int:
    """Return the length of the z axis.

    Raises
    ------
    DataError
        If there is none, or one plane only.
    """
    n_planes = 1
    if "z" in image.axes:
        n_planes = image.shape[image.axes.index("z")]
    if n_planes < 2:
        raise DataError(
            f"{_named(image)} is a single plane, not a volume: there is nothing above "
            "and below. Use view='planes', or say which axis is z with axes='zyx'."
        )
    return n_planes


def times_of(image: Image) -> int:
    """Return the length of the t axis; 1 without one."""
    return image.shape[image.axes.index("t")] if "t" in image.axes else 1


def plane_number(image: Image, t: int, z: int) -> int:
    """Return the flat number of a plane, whichever of t and z comes first."""
    axes = [a for a in image.axes if a in "tz"]
    index = tuple({"t": t, "z": z}[a] for a in axes)
    return int(np.ravel_multi_index(index, image.leading_shape)) if index else 0


class CutArray:
    """A lazy array of cuts, ``([t,] cut, z, other[, c])``, read one cut at a time.

    Parameters
    ----------
    read : callable
        Flat plane number, slice of rows and slice of columns to pixels ``(y, x)`` or
        ``(y, x, c)``.
    numbers : list of list of int
        Flat plane numbers, ``[t][z]``.
    cutting : Cutting
    dtype : dtype
        Of the planes.
    channels : int
        Length of the channel axis; 0 is none.
    has_time : bool
        Whether a t axis comes first.
    is_labels : bool
        Stretched by the nearest neighbour, not smoothly.
    """

    def __init__(
        self,
        read: Callable[[int, slice, slice], AnyArray],
        numbers: list[list[int]],
        cutting: Cutting,
        dtype: Any,
        *,
        channels: int = 0,
        has_time: bool = False,
        is_labels: bool = False,
    ) -> None:
        self._read, self._numbers, self._cutting = read, numbers, cutting
        self._stored_type, self._is_labels = np.dtype(dtype), is_labels
        self._channels, self._has_time = channels, has_time
        stretched = cutting.shape != cutting.stored and not is_labels
        self.dtype = np.dtype(np.float32) if stretched else self._stored_type
        lead = (len(numbers),) if has_time else ()
        tail = (channels,) if channels else ()
        self.shape = (*lead, len(cutting.positions), *cutting.shape, *tail)
        self.ndim = len(self.shape)
        self._slab: tuple[tuple[int, int], AnyArray] | None = None

    def __getitem__(self, key: Any) -> AnyArray:
        """Read one cut; the leading entries of the key are whole numbers."""
        lead = key[: 1 + self._has_time] if isinstance(key, tuple) else (key,)
        if len(lead) <= self._has_time or not all(np.ndim(k) == 0 for k in lead):
            raise TypeError("cuts are read one at a time")
        if any(isinstance(k, slice) for k in lead):
            raise TypeError("cuts are read one at a time")
        t = int(lead[0]) if self._has_time else 0
        cut = self._cut(t, int(lead[-1]))
        shape = self._cutting.shape
        if self._is_labels:
            whole: AnyArray = resize_labels(cut, shape)
        elif cut.shape[:2] != shape:
            whole = resize_image(cut.astype(np.float32), shape)
        else:
            whole = cut
        rest = key[len(lead) :] if isinstance(key, tuple) else ()
        return whole[rest]

    def __getstate__(self) -> dict[str, Any]:
        """Leave the slab behind."""
        return {**self.__dict__, "_slab": None}

    def _cut(self, t: int, number: int) -> AnyArray:
        numbers = self._numbers[t]
        across = self._cutting.across
        size = len(numbers) * across * max(1, self._channels)
        room = max(1, SLAB_BYTES // max(1, size * self._stored_type.itemsize))
        slab = (t, number // room)
        known = self._slab
        if known is None or known[0] != slab:
            known = slab, self._read_slab(numbers, slab[1] * room, room)
            self._slab = known
        found: AnyArray = known[1][number - slab[1] * room]
        return found

    def _read_slab(self, numbers: list[int], first: int, room: int) -> AnyArray:
        positions = self._cutting.positions[first : first + room]
        take = slice(positions.start, positions.stop, positions.step)
        everything = slice(None)
        parts = []
        for number in numbers:
            if self._cutting.side == "y":
                parts.append(self._read(number, take, everything).copy())
            else:
                part = self._read(number, everything, take)
                parts.append(np.swapaxes(part, 0, 1).copy())
        return np.stack(parts, axis=1)


@dataclass(frozen=True)
class _Planes:
    """Reads planes of an image; a class, so that it can be sent elsewhere."""

    image: Image = field(repr=False)

    def __call__(self, number: int, rows: slice, columns: slice) -> AnyArray:
        return self.image.raw_window(number, rows, columns)


def cut_image(image: Image, cutting: Cutting) -> Image:
    """Return a volume seen from the side, as a lazy `Image`.

    Its z axis is the axis of the cut, its rows are the planes of the volume. The
    intensity window is that of the volume.

    Parameters
    ----------
    image : Image
        The volume, perhaps with time.
    cutting : Cutting
        From `cutting_of`.
    """
    has_time = "t" in image.axes
    depth = range(*cutting.depth)
    numbers = [
        [plane_number(image, t, z) for z in depth] for t in range(times_of(image))
    ]
    channels = image.n_channels if image.channels else 0
    array = CutArray(
        _Planes(image),
        numbers,
        cutting,
        image.array.dtype,
        channels=channels,
        has_time=has_time,
    )
    axes = ("t" if has_time else "") + "zyx" + ("c" if channels else "")
    found = Image(
        array, axes, tuple(range(channels)), cutting.scale, image.name, unit=image.unit
    )
    found.__dict__["window"] = image.window
    return found


def uncut(values: AnyArray, cutting: Cutting) -> AnyArray:
    """Bring a map of a cut back to one value per plane and pixel.

    Parameters
    ----------
    values : array (rows, columns)
        On the stretched cut.
    cutting : Cutting
        How it was cut.

    Returns
    -------
    array (planes, across)
        float32.
    """
    found: AnyArray = resize_image(values.astype(np.float32), cutting.stored)
    return found


def between_cuts(values: AnyArray, cutting: Cutting, along: int) -> AnyArray:
    """Fill in what lies between cuts, linearly; the rims repeat.

    Parameters
    ----------
    values : array (cuts, ...)
        At the positions of the cuts.
    cutting : Cutting
        Where these are.
    along : int
        Length of the axis that was cut.

    Returns
    -------
    array (along, ...)
        float32.
    """
    if len(cutting.positions) == along:
        return values.astype(np.float32)
    first, step = cutting.positions.start, cutting.positions.step
    at = np.clip((np.arange(along) - first) / step, 0, len(cutting.positions) - 1)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, len(cutting.positions) - 1)
    share = (at - low).reshape(-1, *(1,) * (values.ndim - 1)).astype(np.float32)
    found: AnyArray = values[low] * (1 - share) + values[high] * share
    return found


def _named(image: Image) -> str:
    return f"The image {image.name!r}" if image.name else "The image"
