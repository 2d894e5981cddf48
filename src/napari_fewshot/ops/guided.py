"""Guided filter: a map follows the edges of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray, FloatArray


def guided_filter(
    values: FloatArray, guide: FloatArray, radius: int, smoothness: float
) -> FloatArray:
    """Return values that are locally a linear function of the guide.

    Parameters
    ----------
    values : array (H, W)
        What to filter.
    guide : array (H, W)
        Image in [0, 1].
    radius : int
        Windows have ``2 * radius + 1`` pixels a side.
    smoothness : float
        Variance of the guide below which it counts as flat.

    Returns
    -------
    array (H, W) float32

    Notes
    -----
    He, Sun and Tang, Guided image filtering, IEEE TPAMI 2013, equations 5 to 8.
    """
    from scipy.ndimage import uniform_filter

    def mean(of: AnyArray) -> AnyArray:
        found: AnyArray = uniform_filter(of, 2 * radius + 1, mode="nearest")
        return found

    image, given = guide.astype(np.float64), values.astype(np.float64)
    middle, level = mean(image), mean(given)
    variance = mean(image * image) - middle * middle
    slope = (mean(image * given) - middle * level) / (variance + smoothness)
    offset = level - slope * middle
    filtered: FloatArray = (mean(slope) * image + mean(offset)).astype(np.float32)
    return filtered
