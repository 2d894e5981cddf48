"""`EvidenceLayers`: every intermediate of a method as layers over the query.

All of them are made by us, carry the role ``"how"`` and go when they are cleared;
layers of users are neither moved nor hidden.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Layer
from napari.utils import Colormap

from napari_fewshot.viewer._layers import KEY, level_factor, placement
from napari_fewshot.viewer._prompting import PromptLayers

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray, BoolArray, FloatArray
    from napari_fewshot.data import Image, PromptSet
    from napari_fewshot.inference import Evidence
    from napari_fewshot.viewer._binding import Binding

ROLE = "how"
CANDIDATES = "candidates"
OPACITY = 0.6
# Maps that lie between 0 and 1; others are shown from their lowest to their highest.
SHARES = ("probability", "uncertainty", "certainty")
# The first of these that there is lies in front.
FIRST = ("similarity", "probability", "uncertainty")
CLEAR_TO_AMBER = Colormap([(1, 0.65, 0, 0), (1, 0.65, 0, 1)], name="uncertainty")


class EvidencePrompts(PromptLayers):
    """Points and boxes that a method made; the user may drag them."""

    def ensure(self, query: Any, image: Image) -> None:
        """Make the layers over a query, empty.

        Parameters
        ----------
        query : napari Image layer
            They lie over it.
        image : Image
            What it shows.
        """
        self.remove()
        self._query, self._image = query, image
        for kind in ("boxes", "points"):
            layer = self._make(kind, query, image)
            layer.name, layer.metadata = f"how: {kind}", {KEY: {"role": ROLE}}
            self._layers[kind] = layer

    def set_visible(self, is_visible: bool) -> None:
        """Show or hide both layers."""
        for layer in map(self.layer, ("boxes", "points")):
            if layer is not None:
                layer.visible = is_visible


class EvidenceLayers:
    """Shows the evidence of one class on one plane.

    Parameters
    ----------
    binding : Binding
        Session and viewer.
    """

    def __init__(self, binding: Binding) -> None:
        self._binding = binding
        self._shown: dict[str, Any] = {}
        self._prompts = EvidencePrompts(binding.viewer, binding)
        self._plane = 0

    @property
    def names(self) -> list[str]:
        """Names of the maps and candidates that are in the viewer."""
        return [n for n, x in self._shown.items() if x in self._viewer.layers]

    @property
    def front(self) -> str | None:
        """Name of the map that is seen; None if none is."""
        return next((n for n in self.names if self._shown[n].visible), None)

    def show(self, plane: int, evidence: Evidence, *, only: str | None = None) -> None:
        """Show the evidence of a plane instead of what was shown.

        Parameters
        ----------
        plane : int
            Where; the layers are seen on this plane only.
        evidence : Evidence
            Of one class.
        only : str, optional
            Show this map and nothing else.
        """
        self.clear()
        query, image = self._binding.query_layer, self._binding.session.state.query
        if query is None or image is None:
            return
        self._plane = plane
        active = self._viewer.layers.selection.active
        for name, values in evidence.maps.items():
            if only in (None, name):
                self._add(image, name, values, "image", **_look(name, values))
        if only is None and evidence.candidates is not None:
            self._add_candidates(image, evidence.candidates, evidence.scores)
        if only is None and evidence.prompts is not None:
            self._prompts.ensure(query, image)
            self._prompts.load(plane, evidence.prompts)
        self.bring_to_front(next((n for n in FIRST if n in self._shown), ""))
        if active is not None:
            # Who holds a brush keeps it.
            self._viewer.layers.selection.active = active

    def bring_to_front(self, name: str) -> None:
        """Make one map the one that is seen."""
        for found in self.names:
            self._shown[found].visible = found == name

    def read_prompts(self) -> PromptSet:
        """Return the points and boxes as they are now, dragged or not."""
        return self._prompts.read(self._plane)

    def hide_prompts(self) -> None:
        """Hide points and boxes: their copies in the Prompts tab are in use."""
        self._prompts.set_visible(False)

    def clear(self) -> None:
        """Remove exactly the layers that were made here."""
        for name in self.names:
            self._viewer.layers.remove(self._shown[name])
        self._shown.clear()
        self._prompts.remove()

    @property
    def _viewer(self) -> Any:
        return self._binding.viewer

    def _add_candidates(
        self, image: Image, masks: BoolArray, scores: tuple[float, ...]
    ) -> None:
        """Add masks as one labels layer: small ones in front, numbered by rank."""
        import pandas as pd

        if not len(masks):
            return
        ranks = np.zeros(masks.shape[1:], np.int32)
        for at in np.argsort(-masks.sum((1, 2)), kind="stable"):
            ranks[masks[at]] = at + 1
        table = pd.DataFrame({"index": range(1, len(masks) + 1)})
        if len(scores) == len(masks):
            table["score"] = np.round(scores, 3)
        self._add(image, CANDIDATES, ranks, "labels", features=table)

    def _add(
        self, image: Image, name: str, values: AnyArray, kind: str, **options: Any
    ) -> None:
        placed, axes = on_plane(self._binding, image, self._plane)
        meta = {
            **placed,
            "name": f"how: {name}",
            "opacity": OPACITY,
            "metadata": {KEY: {"role": ROLE}},
            **options,
        }
        layer = Layer.create(np.expand_dims(values, axes), meta, kind)
        layer.editable = False
        self._shown[name] = self._viewer.add_layer(layer)


def on_plane(
    binding: Binding, image: Image, plane: int
) -> tuple[dict[str, Any], tuple[int, ...]]:
    """Return what places a layer one plane thick on a plane of the query.

    Parameters
    ----------
    binding : Binding
        Its query layer is covered.
    image : Image
        The query.
    plane : int
        Where.

    Returns
    -------
    placed : dict
        Arguments of the layer.
    axes : tuple of int
        Axes to add to the pixels of a plane.
    """
    query = binding.query_layer
    axes = tuple(i for i, a in enumerate(image.label_axes) if a in "tz")
    factor = level_factor(query, image.label_shape)
    there = np.zeros(query.ndim)
    there[list(axes)] = image.plane_index(plane)
    placed = placement(query, image.label_shape)
    # The layer is one plane thick and lies where its plane is.
    to_world = query.data_to_world
    step = np.subtract(to_world(there * factor), to_world(np.zeros(query.ndim)))
    placed["affine"][:-1, -1] += step
    return placed, axes


def _look(name: str, values: FloatArray) -> dict[str, Any]:
    """Return colours and limits of a map."""
    low, high = (0.0, 1.0)
    if name not in SHARES:
        low, high = float(values.min()), float(values.max())
    # Where the method is sure the image is seen as it is.
    colours = CLEAR_TO_AMBER if name == "uncertainty" else "viridis"
    limits = (low, high if high > low else low + 1.0)
    return {"colormap": colours, "contrast_limits": limits}
