"""`PromptLayers`: points, boxes and scribbles as napari layers, and back.

Three layers of ours hold the prompts of the object at hand, a fourth shows its preview
as an outline. They lie exactly over the query. Positive and negative differ by colour
and by symbol.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_fewshot.data import PromptSet
from napari_fewshot.viewer._drawing import (
    BOX,
    NEGATIVE,
    POSITIVE,
    Drawn,
    Outline,
    fill,
    outlines_of,
    rectangle,
)
from napari_fewshot.viewer._layers import KEY, colormap, placement

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari.components import ViewerModel

    from napari_fewshot._types import BoolArray
    from napari_fewshot.data import Image

# Blue and orange stay apart for every kind of colour vision.
COLOURS = {POSITIVE: "#2f7fe0", NEGATIVE: "#ee8800"}
SYMBOLS = {POSITIVE: "cross", NEGATIVE: "hbar"}
NAMES = {
    "points": "prompts: points",
    "boxes": "prompts: boxes",
    "scribbles": "prompts: scribbles",
    "preview": "prompts: preview",
}
MODES = {
    "points": "add",
    "boxes": "add_rectangle",
    "lasso": "add_polygon_lasso",
    "scribbles": "paint",
}
MAX_HISTORY = 200
# Share of the image's side that a point takes on screen.
POINT_SHARE = 0.025


class PromptLayers(QObject):  # type: ignore[misc]
    """The managed layers of one query.

    Parameters
    ----------
    viewer : napari viewer
        Gets the layers.
    parent : QObject, optional
        Ends this with it.
    """

    edited = Signal()

    def __init__(self, viewer: ViewerModel, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.viewer = viewer
        self.sign = POSITIVE
        self._layers: dict[str, Any] = {}
        self._query: Any = None
        self._image: Image | None = None
        self._writing = False
        self._past: list[Drawn] = []
        self._future: list[Drawn] = []

    # -- layers ----------------------------------------------------------------------

    def layer(self, kind: str) -> Any:
        """Return a managed layer that is in the viewer, or None."""
        found = self._layers.get(kind)
        return found if found is not None and found in self.viewer.layers else None

    def ensure(self, query: Any, image: Image) -> None:
        """Make the layers that are missing; layers of another query are replaced.

        Parameters
        ----------
        query : napari Image layer
            They lie over it.
        image : Image
            What it shows.
        """
        known = None if self._image is None else self._image.label_shape
        if self._query is not query or known != image.label_shape:
            self.remove()
            self._query, self._image = query, image
            self._past, self._future = [Drawn()], []
        active = self.viewer.layers.selection.active
        for kind in ("preview", "scribbles", "boxes", "points"):
            if self.layer(kind) is None:
                self._layers[kind] = self._make(kind, query, image)
        if active is not None and active in self.viewer.layers:
            self.viewer.layers.selection.active = active

    def _make(self, kind: str, query: Any, image: Image) -> Any:
        options = {
            "name": NAMES[kind],
            "metadata": {KEY: {"role": f"prompts {kind}"}},
            **placement(query, image.label_shape),
        }
        ndim = len(image.label_shape)
        if kind == "points":
            layer = self.viewer.add_points(
                np.zeros((0, ndim)),
                size=max(3.0, POINT_SHARE * max(image.plane_shape)),
                border_color="white",
                border_width=0.05,
                **options,
            )
            layer.events.data.connect(self._on_points)
            layer.current_face_color = COLOURS[self.sign]
            layer.current_symbol = SYMBOLS[self.sign]
        elif kind == "boxes":
            layer = self.viewer.add_shapes(
                ndim=ndim,
                face_color="transparent",
                edge_color=COLOURS[POSITIVE],
                edge_width=max(1.0, max(image.plane_shape) / 250),
                features={"sign": np.array([], dtype=object)},
                feature_defaults={"sign": self.sign},
                **options,
            )
            layer.events.data.connect(self._on_edit)
        else:
            layer = self.viewer.add_labels(
                np.zeros(image.label_shape, np.uint8), **options
            )
            layer.colormap = colormap({1: COLOURS[POSITIVE], 2: COLOURS[NEGATIVE]})
            if kind == "scribbles":
                layer.brush_size = max(2, round(max(image.plane_shape) / 100))
                layer.selected_label = 1 if self.sign == POSITIVE else 2
                layer.events.paint.connect(self._on_edit)
                layer.events.labels_update.connect(self._on_edit)
            else:
                layer.contour = 2
                layer.editable = False
        for key, call in (("Control-Z", self.undo), ("Control-Shift-Z", self.redo)):
            if kind != "preview":
                layer.bind_key(key, lambda _, call=call: call(), overwrite=True)
        return layer

    def remove(self) -> None:
        """Remove the managed layers."""
        for kind in list(self._layers):
            layer = self.layer(kind)
            if layer is not None:
                self.viewer.layers.remove(layer)
        self._layers.clear()
        self._query = self._image = None

    def choose_tool(self, kind: str) -> None:
        """Take points, boxes, a lasso or scribbles in hand: a key of ``MODES``."""
        layer = self.layer("boxes" if kind == "lasso" else kind)
        if layer is None:
            return
        self.viewer.layers.selection.active = layer
        layer.mode = MODES[kind]
        self.set_sign(self.sign)

    def set_sign(self, sign: str) -> None:
        """Make the next points and strokes positive or negative."""
        self.sign = sign
        points, scribbles = self.layer("points"), self.layer("scribbles")
        shapes = self.layer("boxes")
        if shapes is not None:
            shapes.selected_data = set()
            shapes.current_edge_color = COLOURS[sign]
            shapes.feature_defaults = {"sign": sign}
        if points is not None:
            with self._unheard():
                # What is selected keeps its colour: only the next point changes.
                points.selected_data = set()
                points.current_face_color = COLOURS[sign]
                points.current_symbol = SYMBOLS[sign]
        if scribbles is not None:
            scribbles.selected_label = 1 if sign == POSITIVE else 2

    # -- prompts ---------------------------------------------------------------------

    def read(self, plane: int) -> PromptSet:
        """Return the prompts on a plane, in its own (row, column).

        A lasso is a first guess, a negative one a scribble all over its area.
        """
        image = self._image
        if image is None:
            return PromptSet()
        drawn = self._drawn(plane)
        given, shape = drawn.prompts, image.plane_shape
        off = fill(drawn.lassos, shape, NEGATIVE)
        scribbles = given.scribbles
        if off is not None:
            scribbles = np.zeros(shape, np.int8) if scribbles is None else scribbles
            scribbles = np.where(off & (scribbles == 0), -1, scribbles)
        guess = fill(drawn.lassos, shape, POSITIVE)
        return replace(given, scribbles=scribbles, mask=guess)

    def _drawn(self, plane: int) -> Drawn:
        """Return what is drawn on a plane."""
        image = self._image
        if image is None:
            return Drawn()
        points, signs = self._points_on(plane)
        scribbles = None
        layer = self.layer("scribbles")
        if layer is not None:
            part = np.asarray(layer.data[image.label_key(plane)])
            if part.any():
                scribbles = np.where(part == 1, 1, np.where(part == 2, -1, 0))
        shapes = self.layer("boxes")
        outlines = []
        if shapes is not None:
            outlines = outlines_of(shapes, lambda c: self._is_on(c, plane)[0])
        boxes = [o.box for o in outlines if o.is_box]
        prompts = PromptSet(
            points=points if len(points) else None,
            point_labels=signs if len(points) else None,
            boxes=np.stack(boxes) if boxes else None,
            scribbles=scribbles,
        )
        return Drawn(prompts, tuple(o for o in outlines if not o.is_box))

    def _points_on(self, plane: int) -> tuple[Any, Any]:
        layer, image = self.layer("points"), self._image
        if layer is None or image is None or not len(layer.data):
            return np.zeros((0, 2)), np.zeros(0, int)
        here = self._is_on(np.asarray(layer.data), plane)
        symbols = [str(s) for s in layer.symbol]
        signs = np.array([s != SYMBOLS[NEGATIVE] for s in symbols], int)
        return np.asarray(layer.data)[here][:, -2:], signs[here]

    def _is_on(self, coordinates: Any, plane: int) -> Any:
        leading = () if self._image is None else self._image.plane_index(plane)
        if not leading:
            return np.ones(len(coordinates), bool)
        return (np.rint(coordinates[:, : len(leading)]) == leading).all(1)

    def load(self, plane: int, prompts: PromptSet) -> None:
        """Show these prompts on a plane instead of what is there."""
        drawn = Drawn(prompts)
        self._show(plane, drawn)
        self._past, self._future = [drawn], []

    def clear(self, plane: int) -> None:
        """Remove all prompts and the preview: the next object begins."""
        self.load(plane, PromptSet())
        self.show_preview(plane, None)

    def show_preview(
        self, plane: int, mask: BoolArray | None, colour: str = "#ffffff"
    ) -> None:
        """Draw the outline of a mask, or none."""
        layer, image = self.layer("preview"), self._image
        if layer is None or image is None:
            return
        data = layer.data
        if mask is None:
            data[...] = 0
        else:
            data[image.label_key(plane)] = mask
            layer.colormap = colormap({1: colour})
        layer.refresh()

    def _show(self, plane: int, drawn: Drawn) -> None:
        image, prompts = self._image, drawn.prompts
        if image is None:
            return
        leading = image.plane_index(plane)
        with self._unheard():
            self._show_points(leading, prompts)
            self._show_shapes(leading, drawn)
            scribbles = self.layer("scribbles")
            if scribbles is not None:
                key = image.label_key(plane)
                strokes = prompts.scribbles
                scribbles.data[key] = 0
                if strokes is not None:
                    scribbles.data[key] = np.where(strokes < 0, 2, strokes)
                scribbles.refresh()

    @contextmanager
    def _unheard(self) -> Iterator[None]:
        """Change layers without taking that for edits of the user."""
        before, self._writing = self._writing, True
        try:
            yield
        finally:
            self._writing = before

    def _show_shapes(self, leading: tuple[int, ...], drawn: Drawn) -> None:
        layer = self.layer("boxes")
        if layer is None:
            return
        layer.data = []
        boxes = [] if drawn.prompts.boxes is None else drawn.prompts.boxes
        shown = [Outline(rectangle(b - 0.5), BOX, POSITIVE) for b in boxes]
        for outline in (*shown, *drawn.lassos):
            flat = outline.corners
            corners = np.zeros((len(flat), len(leading) + 2))
            corners[:, : len(leading)] = leading
            corners[:, -2:] = flat
            layer.feature_defaults = {"sign": outline.sign}
            layer.add(
                corners,
                shape_type=outline.kind,
                edge_color=COLOURS[outline.sign],
            )

    def _show_points(self, leading: tuple[int, ...], prompts: PromptSet) -> None:
        layer = self.layer("points")
        if layer is None:
            return
        points = np.zeros((0, 2)) if prompts.points is None else prompts.points
        signs = [] if prompts.points is None else prompts.point_labels
        names = [POSITIVE if s else NEGATIVE for s in signs]
        full = np.zeros((len(points), layer.ndim))
        full[:, : len(leading)] = leading
        full[:, -2:] = points
        layer.data = full
        if len(points):
            layer.face_color = [COLOURS[n] for n in names]
            layer.symbol = [SYMBOLS[n] for n in names]
            layer.features = {"sign": names}
        self.set_sign(self.sign)

    # -- history ---------------------------------------------------------------------

    def _remember(self, drawn: Drawn) -> None:
        """Make this state one step of undo."""
        self._past.append(drawn)
        del self._past[:-MAX_HISTORY]
        self._future.clear()

    def undo(self) -> None:
        """Take back the last point, box or stroke."""
        if len(self._past) > 1:
            self._future.append(self._past.pop())
            self._restore()

    def redo(self) -> None:
        """Bring it back."""
        if self._future:
            self._past.append(self._future.pop())
            self._restore()

    def _restore(self) -> None:
        self._show(self.plane(), self._past[-1])
        self.edited.emit()

    def plane(self) -> int:
        """Return the plane of the query that the viewer shows."""
        from napari_fewshot.viewer._layers import current_plane

        if self._image is None or self._query is None:
            return 0
        return current_plane(self.viewer, self._query, self._image)

    def _on_points(self, event: Any) -> None:
        layer = self.layer("points")
        if self._writing or layer is None:
            return
        symbols = [str(s) for s in layer.symbol]
        if len(symbols) == len(layer.data):
            signs = [NEGATIVE if s == SYMBOLS[NEGATIVE] else POSITIVE for s in symbols]
            layer.features = {"sign": signs}
        self._on_edit(event)

    def _on_edit(self, event: Any) -> None:
        # napari announces a change before and after it; only the latter counts.
        action = str(getattr(event, "action", "")).lower()
        if self._writing or action.endswith("ing"):
            return
        found = self._drawn(self.plane())
        if self._past and self._past[-1].same_as(found):
            return
        self._remember(found)
        self.edited.emit()
