"""Zarr arrays and OME-Zarr images (0.1 to 0.5), with levels and class tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from napari_fewshot.data import unit_factor, unit_name
from napari_fewshot.errors import DataError
from napari_fewshot.io._endings import Opened
from napari_fewshot.io._stored import Stored

if TYPE_CHECKING:
    from pathlib import Path

# Versions before 0.3 name no axes: they are these.
OLD_AXES = "tczyx"
KEY = "napari-fewshot"
# Columns of a class table that are a name.
NAMES = ("class", "class-name", "class_name", "name", "label", "type")


def open_zarr(path: Path) -> Opened:
    """Open a zarr array, an OME-Zarr image or an OME-Zarr label image.

    Raises
    ------
    DataError
        If it holds no image, or its metadata do not fit its arrays.
    """
    import zarr

    opened: Any = zarr.open(path, mode="r")
    if isinstance(opened, zarr.Array):
        return _plain(opened, path)
    attributes = ome_attributes(opened)
    if "multiscales" in attributes:
        return _multiscale(opened, attributes, path)
    if "plate" in attributes or "well" in attributes:
        raise DataError(
            f"{path.name} is a plate or a well of one, not an image. Name a field of "
            f"it, for example {path.name}/A/1/0."
        )
    if "labels" in attributes:
        names = ", ".join(map(str, attributes["labels"]))
        raise DataError(
            f"{path} is the list of label images ({names}). Name one of them inside it."
        )
    if "bioformats2raw.layout" in attributes and "0" in opened:
        return open_zarr(path / "0")
    arrays = sorted(opened.array_keys())
    if not arrays:
        raise DataError(f"{path.name} holds no array. Name the array inside the store.")
    return _plain(opened[arrays[0]], path)


def ome_attributes(group: Any) -> dict[str, Any]:
    """Return the metadata of a group; those of 0.5 lie one level deeper."""
    attributes = dict(group.attrs)
    inner = attributes.get("ome")
    return {**attributes, **inner} if isinstance(inner, dict) else attributes


def label_names(path: Path) -> list[str]:
    """Return the names of the label images of an OME-Zarr image; may be empty."""
    import zarr

    try:
        group = zarr.open_group(path / "labels", mode="r")
    except (FileNotFoundError, ValueError, KeyError):
        return []
    names = ome_attributes(group).get("labels", [])
    return [str(n) for n in names] if isinstance(names, list) else []


def is_label_image(opened: Any) -> bool:
    """Return whether a group says of itself that it is a label image."""
    return "image-label" in ome_attributes(opened)


def _plain(array: Any, path: Path) -> Opened:
    note = dict(array.attrs).get(KEY)
    stored = Stored(array, path.name)
    if not isinstance(note, Mapping):
        return Opened(stored)
    scale = note.get("scale")
    return Opened(
        stored,
        note.get("axes"),
        None if scale is None else tuple(float(s) for s in scale),
        unit_name(note.get("unit")),
        classes={int(v): str(n) for v, n in dict(note.get("classes", {})).items()},
    )


def _multiscale(group: Any, attributes: dict[str, Any], path: Path) -> Opened:
    scales = attributes["multiscales"]
    first = scales[0] if isinstance(scales, list) and scales else None
    datasets = first.get("datasets") if isinstance(first, Mapping) else None
    if not isinstance(first, Mapping) or not isinstance(datasets, list) or not datasets:
        raise DataError(
            f"{path.name} is damaged: its metadata list no resolution (multiscales "
            "without datasets). Write the file again."
        )
    levels = [_level(group, entry, path) for entry in datasets]
    axes, units = _axes(first, levels[0].ndim, path)
    for level in levels[1:]:
        if level.ndim != levels[0].ndim or level.dtype != levels[0].dtype:
            raise DataError(
                f"{path.name} is damaged: its levels differ in axes or type "
                f"({levels[0].shape} {levels[0].dtype}, then {level.shape} "
                f"{level.dtype}). Write the file again."
            )
    outer = first.get("coordinateTransformations")
    placed = [_placement([e.get(_CT), outer], axes, path) for e in datasets]
    unit, factors = _common_unit(axes, units)
    sizes = [_spatial(scale, axes, factors) for scale, _ in placed]
    is_known = bool(unit) or any(s != 1 for s in sizes[0])
    label = attributes.get("image-label")
    classes, colours = _class_table(label if isinstance(label, Mapping) else {})
    return Opened(
        levels[0],
        axes,
        sizes[0] if is_known else None,
        unit,
        _spatial(placed[0][1], axes, factors),
        levels=tuple(levels) if len(levels) > 1 else (),
        scales=tuple(sizes) if is_known else (None,) * len(levels),
        classes=classes,
        colours=colours,
    )


_CT = "coordinateTransformations"


def _level(group: Any, entry: Any, path: Path) -> Stored:
    name = entry.get("path") if isinstance(entry, Mapping) else None
    found = group.get(name) if isinstance(name, str) else None
    if found is None or not hasattr(found, "shape"):
        raise DataError(
            f"{path.name} is incomplete: its metadata name the level {name!r}, which "
            "is not there. Copy the file again."
        )
    return Stored(found, f"{path.name}/{name}")


def _axes(first: Mapping[str, Any], ndim: int, path: Path) -> tuple[str, list[str]]:
    """Return the letters of the axes and the unit of each."""
    listed = first.get("axes", list(OLD_AXES))
    entries = [a if isinstance(a, Mapping) else {"name": a} for a in listed]
    letters = [str(a.get("name", "")).lower() for a in entries]
    axes = "".join(letters)
    strange = [a for a in letters if len(a) != 1 or a not in "tczyx"]
    if strange or len(axes) != ndim or len(set(axes)) != ndim:
        problem = (
            f"the axis {strange[0]!r}, which is none of t, c, z, y, x"
            if strange
            else f"{len(axes)} axes ({', '.join(axes)}) for an array with {ndim}"
        )
        raise DataError(
            f"The metadata of {path.name} name {problem}. Correct them, or open the "
            "array inside and give axes=."
        )
    return axes, [unit_name(a.get("unit")) for a in entries]


def _placement(
    transforms: list[Any], axes: str, path: Path
) -> tuple[list[float], list[float]]:
    """Return pixel size and position of the first pixel per axis.

    Those of the level come first, then those of all levels.
    """
    scale, origin = [1.0] * len(axes), [0.0] * len(axes)
    for step in [t for group in transforms for t in (group or ())]:
        kind = step.get("type") if isinstance(step, Mapping) else None
        values = step.get(kind) if kind in ("scale", "translation") else None
        if values is None:
            continue
        if len(values) != len(axes):
            raise DataError(
                f"The metadata of {path.name} give {len(values)} numbers as {kind} "
                f"for {len(axes)} axes ({axes}). Correct them, or open the array "
                "inside."
            )
        if kind == "scale":
            scale = [s * float(v) for s, v in zip(scale, values, strict=True)]
            origin = [o * float(v) for o, v in zip(origin, values, strict=True)]
        else:
            origin = [o + float(v) for o, v in zip(origin, values, strict=True)]
    return scale, origin


def _common_unit(axes: str, units: list[str]) -> tuple[str, list[float]]:
    """Return the unit of rows and what to multiply each axis with to be in it."""
    unit = units[axes.index("y")]
    return unit, [unit_factor(u, unit) or 1.0 for u in units]


def _spatial(values: list[float], axes: str, factors: list[float]) -> tuple[float, ...]:
    together = zip(values, factors, axes, strict=True)
    return tuple(v * f for v, f, a in together if a in "zyx")


def _class_table(label: Mapping[str, Any]) -> tuple[dict[int, str], dict[int, str]]:
    """Return names and colours of the label values of a label image."""
    classes, colours = {}, {}
    for entry in label.get("properties") or ():
        name = next((entry[k] for k in NAMES if isinstance(entry.get(k), str)), None)
        if name is not None and "label-value" in entry:
            classes[int(entry["label-value"])] = str(name)
    for entry in label.get("colors") or ():
        rgba = entry.get("rgba")
        if isinstance(rgba, list) and len(rgba) >= 3 and "label-value" in entry:
            red, green, blue = (min(255, max(0, int(v))) for v in rgba[:3])
            colours[int(entry["label-value"])] = f"#{red:02x}{green:02x}{blue:02x}"
    return {v: n for v, n in classes.items() if v > 0}, colours
