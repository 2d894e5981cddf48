"""`evaluate`: labels against truth, one row per class."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.errors import DataError
from napari_fewshot.evaluation._metrics import (
    as_labels,
    instance_metrics,
    overlap,
    surface_metrics,
    volume_error,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from napari_fewshot._types import AnyArray, BoolArray

DEFAULT = ("dice", "iou", "hd95", "assd", "nsd", "volume_error")
# Default tolerance of NSD: this many times the largest in-plane pixel edge.
TAU_EDGES = 2.0


def evaluate(
    labels: Any,
    truth: Any,
    scale: Any = None,
    classes: Mapping[int, str] | None = None,
    metrics: Sequence[str] | None = None,
    *,
    case: str = "",
    tau: float | None = None,
    both_empty: float = float("nan"),
) -> pd.DataFrame:
    """Compare labels with truth.

    Parameters
    ----------
    labels, truth : array or layer
        Class labels of one shape (2-D, or 3-D scored as a volume). For the metrics
        ``"f1@t"`` and ``"ap@t"`` the values are object numbers of a single class.
    scale : sequence of float, optional
        Pixel size per axis; default 1.
    classes : mapping of int to str, optional
        Classes to score and their names; default all that occur.
    metrics : sequence of str, optional
        Of ``dice``, ``iou``, ``hd95``, ``assd``, ``nsd``, ``volume_error``,
        ``precision``, ``recall``, ``f1@0.5``, ``ap@0.5`` (any threshold). Default the
        first six.
    case : str
        Put into the column of that name.
    tau : float, optional
        Tolerance of NSD in the unit of ``scale``; default twice the largest in-plane
        pixel edge. It is part of the column's name.
    both_empty : float
        Dice and IoU of a class that is in neither; NaN by default, so that it is
        counted apart, or 1.

    Returns
    -------
    pandas.DataFrame
        Columns case, class, and the metrics. ``class`` is the name if there is one.

    Raises
    ------
    DataError
        If the two differ in shape or can't be read as labels.
    """
    import pandas as pd

    p, r = as_labels(_data(labels), "labels"), as_labels(_data(truth), "truth")
    if p.shape != r.shape:
        raise DataError(
            f"The labels have shape {p.shape} but the truth has {r.shape}. Compare "
            "images of the same size."
        )
    wanted = tuple(DEFAULT if metrics is None else metrics)
    _check_metrics(wanted)
    spacing = _spacing(scale, p.ndim)
    reach = tau if tau is not None else TAU_EDGES * max(spacing[-2:])
    objects = [m for m in wanted if "@" in m]
    if objects and len(objects) == len(wanted):
        values = dict.fromkeys(classes or {1: "object"})
    else:
        values = dict.fromkeys(classes or _values(p, r))
    rows = []
    for value in values:
        name = (classes or {}).get(value, str(value))
        row: dict[str, Any] = {"case": case, "class": name}
        row.update(_row(p == value, r == value, wanted, spacing, reach, both_empty))
        if objects:
            row.update(_object_row(p, r, objects))
        rows.append(row)
    columns = ["case", "class", *(_column(m, reach) for m in wanted)]
    return pd.DataFrame(rows, columns=columns)


def _row(
    p: BoolArray,
    r: BoolArray,
    wanted: Sequence[str],
    spacing: tuple[float, ...],
    tau: float,
    both_empty: float,
) -> dict[str, float]:
    dice, iou = overlap(p, r)
    if np.isnan(dice):
        dice = iou = both_empty
    found = {"dice": dice, "iou": iou, "volume_error": volume_error(p, r)}
    if {"precision", "recall"} & set(wanted):
        both = int((p & r).sum())
        found["precision"] = both / int(p.sum()) if p.any() else float("nan")
        found["recall"] = both / int(r.sum()) if r.any() else float("nan")
    if {"hd95", "assd", "nsd"} & set(wanted):
        found.update(surface_metrics(p, r, spacing, tau))
    return {_column(m, tau): found[m] for m in wanted if "@" not in m}


def _object_row(p: AnyArray, r: AnyArray, wanted: Sequence[str]) -> dict[str, float]:
    thresholds = tuple(dict.fromkeys(float(m.split("@")[1]) for m in wanted))
    found = instance_metrics(p, r, thresholds)
    return {m: found[f"{m.split('@')[0]}@{float(m.split('@')[1]):g}"] for m in wanted}


def _check_metrics(wanted: Sequence[str]) -> None:
    for name in wanted:
        known = name in (*DEFAULT, "precision", "recall")
        if not known and not re.fullmatch(r"(f1|ap)@(0?\.\d+|1(\.0*)?)", name):
            raise DataError(
                f"There is no metric {name!r}. Metrics: {', '.join(DEFAULT)}, "
                "precision, recall, f1@0.5, ap@0.5."
            )


def _column(metric: str, tau: float) -> str:
    return f"nsd_{tau:g}" if metric == "nsd" else metric


def _values(p: AnyArray, r: AnyArray) -> list[int]:
    found = sorted((set(np.unique(p).tolist()) | set(np.unique(r).tolist())) - {0})
    return found or [1]


def _spacing(scale: Any, ndim: int) -> tuple[float, ...]:
    if scale is None:
        return (1.0,) * ndim
    values = tuple(float(s) for s in np.atleast_1d(scale))
    values = values * ndim if len(values) == 1 else values
    if len(values) != ndim or any(not v > 0 for v in values):
        raise DataError(
            f"scale={scale} must hold {ndim} positive pixel sizes, one per axis."
        )
    return values


def _data(value: Any) -> Any:
    """Return the array of a layer, or the array itself."""
    if isinstance(value, (str, PurePath)):
        raise DataError(
            f"{str(value)!r} is the name of a file, not labels. Read it first, for "
            "example with skimage.io.imread, or use napari-fewshot evaluate."
        )
    return value.data if hasattr(value, "events") else value
