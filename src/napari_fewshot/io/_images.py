"""Open images, labels and supports from anything that holds them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_fewshot.data import (
    Image,
    Support,
    at_level,
    label_shape,
    layer_options,
    make_levels,
)
from napari_fewshot.errors import DataError, SupportError
from napari_fewshot.io._endings import is_store
from napari_fewshot.io._open import open_path, read_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

# Levels with smaller planes are left out.
MIN_SIDE = 4


def open_image(
    source: Any,
    *,
    axes: str | None = None,
    scale: Any = None,
    channels: Any = None,
    name: str = "",
    level: int | str = "auto",
) -> Image:
    """Open anything that holds an image.

    Parameters
    ----------
    source : path, array, layer or Image
        TIFF, PNG, JPEG, NIfTI, ``.npy``, zarr or OME-Zarr; numpy, dask or zarr array;
        anything with ``.data`` such as a napari layer.
    axes, scale, channels
        Override what the source says of itself; the scale is that of level 0.
    name : str
        For messages; default the file or layer name.
    level : int or "auto"
        Which resolution of several; 0 is the finest. ``"auto"`` is level 0 until it is
        known what supports there are: see `fit_level`.

    Returns
    -------
    Image
        NIfTI volumes are turned to (z, y, x).

    Raises
    ------
    DataError
        If the source is missing, damaged, of an unknown kind, or not usable.
    """
    if isinstance(source, Image):
        return source if level == "auto" else at_level(source, level)
    unit, arrays, scales = "", (), None
    if isinstance(source, (str, os.PathLike)):
        opened = open_path(source)
        array = opened.array
        if is_store(source):
            _refuse_hollow(array, Path(source))
        # Labels and colour decide by shape: a file's own axes only help if they fit.
        axes = axes or opened.axes
        unit = opened.unit if scale is None else ""
        scale = opened.scale if scale is None else scale
        name = name or Path(source).name
        arrays, scales = opened.levels, opened.scales
    elif hasattr(source, "data") and hasattr(source, "events"):
        options = layer_options(source)
        array = options["array"]
        axes = axes or options["axes"]
        unit = options["unit"] if scale is None else ""
        scale = options["scale"] if scale is None else scale
        name = name or options["name"]
        arrays = tuple(source.data) if getattr(source, "multiscale", False) else ()
    else:
        array = source
    image = Image.from_array(
        array, axes=axes, channels=channels, scale=scale, name=name, unit=unit
    )
    return _with_levels(image, arrays, scales, level)


def _with_levels(
    image: Image, arrays: Sequence[Any], scales: Any, level: int | str
) -> Image:
    kept = []
    for array in arrays:
        size = dict(zip(image.axes, array.shape, strict=False))
        if min(size.get("y", 0), size.get("x", 0)) < MIN_SIDE:
            break
        kept.append(array)
    if len(kept) > 1:
        told = tuple(scales)[: len(kept)] if scales else None
        levels = make_levels(kept, image.axes, image.scale, told)
        image = replace(image, levels=levels)
    return at_level(image, level)


def _refuse_hollow(array: Any, path: Path) -> None:
    """Refuse a zarr image of which no pixel was copied along."""
    is_hollow = getattr(array, "is_hollow", None)
    if is_hollow is not None and is_hollow():
        raise DataError(
            f"{path.name} holds no pixels: all chunks of its array {array.name} are "
            "missing. Copy the file again."
        )


def open_labels(source: Any, shape: tuple[int, ...] | None = None) -> Any:
    """Open labels as an array (z, y, x order for NIfTI).

    Parameters
    ----------
    source : path, array or layer
        Any kind of file that `save_labels` writes.
    shape : tuple of int, optional
        Of the image: the level of this shape is taken, where there are several.

    Raises
    ------
    DataError
        If the file is missing, damaged or of an unknown kind.
    """
    if isinstance(source, (str, os.PathLike)):
        opened = read_labels(source, shape)
        return _of_shape(opened.levels or (opened.array,), shape)
    if hasattr(source, "events"):
        is_multiscale = getattr(source, "multiscale", False)
        return _of_shape(tuple(source.data) if is_multiscale else (source.data,), shape)
    return source


def _of_shape(arrays: tuple[Any, ...], shape: tuple[int, ...] | None) -> Any:
    fitting = [a for a in arrays if shape is not None and tuple(a.shape) == shape]
    return fitting[0] if fitting else arrays[0]


def resolve_support(support: Support) -> Support:
    """Return a support whose paths are opened, at the level where the two fit.

    Raises
    ------
    DataError, SupportError
        If a file can't be opened or the two do not fit.
    """
    if not support.is_path:
        return support
    _expect_two(support)
    changes: dict[str, Any] = {}
    image: Image | None = None
    if isinstance(support.image, (str, os.PathLike)):
        image = open_image(
            support.image,
            axes=support.axes,
            scale=support.scale,
            channels=support.channels,
        )
    labels: Any = support.labels
    arrays: tuple[Any, ...] = (labels,)
    if isinstance(labels, (str, os.PathLike)):
        whole = image.label_shape if image is not None else None
        opened = read_labels(labels, whole)
        arrays = opened.levels or (opened.array,)
        changes["classes"] = support.classes or dict(opened.classes) or None
    changes["labels"] = arrays[0]
    if image is not None:
        image, changes["labels"] = fit_pair(image, arrays)
        changes.update(image=image.array, axes=image.axes, scale=image.scale)
        changes.update(name=support.name or image.name, unit=image.unit)
    if isinstance(support.ignore, (str, os.PathLike)):
        shape = getattr(changes["labels"], "shape", None)
        off = read_labels(support.ignore, shape)
        fitting = [a for a in off.levels or () if a.shape == shape]
        changes["ignore"] = fitting[0] if fitting else off.array
    return replace(support, **changes)


def _expect_two(support: Support) -> None:
    """Refuse an image that is given as its own mask; stores hold both."""
    pair = support.image, support.labels
    if not all(isinstance(p, (str, os.PathLike)) and os.path.isfile(p) for p in pair):
        return
    if os.path.samefile(*pair):
        raise SupportError(
            f"{os.path.basename(pair[0])} is given as image and as mask. Name the file "
            "with the mask second."
        )


def fit_pair(image: Image, labels: Sequence[Any]) -> tuple[Image, Any]:
    """Return an image and its labels at the finest level that both have.

    Parameters
    ----------
    image : Image
        With all its levels.
    labels : sequence of array
        The levels of the labels, or one array.

    Returns
    -------
    image : Image
        As it is if nothing fits; then the support says so.
    labels : array
    """
    levels = image.levels
    shapes = [image.label_shape]
    if levels is not None:
        shapes = [label_shape(tuple(a.shape), image.axes) for a in levels.arrays]
    for number, shape in enumerate(shapes):
        for array in labels:
            if tuple(getattr(array, "shape", ())) == shape:
                return (image if levels is None else at_level(image, number)), array
    return image, labels[0]
