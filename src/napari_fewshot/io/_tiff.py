"""TIFF: stacks page by page, ImageJ and OME pixel sizes, labels plane by plane."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import unit_name
from napari_fewshot.io._endings import Opened
from napari_fewshot.io._ome_write import COARSEST, coarser_levels, level_shapes
from napari_fewshot.io._slides import (
    check_codec,
    check_complete,
    has_small_pieces,
    level_scales,
    open_levels,
    slide_facts,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_fewshot._types import AnyArray
    from napari_fewshot.io._written import Written

# Axis letters of TIFF files that mean the same as ours; I and Q are "other": planes.
TIFF_AXES = {
    "T": "t",
    "Z": "z",
    "C": "c",
    "S": "c",
    "Y": "y",
    "X": "x",
    "I": "z",
    "Q": "z",
}
# Stacks above this are read page by page.
LAZY_BYTES = 1 << 26
# ImageJ files end here; larger ones are written as OME-TIFF with long offsets.
MAX_IMAGEJ = (1 << 32) - (1 << 25)
# Planes above this are written in tiles, so that none is whole in memory.
MAX_PLANE = 1 << 26
TILE = 512
# How ImageJ and OME spell units.
IMAGEJ_UNITS = {
    "angstrom": "angstrom",
    "nanometer": "nm",
    "micrometer": "micron",
    "millimeter": "mm",
    "centimeter": "cm",
    "meter": "m",
    "inch": "inch",
}
OME_UNITS = {**IMAGEJ_UNITS, "micrometer": "µm", "angstrom": "Å", "inch": "in"}


def open_tiff(path: Path) -> Opened:
    """Open the first series of a TIFF file; pyramids and large ones stay on disk."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        facts = _all_facts(file)
        check_complete(file, path)
        check_codec(file, path)
        shape = tuple(series.shape)
        n_leading = len(shape) - len(series.pages[0].shape)
        if len(series.levels) > 1:
            return _pyramid(file, path, facts)
        if series.nbytes <= LAZY_BYTES:
            array = series.asarray()
        elif n_leading > 0:
            array = _lazy(path, shape, n_leading)
        elif has_small_pieces(series):
            array = open_levels(file, path)[0]
        else:
            array = series.asarray()
    return Opened(array, **facts)


def facts_of_tiff(path: Path) -> Opened:
    """Return what a TIFF file says of itself; its pixels are not read."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        facts = _all_facts(file)
        if len(file.series[0].levels) > 1:
            return _pyramid(file, path, facts)
        return Opened(None, **facts)


def _all_facts(file: Any) -> dict[str, Any]:
    """Return axes, scale, unit and class table of a file, as far as it says."""
    series = file.series[0]
    axes = "".join(TIFF_AXES.get(letter, "?") for letter in series.axes)
    facts = _facts(file, axes)
    known = _known_axes(axes, tuple(series.shape))
    if "scale" not in facts and known is not None and len(series.levels) > 1:
        facts.update(slide_facts(file, known))
    return {"axes": known, **facts}


def _pyramid(file: Any, path: Path, facts: dict[str, Any]) -> Opened:
    levels = open_levels(file, path)
    scales = level_scales(levels, facts["axes"], facts.get("scale"))
    return Opened(levels[0], levels=tuple(levels), scales=scales, **facts)


def _lazy(path: Path, shape: tuple[int, ...], n_leading: int) -> Any:
    """Map an uncompressed stack into memory, else read it page by page."""
    import tifffile

    try:
        return tifffile.memmap(path, mode="r")
    except ValueError:
        return _TiffPages(path, shape, n_leading)


class _TiffPages:
    """A compressed TIFF stack; every plane is read when asked for, no file stays open.

    Parameters
    ----------
    path : Path
        Of the file.
    shape : tuple of int
        Of the whole stack.
    n_leading : int
        Axes that are spread over pages.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], n_leading: int) -> None:
        import tifffile

        self._path = path
        self._leading = shape[:n_leading]
        self.shape, self.ndim = shape, len(shape)
        self.dtype = tifffile.imread(path, key=0).dtype

    def __getitem__(self, key: Any) -> Any:
        import tifffile

        key = key if isinstance(key, tuple) else (key,)
        count = len(self._leading)
        if len(key) < count or any(isinstance(k, slice) for k in key[:count]):
            return np.asarray(self)[key]
        page = int(
            np.ravel_multi_index(tuple(int(k) for k in key[:count]), self._leading)
        )
        return tifffile.imread(self._path, key=page)[key[count:]]

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        import tifffile

        return (
            tifffile.imread(self._path).reshape(self.shape).astype(dtype or self.dtype)
        )


def _known_axes(axes: str, shape: tuple[int, ...]) -> str | None:
    """Return the file's axes if they are all known and name each one once."""
    if "?" in axes or len(set(axes)) != len(axes) or len(axes) != len(shape):
        return None
    return axes if "y" in axes and "x" in axes else None


def _facts(file: Any, axes: str) -> dict[str, Any]:
    """Return scale, unit and class table of ImageJ and OME files."""
    if file.imagej_metadata:
        return _imagej_facts(file, axes)
    if file.is_ome:
        return _ome_facts(file, axes)
    return {}


