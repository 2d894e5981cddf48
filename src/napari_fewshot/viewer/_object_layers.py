"""`ObjectLayers`: committed objects as a map of numbers, or a layer per class.

The class map is the result layer; the other two views are made from the committed
objects and kept in step with them. No layer of the user is touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.viewer._layers import KEY, placement

if TYPE_CHECKING:
    from napari_fewshot.session import SessionState
    from napari_fewshot.viewer._binding import Binding

VIEWS = {
    "classes": ("one class map", "The result layer: every pixel has its class."),
    "objects": (
        "one object map",
        "A layer in which every object has its own number.",
    ),
    "layers": (
        "a layer per class",
        "A layer for every class, in which every object has its own number.",
    ),
}


class ObjectLayers:
    """Shows the committed objects of the query in the way that was chosen.

    Parameters
    ----------
    binding : Binding
        Session and viewer.
    """

    def __init__(self, binding: Binding) -> None:
        self._binding = binding
        self.view = "classes"
        self._shown: dict[int, Any] = {}
        self._painted: set[int] = set()
        self._query: Any = None
        self._shape: tuple[int, ...] | None = None

    def choose(self, view: str) -> None:
        """Show objects as ``"classes"``, ``"objects"`` or ``"layers"``."""
        if view != self.view:
            self.remove()
            self.view = view
        self.show_state(self._binding.session.state)

    def remove(self) -> None:
        """Remove the layers of this view; the objects stay."""
        viewer = self._binding.viewer
        for layer in self._shown.values():
            if layer in viewer.layers:
                viewer.layers.remove(layer)
        self._shown.clear()
        self._painted.clear()

    def show_state(self, state: SessionState) -> None:
        """Bring the layers in step with the objects of a state."""
        query, image = self._binding.query_layer, state.query
        shape = None if image is None else image.label_shape
        if query is not self._query or shape != self._shape:
            self.remove()
            self._query, self._shape = query, shape
        if self.view == "classes" or query is None or image is None:
            return
        by_number = {row.number: row.value for row in state.objects}
        values = {0: image.name}
        if self.view == "layers":
            names = state.classes.names
            values = {v: names.get(v, f"class {v}") for v in set(by_number.values())}
        planes = {row.plane for row in state.objects}
        for plane in planes | self._painted:
            numbers = self._binding.session.object_labels(plane)
            for value, name in values.items():
                layer = self._layer(value, name, query, image)
                here = numbers
                if value:
                    mine = [n for n, v in by_number.items() if v == value]
                    here = np.where(np.isin(numbers, mine), numbers, 0)
                layer.data[image.label_key(plane)] = here
        self._painted = planes
        for layer in self._shown.values():
            layer.refresh()

    def _layer(self, value: int, name: str, query: Any, image: Any) -> Any:
        found = self._shown.get(value)
        if found is None or found not in self._binding.viewer.layers:
            viewer = self._binding.viewer
            active = viewer.layers.selection.active
            found = viewer.add_labels(
                np.zeros(image.label_shape, np.int32),
                name=f"{name} - objects",
                metadata={KEY: {"role": "objects", "query": query.unique_id}},
                opacity=0.6,
                **placement(query, image.label_shape),
            )
            found.editable = False
            self._shown[value] = found
            if active is not None:
                viewer.layers.selection.active = active
        return found
