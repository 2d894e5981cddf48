"""What to compare: methods, models and planes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QRadioButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_fewshot.methods import get_method, learning_methods
from napari_fewshot.models import get_model_spec, installed_models

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot.session import SessionState

# Pixels: a row, and how many rows are in view without scrolling.
ROW, METHOD_ROWS, MODEL_ROWS = 22, 6, 3
NAME = 128
# Ticked besides the method that is set: quick, and of another kind.
RIVALS = ("template", "pixel")


class CheckTable(QTableWidget):  # type: ignore[misc]
    """Names to tick, each with a line that says what it is.

    Parameters
    ----------
    rows : int
        How many are in view without scrolling.
    tip : str
        What ticking means.
    """

    changed = Signal()

    def __init__(self, rows: int, tip: str) -> None:
        super().__init__(0, 2)
        self.setToolTip(tip)
        self.horizontalHeader().hide()
        self.verticalHeader().hide()
        self.verticalHeader().setDefaultSectionSize(ROW)
        self.horizontalHeader().setSectionResizeMode(1, QHeaderView.ResizeMode.Stretch)
        self.horizontalHeader().resizeSection(0, NAME)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        # Tab leaves the table; arrows and the space bar tick.
        self.setTabKeyNavigation(False)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setFixedHeight(rows * ROW + 2 * self.frameWidth())
        self.itemChanged.connect(self._on_changed)

    def fill(self, items: Sequence[tuple[str, str]], checked: Sequence[str]) -> None:
        """Show names with their lines, some of them ticked."""
        self.blockSignals(True)
        self.setRowCount(len(items))
        for row, (name, line) in enumerate(items):
            box = QTableWidgetItem(name)
            box.setCheckState(_state(name in checked))
            for column, item in enumerate((box, QTableWidgetItem(line))):
                item.setToolTip(f"{name}: {line}")
                self.setItem(row, column, item)
        self.blockSignals(False)

    def names(self) -> list[str]:
        """Return all names, in order."""
        return [self.item(row, 0).text() for row in range(self.rowCount())]

    def checked(self) -> list[str]:
        """Return the ticked names, in order."""
        items = [self.item(row, 0) for row in range(self.rowCount())]
        return [i.text() for i in items if i.checkState() == Qt.CheckState.Checked]

    def check(self, names: Sequence[str]) -> None:
        """Tick these names and no others."""
        for row, name in enumerate(self.names()):
            self.item(row, 0).setCheckState(_state(name in names))

    def _on_changed(self, _: QTableWidgetItem) -> None:
        self.changed.emit()


class ChoicesPanel(QWidget):  # type: ignore[misc]
    """Ticks methods and models, and says on which planes."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.methods = CheckTable(METHOD_ROWS, "Tick the methods to compare.")
        self.models = CheckTable(
            MODEL_ROWS,
            "Methods that use a model are tried with every ticked one.",
        )
        self.methods.setAccessibleName("Methods to compare")
        self.models.setAccessibleName("Models to compare")
        self.this_plane = QRadioButton("this plane")
        self.this_plane.setToolTip("Compare on the plane that the viewer shows.")
        self.whole = QRadioButton("whole stack")
        self.whole.setToolTip("Compare on every plane that is not accepted yet.")
        self.this_plane.setChecked(True)
        self.planes = QWidget()
        row = QHBoxLayout(self.planes)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(QLabel("On"))
        row.addWidget(self.this_plane)
        row.addWidget(self.whole)
        row.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(QLabel("Methods"))
        column.addWidget(self.methods)
        column.addWidget(QLabel("Models"))
        column.addWidget(self.models)
        column.addWidget(self.planes)
        for part in (self.methods, self.models):
            part.changed.connect(self.changed.emit)
        self.whole.toggled.connect(lambda _: self.changed.emit())

    def fill(self, method: str, model: str) -> None:
        """List what there is; tick what is set, and a rival for it.

        Parameters
        ----------
        method, model : str
            Those of the session.
        """
        rival = next(name for name in RIVALS if name != method)
        methods = [(n, get_method(n).spec.summary) for n in learning_methods()]
        self.methods.fill(methods, (method, rival))
        self.refresh_models((model,))

    def refresh_models(self, checked: Sequence[str] | None = None) -> None:
        """List the models on this machine anew; ticks stay."""
        names = ("auto", *(n for n in installed_models() if n != "auto"))
        if checked is None and self.models.names() == list(names):
            return
        kept = self.models.checked() if checked is None else checked
        kept = [n for n in kept if n in names] or ["auto"]
        lines = {"auto": "The best one on this machine that fits."}
        lines.update((n, get_model_spec(n).summary) for n in names if n not in lines)
        self.models.fill([(n, lines[n]) for n in names], kept)

    def show_state(self, state: SessionState) -> None:
        """Show planes for stacks only; nothing is chosen while something runs."""
        query = state.query
        self.planes.setVisible(query is not None and query.n_planes > 1)
        self.setEnabled(not state.running)

    def choices(self) -> list[tuple[str, str]]:
        """Return the pairs of method and model that are ticked."""
        found = []
        models = self.models.checked() or ["auto"]
        for name in self.methods.checked():
            uses = get_method(name).spec.uses_model
            found += [(name, model) for model in (models if uses else ["auto"])]
        return found


def _state(is_on: bool) -> Qt.CheckState:
    return Qt.CheckState.Checked if is_on else Qt.CheckState.Unchecked