def _imagej_facts(file: Any, axes: str) -> dict[str, Any]:
    meta = file.imagej_metadata
    found: dict[str, Any] = {"classes": read_table(str(meta.get("Info", "")))}
    tags = file.pages[0].tags
    if "unit" not in meta or "XResolution" not in tags or "YResolution" not in tags:
        return found
    sizes = {"z": float(meta.get("spacing", 1.0))}
    for letter, tag in (("y", "YResolution"), ("x", "XResolution")):
        number, per = tags[tag].value
        sizes[letter] = per / number if number else 1.0
    found["scale"] = tuple(sizes[a] for a in axes if a in "zyx")
    found["unit"] = unit_name(meta["unit"])
    return found


def _ome_facts(file: Any, axes: str) -> dict[str, Any]:
    import tifffile

    try:
        image = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]
        image = image[0] if isinstance(image, list) else image
        pixels = image["Pixels"]
        found: dict[str, Any] = {"classes": read_table(str(image.get("Description")))}
        sizes = {a: pixels.get(f"PhysicalSize{a.upper()}") for a in "zyx"}
        if sizes["x"] is not None and sizes["y"] is not None:
            found["scale"] = tuple(float(sizes[a] or 1.0) for a in axes if a in "zyx")
            found["unit"] = unit_name(pixels.get("PhysicalSizeXUnit", "µm"))
    except (KeyError, TypeError, ValueError, AttributeError):
        # Other programs leave things out; the pixels can be used without.
        return {}
    return found


def read_table(text: str) -> dict[int, str]:
    """Return the class table that `class_note` wrote; empty for any other text."""
    try:
        content = json.loads(text)
        return {int(v): str(n) for v, n in content["classes"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def class_note(classes: Any) -> str:
    """Return a class table as a line of text, for the comment of a file."""
    return json.dumps({"classes": {str(v): n for v, n in classes.items()}})


def write_tiff(path: Path, given: Written) -> None:
    """Write labels: an ImageJ file where it can hold them, else OME-TIFF."""
    import tifffile

    shape, axes = given.shape, given.axes
    kind = given.smallest_dtype()
    if given.has_levels and max(shape[-2:]) > COARSEST:
        write_pyramid(path, given, kind)
        return
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(kind).itemsize
    is_imagej = (
        kind is not np.uint32
        and set(axes) <= set("tzyx")
        and size < MAX_IMAGEJ
        and shape[-2] * shape[-1] <= MAX_PLANE
    )
    options: dict[str, Any] = {"compression": "zlib"}
    if is_imagej:
        options.update(imagej=True, **_imagej_options(given))
    else:
        options.update(ome=True, bigtiff=size >= MAX_IMAGEJ, **_ome_options(given))
    if shape[-2] * shape[-1] > MAX_PLANE:
        options["tile"] = (TILE, TILE)
    tifffile.imwrite(
        path,
        data=_tiles(given, kind) if "tile" in options else _whole(given, kind),
        shape=shape,
        dtype=kind,
        **options,
    )


def write_pyramid(path: Path, given: Written, kind: Any) -> None:
    """Write labels as an OME-TIFF with levels of half the size each, in tiles.

    Parameters
    ----------
    path : Path
        Of the file.
    given : Written
        Labels; they are read block by block. Coarser levels pick pixels.
    kind : dtype
        That holds them.
    """
    import tifffile

    shapes = level_shapes(given.shape)
    size = int(np.prod(given.shape, dtype=np.int64)) * np.dtype(kind).itemsize
    options: dict[str, Any] = {"compression": "zlib", "tile": (TILE, TILE)}
    with (
        tifffile.TiffWriter(path, ome=True, bigtiff=2 * size >= MAX_IMAGEJ) as file,
        coarser_levels(given, path.parent) as coarser,
    ):
        for number, level in enumerate((given, *coarser)):
            kept = {"subifds": len(shapes) - 1, **_ome_options(given)}
            file.write(
                _tiles(level, kind),
                shape=level.shape,
                dtype=kind,
                **options,
                **(kept if number == 0 else {"subfiletype": 1}),
            )


def _whole(given: Written, kind: Any) -> Iterator[AnyArray]:
    for _, plane in given.planes():
        yield plane.astype(kind)


def _tiles(given: Written, kind: Any) -> Iterator[AnyArray]:
    for index in np.ndindex(*given.shape[:-2]):
        for row in range(0, given.shape[-2], TILE):
            rows = given.read((*index, slice(row, row + TILE)))
            for column in range(0, given.shape[-1], TILE):
                part = rows[:, column : column + TILE].astype(kind)
                left = [(0, TILE - n) for n in part.shape]
                yield np.pad(part, left)


def _imagej_options(given: Written) -> dict[str, Any]:
    metadata: dict[str, Any] = {"axes": given.axes.upper()}
    options: dict[str, Any] = {"metadata": metadata}
    if given.classes:
        metadata["Info"] = class_note(given.classes)
    if given.scale is not None:
        # ImageJ's word for "no unit" is pixel.
        metadata["unit"] = IMAGEJ_UNITS.get(given.unit, "pixel")
        if "z" in given.axes:
            metadata["spacing"] = given.scale[0]
        options["resolution"] = (1 / given.scale[-1], 1 / given.scale[-2])
    return options


def _ome_options(given: Written) -> dict[str, Any]:
    metadata: dict[str, Any] = {"axes": given.axes.upper()}
    if given.classes:
        metadata["Description"] = class_note(given.classes)
    if given.scale is not None:
        spatial = [a for a in given.axes if a in "zyx"]
        unit = OME_UNITS.get(given.unit, "pixel")
        for letter, size in zip(spatial, given.scale, strict=True):
            metadata[f"PhysicalSize{letter.upper()}"] = size
            metadata[f"PhysicalSize{letter.upper()}Unit"] = unit
    return {"metadata": metadata}
