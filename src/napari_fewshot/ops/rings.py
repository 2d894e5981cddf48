"""Points round a mask: where background begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray, BoolArray


def ring_mask(mask: BoolArray, inner: float, outer: float) -> BoolArray:
    """Return the pixels whose distance from a mask lies between two bounds.

    Parameters
    ----------
    mask : array (H, W) bool
        Not empty.
    inner, outer : float
        Pixels; what is nearer than ``inner`` is left out, ``outer`` is included.
    """
    from scipy import ndimage

    away = ndimage.distance_transform_edt(~mask)
    ring: BoolArray = (away > inner) & (away <= outer)
    return ring


def ring_points(mask: BoolArray, distance: float, count: int) -> AnyArray:
    """Return points round a mask, evenly spaced by angle as seen from its middle.

    Parameters
    ----------
    mask : array (H, W) bool
        Not empty.
    distance : float
        How far outside, in pixels.
    count : int
        At most so many; fewer where the image ends.

    Returns
    -------
    array (N, 2) int
        (row, column), clockwise from straight up.

    Notes
    -----
    FoB (arXiv 2603.21287) places its background prompts on such a ring.
    """
    ring = np.argwhere(ring_mask(mask, max(0.0, distance - 1.0), distance))
    if not len(ring) or not count:
        return np.zeros((0, 2), int)
    middle = np.argwhere(mask).mean(0)
    away = ring - middle
    angle = np.mod(np.arctan2(away[:, 1], -away[:, 0]), 2 * np.pi)
    wanted = np.arange(count) * 2 * np.pi / count
    gap = np.abs(angle[None] - wanted[:, None])
    gap = np.minimum(gap, 2 * np.pi - gap)
    chosen = [int(i) for i, g in zip(gap.argmin(1), gap.min(1), strict=True) if g < 0.5]
    return ring[list(dict.fromkeys(chosen))]
