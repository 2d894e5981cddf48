"""`CompareLayers`: the candidates of a comparison beside or over their image.

Every layer here is made by us, carries the role ``"compare"`` and goes when it is
cleared; layers of users are neither moved nor hidden. Side by side means that copies of
the image (they share its pixels) stand beside it, each under a candidate: napari's grid
would put the layers of the user into cells of their own as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Layer

from napari_fewshot.inference._compare import tile_side
from napari_fewshot.viewer._layers import (
    KEY,
    colormap,
    level_factor,
    placement,
    show_plane,
)

if TYPE_CHECKING:
    from napari_fewshot.session import Comparison
    from napari_fewshot.viewer._binding import Binding

ROLE = "compare"
DISAGREEMENT, NAMES, MARK = "disagreement", "names", "where they differ"
# Kinds of layers: what candidates found, copies of the image under it, and words.
FOUND, UNDER, TEXT = "found", "under", "text"
# Space between cells, as a share of the image: above each there is its name.
GAP_ROWS, GAP_COLUMNS = 0.14, 0.05
MAX_IN_ROW = 3
MARK_COLOUR = "#ff9d00"


class CompareLayers:
    """Shows a comparison in the viewer.

    Parameters
    ----------
    binding : Binding
        Session and viewer.
    """

    def __init__(self, binding: Binding) -> None:
        self._binding = binding
        self._shown: dict[tuple[str, str], Any] = {}
        self._query: Any = None
        self._comparison: Comparison | None = None
        self._is_beside = False
        self._camera: tuple[Any, ...] | None = None
        self._place: tuple[int, int, int] | None = None

    def show(
        self,
        comparison: Comparison,
        *,
        side_by_side: bool,
        with_disagreement: bool,
        front: str | None,
    ) -> None:
        """Bring the layers in step with a comparison.

        Parameters
        ----------
        comparison : Comparison
            May still be running.
        side_by_side : bool
            Every candidate beside the image; otherwise over it, one at a time.
        with_disagreement : bool
            Whether to show where they differ.
        front : str, optional
            The candidate that is shown over the image.
        """
        query = self._binding.query_layer
        is_other = self._comparison is None or (
            self._comparison.candidates is not comparison.candidates
        )
        if is_other:
            self.clear()
            self._query = query
        if self._query is None or self._query not in self._viewer.layers:
            self.clear()
            return
        is_turned = self._is_beside != side_by_side
        self._comparison, self._is_beside = comparison, side_by_side
        had = set(self._shown)
        wanted = [n for n in self._cells() if n in comparison.predictions]
        if with_disagreement and len(comparison.predictions) > 1:
            wanted.append(DISAGREEMENT)
        for name in wanted:
            layer = self._show_cell(name)
            # What the user hides beside the image stays hidden.
            if not side_by_side or is_turned:
                layer.visible = side_by_side or name in (front, DISAGREEMENT)
        gone = [k for k in self._shown if k[0] != TEXT and k[1] not in wanted]
        self._remove(gone)
        self._show_names(wanted)
        self._show_mark()
        self._fit(has_changed=set(self._shown) != had)

    def go_to(self, place: tuple[int, int, int]) -> None:
        """Show the plane of a place and mark it on every copy of the image.

        Parameters
        ----------
        place : (int, int, int)
            Plane, row and column.
        """
        if self._comparison is None or self._query is None:
            return
        self._place = place
        show_plane(self._viewer, self._query, self._comparison.query, place[0])
        self._show_mark()
        if not self._is_beside:
            self._viewer.scene.camera.center = (0.0, *self._world(place[1:]))

    def clear(self) -> None:
        """Remove all layers of the comparison and bring the view back."""
        self._remove(list(self._shown))
        self._restore_camera()
        self._comparison, self._query, self._place = None, None, None
        self._is_beside = False

    @property
    def _viewer(self) -> Any:
        return self._binding.viewer

    def _cells(self) -> list[str]:
        """Return what has a place beside the image, in order."""
        found = self._comparison
        if found is None:
            return []
        names = [c.name for c in found.candidates if c.name not in found.errors]
        return [*names, DISAGREEMENT]

    def _offset(self, name: str) -> tuple[float, float]:
        """Return where a cell begins, in pixels of the layer; the image is (0, 0)."""
        if not self._is_beside or self._comparison is None:
            return 0.0, 0.0
        cells = self._cells()
        count = len(cells) + 1
        columns = count if count <= MAX_IN_ROW else int(np.ceil(np.sqrt(count)))
        row, column = divmod(cells.index(name) + 1, columns)
        height, width = self._size()
        return row * height * (1 + GAP_ROWS), column * width * (1 + GAP_COLUMNS)

    def _size(self) -> tuple[float, float]:
        """Return rows and columns of the layer at its full resolution."""
        if self._comparison is None:
            return 0.0, 0.0
        height, width = self._comparison.query.plane_shape
        factor = np.broadcast_to(self._factor(), len(self._axes()))
        row, column = (self._axes().index(a) for a in "yx")
        return height * float(factor[row]), width * float(factor[column])

    def _axes(self) -> str:
        return "" if self._comparison is None else self._comparison.query.label_axes

    def _factor(self) -> Any:
        """Return how much coarser the labels are than the layer (multiscale)."""
        if self._comparison is None:
            return 1.0
        shape = self._comparison.query.label_shape
        return level_factor(self._query, shape)

    def _shape(self) -> tuple[int, ...] | None:
        """Return the shape of what is compared."""
        return None if self._comparison is None else self._comparison.query.label_shape

    def _step(self, offset: tuple[float, float]) -> Any:
        """Return an offset in pixels as a step in the world."""
        there = np.zeros(self._query.ndim)
        for letter, value in zip("yx", offset, strict=True):
            there[self._axes().index(letter)] = value
        to_world = self._query.data_to_world
        return np.subtract(to_world(there), to_world(np.zeros(self._query.ndim)))

    def _world(
        self, place: tuple[float, ...], offset: tuple[float, float] = (0.0, 0.0)
    ) -> tuple[float, float]:
        """Return (row, column) of the compared image in the world, in a cell."""
        there = np.zeros(self._query.ndim)
        factor = np.broadcast_to(self._factor(), len(there))
        for letter, value in zip("yx", place, strict=True):
            at = self._axes().index(letter)
            there[at] = value * factor[at]
        found = np.add(self._query.data_to_world(there), self._step(offset))
        return float(found[-2]), float(found[-1])

    def _show_cell(self, name: str) -> Any:
        """Return the layer of a candidate (or the disagreement), in its place."""
        offset = self._offset(name)
        if self._is_beside and name != DISAGREEMENT:
            self._move(self._image(name), offset)
        else:
            self._remove([(UNDER, name)])
        key = (FOUND, name)
        layer = self._layer(key) or self._add(key, self._new_layer(name))
        if name == DISAGREEMENT and self._comparison is not None:
            # Another array after every candidate.
            layer.data = self._comparison.disagreement
            # Added to a bright image it would be white on white: it stands alone.
            layer.blending = "opaque" if self._is_beside else "additive"
        self._move(layer, offset)
        return layer

    def _new_layer(self, name: str) -> Layer:
        comparison = self._comparison
        options: dict[str, Any] = {
            **placement(self._query, self._shape()),
            "name": f"{self._query.name} - {name}",
        }
        if comparison is not None and name == DISAGREEMENT:
            options.update(colormap="magma", contrast_limits=(0.0, 1.0))
            return Layer.create(comparison.disagreement, options, "image")
        classes = self._binding.session.state.classes
        options.update(opacity=0.6, colormap=colormap(classes.colours))
        labels = None if comparison is None else comparison.predictions[name].labels
        return Layer.create(labels, options, "labels")

    def _image(self, name: str) -> Any:
        """Return the copy of the image under a cell; it shares the pixels."""
        key = (UNDER, name)
        found = self._layer(key)
        if found is None:
            data, options, kind = self._query.as_layer_data_tuple()
            options = {**options, "name": f"{self._query.name} - under {name}"}
            options.update(visible=True, metadata={})
            found = self._add(key, Layer.create(data, options, kind))
        return found

    def _move(self, layer: Any, offset: tuple[float, float]) -> None:
        affine = np.array(self._query.affine.affine_matrix)
        affine[:-1, -1] += self._step(offset)
        if not np.array_equal(layer.affine.affine_matrix, affine):
            layer.affine = affine

    def _show_names(self, cells: list[str]) -> None:
        """Write the name of every candidate above its copy of the image."""
        self._remove([(TEXT, NAMES)])
        if not self._is_beside or not cells:
            return
        words = [self._title(name) for name in cells]
        is_dark = self._viewer.theme != "light"
        text = {
            "string": words,
            "anchor": "upper_left",
            "size": 10,
            "color": "white" if is_dark else "black",
        }
        points = [self._world((-0.5, -0.5), self._offset(n)) for n in cells]
        self._add_points((TEXT, NAMES), points, text=text, size=1, opacity=1.0)

    def _title(self, name: str) -> str:
        if self._comparison is None or name == DISAGREEMENT:
            return "where they differ"
        return f"{name}  {self._comparison.expected_dice(name):.2f}"

    def _show_mark(self) -> None:
        """Mark the place that was gone to, on every copy of the image."""
        self._remove([(TEXT, MARK)])
        if self._place is None or self._comparison is None:
            return
        cells = [name for kind, name in self._shown if kind == FOUND]
        offsets = {(0.0, 0.0), *(self._offset(name) for name in cells)}
        points = [self._world(self._place[1:], offset) for offset in sorted(offsets)]
        side = tile_side(self._comparison.query.plane_shape)
        low, high = self._world((0.0, 0.0)), self._world((0.0, float(side)))
        self._add_points(
            (TEXT, MARK),
            points,
            size=float(np.hypot(*np.subtract(high, low))),
            symbol="square",
            border_color=MARK_COLOUR,
            border_width=0.06,
        )

    def _add_points(self, key: tuple[str, str], points: Any, **options: Any) -> None:
        """Add points of the plane that are seen on every plane of a stack."""
        meta: dict[str, Any] = {
            "name": f"{self._query.name} - {key[1]}",
            "face_color": "transparent",
            "border_color": "transparent",
            "units": self._query.units[-2:],
            "axis_labels": self._query.axis_labels[-2:],
            **options,
        }
        self._add(key, Layer.create(np.array(points), meta, "points"))

    def _layer(self, key: tuple[str, str]) -> Any:
        """Return a layer of ours; None if there is none (any more)."""
        found = self._shown.get(key)
        return found if found is not None and found in self._viewer.layers else None

    def _add(self, key: tuple[str, str], layer: Any) -> Any:
        layer.metadata[KEY] = {"role": ROLE, "query": self._query.unique_id}
        layer.editable = False
        active = self._viewer.layers.selection.active
        self._viewer.add_layer(layer)
        if active is not None:
            # Who holds a brush keeps it.
            self._viewer.layers.selection.active = active
        self._shown[key] = layer
        return layer

    def _remove(self, keys: list[tuple[str, str]]) -> None:
        for key in keys:
            layer = self._shown.pop(key, None)
            if layer is not None and layer in self._viewer.layers:
                self._viewer.layers.remove(layer)

    def _fit(self, *, has_changed: bool) -> None:
        """Show all cells when they appear, and the old view when they are gone."""
        if not self._is_beside:
            self._restore_camera()
            return
        camera = self._viewer.scene.camera
        if self._camera is None:
            self._camera = (camera.center, camera.zoom, camera.angles)
            has_changed = True
        if has_changed:
            self._viewer.fit_to_view(layers=[self._query, *self._shown.values()])

    def _restore_camera(self) -> None:
        if self._camera is not None:
            camera = self._viewer.scene.camera
            camera.center, camera.zoom, camera.angles = self._camera
            self._camera = None
