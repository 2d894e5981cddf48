"""What of an image the canvas shows: so that large images begin there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_fewshot.data import Image


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
    world = np.array(viewer.dims.point, float)
    displayed = list(viewer.dims.displayed)
    world[displayed] = viewer.scene.camera.center[-len(displayed) :]
    data = np.asarray(layer.world_to_data(world[-layer.ndim :]), float)
    axes = image.label_axes
    if len(data) < len(axes):
        return None
    full = layer.data[0].shape if layer.multiscale else layer.data.shape
    found = []
    for letter, size in zip("yx", image.plane_shape, strict=True):
        at = axes.index(letter)
        coarser = full[at] / size if layer.multiscale else 1.0
        found.append(float(np.clip(data[at] / coarser, 0, size - 1)))
    return found[0], found[1]
