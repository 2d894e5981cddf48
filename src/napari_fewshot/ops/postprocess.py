"""Probability maps to labels: one function for all methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import BoolArray, FloatArray, LabelArray

Limit = float | Mapping[int, float]


def probabilities_to_labels(
    probabilities: Mapping[int, FloatArray],
    *,
    threshold: float = 0.5,
    min_area: Limit = 0.0,
    max_area: Limit = 0.0,
    fill_holes: bool | Mapping[int, bool] = True,
    largest_only: bool = False,
) -> LabelArray:
    """Turn one probability map per class into labels.

    Each pixel gets the most probable class if that class reaches the threshold. Then,
    class by class, holes are filled (never over another class) and objects outside the
    size limits are removed.

    Parameters
    ----------
    probabilities : mapping of int to array (H, W)
        0.5 is the decision boundary.
    threshold : float
        Probability at which a pixel counts as found.
    min_area, max_area : float or mapping of int to float
        Limits of the size of an object in pixels, for all classes or per class; 0 is no
        limit.
    fill_holes : bool or mapping of int to bool
        Fill holes of objects, for all classes or per class.
    largest_only : bool
        Keep the largest object of each class.

    Returns
    -------
    array (H, W)
        int32 labels, 0 is background.
    """
    values = sorted(probabilities)
    labels = _most_probable(probabilities, values, threshold)
    for value in values:
        mask = labels == value
        if not mask.any():
            continue
        clean = clean_mask(
            mask,
            min_area=_limit(min_area, value),
            max_area=_limit(max_area, value),
            fill_holes=_choice(fill_holes, value),
            largest_only=largest_only,
        )
        labels[mask & ~clean] = 0
        labels[clean & (labels == 0)] = value
    return labels


def _most_probable(
    probabilities: Mapping[int, FloatArray], values: Sequence[int], threshold: float
) -> LabelArray:
    maps = [np.asarray(probabilities[v], np.float32) for v in values]
    if len(maps) == 1:
        return np.where(maps[0] >= threshold, values[0], 0).astype(np.int32)
    stack = np.stack(maps)
    best = stack.argmax(axis=0)
    found = np.take_along_axis(stack, best[None], axis=0)[0] >= threshold
    return np.where(found, np.asarray(values)[best], 0).astype(np.int32)


def clean_mask(
    mask: BoolArray,
    *,
    min_area: float = 0.0,
    max_area: float = 0.0,
    fill_holes: bool = True,
    largest_only: bool = False,
) -> BoolArray:
    """Fill holes of a mask and remove objects outside the limits.

    Parameters
    ----------
    mask : array (H, W)
        One class.
    min_area, max_area : float
        Limits in pixels; 0 is no limit.
    fill_holes : bool
        Fill holes first.
    largest_only : bool
        Keep only the largest object.

    Returns
    -------
    array (H, W)
        bool.
    """
    from scipy import ndimage

    clean: BoolArray = ndimage.binary_fill_holes(mask) if fill_holes else mask.copy()
    if not (min_area or max_area or largest_only):
        return clean
    objects, count = ndimage.label(clean, np.ones((3, 3), bool))
    areas = np.bincount(objects.ravel(), minlength=count + 1)
    keep = areas >= min_area
    if max_area:
        keep &= areas <= max_area
    keep[0] = False
    if largest_only and keep.any():
        keep &= np.arange(count + 1) == np.where(keep, areas, -1).argmax()
    kept: BoolArray = keep[objects]
    return kept


def soft_dice(probability: FloatArray) -> float:
    """Return how sure a map is of its own mask: its expected Dice if calibrated.

    For probabilities p and the mask m = p >= 0.5 this is 2 sum(p m) / (sum p + sum m),
    the Dice of m against a random truth drawn from p, to first order. Low
    probabilities (under 0.1) are noise of the background and are left out.

    Parameters
    ----------
    probability : array (H, W)
        Values in [0, 1].

    Returns
    -------
    float
        In [0, 1]. An empty mask scores by how far the map is from finding anything.
    """
    p = np.where(probability < 0.1, 0.0, probability).astype(np.float64)
    mask = probability >= 0.5
    if not mask.any():
        return float(1.0 - p.max(initial=0.0))
    return float(2.0 * p[mask].sum() / (p.sum() + mask.sum()))


def has_holes(mask: BoolArray, share: float = 0.05) -> bool:
    """Whether the holes of a mask cover more than a share of its area.

    Parameters
    ----------
    mask : array (H, W)
        One class.
    share : float
        Of the area of the mask.
    """
    from scipy import ndimage

    area = int(mask.sum())
    return int(ndimage.binary_fill_holes(mask).sum()) - area > share * area


def _choice(choice: bool | Mapping[int, bool], value: int) -> bool:
    return choice.get(value, True) if isinstance(choice, Mapping) else choice


def _limit(limit: Limit, value: int) -> float:
    return float(limit.get(value, 0.0)) if isinstance(limit, Mapping) else float(limit)
