"""The table of measured objects: sortable, with units, in the words of the field."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt, Signal
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView, QWidget

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

SYMBOLS = {
    "angstrom": "\u00c5",
    "nanometer": "nm",
    "micrometer": "\u00b5m",
    "millimeter": "mm",
    "centimeter": "cm",
    "meter": "m",
    "inch": "in",
}
POWERS = {"perimeter": 1, "major_axis": 1, "minor_axis": 1}
POWERS |= {"area": 2, "surface": 2, "volume": 3}
RAISED = {1: "", 2: "\u00b2", 3: "\u00b3"}
TITLES = {"major_axis": "major axis", "minor_axis": "minor axis", "label": "object"}
TIPS = {
    "t": "Point in time, counted from 0.",
    "label": "Number of the object.",
    "class": "Its class.",
    "pixels": "Its size in pixels.",
    "area": "Its area, by the pixel size of the image.",
    "volume": "Its volume, by the voxel size of the image.",
    "perimeter": "Length of its outline, estimated by counted crossings.",
    "surface": "Its surface, estimated by counted crossings.",
    "major_axis": "Longest axis of the ellipse or ellipsoid with the same moments.",
    "minor_axis": "Shortest axis of the ellipse or ellipsoid with the same moments.",
    "eccentricity": "How long it is: 0 is a circle, near 1 is a line.",
    "solidity": "Its share of its convex hull; empty where that would take minutes.",
    "z": "Plane of its centre, counted from 0.",
    "row": "Row of its centre, in pixels.",
    "column": "Column of its centre, in pixels.",
    "mean": "Mean intensity, as stored.",
    "min": "Least intensity, as stored.",
    "max": "Greatest intensity, as stored.",
    "std": "Standard deviation of the intensity.",
}
# Saved and copied, but not shown.
HIDDEN = {"class_value"} | {
    f"{end}_{axis}" for end in ("min", "max") for axis in ("z", "row", "column")
}
ROW, LOOK = 22, 50
PIXELS = "px"
RIGHT = Qt.AlignmentFlag.AlignRight


class MeasureModel(QAbstractTableModel):  # type: ignore[misc]
    """A table of `napari_fewshot.measure`, for a view.

    Parameters
    ----------
    frame : pandas.DataFrame
        As measured; every column is kept, the ones of use are shown.
    unit : str
        Of length, such as ``"micrometer"``; empty if it has no name.
    """

    def __init__(self, frame: pd.DataFrame, unit: str = PIXELS) -> None:
        super().__init__()
        self.frame = frame
        self.unit = unit
        self.columns = [str(c) for c in frame.columns if c not in HIDDEN]
        self._order = np.arange(len(frame))
        # Cells are asked for one by one, often: plain lists are quick.
        self._cells = [frame[c].tolist() for c in self.columns]
        self._decimals = [_decimals(frame[c].to_numpy()) for c in self.columns]
        self._is_grey = "mean_1" not in self.columns

    def rowCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802 - Qt's
        """Return how many objects there are."""
        is_inside = parent is not None and parent.isValid()
        return 0 if is_inside else len(self._order)

    def columnCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802
        """Return how many columns are shown."""
        return 0 if parent is not None and parent.isValid() else len(self.columns)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return what a cell shows."""
        if not index.isValid():
            return None
        value = self._cells[index.column()][self._order[index.row()]]
        if role == Qt.ItemDataRole.DisplayRole:
            return say_value(value, self._decimals[index.column()])
        if role == Qt.ItemDataRole.TextAlignmentRole:
            is_text = isinstance(value, str)
            side = Qt.AlignmentFlag.AlignLeft if is_text else RIGHT
            return int(side | Qt.AlignmentFlag.AlignVCenter)
        return None

    def headerData(  # noqa: N802 - Qt's name
        self,
        section: int,
        orientation: Qt.Orientation,
        role: int = Qt.ItemDataRole.DisplayRole,
    ) -> Any:
        """Return the title of a column with its unit, or what it is."""
        if orientation != Qt.Orientation.Horizontal or section >= len(self.columns):
            return None
        name = self.columns[section]
        if role == Qt.ItemDataRole.DisplayRole:
            return title_of(name, self.unit, is_grey=self._is_grey)
        if role == Qt.ItemDataRole.ToolTipRole:
            stem, _, channel = name.rpartition("_")
            is_light = channel.isdigit()
            tip = TIPS.get(stem if is_light else name, name)
            return f"{tip} Channel {channel}." if is_light else tip
        if role == Qt.ItemDataRole.TextAlignmentRole:
            # The arrow of the order stands on the right.
            return int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        return None

    def sort(
        self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder
    ) -> None:
        """Sort by a column; what is not known comes last, equal rows stay in order."""
        if not 0 <= column < len(self.columns):
            return
        values = self.frame[self.columns[column]]
        is_up = order == Qt.SortOrder.AscendingOrder
        self.layoutAboutToBeChanged.emit()
        kept = self.persistentIndexList()
        rows = [int(self._order[index.row()]) for index in kept]
        sorted_values = values.reset_index(drop=True).sort_values(
            ascending=is_up, kind="stable", na_position="last"
        )
        self._order = sorted_values.index.to_numpy()
        places = np.empty(len(self._order), int)
        places[self._order] = np.arange(len(self._order))
        for index, row in zip(kept, rows, strict=True):
            moved = self.index(int(places[row]), index.column())
            self.changePersistentIndex(index, moved)
        self.layoutChanged.emit()

    def row_of(self, row: int) -> dict[str, Any]:
        """Return everything about the object in a row of the view."""
        found = self.frame.iloc[int(self._order[row])]
        return {str(name): value for name, value in found.items()}

    def text(self, rows: Sequence[int]) -> str:
        """Return rows of the view, or all of them, for a spreadsheet."""
        chosen = self._order if not rows else self._order[sorted(set(rows))]
        found: str = (
            self.to_save()
            .iloc[chosen]
            .to_csv(sep="\t", index=False, lineterminator="\n")
        )
        return found

    def to_save(self) -> pd.DataFrame:
        """Return the whole table with the unit of length, as a batch writes it."""
        return self.frame.assign(unit="" if self.unit == PIXELS else self.unit)


