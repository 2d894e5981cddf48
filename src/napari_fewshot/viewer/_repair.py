"""Objects of a user's own Labels layer: taken as a first guess, written back.

Writing goes through the layer's own history, so that its Ctrl+Z takes it back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.errors import PromptError
from napari_fewshot.viewer._layers import has_shape, labels_layers

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_fewshot._types import BoolArray
    from napari_fewshot.data import Image


@dataclass(frozen=True, eq=False)
class Repair:
    """One object of a Labels layer that is being corrected.

    Attributes
    ----------
    layer : napari Labels layer
        Of the user.
    number : int
        The object's label, which it keeps.
    plane : int
        Flat plane of the image.
    """

    layer: Any
    number: int
    plane: int

    def mask(self, image: Image) -> BoolArray:
        """Return where the object is on its plane, (H, W)."""
        found: BoolArray = (
            np.asarray(self.layer.data[image.label_key(self.plane)]) == self.number
        )
        return found

    def write(self, image: Image, mask: BoolArray, *, overwrite: bool) -> int:
        """Give the object these pixels, as one step of the layer's undo.

        Parameters
        ----------
        image : Image
            The query.
        mask : array (H, W) bool
            Its new pixels.
        overwrite : bool
            Whether it may take pixels of other objects.

        Returns
        -------
        int
            How many pixels changed.

        Raises
        ------
        PromptError
            If nothing would be left of it.
        """
        pixels = np.asarray(self.layer.data[image.label_key(self.plane)])
        mine = pixels == self.number
        wanted = mask if overwrite else mask & (mine | (pixels == 0))
        if not wanted.any():
            raise PromptError(
                f"Nothing would be left of label {self.number}. Let it overwrite what "
                "is there, or erase it with the eraser of its layer."
            )
        changed = wanted ^ mine
        rows, columns = np.nonzero(changed)
        if len(rows):
            values = np.where(wanted[rows, columns], self.number, 0)
            leading = image.plane_index(self.plane)
            where = (*(np.full(len(rows), i) for i in leading), rows, columns)
            self.layer.data_setitem(where, values.astype(pixels.dtype))
        return len(rows)


def chosen_label(viewer: ViewerModel, image: Image, plane: int) -> Repair:
    """Return the selected label of the active Labels layer, on a plane.

    Parameters
    ----------
    viewer : napari viewer
        With layers.
    image : Image
        The query; the layer must have its shape.
    plane : int
        Where to look.

    Raises
    ------
    PromptError
        If no such layer is there, or the label is not on the plane.
    """
    layers = [
        x for x in labels_layers(viewer, with_results=True) if has_shape(image, x)
    ]
    active = viewer.layers.selection.active
    if active not in layers and len(layers) != 1:
        raise PromptError(
            "Select a Labels layer of the image's size in the layer list first, and "
            "pick the object in it (key 5, then click on it)."
        )
    layer = active if active in layers else layers[0]
    found = Repair(layer, int(layer.selected_label), plane)
    if not found.number or not found.mask(image).any():
        raise PromptError(
            f"Label {found.number} of {layer.name!r} is not on this plane. Pick the "
            "object in its layer (key 5, then click on it)."
        )
    return found
