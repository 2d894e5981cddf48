"""The dock *Measure*: a table of objects, which leads to each of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QSize, Qt, QTimer
from qtpy.QtWidgets import (
    QApplication,
    QBoxLayout,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_fewshot.errors import FewShotError
from napari_fewshot.io import atomic_write
from napari_fewshot.viewer._measured import NUMBERS, PIECES, Marker, Wanted, gather
from napari_fewshot.widgets._measure_choices import MeasureChoices
from napari_fewshot.widgets._measure_table import PIXELS, MeasureModel, MeasureTable
from napari_fewshot.widgets._models_task import Task

if TYPE_CHECKING:
    from pathlib import Path

    import napari

# Beside one another in a wide dock, below one another in a narrow one.
WIDE, SIDE, REFRESH_MS = 640, 320, 50
# Qt's word for no maximum.
NO_LIMIT = (1 << 24) - 1
# Larger labels are measured when the button is pressed, not by themselves.
MUCH = 1 << 28
EMPTY = (
    "There is no Labels layer yet. Segment an image, or add a Labels layer and paint "
    "objects; then measure them here."
)
READY = "Press Measure: every object becomes a row."
NOTHING = "There are no objects: the layer is empty."


class MeasureWidget(QWidget):  # type: ignore[misc]
    """Measures the objects of a Labels layer and shows them in a table.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        Whose layers.
    """

    def __init__(
        self, napari_viewer: napari.viewer.Viewer, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.viewer = napari_viewer
        self._marker = Marker(napari_viewer)
        self._task = Task(self)
        self._measured: tuple[Any, Wanted] | None = None
        self._asked: tuple[Any, Wanted] | None = None
        self._is_closed = False
        self.choices = MeasureChoices(napari_viewer)
        self.button = QPushButton("Measure")
        self.button.setToolTip("Measure every object; the window stays free.")
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.status.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse
        )
        self.bar = QProgressBar()
        self.bar.setRange(0, 0)
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(8)
        self.table = MeasureTable()
        self.copy_button = QPushButton("Copy")
        self.copy_button.setToolTip(
            "Copy the selected rows, or all if at most one is, for a spreadsheet."
        )
        self.save_button = QPushButton("Save as CSV\u2026")
        self.save_button.setToolTip(
            "Write all rows to a file, with boxes and class numbers, too."
        )
        self._build()
        self._connect()
        self.refresh()
        self._show_buttons()

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Some rows below the canvas."""
        return QSize(WIDE, 260)

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """As narrow as the choices: the table goes below them then."""
        least = self.controls.minimumSizeHint()
        return QSize(least.width() + 16, least.height() + 16)

    def _build(self) -> None:
        kept = self.bar.sizePolicy()
        kept.setRetainSizeWhenHidden(True)
        self.bar.setSizePolicy(kept)
        self.bar.hide()
        buttons = QHBoxLayout()
        buttons.addWidget(self.button, 1)
        buttons.addWidget(self.copy_button)
        buttons.addWidget(self.save_button)
        self.controls = QWidget()
        column = QVBoxLayout(self.controls)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.choices)
        column.setSpacing(4)
        column.addLayout(buttons)
        column.addWidget(self.bar)
        column.addWidget(self.status)
        column.addStretch(1)
        self._box = QBoxLayout(QBoxLayout.Direction.LeftToRight, self)
        self._box.setContentsMargins(8, 8, 8, 8)
        self._box.addWidget(self.controls)
        self._box.addWidget(self.table, 1)

    def _connect(self) -> None:
        self.button.clicked.connect(lambda: self._guard(self.measure))
        self.copy_button.clicked.connect(self.copy)
        self.save_button.clicked.connect(lambda: self._guard(self.ask_save))
        self.table.went_to.connect(self.go_to)
        self._task.done.connect(self._on_done)
        self._task.failed.connect(self._on_failed)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(REFRESH_MS)
        self._timer.timeout.connect(self.refresh)
        events = self.viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered):
            event.connect(self._later)

    # -- verbs -----------------------------------------------------------------------

    def begin(self, layer: Any = None) -> None:
        """Measure a layer at once, unless that is much work.

        Parameters
        ----------
        layer : napari Labels layer, optional
            Default the selected one, else that of the latest result.
        """
        self.refresh()
        wanted = layer if layer is not None else self.choices.preferred
        if wanted is None:
            return
        self.choices.choose(wanted)
        finest = wanted.data[0] if wanted.multiscale else wanted.data
        if math.prod(finest.shape) <= MUCH:
            self._guard(self.measure)

    def measure(self) -> None:
        """Measure what is chosen, in the background.

        Raises
        ------
        FewShotError
            If there is nothing to measure, or the image does not fit.
        """
        layer = self.choices.layer
        if layer is None:
            raise FewShotError(EMPTY)
        if self._task.is_running:
            return
        prediction, is_edited = self.choices.result_of(layer)
        image, how = self.choices.image_layer, self.choices.how
        wanted = gather(layer, image, how, prediction, is_edited=is_edited)
        self._asked = layer, wanted
        self._say(f"Measuring {layer.name} ...")
        self.bar.show()
        self.button.setEnabled(False)
        self._task.start(lambda _progress: wanted.table())

    def go_to(self, row: int) -> None:
        """Go to the object in a row of the table, and mark it."""
        model = self.table.model()
        if self._measured is None or model is None:
            return
        layer, wanted = self._measured
        if layer not in self.viewer.layers:
            self._say(f"\u26a0 {wanted.name} is not open any more. Measure again.")
            return
        found = model.row_of(row)
        if layer.ndim == len(wanted.labels.shape):
            self._marker.show(layer, wanted, found)
        label = int(found["class_value"])
        layer.selected_label = label or int(found["label"])

    def copy(self) -> None:
        """Put the selected rows, or all, on the clipboard."""
        model = self.table.model()
        if model is not None:
            rows = self.table.rows()
            QApplication.clipboard().setText(model.text(rows if len(rows) > 1 else []))

    def ask_save(self) -> None:
        """Ask for a file and write the table there."""
        name = self._measured[1].name if self._measured is not None else "objects"
        path, _ = QFileDialog.getSaveFileName(
            self, "Save measurements", f"{name}_measurements.csv", "CSV (*.csv)"
        )
        if path:
            self.save(path if path.lower().endswith(".csv") else f"{path}.csv")

    def save(self, path: str | Path) -> None:
        """Write the whole table as CSV; the file is complete or not there.

        Raises
        ------
        StorageError
            If it can't be written.
        """
        model = self.table.model()
        if model is None:
            raise FewShotError("There is nothing to save yet. Press Measure first.")
        with atomic_write(path) as temporary:
            model.to_save().to_csv(temporary, index=False, lineterminator="\n")
        self._say(f"Saved {path}.")

    def shut_down(self) -> None:
        """Let go of the viewer; called when the dock is closed."""
        if self._is_closed:
            return
        self._is_closed = True
        self._timer.stop()
        self._task.close()
        events = self.viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered):
            event.disconnect(self._later)
        self._marker.remove()

    # -- reactions -------------------------------------------------------------------

    def refresh(self) -> None:
        """List the layers anew; what is chosen stays if it can."""
        if self._is_closed:
            return
        self.choices.refresh()
        if not self.choices.has_labels:
            self._say(EMPTY)
        elif self.status.text() in ("", EMPTY):
            self._say(READY)
        self._show_buttons()

    def _on_done(self, found: Any) -> None:
        frame, how = found
        self._measured, self._asked = self._asked, None
        self.bar.hide()
        unit = PIXELS
        if self._measured is not None and self._measured[1].scale is not None:
            unit = self._measured[1].unit
        self._marker.remove()
        self.table.show_frame(MeasureModel(frame, unit))
        self._say(_summary(frame, how))
        self._show_buttons()

    def _on_failed(self, error: Exception) -> None:
        self.bar.hide()
        is_ours = isinstance(error, (FewShotError, OSError, MemoryError))
        text = str(error) or type(error).__name__
        self._say(f"\u26a0 {text if is_ours else f'It did not work: {text}'}")
        self._show_buttons()

    def _guard(self, action: Any) -> None:
        """Call a verb; what goes wrong is shown below the button."""
        try:
            action()
        except (FewShotError, TypeError, ValueError) as error:
            self._on_failed(error)

    def _say(self, text: str) -> None:
        self.status.setText(text)
        self.status.setToolTip(text)

    def _show_buttons(self) -> None:
        model = self.table.model()
        has_rows = model is not None and model.rowCount() > 0
        self.button.setEnabled(self.choices.has_labels and not self._task.is_running)
        for button in (self.copy_button, self.save_button):
            button.setEnabled(has_rows)

    def _later(self, *_: Any) -> None:
        if not self._is_closed:
            self._timer.start()

    def resizeEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Put the table beside the choices, or below them."""
        super().resizeEvent(event)
        is_wide = self.width() >= WIDE
        way = QBoxLayout.Direction
        self._box.setDirection(way.LeftToRight if is_wide else way.TopToBottom)
        self.controls.setMinimumWidth(SIDE if is_wide else 0)
        self.controls.setMaximumWidth(SIDE if is_wide else NO_LIMIT)

    def event(self, event: Any) -> bool:
        """Shut down when the dock is closed: napari takes us out of it."""
        handled = bool(super().event(event))
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.shut_down()
        return handled


def _summary(frame: Any, how: str) -> str:
    """Return how many objects there are, of which classes, and what one is."""
    if frame.empty:
        return NOTHING
    many = "1 object" if len(frame) == 1 else f"{len(frame):,} objects"
    counts = frame["class"].value_counts()
    if how != NUMBERS and len(counts) > 1:
        parts = [f"{n:,} {name}" for name, n in counts.items()]
        more = f" and {len(parts) - 3} more classes" if len(parts) > 3 else ""
        many += f": {', '.join(parts[:3])}{more}"
    said = {PIECES: "Connected pieces.", NUMBERS: "Numbers of the layer."}
    return f"{many}. {said.get(how, 'Objects of the run.')}"
