"""`FewShotWidget`: the dock. It composes panels and owns the session's lifetime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QSize, Qt, QTimer
from qtpy.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QScrollArea,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_fewshot.errors import FewShotError
from napari_fewshot.io import save_prediction
from napari_fewshot.session import Session
from napari_fewshot.viewer._actions import compare as open_compare
from napari_fewshot.viewer._actions import measure_objects
from napari_fewshot.viewer._binding import Binding
from napari_fewshot.viewer._files import ask_where
from napari_fewshot.viewer._layers import (
    add_painting_layer,
    labels_layers,
    matches,
    matching_labels,
    show_plane,
)
from napari_fewshot.viewer._qt import Dispatcher, closer, wait_for
from napari_fewshot.viewer._tracks import show_tracks
from napari_fewshot.widgets._cache_panel import CachePanel
from napari_fewshot.widgets._class_panel import ClassPanel
from napari_fewshot.widgets._estimate_line import EstimateLine
from napari_fewshot.widgets._evidence import EvidenceTabs
from napari_fewshot.widgets._how_panel import HowPanel
from napari_fewshot.widgets._image_panel import ImagePanel
from napari_fewshot.widgets._prompt_panel import PromptPanel
from napari_fewshot.widgets._recovery import RecoveryBar, bring_back
from napari_fewshot.widgets._results_panel import ResultsPanel
from napari_fewshot.widgets._run_panel import RunPanel
from napari_fewshot.widgets._section import Section
from napari_fewshot.widgets._support_panel import SupportPanel
from napari_fewshot.widgets._text_parts import TextParts
from napari_fewshot.widgets._trust import TrustParts
from napari_fewshot.widgets._where_panel import WherePanel

if TYPE_CHECKING:
    from pathlib import Path

    import napari

    from napari_fewshot.data import Prediction
    from napari_fewshot.session import SessionState

REFRESH_MS = 50
WIDTH = 360


class FewShotWidget(QWidget):  # type: ignore[misc]
    """Annotate a few, get the rest.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        The viewer this dock belongs to.
    executor : str or Executor
        Who computes; the worker process by default.
    """

    def __init__(
        self,
        napari_viewer: napari.viewer.Viewer,
        executor: Any = "process",
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.viewer = napari_viewer
        self._dispatcher = Dispatcher(self)
        self.session = Session(
            executor=executor, dispatch=self._dispatcher, wait_for=wait_for
        )
        self.binding = Binding(napari_viewer, self.session, self)
        self._queue: list[Any] = []
        self._is_closed = False
        self.image_panel = ImagePanel(self.binding)
        self.class_panel = ClassPanel(self.session)
        self.support_panel = SupportPanel(self.session)
        self.prompt_panel = PromptPanel(self.binding)
        self.run_panel = RunPanel()
        self.text = TextParts(self)
        panels = self.support_panel, self.text.panel, self.prompt_panel
        self.tabs = EvidenceTabs(*panels)
        self.how_panel = HowPanel(self.session)
        self.results_panel = ResultsPanel(self.session)
        self.cache_panel = CachePanel()
        self.where_panel = WherePanel(self.session)
        self.trust = TrustParts(self)
        self.estimate = EstimateLine(self)
        self._build()
        self._connect()
        self._fill_in()
        self._render(self.session.state)
        if hasattr(self.session._executor, "prewarm"):
            self.session._executor.prewarm()

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Wide enough for every panel, no wider."""
        return QSize(WIDTH, 700)

    def _build(self) -> None:
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(0, 0, 6, 0)
        column.addLayout(self._header())
        self.recover_bar = RecoveryBar()
        self.recover_bar.wanted.connect(lambda: self._guard(self.recover))
        column.addWidget(self.recover_bar)
        column.addWidget(self.image_panel)
        for title, panel in (
            ("Classes", self.class_panel),
            ("Evidence", self.tabs),
            ("How", self.how_panel),
            ("Results", self.results_panel),
        ):
            column.addWidget(Section(title, panel))
        column.addWidget(Section("Where to run", self.where_panel, is_open=False))
        column.addWidget(Section("Kept embeddings", self.cache_panel, is_open=False))
        column.addStretch()
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(inner)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 8, 8, 8)
        layout.addWidget(scroll, 1)
        layout.addWidget(self.run_panel)
        # Never narrower than the panels: there is no horizontal scroll bar.
        bar = scroll.verticalScrollBar().sizeHint().width()
        scroll.setMinimumWidth(max(WIDTH - 40, inner.minimumSizeHint().width() + bar))

    @property
    def is_prompting(self) -> bool:
        """Whether the Prompts tab is in front."""
        return self.tabs.is_prompting

    def show_tab(self, name: str) -> None:
        """Bring a tab to the front: ``"supports"``, ``"text"`` or ``"prompts"``."""
        self.tabs.show_tab(name)

    def _header(self) -> QHBoxLayout:
        row = QHBoxLayout()
        row.addWidget(QLabel("Annotate a few. Get the rest."), 1)
        self.undo_button, self.redo_button = QToolButton(), QToolButton()
        for button, text, tip in (
            (self.undo_button, "Undo", "Take back the last edit of this dock."),
            (self.redo_button, "Redo", "Bring back the edit that was undone."),
        ):
            button.setText(text)
            button.setToolTip(tip)
            row.addWidget(button)
        return row

    def _connect(self) -> None:
        session = self.session
        session.state_changed.connect(self._render)
        session.progressed.connect(self.run_panel.show_progress)
        session.predicted.connect(self._on_predicted)
        session.failed.connect(self._on_failed)
        self.run_panel.segment.connect(lambda: self._guard(self.segment))
        self.run_panel.cancel.connect(session.cancel)
        self.undo_button.clicked.connect(session.undo)
        self.redo_button.clicked.connect(session.redo)
        self.image_panel.chosen.connect(self.estimate.show)
        panel = self.support_panel
        panel.paint.connect(lambda: self._guard(self.start_painting))
        panel.from_layers.connect(lambda: self._guard(self.add_from_layers))
        panel.this_plane.connect(lambda: self._guard(self.add_this_plane))
        panel.nothing_here.connect(lambda: self._guard(self.binding.add_negative))
        panel.activated.connect(self._go_to_support)
        mark = self.binding.ignoring.mark
        panel.ignore.connect(lambda key: self._guard(lambda: mark(key)))
        results = self.results_panel
        results.go_to.connect(self._go_to)
        results.refine.connect(lambda p: self._guard(lambda: self.refine(p)))
        self.prompt_panel.go_to.connect(self._go_to)
        results.accept.connect(lambda p: self._guard(lambda: self.accept(p)))
        results.reject.connect(lambda p: self._guard(lambda: session.reject(p)))
        results.save.connect(lambda: self._guard(self._ask_save))
        results.compare.connect(lambda: open_compare(self.viewer))
        results.measure.connect(
            lambda: measure_objects(self.viewer, self.binding.result_layer)
        )
        results.tracks.connect(lambda: self._guard(lambda: show_tracks(self.binding)))
        prompts = self.prompt_panel
        others = (self.how_panel, results, self.cache_panel)
        for part in (self.image_panel, panel, prompts, *others):
            part.failed.connect(self.run_panel.show_error)
        self._refresh = QTimer(self)
        self._refresh.setSingleShot(True)
        self._refresh.setInterval(REFRESH_MS)
        self._refresh.timeout.connect(self._on_layers_changed)
        events = self.viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered):
            event.connect(self._later)
        self.viewer.layers.selection.events.changed.connect(self._later)
        # Closing the viewer destroys the dock without asking it.
        self.destroyed.connect(closer(self._dispatcher, session))

    def _fill_in(self) -> None:
        """Open filled in: painted layers of the same shape become supports."""
        image = self.image_panel.image
        if image is None or self.session.state.supports:
            return
        for labels in matching_labels(self.viewer, image):
            self._guard(
                lambda labels=labels: self.binding.use_as_support(
                    labels, self.binding.query_layer
                )
            )

    # -- verbs -----------------------------------------------------------------------

    def segment(self) -> None:
        """Segment what is chosen, in the background."""
        self.run_panel.show_error(None)
        self._queue = []
        self.estimate.confirm()
        if self.image_panel.is_all_selected:
            self._queue = self.image_panel.selected_layers()
            self._next_in_queue()
        else:
            if self.binding.query_layer is None:
                self.image_panel.refresh()
            if self.image_panel.error is not None:
                raise self.image_panel.error
            self.binding.start(self.image_panel.planes())

    def _next_in_queue(self) -> None:
        layer = self._queue.pop(0)
        self.binding.set_query(layer)
        self.binding.start()

    def start_painting(self) -> None:
        """Add a labels layer over the image, brush in hand."""
        image, layer = self.image_panel.image, self.binding.query_layer
        if image is None or layer is None:
            raise FewShotError("Open an image first: File > Open, or drag a file here.")
        add_painting_layer(self.viewer, layer, image)
        show_info('Paint one object class, then press "+ this plane".')

    def add_from_layers(self) -> None:
        """Use every painted plane of the selected (or only fitting) labels layer."""
        self._add_support(None)

    def add_this_plane(self) -> None:
        """Use the painted plane that the viewer shows."""
        self._add_support([self.binding.plane_shown()])

    def _add_support(self, planes: list[int] | None) -> None:
        layer = self.binding.query_layer
        if layer is None or self.image_panel.image is None:
            raise FewShotError("Choose an image first.")
        active = self.viewer.layers.selection.active
        candidates = labels_layers(self.viewer)
        chosen = [active] if active in candidates else []
        image = self.image_panel.image
        chosen = chosen or [x for x in candidates if matches(image, x)] or candidates
        if not chosen:
            raise FewShotError(
                "There is no Labels layer yet. Press Start painting, or add one."
            )
        self.binding.use_as_support(chosen[0], layer, planes)
        self.run_panel.show_error(None)

    def accept(self, planes: list[int]) -> None:
        """Accept planes with the labels as they are in the result layer now."""
        layer = self.binding.result_layer
        if planes:
            self.session.accept(planes, labels=None if layer is None else layer.data)

    def refine(self, plane: int) -> None:
        """Correct a plane of the result with prompts, from what was found."""
        value = self.prompt_panel.value
        prompts = self.session.refine(plane, value)
        self.show_tab("prompts")
        self.prompt_panel.start_from(plane, prompts)

    def recover(self) -> None:
        """Bring back the newest session that was not closed."""
        bring_back(self, self.recover_bar.projects[0].path)
        self.recover_bar.hide()

    def save_result(self, path: Path) -> None:
        """Write the labels of the result layer."""
        query, prediction = self.session.state.query, self.session.prediction
        if query is None or prediction is None:
            raise FewShotError("There is no result yet. Run a segmentation first.")
        save_prediction(path, prediction, query)

    # -- reactions -------------------------------------------------------------------

    def _guard(self, action: Any) -> None:
        """Call a verb; what goes wrong is shown under the button."""
        try:
            action()
        except (FewShotError, TypeError, ValueError) as error:
            self.run_panel.show_error(error)

    def _render(self, state: SessionState) -> None:
        if self._is_closed:
            return
        for panel in (
            self.class_panel,
            self.support_panel,
            self.text,
            self.prompt_panel,
            self.how_panel,
            self.run_panel,
            self.results_panel,
            self.trust,
        ):
            panel.show_state(state)
        self.undo_button.setEnabled(state.can_undo and not state.running)
        self.redo_button.setEnabled(state.can_redo and not state.running)
        self.estimate.show()

    def _on_predicted(self, _: Prediction) -> None:
        self.estimate.show()
        if self._queue:
            self._guard(self._next_in_queue)

    def _on_failed(self, error: Exception) -> None:
        self._queue = []
        self.run_panel.show_error(error)
        show_error(str(error))

    def _later(self, *_: Any) -> None:
        if not self._is_closed:
            self._refresh.start()

    def _on_layers_changed(self) -> None:
        if self._is_closed or self.session.is_running:
            return
        had_image = self.image_panel.image is not None
        self.image_panel.refresh()
        if not had_image:
            self._fill_in()
        self.estimate.show()

    def _go_to(self, plane: int) -> None:
        image, layer = self.session.state.query, self.binding.query_layer
        if image is not None and layer is not None:
            show_plane(self.viewer, layer, image, plane)

    def _go_to_support(self, key: int) -> None:
        for row in self.session.state.supports:
            if row.key == key and row.support.used_planes:
                self._go_to(row.support.used_planes[0])

    def _ask_save(self) -> None:
        path = ask_where(self, "labels")
        if path is not None:
            self.save_result(path)

    def closeEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Stop what runs and close the session."""
        self.shut_down()
        super().closeEvent(event)

    def shut_down(self) -> None:
        """Let go of the viewer; called once, when the dock goes."""
        if self._is_closed:
            return
        self._is_closed = True
        self._refresh.stop()
        self._dispatcher.close()
        self.prompt_panel.shut_down()
        self.text.shut_down()
        self.trust.shut_down()
        self.estimate.close()
        self.binding.close()
        self.session.close()
