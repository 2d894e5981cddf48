"""`HeatLayer`: where a phrase fits, as a layer, with the outline of its cut.

The layer is ours, carries the role ``"where"`` and lies on one plane. The outline is
drawn anew from the map in memory: no model is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Layer
from napari.utils import Colormap

from napari_fewshot.viewer._evidence import on_plane
from napari_fewshot.viewer._layers import KEY

if TYPE_CHECKING:
    from napari_fewshot._types import BoolArray, FloatArray
    from napari_fewshot.viewer._binding import Binding

ROLE = "where"
LETTERS = 40
# The outline is one pixel wide, and one more per so many pixels of the image's side.
SIDE_PER_PIXEL = 512
# Pixels of the outline have this value, above all of the map. A layer of its own would
# be clearer, but napari may crash while it draws after two layers went at once.
INK = 1.25
# Where the phrase does not fit the image is seen as it is; brighter is surer.
CLEAR_TO_YELLOW = [
    (0.25, 0.05, 0.45, 0.0),
    (0.45, 0.10, 0.55, 0.25),
    (0.90, 0.35, 0.25, 0.55),
    (1.0, 0.90, 0.30, 0.75),
]


class HeatLayer:
    """Shows where the phrase of one class fits on one plane, and its cut.

    Parameters
    ----------
    binding : Binding
        Session and viewer.
    """

    def __init__(self, binding: Binding) -> None:
        self._binding = binding
        self._layer: Any = None
        self._values: FloatArray = np.zeros((0, 0), np.float32)
        self._level = 0.5

    @property
    def is_shown(self) -> bool:
        """Whether the map is in the viewer; users may have removed it."""
        return self._layer is not None and self._layer in self._viewer.layers

    @property
    def mask(self) -> BoolArray:
        """Pixels (H, W) within the cut."""
        found: BoolArray = self._values >= self._level
        return found

    def show(
        self, plane: int, phrase: str, heat: FloatArray, level: float, value: int = 1
    ) -> None:
        """Show a map, and its cut, instead of what was shown.

        Parameters
        ----------
        plane : int
            Where; the layer is seen on this plane only.
        phrase : str
            Names the layer.
        heat : array (H, W)
            In [0, 1].
        level : float
            At and above it is inside.
        value : int
            Of the class, whose colour the outline has.
        """
        self.clear()
        image = self._binding.session.state.query
        if self._binding.query_layer is None or image is None:
            return
        active = self._viewer.layers.selection.active
        placed, axes = on_plane(self._binding, image, plane)
        self._values, self._level = heat, level
        short = phrase if len(phrase) <= LETTERS else f"{phrase[: LETTERS - 1]}…"
        colours = self._binding.session.state.classes.colours
        meta = {
            **placed,
            "metadata": {KEY: {"role": ROLE}},
            "name": f"where: {short}",
            "colormap": colours_with(colours.get(value, "#ffffff")),
            "contrast_limits": (0.0, INK),
        }
        layer = Layer.create(np.expand_dims(self._drawn(), axes), meta, "image")
        layer.editable = False
        self._layer = self._viewer.add_layer(layer)
        if active is not None:
            # Who holds a brush keeps it.
            self._viewer.layers.selection.active = active

    def cut(self, level: float) -> None:
        """Draw the outline at another level; no model is asked.

        Parameters
        ----------
        level : float
            At and above it is inside.
        """
        self._level = level
        if self.is_shown:
            data = self._layer.data
            data[...] = self._drawn().reshape(data.shape)
            # Only the pixels have changed.
            self._layer.refresh(thumbnail=False, highlight=False, extent=False)

    def clear(self) -> None:
        """Remove exactly the layer that was made here."""
        if self.is_shown:
            self._viewer.layers.remove(self._layer)
        self._layer = None

    @property
    def _viewer(self) -> Any:
        return self._binding.viewer

    def _drawn(self) -> FloatArray:
        side = max(self._values.shape)
        edge = outline(self.mask, 1 + side // SIDE_PER_PIXEL)
        found: FloatArray = np.where(edge, np.float32(INK), self._values)
        return found


def colours_with(ink: str) -> Colormap:
    """Return the colours of a map, and above them one for its outline.

    Parameters
    ----------
    ink : str
        ``"#rrggbb"``.
    """
    drawn = (*(int(ink[at : at + 2], 16) / 255 for at in (1, 3, 5)), 1.0)
    top = 1 / INK
    places = np.linspace(0, top, len(CLEAR_TO_YELLOW))
    controls = [*places, (1 + top) / 2, 1.0]
    return Colormap([*CLEAR_TO_YELLOW, drawn, drawn], controls=controls, name="where")


def outline(mask: BoolArray, width: int) -> BoolArray:
    """Return the pixels of a mask next to its edge; the edge of the image is none.

    Parameters
    ----------
    mask : array (H, W) bool
        Not changed.
    width : int
        Pixels, by steps along rows and columns.
    """
    inner = mask
    for _ in range(width):
        smaller = inner.copy()
        smaller[1:] &= inner[:-1]
        smaller[:-1] &= inner[1:]
        smaller[:, 1:] &= inner[:, :-1]
        smaller[:, :-1] &= inner[:, 1:]
        inner = smaller
    return mask & ~inner