class MeasureTable(QTableView):  # type: ignore[misc]
    """Shows a `MeasureModel`; `went_to` tells the row that was chosen."""

    went_to = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setTabKeyNavigation(False)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setAccessibleName("Measured objects")
        self.setToolTip("Click a row to go to the object; a title sorts.")
        self.verticalHeader().hide()
        self.verticalHeader().setDefaultSectionSize(ROW)
        header = self.horizontalHeader()
        header.setHighlightSections(False)
        # Of a long table the first rows tell how wide columns are.
        header.setResizeContentsPrecision(LOOK)
        header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        self.setMinimumHeight(4 * ROW)

    def show_frame(self, model: MeasureModel) -> None:
        """Show another table, in the order in which it was measured."""
        old = self.model()
        self.setSortingEnabled(False)
        self.setModel(model)
        self.horizontalHeader().setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        self.setSortingEnabled(True)
        self.resizeColumnsToContents()
        self.selectionModel().currentRowChanged.connect(self._on_row)
        if old is not None:
            old.deleteLater()

    def rows(self) -> list[int]:
        """Return the selected rows, top first."""
        chosen = self.selectionModel()
        return [] if chosen is None else sorted(i.row() for i in chosen.selectedRows())

    def _on_row(self, now: QModelIndex, _before: QModelIndex) -> None:
        if now.isValid():
            self.went_to.emit(now.row())


def title_of(name: str, unit: str, *, is_grey: bool = True) -> str:
    """Return the title of a column with its unit.

    Parameters
    ----------
    name : str
        As `napari_fewshot.measure` has it.
    unit : str
        Of length; empty if it has no name.
    is_grey : bool
        Whether there is but one channel, which needs no number.
    """
    title = TITLES.get(name, name.replace("_", " "))
    stem, _, channel = name.rpartition("_")
    if channel.isdigit():
        return f"{stem} intensity" if is_grey else f"{stem}, channel {channel}"
    if name not in POWERS:
        return title
    length = SYMBOLS.get(unit, unit)
    return f"{title} ({length}{RAISED[POWERS[name]]})" if length else title


def say_value(value: Any, decimals: int) -> str:
    """Return a number as a table shows it; nothing for what is not known.

    Parameters
    ----------
    value : number or str
        Of a cell.
    decimals : int
        Of its column.
    """
    if isinstance(value, float):
        if math.isnan(value):
            return ""
        is_plain = value == 0 or 10.0**-decimals / 2 <= abs(value) < 1e7
        return f"{value:,.{decimals}f}" if is_plain else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _decimals(values: Any) -> int:
    """Return decimals with which most numbers of a column have three digits."""
    if values.dtype.kind != "f":
        return 0
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    if not sizes.size or (sizes == np.round(sizes)).all():
        return 0
    return int(min(5, max(1, 2 - math.floor(math.log10(float(np.median(sizes)))))))
