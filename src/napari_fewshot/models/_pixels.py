"""Planes as the bytes that published encoders are given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.data import as_plane

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray


def rgb_bytes(pixels: AnyArray) -> AnyArray:
    """Return a plane as (H, W, 3) uint8.

    Parameters
    ----------
    pixels : array (H, W) or (H, W, C)
        uint8 is taken as it is, floats in [0, 1] times 255, other numbers are windowed
        by their percentiles. One channel is grey; of more than three the first three
        count. What is not a number is black.
    """
    array = np.asarray(pixels)
    if array.ndim == 2:
        array = array[..., None]
    if array.dtype != np.uint8:
        array = np.nan_to_num(np.rint(as_plane(array) * 255), nan=0.0).astype(np.uint8)
    if array.shape[-1] < 3:
        array = np.repeat(array[..., :1], 3, axis=-1)
    return np.ascontiguousarray(array[..., :3])
