"""From the grid to pixels: edges between cells are found in the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.methods._fusion import log_odds, sigmoid
from napari_fewshot.ops import (
    fit_factor,
    guided_filter,
    resize_image,
    scaled_shape,
    walk_boundary,
)

if TYPE_CHECKING:
    from napari_fewshot._types import FloatArray
    from napari_fewshot.methods.grid._tokens import GridPlane

# Edges are looked for on a copy of at most this size.
EDGE_SIDE = 384
WALKER_BAND = 6.0
# Log-odds are averaged along edges within this range: certainty far from a boundary
# must not pull at it.
NEAR = 4.0
SMOOTHNESS = 1e-3
# Masks with cells smaller than this (pixels of the plane) are as fine as the plane.
FINE = 1.5


def upsampled(odds: FloatArray, query: GridPlane, edges: str) -> FloatArray:
    """Return log-odds on the grid at the size of the plane, fitted to its edges.

    Parameters
    ----------
    odds : array (h, w)
        Calibrated log-odds.
    query : GridPlane
        Where.
    edges : {"guided", "walker", "none"}
        See `GridParams`.

    Returns
    -------
    array (H, W) float32
    """
    if edges == "none" or not (odds > 0).any():
        return query.to_image(odds)
    shape = scaled_shape(query.shape, fit_factor(query.shape, EDGE_SIDE))
    grey = resize_image(query.plane.image.mean(-1), shape)
    rough = resize_image(np.clip(odds, -NEAR, NEAR).astype(np.float32), shape)
    if edges == "walker":
        found = log_odds(walk_boundary(grey, sigmoid(rough), WALKER_BAND))
    else:
        # One cell of the grid is what has to be filled in.
        radius = max(1, round(max(shape) / max(query.grid)))
        found = guided_filter(rough, grey, radius, SMOOTHNESS)
    return resize_image(found.astype(np.float32), query.shape)


def at_edges(odds: FloatArray, query: GridPlane, cell: float) -> FloatArray:
    """Return log-odds of a mask (H, W) with its outline on the edges of the image.

    Decoders draw masks coarser than the plane; within a cell of theirs the image says
    where the outline is.

    Parameters
    ----------
    odds : array (H, W)
        Log-odds, brought to the size of the plane.
    query : GridPlane
        Where.
    cell : float
        Pixels of the plane for one of the decoder; below 1.5 the mask stays as it is.
    """
    radius = round(cell)
    if cell < FINE or not (odds > 0).any():
        return odds
    near = np.clip(odds, -NEAR, NEAR).astype(np.float32)
    return guided_filter(near, query.plane.image.mean(-1), radius, SMOOTHNESS)
