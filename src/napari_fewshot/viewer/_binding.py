"""`Binding`: keeps session and layers in step. The only writer of layers.

Results go into layers of our own; what users painted is read, never written.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer

from napari_fewshot.data import Image, Support
from napari_fewshot.errors import FewShotError, SupportError
from napari_fewshot.session import SparsePlanes
from napari_fewshot.viewer._ignoring import IgnoreLayers
from napari_fewshot.viewer._layers import (
    KEY,
    class_features,
    colormap,
    current_plane,
    fit_layers,
    open_layer,
    painted_planes,
    reads_alike,
    role,
)
from napari_fewshot.viewer._result_layer import ResultLayer
from napari_fewshot.viewer._view import wanted_part

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_fewshot.inference import PlaneResult
    from napari_fewshot.session import Session, SessionState

logger = logging.getLogger(__name__)
DEBOUNCE_MS = 300
REFRESH_MS = 100
MAX_ROWS = 24


class Binding(QObject):  # type: ignore[misc]
    """Session on one side, layers on the other.

    Parameters
    ----------
    viewer : napari viewer
        Whose layers are read and written.
    session : Session
        Whose verbs are called.
    parent : QObject, optional
        Ends the binding with it.
    """

    def __init__(
        self, viewer: ViewerModel, session: Session, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self.viewer = viewer
        self.session = session
        self.query_layer: Any = None
        self._result: Any = None
        self._results = ResultLayer(viewer)
        self._run_layer: Any = None
        self._run_image: Image | None = None
        self._sources: dict[str, tuple[Any, Any, dict[int, int]]] = {}
        self._dirty, self._corrected = set[str](), set[int]()
        self.ignoring = IgnoreLayers(viewer, self._sources, self._touch)
        self._is_writing = self.only_view = False
        self._painted = self._timer(DEBOUNCE_MS, self._read_painting, single=True)
        self._refresh = self._timer(REFRESH_MS, self._refresh_result, single=True)
        session.plane_finished.connect(self._on_plane)
        session.state_changed.connect(self._on_state)
        session.resized.connect(self._ensure_result)
        viewer.layers.events.removed.connect(self._on_removed)

    def close(self) -> None:
        """Let go of layers and session."""
        self._painted.stop()
        self._refresh.stop()
        self.session.plane_finished.disconnect(self._on_plane)
        self.session.state_changed.disconnect(self._on_state)
        self.session.resized.disconnect(self._ensure_result)
        self.viewer.layers.events.removed.disconnect(self._on_removed)
        self.ignoring.close()
        for labels, _, _ in self._sources.values():
            labels.events.paint.disconnect(self._on_support_painted)
            labels.events.data.disconnect(self._on_support_painted)

    # -- supports --------------------------------------------------------------------

    def use_as_support(
        self, labels: Any, layer: Any, planes: list[int] | None = None
    ) -> list[int]:
        """Add the painted planes of a labels layer as supports.

        Parameters
        ----------
        labels : napari Labels layer
            Masks.
        layer : napari Image layer
            Their image.
        planes : list of int, optional
            Only these planes; default all with paint.

        Returns
        -------
        list of int
            Keys of the new rows.

        Raises
        ------
        SupportError
            If the two do not fit or nothing is painted.
        """
        image = open_layer(layer)
        fitting = fit_layers(image, labels)
        if fitting is None:
            finest = labels.data[0] if labels.multiscale else labels.data
            shape = " x ".join(map(str, finest.shape))
            wanted = " x ".join(map(str, image.label_shape))
            raise SupportError(
                f"The mask has another size ({shape}) than its image ({wanted}). "
                "Choose the matching Labels layer or resample it."
            )
        image = fitting[0]
        painted = painted_planes(image, labels)
        chosen = painted if planes is None else [p for p in planes if p in painted]
        if not chosen:
            raise SupportError(
                "Nothing is painted there yet. Paint the object with the Labels brush "
                "first."
            )
        known = self._sources.get(labels.unique_id, (labels, layer, {}))[2]
        fresh = [p for p in chosen if p not in known][:MAX_ROWS]
        supports = [self._support(image, labels, p) for p in fresh]
        keys = self.session.edit_supports({}, supports)
        known.update(zip(fresh, keys, strict=True))
        if labels.unique_id not in self._sources:
            labels.events.paint.connect(self._on_support_painted)
            labels.events.data.connect(self._on_support_painted)
        self._sources[labels.unique_id] = (labels, layer, known)
        return keys

    def add_negative(self) -> int:
        """Add the plane that is shown as a support that holds nothing.

        Returns
        -------
        int
            Key of the new row.

        Raises
        ------
        SupportError
            If no image is chosen.
        """
        image = self.session.state.query
        if image is None:
            raise SupportError("Choose an image first.")
        plane = self.plane_shown()
        where = f", plane {plane}" if image.n_planes > 1 else ""
        return self.session.add_support(
            image.array,
            negative=True,
            scale=image.scale,
            unit=image.unit,
            axes=image.axes,
            channels=image.channels or None,
            name=f"{image.name}{where}",
            planes=(plane,),
        )

    def _support(self, image: Image, labels: Any, plane: int) -> Support:
        _, data = fit_layers(image, labels) or (image, labels.data)
        pixels = np.array(np.asarray(data[image.label_key(plane)]))
        sparse = SparsePlanes(
            image.label_shape, len(image.leading_shape), {plane: pixels}
        )
        where = f", plane {plane}" if image.n_planes > 1 else ""
        return Support(
            image.array,
            sparse,
            classes=class_names(labels),
            scale=image.scale,
            unit=image.unit,
            axes=image.axes,
            channels=image.channels or None,
            name=f"{image.name}{where}",
            planes=(plane,),
            ignore=self.ignoring.of(labels, image, plane),
        )

    def _on_support_painted(self, event: Any) -> None:
        self._touch(event.source.unique_id)

    def _touch(self, unique_id: str) -> None:
        self._dirty.add(unique_id)
        self._painted.start()

    def flush(self) -> None:
        """Read painting now that waits to be read."""
        if self._painted.isActive():
            self._painted.stop()
            self._read_painting()

    def _read_painting(self) -> None:
        """Bring rows in step with the painting on their layers."""
        for source in [self._sources[u] for u in self._dirty if u in self._sources]:
            self._read_support(*source)
        self._dirty.clear()
        if self._corrected:
            planes, self._corrected = sorted(self._corrected), set()
            result = self._result
            if result is not None and self.session.prediction is not None:
                self.session.accept(planes, labels=result.data)

    def _read_support(self, labels: Any, layer: Any, known: dict[int, int]) -> None:
        try:
            image = open_layer(layer)
            image, _ = fit_layers(image, labels) or (image, None)
            rows = {row.key: row.support for row in self.session.state.supports}
            painted = painted_planes(image, labels)
            changed: dict[int, Support | None] = {}
            for plane, key in list(known.items()):
                if key not in rows:
                    del known[plane]
                else:
                    support = self._support(image, labels, plane)
                    if all(size == 1 for size in image.scale or ()):
                        # Nobody has set it on the layer, but perhaps in the dock.
                        support = replace(support, scale=rows[key].scale)
                    changed[key] = support if plane in painted else None
            added = [p for p in painted if p not in known][:MAX_ROWS]
            supports = [self._support(image, labels, p) for p in added]
            keys = self.session.edit_supports(changed, supports)
            known.update(zip(added, keys, strict=True))
            for plane in [p for p, k in known.items() if changed.get(k, 0) is None]:
                del known[plane]
        except FewShotError as error:
            self.session.failed.emit(error)

    # -- query and result ------------------------------------------------------------

    def set_query(
        self,
        layer: Any,
        *,
        planes: list[int] | None = None,
        level: int | str = "auto",
        channels: Any = None,
    ) -> Image:
        """Make a layer the query."""
        image = open_layer(layer, level=level, channels=channels)
        if self.query_layer is not layer:
            self._result = self._find_result(layer)
        self.query_layer = layer
        current = self.session.state.query
        if current is not None and current.array is image.array:
            image = current if reads_alike(current, image) else image
        self.session.set_query(image, planes=planes)
        return image

    def plane_shown(self) -> int:
        """Return the plane of the query that the viewer shows."""
        image = self.session.state.query
        if image is None or self.query_layer is None:
            return 0
        return current_plane(self.viewer, self.query_layer, image)

    @property
    def result_layer(self) -> Any:
        """The result layer of the query; None before a run."""
        return self._result

    def start(self, planes: list[int] | None = None) -> None:
        """Segment the query in the background; planes appear as they are ready."""
        self.flush()
        image, layer = self.session.state.query, self.query_layer
        part: dict[str, Any] = {}
        if image is not None and layer is not None:
            part = wanted_part(self.viewer, layer, image, only=self.only_view)
        self.session.segment(wait=False, planes=planes, **part)
        self._run_layer = self.query_layer
        self._run_image = self.session.state.query

    def use(self, name: str) -> None:
        """Make a candidate of the comparison the result of the query."""
        self.flush()
        self._run_layer = self.query_layer
        self.session.use(name)

    def _find_result(self, layer: Any) -> Any:
        for found in self.viewer.layers:
            mark = found.metadata.get(KEY, {})
            if mark.get("role") == "result" and mark.get("query") == layer.unique_id:
                return found
        return None

    def _ensure_result(self, labels: Any, *, is_new: bool = False) -> Any:
        """Return the result layer with these labels; made anew if it was deleted."""
        layer = self._run_layer or self.query_layer
        if layer is None:
            return None
        if self._result is None:
            active = self.viewer.layers.selection.active
            self._result = self._results.make(
                layer,
                labels,
                is_new=is_new,
                name=f"{layer.name} - fewshot",
                metadata={KEY: {"role": "result", "query": layer.unique_id}},
                colormap=colormap(self.session.state.classes.colours),
                opacity=0.6,
            )
            self._result.events.paint.connect(self._on_result_painted)
            if active is not None and (role(active) or "").startswith("prompts"):
                # Who places prompts keeps the tool in hand.
                self.viewer.layers.selection.active = active
        elif not self._results.shows(self._result, labels):
            self._is_writing = True
            fits = self._results.update(self._result, layer, labels, is_new=is_new)
            self._is_writing = False
            if not fits:
                self.viewer.layers.remove(self._result)
                return self._ensure_result(labels, is_new=is_new)
        return self._result

    def _on_plane(self, result: PlaneResult) -> None:
        labels = self.session.partial_labels
        if labels is not None and self._ensure_result(labels, is_new=True) is not None:
            self._results.add(result)
            self._refresh.start() if not self._refresh.isActive() else None

    def _refresh_result(self) -> None:
        if self._result is not None:
            start = time.perf_counter()
            self._result.refresh()
            # Drawing a large layer anew takes a while: a tenth of the time at most.
            spent = 1000 * (time.perf_counter() - start)
            self._refresh.setInterval(max(REFRESH_MS, int(10 * spent)))

    def _on_state(self, state: SessionState) -> None:
        prediction = state.prediction
        if state.running or self.query_layer is None:
            return
        if prediction is None:
            if self._result is not None and state.query is not None:
                self._ensure_result(np.zeros(state.query.label_shape, np.int32))
            return
        layer = self._ensure_result(prediction.labels)
        if layer is None:
            return
        layer.colormap = colormap(state.classes.colours)
        layer.features = class_features(state.classes, prediction)
        layer.metadata[KEY] = {
            **layer.metadata.get(KEY, {}),
            "provenance": prediction.provenance,
            "classes": dict(state.classes.names),
            "session": str(state.project),
        }
        self._refresh_result()

    def _on_result_painted(self, event: Any = None) -> None:
        """Treat a brush stroke on a result as a correction of the plane shown."""
        if not self._is_writing and not self.session.is_running:
            self._corrected.add(self.plane_shown())
            self._painted.start()

    def _on_removed(self, event: Any) -> None:
        gone = event.value
        if self._result is not None and gone.unique_id == self._result.unique_id:
            self._result = None
        if (
            self.query_layer is not None
            and gone.unique_id == self.query_layer.unique_id
        ):
            self.query_layer = None
        self._sources.pop(gone.unique_id, None)

    def _timer(self, milliseconds: int, call: Any, *, single: bool) -> QTimer:
        timer = QTimer(self)
        timer.setInterval(milliseconds)
        timer.setSingleShot(single)
        timer.timeout.connect(call)
        return timer


def class_names(labels: Any) -> dict[int, str] | None:
    """Return class names from the features of a labels layer, if it has any."""
    features = getattr(labels, "features", None)
    if features is None or not {"index", "class"} <= set(features.columns):
        return None
    pairs = zip(features["index"], features["class"], strict=True)
    return {int(v): str(n) for v, n in pairs if int(v) > 0} or None
