"""`CompareWidget`: the dock *Compare*: several methods and models on one query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QSize
from qtpy.QtWidgets import (
    QCheckBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_fewshot.data import Progress
from napari_fewshot.errors import FewShotError
from napari_fewshot.io import suffix_of
from napari_fewshot.viewer._actions import open_dock
from napari_fewshot.viewer._compare import CompareLayers
from napari_fewshot.widgets._compare_choices import ChoicesPanel
from napari_fewshot.widgets._compare_table import CompareTable
from napari_fewshot.widgets._run_panel import RunPanel
from napari_fewshot.widgets.main import FewShotWidget

if TYPE_CHECKING:
    import napari

    from napari_fewshot.session import Comparison, SessionState

WIDTH, STEPS = 360, 1000
EMPTY = (
    "Not sure which method to trust? Tick two or more and press Compare: you see them "
    "side by side, and where they differ. Your result stays as it is until you choose "
    "one."
)


class CompareWidget(QWidget):  # type: ignore[misc]
    """Runs several methods and models on the query and shows where they differ.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        The viewer this dock belongs to; its dock *Segment* has the session.
    """

    def __init__(
        self, napari_viewer: napari.viewer.Viewer, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.viewer = napari_viewer
        self._dock: Any = None
        self._at = -1
        self.layers: CompareLayers | None = None
        self.choices = ChoicesPanel()
        self.run_panel = RunPanel()
        self.run_panel.segment_button.setText("Compare")
        self.run_panel.segment_button.setToolTip(
            "Run what is ticked, one after the other. Your result stays as it is."
        )
        self.run_panel.cancel_button.setToolTip("Stop; finished candidates are kept.")
        self.empty = QLabel(EMPTY)
        self.empty.setWordWrap(True)
        self.table = CompareTable()
        self.note = QLabel()
        self.note.setWordWrap(True)
        self.use_button = _button(
            "Use this one",
            "Make the selected row the result, and its method the one for the next "
            "runs. Undo takes it back.",
        )
        self.go_button = _button(
            "Where they differ",
            "Go to the place where they differ most; again: to the next one.",
        )
        self.clear_button = _button(
            "Clear", "Forget the comparison and remove its layers; yours stay."
        )
        self.beside = QCheckBox("Side by side")
        self.beside.setToolTip(
            "Show every candidate on a copy of the image beside it; otherwise the "
            "selected one over the image."
        )
        self.beside.setChecked(True)
        self.differ = QCheckBox("Disagreement")
        self.differ.setToolTip(
            "Show the share of pairs of candidates that differ: 0 is dark, 1 is bright."
        )
        self.differ.setChecked(True)
        self.setAcceptDrops(True)
        self._build()
        self._connect()
        self._attach()

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """As wide as the dock *Segment*."""
        return QSize(WIDTH, 700)

    def _build(self) -> None:
        shown = QHBoxLayout()
        shown.addWidget(self.beside)
        shown.addWidget(self.differ)
        shown.addStretch(1)
        buttons = QGridLayout()
        buttons.addWidget(self.use_button, 0, 0, 1, 2)
        buttons.addWidget(self.go_button, 1, 0)
        buttons.addWidget(self.clear_button, 1, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(8, 8, 8, 8)
        column.addWidget(self.choices)
        column.addWidget(self.run_panel)
        column.addWidget(self.empty)
        column.addWidget(self.table, 1)
        column.addWidget(self.note)
        column.addLayout(shown)
        column.addLayout(buttons)
        column.addStretch()

    def _connect(self) -> None:
        self.choices.changed.connect(self._show_plan)
        self.choices.concepts.failed.connect(self.run_panel.show_error)
        self.run_panel.segment.connect(lambda: self._guard(self.compare))
        self.run_panel.cancel.connect(self._cancel)
        self.table.itemSelectionChanged.connect(self._on_selected)
        self.use_button.clicked.connect(lambda: self._guard(self.use))
        self.go_button.clicked.connect(lambda: self._guard(self.go_to_next))
        self.clear_button.clicked.connect(self.clear)
        for box in (self.beside, self.differ):
            box.toggled.connect(self._show_layers)

    # -- the dock Segment ------------------------------------------------------------

    @property
    def session(self) -> Any:
        """The session of the dock *Segment*; it is opened if it was closed."""
        self._attach()
        return self._dock.session

    def _attach(self) -> None:
        """Find the dock *Segment*, or open it, and listen to its session."""
        docked = self.viewer.window.dock_widgets.values()
        found = [widget for widget in docked if isinstance(widget, FewShotWidget)]
        if self._dock is not None and self._dock in found:
            return
        self._detach()
        self._dock = found[0] if found else open_dock(self.viewer)
        self.layers = CompareLayers(self._dock.binding)
        session = self._dock.session
        session.state_changed.connect(self._on_state)
        session.compared.connect(self._on_compared)
        session.progressed.connect(self._on_progress)
        document = session.state.document
        self.choices.fill(document.method, document.model)
        self._on_state(session.state)
        self._on_compared(session.comparison)

    def _detach(self) -> None:
        if self._dock is None:
            return
        session = self._dock.session
        session.state_changed.disconnect(self._on_state)
        session.compared.disconnect(self._on_compared)
        session.progressed.disconnect(self._on_progress)
        if self.layers is not None:
            self.layers.clear()
        self._dock = None

    # -- verbs -----------------------------------------------------------------------

    def compare(self) -> None:
        """Compare what is ticked, in the background."""
        session = self.session
        self.run_panel.show_error(None)
        if self._dock.binding.query_layer is None:
            raise FewShotError("Open an image first: File > Open, or drag a file here.")
        if self._dock.image_panel.error is not None:
            raise self._dock.image_panel.error
        self._dock.binding.flush()
        self._at = -1
        planes = None
        if self._is_one_plane():
            planes = [self._dock.binding.plane_shown()]
        else:
            planes = list(range(session.state.query.n_planes))
        session.compare(self.choices.choices(), planes, wait=False)
        self._on_compared(session.comparison)

    def use(self) -> None:
        """Make the selected candidate the result."""
        name = self.table.selected
        if name is not None:
            self._dock.binding.use(name)
            self.note.setText(f"{name} is the result now. Undo takes it back.")

    def go_to_next(self) -> None:
        """Go to the next place where candidates differ, the worst first."""
        found = self.session.comparison
        places = [] if found is None else found.places()
        if not places:
            raise FewShotError("The candidates do not differ anywhere.")
        self._at = (self._at + 1) % len(places)
        if self.layers is not None:
            self.layers.go_to(places[self._at])
        plane = f"plane {places[self._at][0]}, " if self._has_stack() else ""
        self.note.setText(f"Place {self._at + 1} of {len(places)}: {plane}marked.")

    def clear(self) -> None:
        """Forget the comparison and remove its layers."""
        if self._dock is not None and not self._dock.session.is_running:
            self._dock.session.forget_comparison()
            self.run_panel.show_error(None)
            self._on_compared(None)

    def shut_down(self) -> None:
        """Remove our layers and let go of the session; the dock is closed."""
        if self._dock is not None and self._dock.session.comparing is not None:
            self._dock.session.cancel()
        self._detach()

    def event(self, event: Any) -> bool:
        """Shut down when the dock is closed: napari takes us out of it."""
        handled = bool(super().event(event))
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.shut_down()
        return handled

    def dragEnterEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Take concept files that are dragged here; all else goes to the viewer."""
        if _concepts_of(event) and self.choices.isEnabled():
            event.acceptProposedAction()
        else:
            event.ignore()

    def dropEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Add concept files that are dropped here."""
        self.run_panel.show_error(None)
        self.choices.concepts.add(_concepts_of(event))
        event.acceptProposedAction()

    def showEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """List models that were installed meanwhile."""
        super().showEvent(event)
        self.choices.refresh_models()
        self._show_plan()

    # -- reactions -------------------------------------------------------------------

    def _guard(self, action: Any) -> None:
        """Call a verb; what goes wrong is shown under the button."""
        try:
            action()
        except (FewShotError, TypeError, ValueError) as error:
            self.run_panel.show_error(error)

    def _cancel(self) -> None:
        if self._dock is not None:
            self._dock.session.cancel()

    def _on_state(self, state: SessionState) -> None:
        self.choices.show_state(state)
        self._show_buttons()
        if state.running and self._dock.session.comparing is None:
            self.run_panel.segment_button.setEnabled(False)
            self.run_panel.show_status("A segmentation is running.")
            return
        self.run_panel.show_state(state)
        if state.progress is not None:
            self._on_progress(state.progress)
        if not state.running:
            self._show_plan()

    def _on_progress(self, progress: Progress) -> None:
        """Show the progress of all candidates together."""
        now = self._dock.session.comparing
        if now is None:
            return
        number, count, name = now
        part = progress.done / progress.total if progress.total else 0.0
        text = f"{name} ({number + 1} of {count}): {progress.stage}"
        done = round(STEPS * (number + part))
        self.run_panel.show_progress(Progress(text, done, STEPS * count))

    def _on_compared(self, comparison: Comparison | None) -> None:
        self.table.show_comparison(comparison)
        if comparison is not None and comparison.is_over and comparison.predictions:
            self.table.select(comparison.best_first[0])
        self.empty.setVisible(comparison is None)
        for part in (self.table, self.note):
            part.setVisible(comparison is not None)
        self.note.setText(_note(comparison))
        self._show_buttons()
        self._show_layers()

    def _on_selected(self) -> None:
        self._show_buttons()
        if not self.beside.isChecked():
            self._show_layers()

    def _show_buttons(self) -> None:
        dock = self._dock
        found = None if dock is None else dock.session.comparison
        is_free = dock is not None and not dock.session.is_running
        done = {} if found is None else found.predictions
        self.use_button.setEnabled(is_free and self.table.selected in done)
        self.go_button.setEnabled(len(done) > 1)
        self.clear_button.setEnabled(is_free and found is not None)
        for box in (self.beside, self.differ):
            box.setEnabled(bool(done))

    def _show_layers(self, *_: Any) -> None:
        if self._dock is None or self.layers is None:
            return
        found = self._dock.session.comparison
        if found is None:
            self.layers.clear()
            return
        self.layers.show(
            found,
            side_by_side=self.beside.isChecked(),
            with_disagreement=self.differ.isChecked(),
            front=self.table.selected,
        )

    def _show_plan(self) -> None:
        if self._dock is None or self._dock.session.is_running:
            return
        query = self._dock.session.state.query
        count = len(self.choices.choices())
        if query is None:
            self.run_panel.show_status("Open an image to begin.")
            return
        planes = 1 if self._is_one_plane() else query.n_planes
        where = "1 plane" if planes == 1 else f"{planes} planes"
        what = "1 candidate" if count == 1 else f"{count} candidates"
        self.run_panel.show_status(
            f"{what}, {where}" if count > 1 else f"{what}: tick at least two."
        )

    def _has_stack(self) -> bool:
        query = self._dock.session.state.query
        return query is not None and query.n_planes > 1

    def _is_one_plane(self) -> bool:
        return self._has_stack() and self.choices.this_plane.isChecked()


def _note(comparison: Comparison | None) -> str:
    """Return one line on how much the candidates agree, and what failed."""
    if comparison is None:
        return ""
    lines = [f"\u26a0 {name}: {e}" for name, e in comparison.errors.items()]
    done = list(comparison.predictions)
    if len(done) > 1:
        pairs = [(a, b) for i, a in enumerate(done) for b in done[i + 1 :]]
        first, second = min(pairs, key=lambda pair: comparison.pair_dice(*pair))
        score = comparison.pair_dice(first, second)
        lines.append(f"Least alike: {first} and {second}, Dice {score:.2f}.")
    return "\n".join(lines)


def _concepts_of(event: Any) -> list[str]:
    """Return the concept files among what is dragged."""
    paths = [url.toLocalFile() for url in event.mimeData().urls()]
    return [path for path in paths if path and suffix_of(path) == ".fewshot"]


def _button(text: str, tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    return button
