"""The table of the dock *Models*."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QTableWidget,
    QTableWidgetItem,
    QWidget,
)

from napari_fewshot.io import installed_model
from napari_fewshot.models import get_model_spec, model_specs
from napari_fewshot.widgets._models_texts import TASKS, size_words, state_words

if TYPE_CHECKING:
    from napari_fewshot.models import ModelSpec

COLUMNS = ("model", "state", "size", "licence", "for")
# Pixels: height of a row, and width of the names such that the licence is in view.
ROW, NAME = 22, 145


class ModelsTable(QTableWidget):  # type: ignore[misc]
    """One model per row, in the catalogue's order."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(0, len(COLUMNS), parent)
        self.setHorizontalHeaderLabels(COLUMNS)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        # Tab leaves the table, so that the buttons are in reach of the keyboard.
        self.setTabKeyNavigation(False)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.verticalHeader().hide()
        self.verticalHeader().setDefaultSectionSize(ROW)
        header = self.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Interactive)
        header.resizeSection(0, NAME)
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft)
        header.setHighlightSections(False)

    @property
    def selected(self) -> ModelSpec | None:
        """The model of the selected row."""
        row = self.currentRow()
        return None if row < 0 else get_model_spec(self.item(row, 0).text())

    def select(self, name: str) -> None:
        """Select a model by name."""
        found = self.findItems(name, Qt.MatchFlag.MatchExactly)
        if found:
            self.selectRow(found[0].row())

    def refresh(self) -> None:
        """Read again what is installed."""
        specs = model_specs()
        self.setRowCount(len(specs))
        for row, spec in enumerate(specs):
            record = installed_model(spec.name) if spec.needs_download else None
            words = (
                spec.name,
                state_words(spec, record),
                size_words(spec),
                spec.licence.split(" (")[0],
                TASKS[spec.task],
            )
            for column, text in enumerate(words):
                item = QTableWidgetItem(text)
                item.setToolTip(
                    f"{spec.name}\n{spec.summary}\nTrained on: {spec.trained_on}"
                )
                self.setItem(row, column, item)

    def search(self, text: str) -> None:
        """Show only models whose facts contain all words of a text."""
        wanted = text.casefold().split()
        for row, spec in enumerate(model_specs()):
            content = f"{spec.name} {spec.summary} {spec.trained_on}".casefold()
            self.setRowHidden(row, not all(word in content for word in wanted))
