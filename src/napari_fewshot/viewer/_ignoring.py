"""Pixels that nobody knows: a layer beside the labels of a support, to paint them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils import DirectLabelColormap

from napari_fewshot.errors import SupportError
from napari_fewshot.session import SparsePlanes
from napari_fewshot.viewer._layers import (
    KEY,
    fit_layers,
    open_layer,
    placement,
    role,
    show_plane,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari.components import ViewerModel

    from napari_fewshot.data import Image

ROLE = "ignore"
# Neither black nor white: it is seen on dark and on bright images.
GREY = "#8f8f8f"
OPACITY = 0.55
# Share of the shorter side that the brush covers.
BRUSH = 20


class IgnoreLayers:
    """Makes and reads the layers on which pixels are marked that nobody knows.

    Parameters
    ----------
    viewer : napari viewer
        Whose layers they are.
    sources : mapping
        Of supports that were painted, by ``unique_id`` of their labels layer: that
        layer, its image layer, and the row of every plane. It may change.
    touch : callable
        Called with the ``unique_id`` of a labels layer when its marks have changed.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        sources: Mapping[str, tuple[Any, Any, dict[int, int]]],
        touch: Callable[[str], None],
    ) -> None:
        self._viewer = viewer
        self._sources, self._touch = sources, touch
        viewer.layers.events.removed.connect(self._on_removed)

    def close(self) -> None:
        """Let go of the viewer."""
        self._viewer.layers.events.removed.disconnect(self._on_removed)

    def find(self, labels: Any) -> Any:
        """Return the layer that belongs to a labels layer; None if there is none."""
        for layer in self._viewer.layers:
            if role(layer) == ROLE and _of(layer) == labels.unique_id:
                return layer
        return None

    def mark(self, key: int) -> Any:
        """Let pixels of a support be marked: its plane, its layer, brush in hand.

        Parameters
        ----------
        key : int
            Of a row of the support list.

        Returns
        -------
        napari Labels layer
            What is painted on it, in any colour, nobody knows.

        Raises
        ------
        SupportError
            If the support was not painted in this viewer.
        """
        for labels, layer, known in self._sources.values():
            for plane, row in known.items():
                image = open_layer(layer) if row == key else None
                fitting = None if image is None else fit_layers(image, labels)
                if fitting is not None:
                    show_plane(self._viewer, layer, fitting[0], plane)
                    return self._paint_on(labels, layer, fitting[0])
        raise SupportError(
            "Pixels can only be marked where a support was painted in this window. Add "
            "the image and its mask as layers, then use them as a support."
        )

    def _paint_on(self, labels: Any, layer: Any, image: Image) -> Any:
        """Select the layer of a labels layer, brush in hand; it is made if need be."""
        found = self.find(labels)
        if found is None:
            found = self._viewer.add_labels(
                np.zeros(image.label_shape, np.uint8),
                name=f"{labels.name} \u00b7 ignore",
                colormap=DirectLabelColormap(
                    color_dict={None: GREY, 0: "transparent", 1: GREY}
                ),
                opacity=OPACITY,
                metadata={KEY: {"role": ROLE, "of": labels.unique_id}},
                **placement(layer, image.label_shape),
            )
            found.events.paint.connect(self._on_painted)
            found.events.data.connect(self._on_painted)
            found.brush_size = max(2, round(min(image.plane_shape) / BRUSH))
        found.visible = True
        found.selected_label = 1
        found.mode = "paint"
        self._viewer.layers.selection.active = found
        return found

    def of(self, labels: Any, image: Image, plane: int) -> SparsePlanes | None:
        """Return what of a plane nobody knows; None if nothing is marked on it.

        Parameters
        ----------
        labels : napari Labels layer
            Masks of supports.
        image : Image
            At the level of the masks.
        plane : int
            Flat plane number.
        """
        layer = self.find(labels)
        fitting = None if layer is None else fit_layers(image, layer)
        if fitting is None or fitting[0].label_shape != image.label_shape:
            return None
        marked = np.asarray(fitting[1][image.label_key(plane)]) != 0
        if not marked.any():
            return None
        shape, n_leading = image.label_shape, len(image.leading_shape)
        return SparsePlanes(shape, n_leading, {plane: marked.astype(np.uint8)})

    def _on_painted(self, event: Any) -> None:
        self._touch(_of(event.source))

    def _on_removed(self, event: Any) -> None:
        if role(event.value) == ROLE:
            self._touch(_of(event.value))


def _of(layer: Any) -> Any:
    """Return the ``unique_id`` of the labels layer that a layer belongs to."""
    return layer.metadata.get(KEY, {}).get("of")
