"""Let a rough mask settle on the edges of the image (random walker, Grady 2006)."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.ops.clicks import interior_distance
from napari_fewshot.ops.matching import bounding_box

if TYPE_CHECKING:
    from napari_fewshot._types import FloatArray

BETA = 1000.0
SMOOTHING = 0.7
MIN_PIXELS = 8
# A refined mask that agrees less than this with the rough one has leaked.
MIN_AGREEMENT = 0.6


def walk_boundary(image: FloatArray, soft: FloatArray, band: float) -> FloatArray:
    """Refine a soft mask by a random walker between its core and its surroundings.

    Parameters
    ----------
    image : array (H, W)
        float32 in [0, 1].
    soft : array (H, W)
        Rough mask, boundary at 0.5.
    band : float
        Pixels further than this from the rough mask are certainly background.

    Returns
    -------
    array (H, W)
        Refined soft mask, or the rough one if the two disagree.
    """
    from scipy import ndimage
    from skimage.segmentation import random_walker

    mask = soft > 0.5
    if mask.sum() < MIN_PIXELS:
        return soft
    top, bottom, left, right = bounding_box(mask, int(np.ceil(band)) + 2)
    window = np.s_[top:bottom, left:right]
    inside = interior_distance(mask[window])
    outside = ndimage.distance_transform_edt(~mask[window])
    seeds = np.zeros(inside.shape, np.int32)
    seeds[inside > inside.max() / 2] = 1
    seeds[outside > band] = 2
    smoothed = ndimage.gaussian_filter(image, SMOOTHING)[window]
    if not (seeds == 2).any() or float(np.ptp(smoothed)) == 0.0:
        return soft
    with warnings.catch_warnings():
        # The solver's tolerance lets probabilities stick out of [0, 1] a little.
        warnings.simplefilter("ignore", UserWarning)
        walked = random_walker(
            smoothed,
            seeds,
            beta=BETA,
            mode="cg_j",
            tol=1e-3,
            return_full_prob=True,
        )[0]
    refined = np.zeros_like(soft)
    refined[window] = np.clip(walked, 0, 1)
    both = 2 * int((mask & (refined > 0.5)).sum())
    size = int(mask.sum()) + int((refined > 0.5).sum())
    return refined if both / size >= MIN_AGREEMENT else soft
