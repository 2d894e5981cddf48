"""What of an image the canvas shows: where large images begin, or all of it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.errors import DataError

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_fewshot.data import Image, Region


def place_shown(
    viewer: ViewerModel, layer: Any, image: Image
) -> tuple[float, float] | None:
    """Return row and column of the image in the middle of the canvas.

    Parameters
    ----------
    viewer : napari viewer
        Whose camera.
    layer : napari Image layer
        Which shows the image.
    image : Image
        In whose pixels the answer is; may be a coarser level of the layer.

    Returns
    -------
    (float, float) or None
        Kept on the image; None where rows and columns are not what is shown.
    """
    data, axes = _middle(viewer, layer), image.label_axes
    if len(data) < len(axes):
        return None
    full = _finest(layer)
    found = []
    for letter, size in zip("yx", image.plane_shape, strict=True):
        at = axes.index(letter)
        coarser = full[at] / size if layer.multiscale else 1.0
        found.append(float(np.clip(data[at] / coarser, 0, size - 1)))
    return found[0], found[1]


def part_shown(viewer: ViewerModel, layer: Any, image: Image) -> Region | None:
    """Return the part of the image's planes that the canvas shows.

    Parameters
    ----------
    viewer, layer, image
        As for `place_shown`.

    Returns
    -------
    (int, int, int, int) or None
        Row and column minima, then maxima; None if no part of it is shown, or rows and
        columns are not what is shown.
    """
    corners = _corners(viewer, layer)
    if corners is None or corners.shape[1] < len(image.label_axes):
        return None
    full = _finest(layer)
    # Layers with fewer axes than the viewer have its last ones.
    missing = viewer.dims.ndim - corners.shape[1]
    low, high = [], []
    for letter, size in zip("yx", image.plane_shape, strict=True):
        at = image.label_axes.index(letter)
        if at + missing not in viewer.dims.displayed:
            return None
        factor = size / full[at]
        low.append(int(np.clip(np.floor(corners[0, at] * factor), 0, size)))
        high.append(int(np.clip(np.ceil(corners[1, at] * factor), 0, size)))
    if low[0] >= high[0] or low[1] >= high[1]:
        return None
    return low[0], low[1], high[0], high[1]


def _corners(viewer: ViewerModel, layer: Any) -> Any:
    """Return least and greatest coordinates in a layer's finest data that are shown.

    The layer's own ``corner_pixels`` would not do: of layers in chunks they are those
    of the chunks that were loaded.
    """
    if len(viewer.dims.displayed) != 2:
        return None
    half = np.asarray(viewer.canvas.viewbox_size(viewer.layers), float) / 2
    # Four corners: layers may be turned.
    found = [
        _middle(viewer, layer, np.asarray(signs) * half / viewer.scene.camera.zoom)
        for signs in itertools.product((-1, 1), (-1, 1))
    ]
    return np.array([np.min(found, axis=0), np.max(found, axis=0)])


def _middle(viewer: ViewerModel, layer: Any, shift: Any = 0.0) -> Any:
    """Return where in a layer's finest data the middle of the canvas lies.

    Parameters
    ----------
    viewer, layer
        As for `place_shown`.
    shift : array, optional
        In world units along the axes that are shown: a place beside the middle.
    """
    world = np.array(viewer.dims.point, float)
    displayed = list(viewer.dims.displayed)
    centre = np.asarray(viewer.scene.camera.center[-len(displayed) :])
    world[displayed] = centre + shift
    return np.asarray(layer.world_to_data(world[-layer.ndim :]), float)


def _finest(layer: Any) -> Any:
    """Return the shape of a layer's data, of several levels of the finest one."""
    return layer.data[0].shape if layer.multiscale else layer.data.shape


def wanted_part(
    viewer: ViewerModel, layer: Any, image: Image, *, only: bool
) -> dict[str, Any]:
    """Return what a run is to be told of the canvas.

    Parameters
    ----------
    viewer, layer, image
        As for `place_shown`.
    only : bool
        Segment nothing but what is shown.

    Raises
    ------
    DataError
        If nothing of the image is shown, but only that is wanted.
    """
    region = part_shown(viewer, layer, image) if only else None
    if only and len(viewer.dims.displayed) != 2:
        raise DataError(
            "What is in view is only known in 2D. Switch the view to 2D, or clear "
            "'only the part in view'."
        )
    if only and region is None:
        raise DataError(
            "No part of the image is in view. Move it onto the canvas, or clear "
            "'only the part in view'."
        )
    return {"first": place_shown(viewer, layer, image), "region": region}
