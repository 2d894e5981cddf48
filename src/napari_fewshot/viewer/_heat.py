"""`HeatLayers`: where a phrase fits, as a layer, and the cut as an outline over it.

Both are ours, carry the role ``"where"`` and lie on one plane. The cut is drawn anew
from the map in memory: no model is asked.
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
# Where the phrase does not fit the image is seen as it is; brighter is surer.
CLEAR_TO_YELLOW = Colormap(
    [
        (0.25, 0.05, 0.45, 0.0),
        (0.45, 0.10, 0.55, 0.25),
        (0.90, 0.35, 0.25, 0.55),
        (1.0, 0.90, 0.30, 0.75),
    ],
    name="where",
)


class HeatLayers:
    """Shows where the phrase of one class fits on one plane, and its cut.

    Parameters
    ----------
    binding : Binding
        Session and viewer.
    """

    def __init__(self, binding: Binding) -> None:
        self._binding = binding
        self._heat: Any = None
        self._cut: Any = None
        self._values: FloatArray = np.zeros((0, 0), np.float32)
        self._value, self._level = 1, 0.5

    @property
    def is_shown(self) -> bool:
        """Whether the map is in the viewer; users may have removed it."""
        return self._heat is not None and self._heat in self._viewer.layers

    @property
    def mask(self) -> BoolArray:
        """Pixels (H, W) within the cut that is shown."""
        found: BoolArray = self._values >= self._level
        return found

    def show(
        self, plane: int, phrase: str, heat: FloatArray, level: float, value: int = 1
    ) -> None:
        """Show a map, and its cut, instead of what was shown.

        Parameters
        ----------
        plane : int
            Where; the layers are seen on this plane only.
        phrase : str
            Names the layers.
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
        self._values, self._value, self._level = heat, value, level
        short = phrase if len(phrase) <= LETTERS else f"{phrase[: LETTERS - 1]}…"
        mark = {"metadata": {KEY: {"role": ROLE}}}
        self._heat = self._add(
            np.expand_dims(heat, axes),
            {
                **placed,
                **mark,
                "name": f"where: {short}",
                "colormap": CLEAR_TO_YELLOW,
                "contrast_limits": (0.0, 1.0),
                "interpolation2d": "linear",
            },
            "image",
        )
        # An image: removing Labels layers has crashed drivers that draw in software.
        self._cut = self._add(
            np.expand_dims(self._outline().astype(np.uint8), axes),
            {
                **placed,
                **mark,
                "name": f"where: {short} (cut)",
                "colormap": self._ink(),
                "contrast_limits": (0, 1),
            },
            "image",
        )
        if active is not None:
            # Who holds a brush keeps it.
            self._viewer.layers.selection.active = active

    def cut(self, level: float) -> None:
        """Draw the cut at another level; no model is asked.

        Parameters
        ----------
        level : float
            At and above it is inside.
        """
        self._level = level
        if self._cut is None or self._cut not in self._viewer.layers:
            return
        data = self._cut.data
        flat = data.reshape(self._values.shape)
        flat[...] = self._outline()
        # Only the pixels have changed.
        self._cut.refresh(thumbnail=False, highlight=False, extent=False)

    def clear(self) -> None:
        """Remove exactly the layers that were made here."""
        for layer in (self._heat, self._cut):
            if layer is not None and layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
        self._heat = self._cut = None

    @property
    def _viewer(self) -> Any:
        return self._binding.viewer

    def _outline(self) -> BoolArray:
        # Contours of napari's own take ten times as long.
        side = max(self._values.shape)
        return outline(self.mask, 1 + side // SIDE_PER_PIXEL)

    def _ink(self) -> Colormap:
        """Return colours from clear to that of the class."""
        colours = self._binding.session.state.classes.colours
        name = colours.get(self._value, "#ffffff")
        ink = [int(name[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        return Colormap([(*ink, 0.0), (*ink, 1.0)], name=f"cut {name}")

    def _add(self, data: Any, meta: dict[str, Any], kind: str) -> Any:
        layer = Layer.create(data, meta, kind)
        layer.editable = False
        return self._viewer.add_layer(layer)


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
