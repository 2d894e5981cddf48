"""The class table: value, colour, name, phrase, supports and expected quality."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QAbstractItemView,
    QColorDialog,
    QHBoxLayout,
    QHeaderView,
    QPushButton,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_fewshot.widgets._text_rows import PhraseDelegate, joined
from napari_fewshot.widgets._trust_marks import score_words

if TYPE_CHECKING:
    from napari_fewshot.session import Session, SessionState

COLUMNS = ("#", "name", "phrase", "supports", "score")
NAME, PHRASE = 1, 2
ROW_HEIGHT = 24
MAX_ROWS_SHOWN = 4


class ClassPanel(QWidget):  # type: ignore[misc]
    """Names and colours of classes, and how well they are expected to be found.

    Parameters
    ----------
    session : Session
        Its class table is shown and edited.
    """

    # Class whose row the user went to; class and what was typed as its phrase.
    selected = Signal(int)
    phrased = Signal(int, str)

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._is_filling = False
        self._checked_after: Any = None
        session.checked.connect(self._on_checked)
        self.table = QTableWidget(0, len(COLUMNS))
        self.table.setHorizontalHeaderLabels(COLUMNS)
        self.table.setToolTip(
            "Double-click a name or a phrase to change it, a number to change its "
            "colour. The Text tab says more about a phrase."
        )
        self.table.verticalHeader().hide()
        self.table.verticalHeader().setDefaultSectionSize(ROW_HEIGHT)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setShowGrid(False)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        for column in (NAME, PHRASE):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.Stretch)
        self.table.setItemDelegateForColumn(PHRASE, PhraseDelegate(self.table))
        self.table.setWordWrap(False)
        header.setHighlightSections(False)
        self.add_button = QPushButton("+ class")
        self.add_button.setToolTip("Add a class; paint it with its number.")
        self.remove_button = QPushButton("- class")
        self.remove_button.setToolTip("Remove the selected class, if nothing uses it.")
        buttons = QHBoxLayout()
        buttons.addWidget(self.add_button)
        buttons.addWidget(self.remove_button)
        buttons.addStretch()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.table)
        layout.addLayout(buttons)
        # In a tall window the room is left below all sections, not between these.
        sizes = QSizePolicy.Policy
        self.setSizePolicy(sizes.Preferred, sizes.Maximum)
        self.add_button.clicked.connect(self._on_add)
        self.remove_button.clicked.connect(self._on_remove)
        self.table.itemChanged.connect(self._on_edited)
        self.table.currentCellChanged.connect(self._on_selected)
        self.table.cellDoubleClicked.connect(self._on_double_click)

    def show_state(self, state: SessionState) -> None:
        """Show the classes of a state."""
        self._is_filling = True
        self.table.setRowCount(len(state.classes))
        for row, entry in enumerate(state.classes):
            used = sum(entry.value in r.support.label_values for r in state.supports)
            number = _item(f"{entry.value}", editable=False)
            number.setBackground(QColor(entry.colour))
            number.setForeground(QColor(_readable(entry.colour)))
            number.setTextAlignment(Qt.AlignmentFlag.AlignCenter)
            number.setData(Qt.ItemDataRole.UserRole, entry.value)
            self.table.setItem(row, 0, number)
            self.table.setItem(row, NAME, _item(entry.name))
            self.table.setItem(row, PHRASE, _phrase_item(state, entry.value))
            self.table.setItem(row, 3, _item(str(used), editable=False))
            self.table.setItem(row, 4, self._score_item(state, entry.value))
        shown = min(max(1, len(state.classes)), MAX_ROWS_SHOWN)
        header = self.table.horizontalHeader().sizeHint().height()
        self.table.setFixedHeight(header + shown * ROW_HEIGHT + 6)
        self._is_filling = False

    def _score_item(self, state: SessionState, value: int) -> QTableWidgetItem:
        # A result that was there when the supports were checked is older than that.
        is_newer = state.prediction is None or state.prediction is self._checked_after
        expected = self._session.expectation if is_newer else None
        text, tip = score_words(state, value, expected)
        item = _item(text, editable=False)
        item.setToolTip(tip)
        return item

    def _on_checked(self, _: Any) -> None:
        self._checked_after = self._session.prediction

    def _value(self, row: int) -> int:
        return int(self.table.item(row, 0).data(Qt.ItemDataRole.UserRole))

    def _on_add(self) -> None:
        names = self._session.state.classes.names
        value = max(names, default=0) + 1
        self._session.set_classes({**names, value: f"class {value}"})

    def _on_remove(self) -> None:
        row = self.table.currentRow()
        names = self._session.state.classes.names
        if row < 0 or row >= len(names):
            return
        value = self._value(row)
        if value in self._session.state.document.support_set().label_values:
            return
        self._session.set_classes({v: n for v, n in names.items() if v != value})

    def select(self, value: int) -> None:
        """Go to the row of a class."""
        for row in range(self.table.rowCount()):
            if self._value(row) == value and row != self.table.currentRow():
                self.table.setCurrentCell(row, NAME)

    def _on_selected(self, row: int, *_: int) -> None:
        if not self._is_filling and 0 <= row < self.table.rowCount():
            self.selected.emit(self._value(row))

    def _on_edited(self, item: QTableWidgetItem) -> None:
        if self._is_filling or item.column() not in (NAME, PHRASE):
            return
        value = self._value(item.row())
        if item.column() == PHRASE:
            self.phrased.emit(value, item.text())
            return
        names = self._session.state.classes.names
        if item.text().strip() and names.get(value) != item.text():
            self._session.set_classes({**names, value: item.text().strip()})

    def _on_double_click(self, row: int, column: int) -> None:
        if column != 0:
            return
        classes = self._session.state.classes
        value = self._value(row)
        colour = QColorDialog.getColor(QColor(classes.colours[value]), self)
        if colour.isValid():
            self._session.set_classes(classes.names, {value: colour.name()})


def _phrase_item(state: SessionState, value: int) -> QTableWidgetItem:
    prompt = state.document.text.get(value)
    text = "" if prompt is None else joined(prompt.phrases)
    item = _item(text)
    item.setToolTip(text or "Double-click to type what this class looks like.")
    return item


def _item(text: str, *, editable: bool = True) -> QTableWidgetItem:
    item = QTableWidgetItem(text)
    flags: Any = item.flags()
    if not editable:
        flags &= ~Qt.ItemFlag.ItemIsEditable
    item.setFlags(flags)
    return item


def _readable(colour: str) -> str:
    """Return black or white, whichever is easier to read on a colour."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#ffffff"
