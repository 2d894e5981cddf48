"""The table of a comparison: who is expected to be how good, and who agrees."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QTableWidget,
    QTableWidgetItem,
    QWidget,
)

from napari_fewshot.widgets._run_panel import say_seconds

if TYPE_CHECKING:
    from napari_fewshot.session import Comparison

COLUMNS = ("candidate", "Dice", "agrees", "time")
TIPS = (
    "Method, and its model in brackets if one was chosen.",
    "Expected Dice on these planes, from 0 to 1, mean over classes. With ?: the "
    "method's guess about itself, not tested on your supports.",
    "Mean Dice with the other candidates, from 0 to 1.",
    "Seconds to learn and to segment.",
)
ROW, HEIGHT = 24, 116


class CompareTable(QTableWidget):  # type: ignore[misc]
    """One row per candidate, highest expected Dice first, failed ones last."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(0, len(COLUMNS), parent)
        for column, (title, tip) in enumerate(zip(COLUMNS, TIPS, strict=True)):
            header = QTableWidgetItem(title)
            header.setToolTip(tip)
            self.setHorizontalHeaderItem(column, header)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setTabKeyNavigation(False)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setToolTip("Select a row to see it over the image, or to use it.")
        self.setAccessibleName("Results of the comparison")
        self.verticalHeader().hide()
        self.verticalHeader().setDefaultSectionSize(ROW)
        header = self.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft)
        header.setHighlightSections(False)
        self.setMinimumHeight(HEIGHT)

    @property
    def selected(self) -> str | None:
        """Name of the candidate in the selected row."""
        item = self.item(self.currentRow(), 0)
        return None if item is None else str(item.text())

    def select(self, name: str) -> None:
        """Select a candidate by name."""
        found = self.findItems(name, Qt.MatchFlag.MatchExactly)
        if found:
            self.selectRow(found[0].row())

    def show_comparison(self, comparison: Comparison | None) -> None:
        """Show what is known; the selected candidate stays selected."""
        kept = self.selected
        rows: list[Any] = []
        if comparison is not None:
            rows = comparison.table.to_dict("records")
        self.blockSignals(True)
        self.setRowCount(len(rows))
        for at, row in enumerate(rows):
            words = _words(comparison, row)
            tip = _tip(comparison, row)
            for column, text in enumerate(words):
                item = QTableWidgetItem(text)
                item.setToolTip(tip)
                self.setItem(at, column, item)
        self.blockSignals(False)
        if rows:
            names = [row["name"] for row in rows]
            self.select(kept if kept is not None and kept in names else names[0])


def _words(comparison: Comparison | None, row: dict[str, Any]) -> tuple[str, ...]:
    if row["status"] != "done" or comparison is None:
        return row["name"], row["status"], "", ""
    score, agrees = row["expected dice"], comparison.agreement(row["name"])
    doubt = "" if row["score kind"] == "leave-one-out" else " ?"
    seconds = row["seconds to learn"] + row["seconds to segment"]
    return (
        row["name"],
        "" if math.isnan(score) else f"{score:.2f}{doubt}",
        "" if math.isnan(agrees) else f"{agrees:.2f}",
        say_seconds(seconds),
    )


def _tip(comparison: Comparison | None, row: dict[str, Any]) -> str:
    """Return everything about a candidate, one fact per line."""
    if row["status"] != "done" or comparison is None:
        return f"{row['name']}: {row['status']}. {row['message']}".strip()
    lines = [row["name"]]
    for label in comparison.classes.values():
        lines.append(
            f"{label}: expected Dice {row[f'expected dice {label}']:.2f} "
            f"({row[f'low {label}']:.2f} to {row[f'high {label}']:.2f}), "
            f"area {row[f'area {label}']:,} pixels"
        )
    lines.append(
        f"{row['seconds to learn']:.1f} s to learn, "
        f"{row['seconds to segment']:.1f} s to segment"
    )
    for other in comparison.best_first:
        if other != row["name"]:
            lines.append(f"Dice with {other}: {row[f'dice with {other}']:.2f}")
    if row["score kind"] != "leave-one-out":
        lines.append("Not tested on your supports: compare it with care.")
    return "\n".join([*lines, row["message"]] if row["message"] else lines)
