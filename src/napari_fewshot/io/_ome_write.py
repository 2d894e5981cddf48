"""Write labels as OME-Zarr: every level block by block, the class table with them."""

from __future__ import annotations

import math
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import default_colour
from napari_fewshot.errors import DataError
from napari_fewshot.io._ome import KEY, ome_attributes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from napari_fewshot.io._written import Written

CHUNK = 1024
# A plane of the coarsest level is at most this long.
COARSEST = 512
VERSIONS = ("0.5", "0.4")


def write_zarr(path: Path, given: Written) -> None:
    """Write one zarr array, a chunk at a time; axes and classes are attributes."""
    import zarr

    array = zarr.create_array(
        path, shape=given.shape, chunks=_chunks(given.shape), dtype="int32"
    )
    note_array(
        array,
        axes=given.axes,
        scale=given.scale,
        unit=given.unit,
        classes=given.classes,
    )
    for key in _blocks(given.shape):
        array[key] = _whole_numbers(given, key)


def note_array(
    array: Any,
    *,
    axes: str,
    scale: tuple[float, ...] | None,
    unit: str,
    classes: Mapping[int, str],
) -> None:
    """Write down, in a zarr array of labels, what belongs to them.

    Parameters
    ----------
    array : zarr array
        That is written.
    axes : str
        One letter per axis.
    scale : tuple of float, optional
        Pixel size per spatial axis.
    unit : str
        Of the scale.
    classes : mapping of int to str
        Names of the label values.
    """
    array.attrs[KEY] = {
        "axes": axes,
        "scale": None if scale is None else list(scale),
        "unit": unit,
        "classes": {str(v): n for v, n in classes.items()},
    }


def _whole_numbers(given: Written, key: Any) -> Any:
    part = given.read(key)
    if part.dtype.itemsize >= 4 and part.size and part.max() > np.iinfo(np.int32).max:
        raise DataError(
            f"Label {part.max()} is too large for zarr; write these labels as .tif."
        )
    return part


def write_ome(path: Path, given: Written, version: str = "0.5") -> None:
    """Write an OME-Zarr label image with all its levels.

    Parameters
    ----------
    path : Path
        Of the group that becomes the label image.
    given : Written
        Its instances become a label image of their own, ``labels/instances``.
    version : {"0.5", "0.4"}
        Of the format: 0.5 is zarr 3, 0.4 is zarr 2.

    Raises
    ------
    DataError
        For another version.
    """
    import zarr

    if version not in VERSIONS:
        raise DataError(
            f"OME-Zarr {version} can't be written; use {' or '.join(VERSIONS)}."
        )
    form = 3 if version == "0.5" else 2
    group = zarr.create_group(path, zarr_format=form)
    shapes = level_shapes(given.shape)
    array = _create(group, "0", given.shape, given.axes, form)
    for key in _blocks(given.shape):
        array[key] = _whole_numbers(given, key)
    for number, shape in enumerate(shapes[1:], start=1):
        coarse = _create(group, str(number), shape, given.axes, form)
        _halve(array, coarse, number % 2)
        array = coarse
    _describe(group, given, len(shapes), version)
    if given.instances is not None:
        inner = group.create_group("labels")
        _put(inner, {"labels": ["instances"]}, version)
        numbered = type(given).of(
            given.instances, axes=given.axes, scale=given.scale, unit=given.unit
        )
        write_ome(path / "labels" / "instances", numbered, version)


@contextmanager
def coarser_levels(given: Written, folder: Path) -> Iterator[list[Written]]:
    """Make the coarser levels of labels, kept in a folder for the time being.

    Parameters
    ----------
    given : Written
        Level 0.
    folder : Path
        Where there is room; what is made there is removed at the end.

    Yields
    ------
    list of Written
        Levels 1 and up.
    """
    import zarr

    with tempfile.TemporaryDirectory(prefix=".levels-", dir=folder) as place:
        group = zarr.create_group(place)
        fine, made = given.labels, []
        for number, shape in enumerate(level_shapes(given.shape)[1:], start=1):
            coarse = _create(group, str(number), shape, given.axes, 3)
            _halve(fine, coarse, number % 2)
            made.append(replace(given, labels=coarse))
            fine = coarse
        yield made


