"""From the mask of an object on one plane to prompts for the next, plane by plane.

A promptable model knows one plane at a time. What was found on the plane before is
turned into prompts for this one, until the object has ended. The modes are those of
micro-sam (Archit et al., "Segment Anything for Microscopy", Nature Methods 2025).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.data import PlanePrompts
from napari_fewshot.ops import interior_distance

if TYPE_CHECKING:
    from napari_fewshot._types import BoolArray, FloatArray

MODES = ("box", "mask", "points", "points+mask", "point", "box+mask")
# Boxes grow by this share of their sides on every side, at least by a pixel: the object
# may be larger on the next plane.
WIDEN = 0.05
# At most so many points, each at least this share as deep inside as the deepest one and
# this share of the depth of any other away from that.
POINTS, SHALLOWEST, APART = 4, 0.35, 0.6
# Of objects that fill less of their box than this a box says too little.
THIN_FILL = 0.35
# An object does not grow or shrink by more than this factor from plane to plane.
AREA_JUMP = 3.0


def project(mask: BoolArray, mode: str) -> PlanePrompts:
    """Return prompts that ask for an object where it was on the plane before.

    Parameters
    ----------
    mask : array (H, W) bool
        The object there; not empty.
    mode : str
        One of `MODES`: a box around it, a few points deep inside, the deepest one, the
        mask itself, or two of them.

    Returns
    -------
    PlanePrompts
        In pixels of the plane.

    Raises
    ------
    ValueError
        For another mode or an empty mask.
    """
    if mode not in MODES or not mask.any():
        raise ValueError(f"{mode!r} is no mode, or the mask is empty.")
    words = mode.split("+")
    prompts = PlanePrompts(mask=mask if "mask" in words else None)
    if "box" in words:
        prompts = replace(prompts, boxes=widened_box(mask)[None])
    if "points" in words or "point" in words:
        most = 1 if "point" in words else POINTS
        prompts = replace(prompts, positive=deep_points(mask, most))
    return prompts


def widened_box(mask: BoolArray, share: float = WIDEN) -> FloatArray:
    """Return the box (r0, c0, r1, c1) around a mask and a little more.

    Parameters
    ----------
    mask : array (H, W) bool
        Not empty.
    share : float
        Of its sides, added on every side: a pixel at least, never beyond the plane.

    Returns
    -------
    array (4,) float32
        Inclusive-exclusive.
    """
    held = [np.flatnonzero(mask.any(axis)) for axis in (1, 0)]
    low = np.array([h[0] for h in held], float)
    high = np.array([h[-1] + 1 for h in held], float)
    more = np.maximum(share * (high - low), 1.0)
    corners = np.maximum(low - more, 0), np.minimum(high + more, mask.shape)
    return np.concatenate(corners).astype(np.float32)


def deep_points(mask: BoolArray, most: int = POINTS) -> FloatArray:
    """Return points (N, 2) deep inside a mask, the deepest first.

    Each is the peak of the distance to the rim away from those before, so that they
    spread over the object and its parts.

    Parameters
    ----------
    mask : array (H, W) bool
        Not empty.
    most : int
        Number of points at most.
    """
    depth = interior_distance(mask)
    rows, columns = np.ogrid[: mask.shape[0], : mask.shape[1]]
    least = SHALLOWEST * depth.max()
    points: list[tuple[int, int]] = []
    while len(points) < most and depth.max() >= max(least, 0.5):
        row, column = (int(i) for i in np.unravel_index(depth.argmax(), depth.shape))
        reach = depth[row, column]
        points.append((row, column))
        depth[np.hypot(rows - row, columns - column) <= APART * reach] = 0
    return np.array(points, np.float32)


def is_thin(mask: BoolArray) -> bool:
    """Whether an object fills little of its box, as threads and bent things do."""
    low_row, low_column, high_row, high_column = widened_box(mask, 0.0)
    area = (high_row - low_row) * (high_column - low_column)
    return bool(mask.sum() < THIN_FILL * area)


def overlap(one: BoolArray, other: BoolArray) -> float:
    """Return intersection over union; 1 for two empty masks."""
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 1.0


def ending(before: BoolArray, found: BoolArray, stop_iou: float) -> str:
    """Return why an object does not go on from one plane to the next, "" if it does.

    Parameters
    ----------
    before, found : array (H, W) bool
        The object on the plane before, and what was found on this one.
    stop_iou : float
        Least intersection over union of the two.
    """
    if not found.any():
        return "nothing found"
    growth = float(found.sum()) / max(float(before.sum()), 1.0)
    if not 1 / AREA_JUMP <= growth <= AREA_JUMP:
        return "area jumps"
    return "moves too far" if overlap(before, found) < stop_iou else ""
