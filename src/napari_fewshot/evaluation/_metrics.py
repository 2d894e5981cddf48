"""Metrics of masks and of objects, with the conventions spelled out.

Boundary elements are the pixels that face-connected erosion removes; outside the image
counts as background. Distances are in the unit of ``spacing``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.errors import DataError
from napari_fewshot.evaluation._objects import matches_at

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray, BoolArray


def overlap(p: BoolArray, r: BoolArray) -> tuple[float, float]:
    """Return Dice and IoU; NaN when both masks are empty.

    Parameters
    ----------
    p, r : array
        Prediction and reference.
    """
    both, size = int((p & r).sum()), int(p.sum()) + int(r.sum())
    if size == 0:
        return float("nan"), float("nan")
    return 2 * both / size, both / (size - both)


def volume_error(p: BoolArray, r: BoolArray) -> float:
    """Return (V_P - V_R) / V_R; NaN when both are empty, inf when only R is.

    Parameters
    ----------
    p, r : array
        Prediction and reference.
    """
    found, wanted = int(p.sum()), int(r.sum())
    if wanted == 0:
        return float("nan") if found == 0 else float("inf")
    return (found - wanted) / wanted


def boundary(mask: BoolArray) -> BoolArray:
    """Return the pixels that face-connected erosion removes.

    Parameters
    ----------
    mask : array
        2-D or 3-D.
    """
    from scipy import ndimage

    core = ndimage.binary_erosion(mask, ndimage.generate_binary_structure(mask.ndim, 1))
    edge: BoolArray = mask & ~core
    return edge


def surface_distances(
    p: BoolArray, r: BoolArray, spacing: tuple[float, ...]
) -> tuple[AnyArray, AnyArray]:
    """Return distances from P's boundary to R's, and from R's to P's.

    Parameters
    ----------
    p, r : array
        Both with foreground.
    spacing : tuple of float
        Pixel size per axis.
    """
    from scipy import ndimage

    edges = boundary(p), boundary(r)
    to_p, to_r = (
        ndimage.distance_transform_edt(~edge, sampling=spacing) for edge in edges
    )
    return to_r[edges[0]], to_p[edges[1]]


def surface_metrics(
    p: BoolArray, r: BoolArray, spacing: tuple[float, ...], tau: float
) -> dict[str, float]:
    """Return HD95, ASSD and NSD.

    HD95 is the larger of the two directed 95th percentiles (linear interpolation), not
    the percentile of the pooled distances. ASSD is the mean over all boundary elements
    of both sides. NSD is the share of them within ``tau`` (closed).

    Parameters
    ----------
    p, r : array
        Prediction and reference.
    spacing : tuple of float
        Pixel size per axis.
    tau : float
        Tolerance in the unit of the spacing.

    Returns
    -------
    dict
        ``hd95``, ``assd``, ``nsd``. Both empty: NaN. One empty: inf, inf, 0.
    """
    if not p.any() or not r.any():
        value = float("nan") if not p.any() and not r.any() else float("inf")
        return {"hd95": value, "assd": value, "nsd": 0.0 if np.isinf(value) else value}
    from_p, from_r = surface_distances(p, r, spacing)
    count = len(from_p) + len(from_r)
    near = int((from_p <= tau).sum()) + int((from_r <= tau).sum())
    return {
        "hd95": float(max(np.percentile(from_p, 95), np.percentile(from_r, 95))),
        "assd": float((from_p.sum() + from_r.sum()) / count),
        "nsd": near / count,
    }


def instance_metrics(
    p: AnyArray, r: AnyArray, thresholds: tuple[float, ...]
) -> dict[str, float]:
    """Return F1 and average precision of objects at IoU thresholds.

    F1 = 2 TP / (2 TP + FP + FN); AP = TP / (TP + FP + FN), as used for nuclei.

    Parameters
    ----------
    p, r : array
        Object numbers of prediction and reference.
    thresholds : tuple of float
        A pair counts when its IoU is at least this.

    Returns
    -------
    dict
        ``f1@t`` and ``ap@t`` per threshold; NaN when there are no objects at all.
    """
    n_p, n_r, matched = matches_at(p, r, thresholds)
    found = {}
    for t, hits in zip(thresholds, matched, strict=True):
        wrong = n_p + n_r - 2 * hits
        nothing = n_p + n_r == 0
        found[f"f1@{t:g}"] = float("nan") if nothing else 2 * hits / (2 * hits + wrong)
        found[f"ap@{t:g}"] = float("nan") if nothing else hits / (hits + wrong)
    return found


def as_labels(labels: Any, what: str) -> AnyArray:
    """Return whole-number labels, bool as class 1.

    Raises
    ------
    DataError
        For fractions, negative values or other dtypes.
    """
    array = np.asarray(labels)
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype.kind == "f":
        if not (np.isfinite(array) & (array == array.round())).all():
            raise DataError(f"{what} holds fractions or NaN; labels are whole numbers.")
        array = array.astype(np.int64)
    if array.dtype.kind not in "ui":
        raise DataError(f"{what} has dtype {array.dtype}; labels are whole numbers.")
    if array.size and array.min() < 0:
        raise DataError(f"{what} holds negative labels; 0 is background.")
    return array
