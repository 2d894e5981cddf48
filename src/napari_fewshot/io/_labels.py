"""Write labels in the format of their image; a file is complete or not there."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_fewshot.errors import DataError, FewShotError
from napari_fewshot.io._atomic import atomic_write
from napari_fewshot.io._coco import write_coco
from napari_fewshot.io._endings import (
    NIFTI,
    OUTLINES,
    SLIDES,
    TIFF,
    ZARR,
    Opened,
    is_store,
    suffix_of,
)
from napari_fewshot.io._geojson import write_geojson
from napari_fewshot.io._nifti import write_nifti
from napari_fewshot.io._ome import open_zarr
from napari_fewshot.io._ome_write import (
    image_of,
    list_labels,
    version_of,
    write_ome,
    write_zarr,
)
from napari_fewshot.io._pictures import write_npy, write_png
from napari_fewshot.io._tiff import facts_of_tiff, write_tiff
from napari_fewshot.io._written import Written, smallest_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari_fewshot.data import Image, Prediction

__all__ = [
    "LABEL_SUFFIXES",
    "labels_suffix",
    "save_labels",
    "save_prediction",
    "smallest_dtype",
]

LABEL_SUFFIXES = (*TIFF, ".png", *NIFTI, ".npy", *ZARR, *OUTLINES)
_WRITERS: dict[str, Callable[[Path, Written], None]] = {
    **dict.fromkeys(TIFF, write_tiff),
    **dict.fromkeys(NIFTI, write_nifti),
    ".png": write_png,
    ".npy": write_npy,
    ".zarr": write_zarr,
    ".geojson": write_geojson,
    ".coco.json": write_coco,
}


def keeps_objects(path: str | os.PathLike[str]) -> bool:
    """Return whether a file of this ending holds numbers of objects beside classes."""
    return suffix_of(path) in (".ome.zarr", ".geojson", ".coco.json")


def labels_suffix(source: str | os.PathLike[str] | None) -> str:
    """Return the ending that labels of a source get; lossy formats become PNG."""
    ending = suffix_of(source) if source is not None else ".tif"
    if ending in SLIDES:
        return ".tif"
    if ending in LABEL_SUFFIXES:
        return ending
    if source is not None and is_store(source):
        return ".ome.zarr"
    return ".png" if ending else ".tif"


def save_labels(
    path: str | os.PathLike[str],
    labels: Any,
    *,
    like: str | os.PathLike[str] | None = None,
    scale: tuple[float, ...] | None = None,
    axes: str | None = None,
    classes: Mapping[int, str] | None = None,
    instances: Any = None,
    unit: str = "",
    origin: tuple[float, ...] | None = None,
    affine: Any = None,
    colours: Mapping[int, str] | None = None,
    ome_version: str = "0.5",
) -> None:
    """Write labels; the ending of the path chooses the format.

    Parameters
    ----------
    path : path
        ``.tif``, ``.png``, ``.nii``, ``.nii.gz``, ``.npy``, ``.zarr``, ``.ome.zarr``,
        ``.geojson`` or ``.coco.json``; or ``IMAGE/labels/NAME`` inside an OME-Zarr
        image.
    labels : array
        int labels; large ones are read and written block by block, where the format
        allows (all but ``.png`` and ``.npy``; outlines plane by plane).
    like : path, optional
        The image: its affine (NIfTI), unit, and position are kept.
    scale : tuple of float, optional
        Pixel size per spatial axis (z, y, x).
    axes : str, optional
        Axes of the labels.
    classes : mapping of int to str, optional
        Names of the label values; kept by all formats but ``.npy``.
    instances : array, optional
        Object numbers in the shape of the labels, for formats that hold objects:
        ``.ome.zarr``, ``.geojson``, ``.coco.json``. Without, an object is a connected
        part of a class on a plane.
    unit : str
        Of scale and origin.
    origin : tuple of float, optional
        Where the centre of the first pixel lies, per spatial axis.
    affine : array (4, 4), optional
        For NIfTI without ``like``: pixels (z, y, x) to world (z, y, x).
    colours : mapping of int to str, optional
        ``#rrggbb`` of the label values.
    ome_version : {"0.5", "0.4"}
        Of a new OME-Zarr file.

    Raises
    ------
    DataError
        If the format can't hold these labels.
    StorageError
        If the file can't be written; what was there stays, nothing half-written does.
    """
    target = Path(path)
    given = _complete(
        Written.of(
            labels,
            axes=axes,
            scale=scale,
            unit=unit,
            classes=classes,
            colours=colours,
            instances=instances,
            like=like,
            origin=origin,
            affine=affine,
        )
    )
    image = image_of(target)
    ending = suffix_of(target)
    if image is not None or ending == ".ome.zarr":
        version = ome_version if image is None else version_of(image)
        with atomic_write(target) as temporary:
            write_ome(temporary, given, version)
        if image is not None:
            list_labels(target)
        return
    if ending not in _WRITERS:
        raise DataError(
            f"Labels can't be written as {ending or 'a file without ending'}. Use "
            f"{', '.join(LABEL_SUFFIXES[:-1])} or {LABEL_SUFFIXES[-1]}."
        )
    with atomic_write(target) as temporary:
        _WRITERS[ending](temporary, given)


def save_prediction(
    path: str | os.PathLike[str],
    prediction: Prediction,
    query: Image,
    like: str | os.PathLike[str] | None = None,
) -> None:
    """Write the labels of a result with classes, objects, pixel size and unit.

    Parameters
    ----------
    path : path
        See `save_labels`.
    prediction : Prediction
        The result.
    query : Image
        What was segmented.
    like : path, optional
        Its file.

    Raises
    ------
    DataError, StorageError
        As `save_labels`.
    """
    save_labels(
        path,
        prediction.labels,
        like=like,
        scale=query.scale,
        axes=query.label_axes,
        classes=prediction.classes,
        instances=prediction.instances,
        unit=query.unit,
    )


def _complete(given: Written) -> Written:
    """Add what the image says and nobody else did: unit, pixel size and position."""
    opened = _opened_like(given.like)
    if opened is not None and len(opened.levels) > 1:
        given = replace(given, has_levels=True)
    if opened is None or opened.scale is None:
        return given
    scale, unit, origin = given.scale, given.unit, given.origin
    count = len([a for a in given.axes if a in "zyx"])
    if len(opened.scale) != count:
        return given
    sizes = [opened.scale, *(s for s in opened.scales if s is not None)]
    if scale is None:
        scale = _scale_of(given.shape, opened)
    if scale is None or not any(_is_near(scale, size) for size in sizes):
        # Somebody knows better; then the unit of the image may not be theirs.
        return given if scale is None else replace(given, scale=scale)
    if origin is None and opened.origin is not None:
        # A coarser pixel covers several: its centre lies further from the corner.
        together = zip(opened.origin, scale, opened.scale, strict=True)
        origin = tuple(o + (s - s0) / 2 for o, s, s0 in together)
    return replace(given, scale=scale, unit=unit or opened.unit, origin=origin)


def _scale_of(shape: tuple[int, ...], opened: Opened) -> tuple[float, ...] | None:
    """Return the pixel size of the level whose planes have the shape of the labels."""
    arrays = opened.levels or (opened.array,)
    scales = opened.scales or (opened.scale,)
    axes = opened.axes or ""
    for array, scale in zip(arrays, scales, strict=False):
        whole = getattr(array, "shape", None)
        if whole is None or len(whole) != len(axes):
            continue
        if tuple(n for n, a in zip(whole, axes, strict=True) if a != "c") == shape:
            return scale
    return None


def _is_near(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    return all(
        abs(a - b) <= 1e-6 * max(abs(a), abs(b))
        for a, b in zip(first, second, strict=True)
    )


def _opened_like(like: Any) -> Opened | None:
    """Return what the image says of itself; None where it says nothing."""
    if like is None or not isinstance(like, (str, os.PathLike)):
        return None
    path = Path(like)
    try:
        if path.exists() and is_store(path):
            return open_zarr(path)
        if path.is_file() and suffix_of(path) in (*TIFF, *SLIDES):
            return facts_of_tiff(path)
    except (FewShotError, OSError, ValueError, KeyError, TypeError):
        # The labels are worth more than where they lie.
        return None
    return None
