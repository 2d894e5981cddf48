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

if TYPE_CHECKING:
    from napari_fewshot.session import Session, SessionState

LOW_SCORE = 0.6
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
        self.table.horizontalHeader().setSectionResizeMode(
            QHeaderView.ResizeMode.Stretch
        )
        self.table.horizontalHeader().setHighlightSections(False)
        self.table.setToolTip("Click a row to go there. Score: the expected Dice.")
        self.table.setMinimumHeight(130)
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
        self.copy_button = _button("Copy as", "Copy what you did as a program.")
        self._build()

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.empty)
        layout.addWidget(self.table)
        first, second, third = QHBoxLayout(), QHBoxLayout(), QHBoxLayout()
        for button in (self.accept_button, self.refine_button, self.reject_button):
            first.addWidget(button)
        second.addWidget(self.all_button, 2)
        second.addWidget(self.limit, 1)
        third.addWidget(self.save_button)
        third.addWidget(self.copy_button)
        for row in (first, second, third):
            layout.addLayout(row)
        menu = QMenu(self)
        menu.addAction("Python", lambda: self.copy("python"))
        menu.addAction("Command line", lambda: self.copy("cli"))
        self.copy_button.setMenu(menu)
        self.table.itemSelectionChanged.connect(self._on_selected)
        self.accept_button.clicked.connect(lambda: self.accept.emit(self.selected()))
        self.reject_button.clicked.connect(lambda: self.reject.emit(self.selected()))
        self.refine_button.clicked.connect(self._on_refine)
        self.all_button.clicked.connect(self._on_accept_all)
        self.save_button.clicked.connect(lambda: self.save.emit())

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
            status = "accepted" if plane in state.accepted else ""
            status = "rejected" if plane in state.document.rejected else status
            cells = (number, QTableWidgetItem(text), QTableWidgetItem(status))
            for column, item in enumerate(cells):
                self.table.setItem(at, column, item)
                item.setSelected(plane in kept)
        self.table.blockSignals(False)
        has_rows = bool(rows)
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
        ):
            widget.setVisible(has_rows)
            widget.setEnabled(not state.running)

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

    def _on_refine(self) -> None:
        planes = self.selected()
        if planes:
            self.refine.emit(planes[0])

    def _on_accept_all(self) -> None:
        accepted = self._session.state.accepted
        limit = self.limit.value()
        rows = self._session.worst_first()
        self.accept.emit([p for p, s in rows if s >= limit and p not in accepted])


def _button(text: str, tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    return button
