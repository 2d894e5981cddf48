"""Robot users: where a person would click next to correct a mask."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_fewshot._types import BoolArray, FloatArray


def interior_distance(mask: BoolArray) -> FloatArray:
    """Return the distance to the nearest pixel outside; image borders count as outside.

    Parameters
    ----------
    mask : array (H, W) bool
        The region.
    """
    from scipy import ndimage

    padded = np.pad(mask, 1)
    distance: FloatArray = ndimage.distance_transform_edt(padded)[1:-1, 1:-1]
    return distance.astype(np.float32)


def next_click(
    found: BoolArray, truth: BoolArray, rng: np.random.Generator | None = None
) -> tuple[int, int, bool] | None:
    """Click in the middle of the largest connected error (protocol B).

    Parameters
    ----------
    found : array (H, W) bool
        The present mask; empty before the first click.
    truth : array (H, W) bool
        What is wanted.
    rng : Generator, optional
        With it the click is drawn among the pixels at least half as deep as the
        deepest one, as people do; without it the first deepest pixel is taken.

    Returns
    -------
    (row, column, positive) or None
        None when nothing is wrong. The first click falls into the largest component
        of the truth.
    """
    from scipy import ndimage

    error = found ^ truth
    if not error.any():
        return None
    parts, _ = ndimage.label(error, np.ones((3, 3)))
    largest = int(np.bincount(parts.ravel())[1:].argmax()) + 1
    window = ndimage.find_objects(parts, largest)[largest - 1]
    depth = interior_distance(parts[window] == largest)
    if rng is None:
        at = int(depth.argmax())
    else:
        at = int(rng.choice(np.flatnonzero(depth >= 0.5 * depth.max())))
    inside = np.unravel_index(at, depth.shape)
    row, column = (int(i) + w.start for i, w in zip(inside, window, strict=True))
    return row, column, bool(truth[row, column])
