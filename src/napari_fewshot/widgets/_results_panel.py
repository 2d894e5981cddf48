"""Results, worst first: go there, accept, reject, save, repeat."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QDoubleSpinBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QMenu,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_fewshot.errors import FewShotError
from napari_fewshot.viewer._tracks import NONE, has_tracks
from napari_fewshot.widgets._trust_marks import LOW_SCORE, UNFAMILIAR, novelty_tip

if TYPE_CHECKING:
    from napari_fewshot.session import Session, SessionState

TRACKS_TIP = "Show where objects are over time or depth, as a Tracks layer."
MAX_ROWS = 500
ROW_HEIGHT = 24


class ResultsPanel(QWidget):  # type: ignore[misc]
    """The planes of the last run.

    Parameters
    ----------
    session : Session
        Whose results are shown.
    """

    go_to = Signal(int)
    accept = Signal(list)
    reject = Signal(list)
    refine = Signal(int)
    save = Signal()
    compare = Signal()
    measure = Signal()
    tracks = Signal()
    failed = Signal(object)

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self.empty = QLabel("Results appear here, worst first, after the first run.")
        self.empty.setWordWrap(True)
        self.table = QTableWidget(0, 3)
        self.table.setHorizontalHeaderLabels(("plane", "score", ""))
        self.table.verticalHeader().hide()
        self.table.verticalHeader().setDefaultSectionSize(ROW_HEIGHT)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setShowGrid(False)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        # The words of the last column are the longest.
        header.setSectionResizeMode(2, QHeaderView.ResizeMode.ResizeToContents)
        header.setHighlightSections(False)
        self.table.setToolTip("Click a row to go there. Score: the expected Dice.")
        self.table.setMinimumHeight(130)
        self.suggestion = QLabel()
        self.suggest_button = _button(
            "Go there",
            "The plane that is least sure and least like your supports: correct and "
            "accept it, and the next run learns most.",
        )
        self.accept_button = _button("Accept", "Use the selected planes as supports.")
        self.reject_button = _button("Reject", "Clear the selected planes.")
        self.refine_button = _button(
            "Refine", "Go there and correct it with clicks, boxes or scribbles."
        )
        self.all_button = _button(
            "Accept all above",
            "Accept every plane with at least this expected Dice.",
        )
        self.limit = QDoubleSpinBox()
        self.limit.setRange(0.0, 1.0)
        self.limit.setSingleStep(0.05)
        self.limit.setValue(0.8)
        self.limit.setToolTip("Expected Dice, from 0 to 1.")
        self.save_button = _button("Save...", "Write the labels to a file.")
        self.compare_button = _button(
            "Compare...", "Try several methods and models, and see where they differ."
        )
        self.copy_button = _button("Copy as", "Copy what you did as a program.")
        self.measure_button = _button(
            "Measure...", "A table of all objects: size, shape, intensity, place."
        )
        self.tracks_button = _button("Show tracks", TRACKS_TIP)
        self._build()

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.empty)
        layout.addWidget(self.table)
        suggested = QHBoxLayout()
        suggested.addWidget(self.suggestion, 1)
        suggested.addWidget(self.suggest_button)
        layout.addLayout(suggested)
        first, second, third = QHBoxLayout(), QHBoxLayout(), QHBoxLayout()
        for button in (self.accept_button, self.refine_button, self.reject_button):
            first.addWidget(button)
        second.addWidget(self.all_button, 2)
        second.addWidget(self.limit, 1)
        third.addWidget(self.save_button)
        third.addWidget(self.copy_button)
        third.addWidget(self.compare_button)
        fourth = QHBoxLayout()
        fourth.addWidget(self.measure_button)
        fourth.addWidget(self.tracks_button)
        for row in (first, second, third, fourth):
            layout.addLayout(row)
        menu = QMenu(self)
        menu.addAction("Python", lambda: self.copy("python"))
        menu.addAction("Command line", lambda: self.copy("cli"))
        self.copy_button.setMenu(menu)
        self.table.itemSelectionChanged.connect(self._on_selected)
        self.suggest_button.clicked.connect(self._on_suggested)
        self.accept_button.clicked.connect(lambda: self.accept.emit(self.selected()))
        self.reject_button.clicked.connect(lambda: self.reject.emit(self.selected()))
        self.refine_button.clicked.connect(self._on_refine)
        self.all_button.clicked.connect(self._on_accept_all)
        self.save_button.clicked.connect(lambda: self.save.emit())
        self.compare_button.clicked.connect(lambda: self.compare.emit())
        self.measure_button.clicked.connect(lambda: self.measure.emit())
        self.tracks_button.clicked.connect(lambda: self.tracks.emit())

    def show_state(self, state: SessionState) -> None:
        """Show the planes of a state."""
        rows = self._session.worst_first()
        kept = set(self.selected())
        self.table.blockSignals(True)
        self.table.setRowCount(min(len(rows), MAX_ROWS))
        for at, (plane, score) in enumerate(rows[:MAX_ROWS]):
            number = QTableWidgetItem(str(plane))
            number.setData(Qt.ItemDataRole.UserRole, plane)
            text = f"{score:.2f}" + ("  low" if score < LOW_SCORE else "")
            text = "by hand" if math.isnan(score) else text
            cells = (number, QTableWidgetItem(text), _status(state, plane))
            for column, item in enumerate(cells):
                self.table.setItem(at, column, item)
                item.setSelected(plane in kept)
        self.table.blockSignals(False)
        has_rows = bool(rows)
        self._show_suggestion(state)
        self.empty.setVisible(not has_rows)
        for widget in (
            self.table,
            self.accept_button,
            self.reject_button,
            self.refine_button,
            self.all_button,
            self.limit,
            self.save_button,
            self.copy_button,
            self.measure_button,
            self.tracks_button,
        ):
            widget.setVisible(has_rows)
            widget.setEnabled(not state.running)
        is_linked = has_tracks(state.prediction)
        self.tracks_button.setEnabled(is_linked and not state.running)
        self.tracks_button.setToolTip(TRACKS_TIP if is_linked else NONE)

    def _show_suggestion(self, state: SessionState) -> None:
        """Say which plane of a stack is worth annotating next, if there is one."""
        plane = _suggested(state)
        for part in (self.suggestion, self.suggest_button):
            part.setVisible(plane is not None)
        self.suggestion.setText(f"Plane {plane} would teach most:")

    def selected(self) -> list[int]:
        """Return the selected planes; the worst one if none is."""
        rows = sorted({index.row() for index in self.table.selectedIndexes()})
        if not rows and self.table.rowCount():
            rows = [0]
        items = [self.table.item(row, 0) for row in rows]
        return [int(i.data(Qt.ItemDataRole.UserRole)) for i in items if i is not None]

    def copy(self, kind: str) -> None:
        """Put a program that repeats the session on the clipboard."""
        try:
            QApplication.clipboard().setText(self._session.script(kind))
        except FewShotError as error:
            self.failed.emit(error)

    def _on_selected(self) -> None:
        planes = self.selected()
        if planes:
            self.go_to.emit(planes[0])

    def _on_suggested(self) -> None:
        plane = _suggested(self._session.state)
        if plane is not None:
            self.go_to.emit(plane)

    def _on_refine(self) -> None:
        planes = self.selected()
        if planes:
            self.refine.emit(planes[0])

    def _on_accept_all(self) -> None:
        accepted = self._session.state.accepted
        limit = self.limit.value()
        rows = self._session.worst_first()
        self.accept.emit([p for p, s in rows if s >= limit and p not in accepted])


def _suggested(state: SessionState) -> int | None:
    """Return the plane to annotate next; None for a single plane, or once accepted."""
    prediction, query = state.prediction, state.query
    if prediction is None or query is None or query.n_planes < 2:
        return None
    plane = prediction.suggested
    return None if plane in state.accepted else plane


def _status(state: SessionState, plane: int) -> QTableWidgetItem:
    """Return what was decided about a plane, or that it is unlike the supports."""
    if plane in state.document.rejected:
        return QTableWidgetItem("rejected")
    if plane in state.accepted:
        return QTableWidgetItem("accepted")
    prediction = state.prediction
    novelty = None if prediction is None else prediction.plane_novelty
    if novelty is None or not novelty[plane] > 1:
        return QTableWidgetItem("")
    item = QTableWidgetItem(f"? {UNFAMILIAR}")
    item.setToolTip(novelty_tip(float(novelty[plane])))
    return item


def _button(text: str, tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    return button
