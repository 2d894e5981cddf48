"""Pictures (PNG, JPEG, ...) and NumPy files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import unit_name
from napari_fewshot.errors import DataError
from napari_fewshot.io._endings import Opened
from napari_fewshot.io._tiff import read_table

if TYPE_CHECKING:
    from pathlib import Path

    from napari_fewshot.io._written import Written

# Under this name a PNG of ours keeps its class table and pixel size.
KEY = "napari-fewshot"


def open_picture(path: Path) -> Opened:
    """Open a picture as grey or colour."""
    from PIL import Image as Picture

    plain = {"1": "L", "LA": "L", "CMYK": "RGB"}
    with Picture.open(path) as picture:
        mode = plain.get(picture.mode)
        array = np.asarray(picture.convert(mode) if mode else picture)
        note = str(getattr(picture, "text", {}).get(KEY, ""))
    return Opened(array, "yxc" if array.ndim == 3 else "yx", **_facts(note))


def _facts(note: str) -> dict[str, Any]:
    """Return what a PNG of ours says of itself."""
    try:
        content = json.loads(note)
        scale = content["scale"]
        return {
            "scale": None if scale is None else (float(scale[0]), float(scale[1])),
            "unit": unit_name(content["unit"]),
            "classes": read_table(note),
        }
    except (ValueError, KeyError, TypeError, IndexError):
        return {}


def write_png(path: Path, given: Written) -> None:
    """Write one plane of labels, 8 or 16 bits."""
    from PIL import Image as Picture
    from PIL.PngImagePlugin import PngInfo

    if len(given.shape) != 2:
        raise DataError("A PNG holds one plane; write a stack as .tif.")
    kind = given.smallest_dtype()
    if kind is np.uint32:
        raise DataError("A PNG holds labels up to 65535; write these as .tif.")
    note = {
        "scale": given.scale,
        "unit": given.unit,
        "classes": {str(v): n for v, n in given.classes.items()},
    }
    info = PngInfo()
    info.add_itxt(KEY, json.dumps(note))
    array = given.read((slice(None), slice(None))).astype(kind)
    Picture.fromarray(array).save(path, pnginfo=info)


def open_npy(path: Path) -> Opened:
    """Open a NumPy file; it stays on disk."""
    return Opened(np.load(path, mmap_mode="r", allow_pickle=False))


def write_npy(path: Path, given: Written) -> None:
    """Write labels as they are; nothing else is kept."""
    np.save(path, np.asarray(given.labels), allow_pickle=False)
