"""`Levels`: an image that is stored at several resolutions, and which of them to use.

A level is an array of its own; level 0 is the finest. All levels show the same part of
the world: pixel i of a level that is f times coarser covers the pixels f * i to
f * (i + 1) of level 0, so that its centre lies (f - 1) / 2 pixels further.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from napari_fewshot.data._axes import SPATIAL, label_shape
from napari_fewshot.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_fewshot._types import LazyArray
    from napari_fewshot.data._image import Image

# A level is changed for pixel sizes that differ by more than this.
NEAR = 1.5
# Names of units of length, and how many micrometres each is.
UNITS = {
    "angstrom": 1e-4,
    "nanometer": 1e-3,
    "micrometer": 1.0,
    "millimeter": 1e3,
    "centimeter": 1e4,
    "meter": 1e6,
    "inch": 25400.0,
}
_SPELT = {
    "å": "angstrom",
    "a": "angstrom",
    "nm": "nanometer",
    "um": "micrometer",
    "µm": "micrometer",
    "μm": "micrometer",
    "\\u00b5m": "micrometer",
    "micron": "micrometer",
    "microns": "micrometer",
    "mm": "millimeter",
    "cm": "centimeter",
    "m": "meter",
    "in": "inch",
}


@dataclass(frozen=True, eq=False)
class Levels:
    """The resolutions of one image, the finest first.

    Attributes
    ----------
    arrays : tuple of array
        All with the axes of the image.
    scales : tuple
        Pixel size per spatial axis of every level; None where unknown.
    is_auto : bool
        Whether the level follows the supports; else it was chosen.
    """

    arrays: tuple[LazyArray, ...] = field(repr=False)
    scales: tuple[tuple[float, ...] | None, ...]
    is_auto: bool = True

    def __len__(self) -> int:
        return len(self.arrays)

    def shapes(self, axes: str) -> list[tuple[int, ...]]:
        """Return the shape of labels at every level."""
        return [label_shape(shape_of(a), axes) for a in self.arrays]


def make_levels(
    arrays: Sequence[Any],
    axes: str,
    scale: tuple[float, ...] | None,
    scales: Sequence[tuple[float, ...] | None] | None = None,
    *,
    is_auto: bool = True,
) -> Levels:
    """Return the levels of an image, with their pixel sizes.

    Parameters
    ----------
    arrays : sequence of array
        The finest first.
    axes : str
        Of each array.
    scale : tuple of float, optional
        Pixel size of level 0.
    scales : sequence of tuple, optional
        What the file says of every level; used where ``scale`` is what it says of the
        first. Otherwise sizes follow from the shapes.
    is_auto : bool
        Whether the level follows the supports.

    Raises
    ------
    DataError
        If the levels have other numbers of axes, or grow.
    """
    first = shape_of(arrays[0])
    for number, array in enumerate(arrays):
        shape = shape_of(array)
        if len(shape) != len(first) or any(
            n > m or n < 1 for n, m in zip(shape, first, strict=True)
        ):
            raise DataError(
                f"Level {number} of the image has shape {shape}, level 0 {first}; each "
                "level must be a smaller copy of level 0. Write the image again."
            )
    if scale is None:
        found: tuple[tuple[float, ...] | None, ...] = (None,) * len(arrays)
    elif scales is not None and scales[0] == scale and None not in scales:
        found = tuple(scales)
    else:
        found = tuple(
            tuple(
                s * downsampling(n, m)
                for s, n, m, a in _spatial(scale, first, shape_of(array), axes)
            )
            for array in arrays
        )
    return Levels(tuple(arrays), found, is_auto)


def _spatial(
    scale: tuple[float, ...],
    fine: tuple[int, ...],
    coarse: tuple[int, ...],
    axes: str,
) -> Iterable[tuple[float, int, int, str]]:
    sizes = iter(scale)
    for n, m, a in zip(fine, coarse, axes, strict=True):
        if a in SPATIAL:
            yield next(sizes), n, m, a


def shape_of(array: Any) -> tuple[int, ...]:
    """Return the shape of an array as plain numbers."""
    return tuple(int(n) for n in array.shape)


def downsampling(fine: int, coarse: int) -> float:
    """Return how many pixels of the fine level a pixel of the coarse one covers.

    Parameters
    ----------
    fine, coarse : int
        Lengths of an axis.

    Returns
    -------
    float
        A whole number where cutting off or filling up the last pixel explains the
        lengths, as pyramids are made; else their ratio.
    """
    whole = max(1, round(fine / coarse))
    if coarse in (fine // whole, math.ceil(fine / whole)):
        return float(whole)
    return fine / coarse


def at_level(image: Image, level: int | str) -> Image:
    """Return an image at a level of its own choice.

    Parameters
    ----------
    image : Image
        With levels or without; without there is only level 0.
    level : int or "auto"
        ``"auto"`` is level 0 until there are supports: see `fit_level`.

    Raises
    ------
    DataError
        If there is no such level.
    """
    levels = image.levels
    number = 0 if level == "auto" else level
    count = 1 if levels is None else len(levels)
    if isinstance(number, (str, bool)) or int(number) != number:
        raise DataError(f"level={level!r} is not valid: use 'auto' or a whole number.")
    if not 0 <= number < count:
        name = f"The image {image.name!r}" if image.name else "The image"
        raise DataError(
            f"{name} has no level {number}: it has {count}, counted from 0. Choose "
            "another level, or leave it out."
        )
    if levels is None:
        return image
    return replace(
        image,
        array=levels.arrays[number],
        scale=levels.scales[number],
        level=int(number),
        levels=replace(levels, is_auto=level == "auto"),
    )


def fit_level(image: Image, supports: Iterable[Any]) -> Image:
    """Return an image at the level whose pixels are like those of the supports.

    Parameters
    ----------
    image : Image
        Left as it is if it has one level only, or if its level was chosen.
    supports : iterable of Support
        Those of known pixel size count; the geometric mean of them is matched.

    Returns
    -------
    Image
    """
    if image.levels is None or not image.levels.is_auto:
        return image
    level = 0
    wanted = _wanted_size(image, supports)
    sizes = [mean_size(scale) for scale in image.levels.scales]
    if wanted is not None and sizes[0] is not None:
        off = [abs(math.log(s / wanted)) for s in sizes if s is not None]
        if off[0] > math.log(NEAR):
            level = off.index(min(off))
    if level == image.level:
        return image
    return replace(
        image,
        array=image.levels.arrays[level],
        scale=image.levels.scales[level],
        level=level,
    )


def mean_size(scale: Sequence[float] | None) -> float | None:
    """Return the geometric mean of the sizes of a pixel along rows and columns."""
    return None if scale is None else math.sqrt(scale[-2] * scale[-1])


def _wanted_size(image: Image, supports: Iterable[Any]) -> float | None:
    sizes = []
    for support in supports:
        size = mean_size(support.source.pixel_size)
        if size is not None:
            factor = unit_factor(support.source.unit, image.unit)
            sizes.append(math.log(size * (factor or 1.0)))
    return math.exp(sum(sizes) / len(sizes)) if sizes else None


def common_level(layer: Any, options: dict[str, Any], other: Any) -> dict[str, Any]:
    """Return array and scale of the level of a layer that fits its other half.

    Parameters
    ----------
    layer : multiscale layer
        Image or labels; without levels there is nothing to choose.
    options : dict
        Of the layer at its finest level: ``array``, ``scale``, ``axes``.
    other : layer or array
        The labels of the image, or the image of the labels; of a multiscale layer
        every level may fit.

    Returns
    -------
    dict
        Empty where there is nothing to change.
    """
    if not getattr(layer, "multiscale", False):
        return {}
    data = getattr(other, "data", other) if hasattr(other, "events") else other
    many = tuple(data) if getattr(other, "multiscale", False) else (data,)
    wanted = [shape_of(a) for a in many if hasattr(a, "shape")]
    axes, scale = options["axes"], options["scale"]
    fine = shape_of(layer.data[0])
    for array in layer.data:
        shape = shape_of(array)
        plain = shape if axes is None else label_shape(shape, axes)
        if plain not in wanted and shape not in wanted:
            continue
        if scale is not None and axes is not None:
            together = _spatial(scale, fine, shape, axes)
            scale = tuple(s * downsampling(n, m) for s, n, m, _ in together)
        return {"array": array, "scale": scale}
    return {}


def unit_name(unit: object) -> str:
    """Return the full name of a unit of length; empty for pixels and unknown ones."""
    word = str(unit or "").strip().lower()
    word = _SPELT.get(word, word).replace("metre", "meter")
    return word if word in UNITS else ""


def unit_factor(given: str, wanted: str) -> float | None:
    """Return what to multiply a length with to have it in another unit.

    Parameters
    ----------
    given, wanted : str
        Names of units.

    Returns
    -------
    float or None
        None if either is unknown.
    """
    names = unit_name(given), unit_name(wanted)
    if "" in names:
        return None
    return UNITS[names[0]] / UNITS[names[1]]
