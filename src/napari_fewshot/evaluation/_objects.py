"""Average precision of single objects, as the field of nuclei counts it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import AnyArray, FloatArray

# 0.5, 0.55 ... 0.95, the thresholds of COCO and of the Data Science Bowl 2018.
AP_THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))


def object_precision(
    p: AnyArray, r: AnyArray, thresholds: Sequence[float] = AP_THRESHOLDS
) -> FloatArray:
    """Return TP / (TP + FP + FN) of objects at IoU thresholds.

    The field of nuclei calls it average precision (Caicedo et al., Nature Methods 16,
    2019; StarDist, Cellpose). It is not the area under a precision-recall curve that
    the name stands for in object detection. At each threshold as many objects as
    possible are matched one to one.

    Parameters
    ----------
    p, r : array (H, W)
        Object numbers of prediction and reference; 0 is background.
    thresholds : sequence of float
        A pair matches when its IoU is at least this.

    Returns
    -------
    array (T,)
        NaN when there are no objects at all.
    """
    n_p, n_r, matched = matches_at(p, r, thresholds)
    if n_p + n_r == 0:
        return np.full(len(thresholds), np.nan)
    return np.array([hits / (n_p + n_r - hits) for hits in matched])


def matches_at(
    p: AnyArray, r: AnyArray, thresholds: Sequence[float]
) -> tuple[int, int, list[int]]:
    """Count objects, and how many can be matched one to one at IoU thresholds.

    Parameters
    ----------
    p, r : array
        Object numbers of prediction and reference; 0 is background.
    thresholds : sequence of float
        A pair may match when its IoU is at least this.

    Returns
    -------
    n_p, n_r : int
        Objects in each.
    matched : list of int
        The most matches possible, per threshold.
    """
    from scipy.optimize import linear_sum_assignment
    from skimage.metrics import contingency_table

    joint = contingency_table(_dense(p), _dense(r)).toarray()
    both = joint[1:, 1:]
    union = joint[1:].sum(1)[:, None] + joint[:, 1:].sum(0)[None, :] - both
    matched = []
    for t in thresholds:
        # The least bit of slack: 0.55 has no exact binary form.
        good = both >= (t - 1e-9) * union
        matched.append(int(good[linear_sum_assignment(good, maximize=True)].sum()))
    return both.shape[0], both.shape[1], matched


def _dense(labels: AnyArray) -> AnyArray:
    """Number objects 1..N, background 0 whether it occurs or not."""
    values = np.unique(labels[labels > 0])
    dense: AnyArray = np.searchsorted(values, labels) + 1
    return np.where(labels > 0, dense, 0)
