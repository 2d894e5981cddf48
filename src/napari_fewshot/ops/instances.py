"""Class labels to numbered objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.errors import DataError

if TYPE_CHECKING:
    from napari_fewshot._types import BoolArray, LabelArray

MODES = ("components", "watershed")
# A dip between two distance maxima shallower than this many pixels is not a waist.
WAIST_DEPTH = 0.75


def split_instances(labels: LabelArray, mode: str = "components") -> LabelArray:
    """Number single objects 1..N over all classes; classes are never merged.

    Parameters
    ----------
    labels : array (H, W)
        Class labels.
    mode : str
        ``"components"``: touching pixels (8 neighbours) of a class are one object.
        ``"watershed"``: touching round objects are split at their waist, by a
        watershed of the smoothed distance to the boundary.

    Returns
    -------
    array (H, W)
        int32; 0 exactly where ``labels`` is 0.

    Raises
    ------
    DataError
        For another mode.
    """
    if mode not in MODES:
        raise DataError(f"instances={mode!r} is not one of {', '.join(MODES)}.")
    numbered = np.zeros(labels.shape, np.int32)
    for value in np.unique(labels[labels > 0]):
        mask = labels == value
        parts = _components(mask) if mode == "components" else _watershed(mask)
        numbered[mask] = parts[mask] + numbered.max()
    return numbered


def _components(mask: BoolArray) -> LabelArray:
    from scipy import ndimage

    parts: LabelArray = ndimage.label(mask, np.ones((3, 3), bool), output=np.int32)[0]
    return parts


def _watershed(mask: BoolArray) -> LabelArray:
    from scipy import ndimage
    from skimage.morphology import h_maxima
    from skimage.segmentation import watershed

    distance = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    smooth = np.where(mask, ndimage.gaussian_filter(distance, 1.0), 0.0)
    peaks = h_maxima(smooth, WAIST_DEPTH).astype(bool) & mask
    seeds = ndimage.label(peaks, np.ones((3, 3), bool))[0]
    parts = watershed(-smooth, seeds, mask=mask, connectivity=2)
    # A part without a peak (a sliver that smoothing flattened) keeps its own number.
    lost = mask & (parts == 0)
    if lost.any():
        parts = np.where(lost, _components(lost) + parts.max(), parts)
    numbered: LabelArray = parts.astype(np.int32)
    return numbered
