"""Endings of files, and what a reader finds in one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

TIFF = (".tif", ".tiff")
# Whole slides of scanners: TIFF files with levels under other names; read only.
SLIDES = (".svs", ".ndpi")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
NIFTI = (".nii", ".nii.gz")
ZARR = (".zarr", ".ome.zarr")
OUTLINES = (".geojson", ".coco.json")
SUFFIXES = (*TIFF, *SLIDES, *PICTURES, *NIFTI, ".npy", *ZARR)
# Endings of two words; the others are what follows the last dot.
_DOUBLE = (".nii.gz", ".ome.zarr", ".coco.json")
# Files that make a folder a zarr array or group, of either format.
_STORE_FILES = ("zarr.json", ".zgroup", ".zarray")


@dataclass(frozen=True, eq=False)
class Opened:
    """What a file holds, and what it says of it.

    Attributes
    ----------
    array : array
        Lazy where the format allows.
    axes : str, optional
        One letter of ``tzcyx`` per axis.
    scale : tuple of float, optional
        Pixel size per spatial axis (z, y, x).
    unit : str
        Of scale and origin; empty if unknown.
    origin : tuple of float, optional
        Where the centre of the first pixel lies, per spatial axis.
    affine : array (4, 4), optional
        Of NIfTI files: pixels (z, y, x) to world (z, y, x).
    levels : tuple of array
        All resolutions, where there are several.
    scales : tuple of tuple
        Pixel size of each.
    classes : dict of int to str
        Names of label values.
    colours : dict of int to str
        ``#rrggbb`` of label values.
    instances : array, optional
        Object numbers, where the file holds them beside the classes.
    """

    array: Any
    axes: str | None = None
    scale: tuple[float, ...] | None = None
    unit: str = ""
    origin: tuple[float, ...] | None = None
    affine: Any = None
    levels: tuple[Any, ...] = ()
    scales: tuple[tuple[float, ...] | None, ...] = ()
    classes: Mapping[int, str] = field(default_factory=dict)
    colours: Mapping[int, str] = field(default_factory=dict)
    instances: Any = None


def suffix_of(path: str | os.PathLike[str]) -> str:
    """Return the ending of a path in lower case; ``.nii.gz`` is one ending."""
    name = Path(path).name.lower()
    for ending in _DOUBLE:
        if name.endswith(ending):
            return ending
    return Path(name).suffix


def stem_of(path: str | os.PathLike[str]) -> str:
    """Return the name of a path without its ending."""
    name = Path(path).name
    ending = suffix_of(path)
    return name[: -len(ending)] if ending else name


def is_store(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is (or by its ending will be) a zarr store or in one."""
    if suffix_of(path) in ZARR:
        return True
    return any((Path(path) / name).is_file() for name in _STORE_FILES)
