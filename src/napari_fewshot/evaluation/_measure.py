"""`measure_objects`: a row per object, of planes, volumes and series of them.

Labels are read a few slices at a time, so that a result larger than the memory can be
measured; only the convex hull needs an object as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import Image
from napari_fewshot.errors import DataError
from napari_fewshot.evaluation._measure_border import (
    count_crossings,
    crossing_weights,
    half_directions,
)
from napari_fewshot.evaluation._measure_pieces import Frame, Given, Pieces

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pandas as pd

    from napari_fewshot._types import AnyArray

# Convex hulls of boxes with more pixels are left out: they take minutes.
HULL_PIXELS = {2: 1 << 24, 3: 1 << 22}
# Variance in pixels below which an object is a plane, a line or a point.
FLAT = 1e-9
AXIS_NAMES = {"z": "z", "y": "row", "x": "column"}


def measure_objects(
    labels: Any,
    image: Any = None,
    scale: Any = None,
    classes: Mapping[int, str] | None = None,
    instances: Any = None,
    *,
    axes: str | None = None,
) -> pd.DataFrame:
    """Measure every object.

    Parameters
    ----------
    labels : array
        Class labels, ``(y, x)``, ``(z, y, x)`` or with a leading time axis; 0 is
        background. numpy, dask or zarr.
    image : array or Image, optional
        Of the same pixels, for intensities; with or without a channel axis.
    scale : sequence of float, optional
        Pixel size per spatial axis (z, y, x); default 1.
    classes : mapping of int to str, optional
        Names of the classes.
    instances : array or "labels", optional
        Object numbers in the shape of the labels, or ``"labels"`` if the labels are
        object numbers themselves. Default: the connected pieces of every class,
        diagonal neighbours included.
    axes : str, optional
        Of the labels, of ``tzyx``; needed for a series of planes (``"tyx"``).

    Returns
    -------
    pandas.DataFrame
        A row per object; see `measure` for the columns.

    Raises
    ------
    DataError
        If shapes do not fit or the labels are not whole numbers.
    """
    import pandas as pd

    labels = labels if hasattr(labels, "shape") else np.asarray(labels)
    axes = _axes_of(labels, axes)
    size = _scale_of(scale, sum(a != "t" for a in axes))
    pixels = _image_of(image, labels, axes)
    given = None if instances is None or isinstance(instances, str) else instances
    if isinstance(instances, str) and instances != "labels":
        raise DataError(f"instances={instances!r} is no array and not 'labels'.")
    if given is not None and tuple(given.shape) != tuple(labels.shape):
        raise DataError(
            f"The objects have shape {tuple(given.shape)} but the labels have "
            f"{tuple(labels.shape)}. Give both of one image."
        )
    columns = _columns(axes, 0 if pixels is None else pixels.n_channels)
    rows: list[dict[str, Any]] = []
    for time in range(labels.shape[axes.index("t")]) if "t" in axes else (None,):
        frame = Frame(labels, axes, time)
        objects: Pieces | Given
        if instances is None:
            objects = Pieces(frame)
        elif given is None:
            objects = Given(frame, None)
        else:
            objects = Given(Frame(given, axes, time), frame)
        sums = _Sums.of(objects, pixels, time)
        rows += _rows(objects, sums, size, classes or {}, time)
    table = pd.DataFrame(rows, columns=columns)
    for name in ("label", "class_value", "pixels"):
        table[name] = table[name].astype(int)
    return table


@dataclass(eq=False)
class _Sums:
    """What is added up over blocks; row 0 is the background.

    Coordinates and intensities are taken from the first pixel of each object, so that
    squares of large numbers do not swallow the digits that count.
    """

    count: AnyArray
    classes: AnyArray
    first: AnyArray
    low: AnyArray
    high: AnyArray
    moved: AnyArray
    squares: AnyArray
    crossings: AnyArray
    base: AnyArray
    light: AnyArray
    light2: AnyArray
    dark: AnyArray
    bright: AnyArray

    @classmethod
    def of(cls, objects: Pieces | Given, image: Image | None, time: Any) -> _Sums:
        """Add up all blocks."""
        n, ndim = objects.count + 1, objects.frame.ndim
        channels = 0 if image is None else image.n_channels
        sums = cls(
            count=np.zeros(n, np.int64),
            classes=np.zeros(n, np.int64),
            first=np.zeros((n, ndim), np.int64),
            low=np.full((n, ndim), np.iinfo(np.int64).max),
            high=np.zeros((n, ndim), np.int64),
            moved=np.zeros((n, ndim)),
            squares=np.zeros((n, ndim, ndim)),
            crossings=np.zeros((n, len(half_directions(ndim))), np.int64),
            base=np.zeros((n, channels)),
            light=np.zeros((n, channels)),
            light2=np.zeros((n, channels)),
            dark=np.full((n, channels), np.inf),
            bright=np.full((n, channels), -np.inf),
        )
        above = None
        for start, numbers, classes in objects.blocks():
            end = start + len(numbers)
            light = None if image is None else _light(image, time, start, end)
            sums.add(start, numbers, classes, light)
            is_last = end >= objects.frame.shape[0]
            count_crossings(sums.crossings, above, numbers, is_last=is_last)
            above = numbers[-1]
        return sums

    def add(
        self, start: int, numbers: AnyArray, classes: AnyArray, light: AnyArray | None
    ) -> None:
        """Add one block."""
        inside = np.flatnonzero(numbers)
        if not inside.size:
            return
        found = numbers.ravel()[inside]
        order = np.argsort(found, kind="stable")
        inside, found = inside[order], found[order]
        begins = np.flatnonzero(np.diff(found, prepend=0))
        which = found[begins]
        places = np.stack(np.unravel_index(inside, numbers.shape), axis=1)
        places[:, 0] += start
        is_new = self.count[which] == 0
        self.first[which[is_new]] = places[begins[is_new]]
        # A class for good: of the first pixel.
        values = classes.ravel()[inside[begins]].astype(np.int64)
        self.classes[which] = np.where(is_new, values, self.classes[which])
        self.count[which] += np.diff(begins, append=len(found))
        self.low[which] = np.minimum(
            self.low[which], np.minimum.reduceat(places, begins)
        )
        self.high[which] = np.maximum(
            self.high[which], np.maximum.reduceat(places, begins) + 1
        )
        moved = (places - self.first[found]).astype(float)
        self.moved[which] += np.add.reduceat(moved, begins)
        for i in range(moved.shape[1]):
            for j in range(i, moved.shape[1]):
                self.squares[which, i, j] += np.add.reduceat(
                    moved[:, i] * moved[:, j], begins
                )
        if light is not None:
            shone = light.reshape(-1, light.shape[-1])[inside].astype(float)
            self._shine(which, found, begins, is_new, shone)

    def _shine(
        self,
        which: AnyArray,
        found: AnyArray,
        begins: AnyArray,
        is_new: AnyArray,
        light: AnyArray,
    ) -> None:
        """Add the intensities of one block, sorted by object."""
        self.base[which[is_new]] = light[begins[is_new]]
        self.dark[which] = np.minimum(
            self.dark[which], np.minimum.reduceat(light, begins)
        )
        self.bright[which] = np.maximum(
            self.bright[which], np.maximum.reduceat(light, begins)
        )
        light = light - self.base[found]
        self.light[which] += np.add.reduceat(light, begins)
        self.light2[which] += np.add.reduceat(light**2, begins)


def _rows(
    objects: Pieces | Given,
    sums: _Sums,
    size: tuple[float, ...],
    classes: Mapping[int, str],
    time: int | None,
) -> Iterator[dict[str, Any]]:
    """Turn sums into rows."""
    ndim = len(size)
    names = [AXIS_NAMES[a] for a in "zyx"[-ndim:]]
    borders = sums.crossings @ np.array(crossing_weights(size))
    for n in range(1, objects.count + 1):
        count, value = int(sums.count[n]), int(sums.classes[n])
        mean = sums.moved[n] / count
        spread = np.triu(sums.squares[n] / count - np.outer(mean, mean))
        spread = (spread + np.triu(spread, 1).T) * np.outer(size, size)
        lengths = _lengths(spread)
        row: dict[str, Any] = {} if time is None else {"t": time}
        row["label"] = int(objects.values[n - 1]) if isinstance(objects, Given) else n
        row["class"] = classes.get(value, str(value)) if value else "none"
        row["class_value"], row["pixels"] = value, count
        row["area" if ndim == 2 else "volume"] = count * float(np.prod(size))
        for at, name in enumerate(names):
            row[name] = float(sums.first[n, at] + mean[at])
            row[f"min_{name}"] = int(sums.low[n, at])
            row[f"max_{name}"] = int(sums.high[n, at])
        row["perimeter" if ndim == 2 else "surface"] = float(borders[n])
        row["major_axis"], row["minor_axis"] = lengths[0], lengths[-1]
        row["eccentricity"] = _eccentricity(lengths)
        row["solidity"] = _solidity(objects, sums, n)
        for c in range(sums.light.shape[1]):
            light = sums.light[n, c] / count
            row[f"mean_{c}"] = sums.base[n, c] + light
            row[f"min_{c}"], row[f"max_{c}"] = sums.dark[n, c], sums.bright[n, c]
            rest = sums.light2[n, c] / count - light**2
            row[f"std_{c}"] = float(np.sqrt(max(0.0, rest)))
        yield row


def _lengths(spread: AnyArray) -> list[float]:
    """Return the axes, longest first, of the ellipse or ellipsoid of this spread.

    A solid ellipse with axis length L has the variance L^2 / 16 along it, an ellipsoid
    L^2 / 20.
    """
    found = np.linalg.eigvalsh(spread)[::-1]
    factor = 4 * (len(spread) + 2)
    return [float(np.sqrt(factor * max(0.0, v))) for v in found]


def _eccentricity(lengths: Sequence[float]) -> float:
    """Return that of the ellipse of longest and shortest axis; 0 for a point."""
    if lengths[0] == 0:
        return 0.0
    return float(np.sqrt(max(0.0, 1 - (lengths[-1] / lengths[0]) ** 2)))


def _solidity(objects: Pieces | Given, sums: _Sums, n: int) -> float:
    """Return the share of the convex hull that is filled; NaN for very large boxes."""
    from skimage.measure import label

    low, high = sums.low[n], sums.high[n]
    if np.prod(high - low) > HULL_PIXELS[len(low)]:
        return float("nan")
    box = objects.frame.read(*(slice(a, b) for a, b in zip(low, high, strict=True)))
    if isinstance(objects, Given):
        mask: AnyArray = np.equal(box, objects.values[n - 1])
    else:
        # The box may hold other pieces of the class.
        pieces = label(box == sums.classes[n], connectivity=box.ndim)
        mask = np.equal(pieces, pieces[tuple(sums.first[n] - low)])
    return _filled(mask)


def _filled(mask: AnyArray) -> float:
    """Return the share of the pixels in the convex hull of a mask that belong to it.

    What is flat in space has no hull there: its shadow along an axis is taken.
    """
    from skimage.morphology import convex_hull_image

    if mask.ndim == 3:
        places = np.argwhere(mask).astype(float)
        spread = np.atleast_2d(np.cov(places, rowvar=False, bias=True))
        thinnest, normals = np.linalg.eigh(spread)
        if thinnest[0] < FLAT:
            mask = np.asarray(mask.any(axis=int(np.abs(normals[:, 0]).argmax())))
    if min(mask.shape) == 1:
        return float(mask.mean())
    return float(mask.sum() / convex_hull_image(mask).sum())


def _columns(axes: str, channels: int) -> list[str]:
    """Return the columns, which an empty table has, too."""
    is_plane = "z" not in axes
    names = [AXIS_NAMES[a] for a in axes if a != "t"]
    columns = ["t"] if "t" in axes else []
    columns += ["label", "class", "class_value", "pixels"]
    columns += ["area" if is_plane else "volume", *names]
    columns += [f"{side}_{name}" for side in ("min", "max") for name in names]
    columns += ["perimeter" if is_plane else "surface"]
    columns += ["major_axis", "minor_axis", "eccentricity", "solidity"]
    kinds = ("mean", "min", "max", "std")
    return columns + [f"{kind}_{c}" for c in range(channels) for kind in kinds]


def _axes_of(labels: Any, axes: str | None) -> str:
    shape = tuple(labels.shape)
    if axes is None:
        axes = {2: "yx", 3: "zyx", 4: "tzyx"}.get(len(shape), "")
    fits = axes in ("yx", "zyx", "tyx", "tzyx", "ztyx") and len(axes) == len(shape)
    if not fits:
        raise DataError(
            f"Labels of shape {shape} can't be measured with axes={axes!r}. Say which "
            "axis is which, of 'tzyx'."
        )
    return axes


def _scale_of(scale: Any, ndim: int) -> tuple[float, ...]:
    if scale is None:
        return (1.0,) * ndim
    values = tuple(float(s) for s in np.atleast_1d(scale))
    values = values * ndim if len(values) == 1 else values
    if len(values) != ndim or not all(np.isfinite(v) and v > 0 for v in values):
        raise DataError(
            f"scale={scale} must hold {ndim} positive pixel sizes, one per axis."
        )
    return values


def _image_of(image: Any, labels: Any, axes: str) -> Image | None:
    """Return the image with as many channels as it has, if it fits the labels."""
    if image is None:
        return None
    if not isinstance(image, Image):
        array = image if hasattr(image, "shape") else np.asarray(image)
        has_channels = len(array.shape) > len(axes)
        is_last = array.shape[:-1] == tuple(labels.shape)
        named = axes if not has_channels else f"{axes}c" if is_last else None
        if named is None:
            at = axes.index("y")
            named = f"{axes[:at]}c{axes[at:]}"
        if len(named) != len(array.shape):
            named = None
        count = array.shape[named.index("c")] if named and "c" in named else 0
        image = Image.from_array(
            array, axes=named, channels=list(range(count)) if count else None
        )
    if image.label_shape != tuple(labels.shape):
        raise DataError(
            f"The image is of shape {image.label_shape} but the labels have "
            f"{tuple(labels.shape)}. Give both of one image."
        )
    fitting: Image = image
    return fitting


def _light(image: Image, time: int | None, start: int, end: int) -> AnyArray:
    """Read slices of an image as ``(..., c)``."""
    spans = iter([slice(start, end)])
    key = tuple(
        time if a == "t" else slice(None) if a == "c" else next(spans, slice(None))
        for a in image.axes
    )
    pixels = np.asarray(image.array[key])
    left = image.axes.replace("t", "")
    if "c" not in left:
        return pixels[..., None]
    return np.moveaxis(pixels, left.index("c"), -1)[..., list(image.channels)]
