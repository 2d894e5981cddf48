"""Rows of the report: what came of an image, in words and numbers."""

from __future__ import annotations

import csv
import io as text_io
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import strips
from napari_fewshot.inference._compare import areas
from napari_fewshot.io import keeps_objects, suffix_of, write_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_fewshot.data import Image, Prediction
    from napari_fewshot.session._batch_items import Item

COLUMNS = ("image", "status", "file", "seconds", "message")
PLATE = ("well", "field")
EXPECTED, UNCALIBRATED = "expected dice", "uncalibrated"
DONE, BEFORE, FAILED, LEFT = "done", "done before", "failed", "not reached"
# Pixels that are counted together.
COUNTED = 1 << 24


def head_of(item: Item) -> dict[str, Any]:
    """Return what is known of an image before anything is done."""
    row = {"image": printable(item.name)}
    if item.well:
        row.update(well=item.well, field=item.field)
    return row


def row_of(file: str, prediction: Prediction, image: Image) -> dict[str, Any]:
    """Return figures of a finished image.

    Parameters
    ----------
    file : str
        Name of the labels file.
    prediction : Prediction
        What was found.
    image : Image
        The query.

    Returns
    -------
    dict
        ``area`` is in pixels; ``size`` besides, in the unit of the pixel size to the
        power of 2 or 3 (``unit``), where that is known. What only a phrase decided is
        no expected Dice: it is called uncalibrated.
    """
    record = prediction.provenance
    seconds = sum(record["seconds"].values())
    row: dict[str, Any] = {"file": file, "seconds": f"{seconds:.2f}"}
    supports = record.get("inputs", {}).get("supports", ())
    is_guess = record.get("score_kind") == "uncalibrated" and not supports
    counts = count_labels(prediction.labels)
    for value, label in prediction.classes.items():
        score = prediction.scores.get(value)
        if score is not None:
            row[f"{UNCALIBRATED if is_guess else EXPECTED} {label}"] = f"{score:.3f}"
        area = counts.get(value, 0)
        row[f"area {label}"] = area
        if image.scale is not None:
            row[f"size {label}"] = f"{area * float(np.prod(image.scale)):.6g}"
        row[f"present {label}"] = prediction.present.get(value, False)
    if image.scale is not None and image.unit:
        row["unit"] = f"{image.unit}^{len(image.scale)}"
    told = [*record.get("notes", ())]
    if prediction.instances is not None and not keeps_objects(file):
        told.append(
            f"Numbers of single objects are not kept in {suffix_of(file)}: take "
            "--format ome-zarr, coco or geojson."
        )
    novelty = prediction.plane_novelty
    if novelty is not None and np.isfinite(novelty).any():
        worst = float(np.nanmax(novelty))
        row["novelty"] = f"{worst:.2f}"
        if worst > 1:
            told.append("Unlike the supports: masks are guesses.")
    row["warnings"] = " ".join(dict.fromkeys(told))
    return row


def count_labels(labels: Any) -> dict[int, int]:
    """Return pixels per label value; a store is read a strip at a time.

    Parameters
    ----------
    labels : array (..., H, W)
        Whole numbers of 0 and above.
    """
    found: Counter[int] = Counter()
    for _, block in strips(labels, COUNTED):
        found.update(areas(block))
    return dict(found)


def fullest_plane(labels: Any, image: Image) -> int:
    """Return the plane with the most foreground; large stacks are not searched.

    Parameters
    ----------
    labels : array
        Of ``image.label_shape``.
    image : Image
        The query.
    """
    middle = image.n_planes // 2
    if image.n_planes == 1 or int(np.prod(labels.shape)) > COUNTED:
        return middle
    counts = [
        np.count_nonzero(labels[image.label_key(i)]) for i in range(image.n_planes)
    ]
    return int(np.argmax(counts)) if any(counts) else middle


def worst_score(row: dict[str, Any]) -> float | None:
    """Return the lowest score of a row; None if it has none."""
    scores = [
        float(v)
        for k, v in row.items()
        if k.startswith((f"{EXPECTED} ", f"{UNCALIBRATED} ")) and v != ""
    ]
    return min(scores) if scores else None


def columns_of(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return all columns of a report, the usual ones first."""
    known = {name for row in rows for name in row}
    plate = [name for name in PLATE if name in known]
    head = ["image", *plate, *COLUMNS[1:]]
    return head + sorted(known - set(head))


def write_report(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write ``report.csv``: a row per image.

    Raises
    ------
    StorageError
        If it can't be written.
    """
    buffer = text_io.StringIO()
    writer = csv.DictWriter(buffer, columns_of(rows))
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, buffer.getvalue())


def printable(text: str) -> str:
    """Return a name that can be written as UTF-8: odd bytes become escapes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
