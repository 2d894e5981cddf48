"""Which of several things found is meant: the one with most evidence near its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_fewshot._types import BoolArray, FloatArray

# Falls off by a Gaussian whose standard deviation is this share of the longer side.
REACH = 0.1


def nearness(
    mask: BoolArray, shape: tuple[int, int], reach: float = REACH
) -> FloatArray:
    """Return how near every pixel is to where a mask would be.

    Parameters
    ----------
    mask : array (H, W) bool
        Of another image of the same view; it is stretched to the shape.
    shape : (int, int)
        Of the image in question.
    reach : float
        Standard deviation, in units of the longer side.

    Returns
    -------
    array (shape) of float32
        1 within the mask, falling to 0 with distance; 1 everywhere if it is empty.
    """
    from scipy import ndimage

    if not mask.any():
        return np.ones(shape, np.float32)
    rows = np.arange(shape[0]) * mask.shape[0] // shape[0]
    columns = np.arange(shape[1]) * mask.shape[1] // shape[1]
    placed = mask[np.ix_(rows, columns)]
    if not placed.any():
        return np.ones(shape, np.float32)
    distance = ndimage.distance_transform_edt(~placed) / max(shape)
    near: FloatArray = np.exp(-0.5 * np.square(distance / reach)).astype(np.float32)
    return near


def main_object(odds: FloatArray, near: FloatArray, keep: float = 1.0) -> BoolArray:
    """Return the objects of a block of planes that are most likely what is meant.

    Objects are connected in space (faces touch). Each weighs as much as the log-odds
    within it, pixel by pixel times the nearness to where it is expected.

    Parameters
    ----------
    odds : array (P, H, W)
        Log-odds; what is above 0 was found.
    near : array (H, W)
        From `nearness`.
    keep : float
        Objects that weigh at least this share of the heaviest one stay, too.

    Returns
    -------
    array (P, H, W) bool
    """
    from scipy import ndimage

    found: BoolArray = odds > 0
    parts, count = ndimage.label(found)
    if count < 2:
        return found
    weight = np.clip(odds, 0, None) * near
    weights = np.bincount(parts.ravel(), weights=weight.ravel(), minlength=count + 1)
    stays = weights >= keep * weights[1:].max()
    stays[0] = False
    kept: BoolArray = stays[parts]
    return kept


def is_single(mask: BoolArray, share: float = 0.95) -> bool:
    """Return whether a mask (H, W) shows one object, but for specks."""
    from scipy import ndimage

    parts, count = ndimage.label(mask)
    if count < 2:
        return bool(count)
    sizes = np.bincount(parts.ravel())[1:]
    return bool(sizes.max() >= share * sizes.sum())