def level_shapes(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return the shapes of all levels of labels: half of the one before each."""
    shapes = [shape]
    while max(shapes[-1][-2:]) > COARSEST:
        last = shapes[-1]
        shapes.append((*last[:-2], math.ceil(last[-2] / 2), math.ceil(last[-1] / 2)))
    return shapes


def _chunks(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*(1,) * (len(shape) - 2), *(max(1, min(n, CHUNK)) for n in shape[-2:]))


def _blocks(shape: tuple[int, ...]) -> Iterator[tuple[Any, ...]]:
    """Yield the keys of the chunks."""
    for index in np.ndindex(*shape[:-2]):
        for row in range(0, shape[-2], CHUNK):
            for column in range(0, shape[-1], CHUNK):
                rows = slice(row, min(row + CHUNK, shape[-2]))
                yield (*index, rows, slice(column, min(column + CHUNK, shape[-1])))


def _create(group: Any, name: str, shape: tuple[int, ...], axes: str, form: int) -> Any:
    named: dict[str, Any] = {"dimension_names": list(axes)} if form == 3 else {}
    kind = "default" if form == 3 else "v2"
    return group.create_array(
        name,
        shape=shape,
        chunks=_chunks(shape),
        dtype="int32",
        chunk_key_encoding={"name": kind, "separator": "/"},
        **named,
    )


def _halve(fine: Any, coarse: Any, offset: int) -> None:
    """Take every second pixel of a level: labels can't be averaged.

    The pixel is the second of two, then the first, in turns, so that over the levels
    it stays within a pixel of the middle of its block.
    """
    height, width = fine.shape[-2:]
    for key in _blocks(coarse.shape):
        *index, rows, columns = key
        source = (
            *index,
            slice(2 * rows.start, min(2 * rows.stop, height)),
            slice(2 * columns.start, min(2 * columns.stop, width)),
        )
        block = np.asarray(fine[source])
        down = np.minimum(np.arange(0, block.shape[0], 2) + offset, block.shape[0] - 1)
        along = np.minimum(np.arange(0, block.shape[1], 2) + offset, block.shape[1] - 1)
        coarse[key] = block[np.ix_(down, along)]


def _describe(group: Any, given: Written, n_levels: int, version: str) -> None:
    axes = []
    for letter in given.axes:
        entry = {"name": letter, "type": "time" if letter == "t" else "space"}
        if letter != "t" and given.unit:
            entry["unit"] = given.unit
        axes.append(entry)
    datasets = [
        {"path": str(level), "coordinateTransformations": _transforms(given, level)}
        for level in range(n_levels)
    ]
    multiscale: dict[str, Any] = {"name": "labels", "axes": axes, "datasets": datasets}
    values = sorted({*given.classes, *given.colours} - {0})
    colours = {v: given.colours.get(v) or default_colour(v) for v in values}
    label: dict[str, Any] = {
        "colors": [
            {"label-value": v, "rgba": [*_rgb(c), 255]} for v, c in colours.items()
        ],
        "properties": [
            {"label-value": v, "class": n} for v, n in given.classes.items()
        ],
    }
    if version == "0.4":
        multiscale["version"] = version
        label["version"] = version
    if not values:
        del label["colors"], label["properties"]
    _put(group, {"multiscales": [multiscale], "image-label": label}, version)


def _transforms(given: Written, level: int) -> list[dict[str, Any]]:
    sizes, first = iter(given.scale or ()), iter(given.origin or ())
    scale, origin = [], []
    for letter in given.axes:
        if letter == "t":
            scale.append(1.0)
            origin.append(0.0)
            continue
        factor = 2.0**level if letter in "yx" else 1.0
        size = next(sizes, 1.0)
        scale.append(size * factor)
        origin.append(next(first, 0.0) + size * (factor - 1) / 2)
    found: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
    if any(origin):
        found.append({"type": "translation", "translation": origin})
    return found


def _rgb(colour: str) -> list[int]:
    text = colour.lstrip("#")
    return [int(text[i : i + 2], 16) for i in (0, 2, 4)]


def _put(group: Any, content: dict[str, Any], version: str) -> None:
    if version == "0.5":
        group.attrs["ome"] = {"version": version, **content}
    else:
        group.attrs.update(content)


def image_of(path: Path) -> Path | None:
    """Return the OME-Zarr image that a path ``IMAGE/labels/NAME`` lies in."""
    image = path.parent.parent
    is_named = path.parent.name == "labels" and path.name not in ("", "labels")
    is_image = any((image / n).is_file() for n in ("zarr.json", ".zgroup"))
    return image if is_named and is_image else None


def version_of(image: Path) -> str:
    """Return the version that labels of an image are written in: its own."""
    return "0.5" if (image / "zarr.json").is_file() else "0.4"


def list_labels(path: Path) -> None:
    """Add a label image to the list of its image, once it is there."""
    import zarr

    version = version_of(path.parent.parent)
    form: Any = 3 if version == "0.5" else 2
    group = zarr.open_group(path.parent, mode="a", zarr_format=form)
    names = list(ome_attributes(group).get("labels", []))
    if path.name not in names:
        _put(group, {"labels": [*names, path.name]}, version)
