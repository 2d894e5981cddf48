"""Change the size of planes: images smoothly, labels by nearest neighbour."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_fewshot._types import FloatArray, LabelArray


def fit_factor(shape: tuple[int, ...], max_side: int, min_side: int = 0) -> float:
    """Return the factor that brings the longest side between two bounds.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns.
    max_side : int
        Larger planes are shrunk to it.
    min_side : int
        Smaller planes are enlarged to it.
    """
    longest = max(shape[:2])
    if longest > max_side:
        return max_side / longest
    return max(1.0, min_side / longest)


def scaled_shape(shape: tuple[int, int], factor: float) -> tuple[int, int]:
    """Return the shape after scaling, never below 4 pixels."""
    return max(4, round(shape[0] * factor)), max(4, round(shape[1] * factor))


def resize_image(image: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """Resize a plane with linear interpolation, smoothed before shrinking.

    Parameters
    ----------
    image : array (H, W) or (H, W, C)
        float32.
    shape : (int, int)
        New rows and columns.
    """
    from skimage.transform import resize

    if image.shape[:2] == shape:
        return image
    shrinks = shape[0] < image.shape[0] or shape[1] < image.shape[1]
    resized: FloatArray = resize(
        image,
        shape + image.shape[2:],
        order=1,
        mode="edge",
        anti_aliasing=shrinks,
        preserve_range=True,
    )
    return resized.astype(np.float32, copy=False)


def resize_labels(labels: LabelArray, shape: tuple[int, int]) -> LabelArray:
    """Resize labels by nearest neighbour (pixel centres).

    Parameters
    ----------
    labels : array (H, W)
        Whole numbers.
    shape : (int, int)
        New rows and columns.
    """
    if labels.shape == shape:
        return labels
    rows, columns = (
        np.minimum(((np.arange(n) + 0.5) * old / n).astype(int), old - 1)
        for n, old in zip(shape, labels.shape, strict=True)
    )
    resized: LabelArray = labels[rows[:, None], columns[None, :]]
    return resized


def taper(shape: tuple[int, int]) -> FloatArray:
    """Return weights (H, W) that fall from 1 to 0 in the outer eighth."""
    ramps = []
    for n in shape:
        distance = np.minimum(np.arange(n) + 0.5, n - 0.5 - np.arange(n))
        ramps.append(np.clip(distance / max(n / 8, 1.0), 0, 1))
    weight: FloatArray = (ramps[0][:, None] * ramps[1][None]).astype(np.float32)
    return weight
