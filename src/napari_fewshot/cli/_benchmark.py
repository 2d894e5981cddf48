"""What all benchmarks share: data sets of a folder, and where figures were measured."""

from __future__ import annotations

import json
import os
import platform
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import Image, Support
from napari_fewshot.errors import DataError
from napari_fewshot.io import open_image, open_labels

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_fewshot._types import AnyArray, BoolArray


def environment() -> dict[str, Any]:
    """Return what a figure depends on besides the method."""
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "processors": os.cpu_count(),
    }


def open_datasets(
    root: Path, datasets: Sequence[str] = ()
) -> list[tuple[Path, dict[str, Any]]]:
    """Return the data sets in a folder with what their ``dataset.json`` says.

    Raises
    ------
    DataError
        If there is none.
    """
    folders = [p.parent for p in sorted(root.glob("*/dataset.json"))]
    folders = [f for f in folders if not datasets or f.name in datasets]
    if not folders:
        raise DataError(f"{root} holds no data set (a folder with dataset.json).")
    return [
        (f, json.loads((f / "dataset.json").read_text(encoding="utf-8")))
        for f in folders
    ]


def read_item(folder: Path, item: dict[str, Any]) -> tuple[AnyArray, AnyArray, str]:
    """Return image, labels and group of an item of ``dataset.json``."""
    image = np.asarray(open_image(folder / item["image"]).array)
    labels = np.asarray(open_labels(folder / item["mask"]))
    return image, labels, str(item.get("group", item["image"]))


def plane_support(image: AnyArray, mask: BoolArray, name: str) -> Support:
    """Return a plane (H, W) or (H, W, C) with its mask as a support."""
    axes = "yxc" if image.ndim == 3 else "yx"
    return Support(image, mask, classes={1: "object"}, axes=axes, name=name)


def plane_query(image: AnyArray) -> Image:
    """Return a plane (H, W) or (H, W, C) as a query."""
    axes = "yxc" if image.ndim == 3 else "yx"
    return Image.from_array(image, axes=axes, name="query")
