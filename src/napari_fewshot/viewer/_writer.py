"""What napari saves a Labels layer as: the ending of the file chooses."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_fewshot.io import save_labels
from napari_fewshot.viewer._file_layers import MANY_VALUES, writable

# Formats that hold objects, each with its class.
OBJECTS = (".geojson", ".coco.json")


def write_labels(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write a labels layer, with its place, pixel size, class names and colours.

    Parameters
    ----------
    path : str
        Where; see `save_labels` for the endings.
    data : array or levels
        Of the layer; of levels the finest is written.
    meta : dict
        The attributes of the layer. Class names are read from the columns ``index``
        and ``class`` of its features.

    Returns
    -------
    list of str
        What was written.

    Raises
    ------
    DataError, StorageError
        If the format can't hold the labels, or the file can't be written.
    """
    given = writable(data, meta)
    if path.lower().endswith(OBJECTS) and not given["classes"]:
        given.update(_as_objects(given["labels"], str(meta.get("name") or "object")))
    save_labels(path, **given)
    return [path]


def _as_objects(labels: Any, name: str) -> dict[str, Any]:
    """Return labels of many values as numbered objects of one class."""
    values: set[int] = set()
    for index in np.ndindex(*labels.shape[:-2]):
        values.update(int(v) for v in np.unique(np.asarray(labels[index])) if v)
    if len(values) <= MANY_VALUES:
        return {}
    numbers = np.asarray(labels)
    return {
        "labels": (numbers > 0).astype(np.uint8),
        "instances": numbers,
        "classes": {1: name},
        "colours": {},
    }
