"""What to compare: methods, models, concept files and planes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QRadioButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_fewshot.errors import FewShotError
from napari_fewshot.io import stem_of
from napari_fewshot.methods import get_method, learning_methods
from napari_fewshot.models import get_model_spec, installed_models
from napari_fewshot.session import load_concept

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot.data import Concept
    from napari_fewshot.session import SessionState

# Pixels: a row, and how many rows are in view without scrolling.
ROW, METHOD_ROWS, MODEL_ROWS, CONCEPT_ROWS = 22, 5, 3, 2
# Of the button beside the title: no higher than a line.
BUTTON = 20
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
        self.show_rows(rows)
        self.itemChanged.connect(self._on_changed)

    def show_rows(self, rows: int) -> None:
        """Be as high as so many rows."""
        self.setFixedHeight(rows * ROW + 2 * self.frameWidth())

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


class ConceptFiles(QWidget):  # type: ignore[misc]
    """Concept files to tick: each brings method and supports of its own."""

    changed = Signal()
    failed = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._files: dict[str, tuple[str, str]] = {}
        self.title = QLabel("Concepts")
        self.table = CheckTable(
            1, "Ticked concepts are compared, too, by what is in their files."
        )
        self.table.setAccessibleName("Concept files to compare")
        # Stands beside a title of `ChoicesPanel`, where it takes no line of its own.
        self.add_button = QPushButton("Add concept file...")
        self.add_button.setFixedHeight(BUTTON)
        self.add_button.setToolTip(
            "Compare what a .fewshot file finds, with its own supports; dropping it "
            "here does the same."
        )
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.title)
        column.addWidget(self.table)
        self.hide()
        self.table.changed.connect(self.changed.emit)
        self.add_button.clicked.connect(self.ask)

    def ask(self) -> None:
        """Ask for files and add them."""
        names, _ = QFileDialog.getOpenFileNames(
            self, "Add concept files", "", "Concepts (*.fewshot)"
        )
        self.add(names)

    def add(self, paths: Sequence[str | os.PathLike[str]]) -> None:
        """List concept files, ticked; `failed` tells of one that can't be used.

        Parameters
        ----------
        paths : sequence of path
            A file that is listed already is ticked and read again.
        """
        ticked = set(self.table.checked())
        for path in paths:
            try:
                line = _line(load_concept(path))
            except FewShotError as error:
                self.failed.emit(error)
                continue
            file = os.path.abspath(os.fspath(path))
            name = self._name(file)
            self._files[name] = file, line
            ticked.add(name)
        items = [(name, line) for name, (_, line) in self._files.items()]
        self.table.show_rows(self.rows)
        self.table.fill(items, tuple(ticked))
        for name, (file, line) in self._files.items():
            for item in self.table.findItems(name, Qt.MatchFlag.MatchExactly):
                item.setToolTip(f"{file}: {line}")
        self.setVisible(bool(items))
        self.changed.emit()

    @property
    def rows(self) -> int:
        """How many files are in view without scrolling."""
        return min(len(self._files), CONCEPT_ROWS)

    def checked(self) -> list[str]:
        """Return the paths of the files that are ticked."""
        return [self._files[name][0] for name in self.table.checked()]

    def _name(self, file: str) -> str:
        """Return under which name a file is listed: files of one name are counted."""
        for name, (known, _) in self._files.items():
            if known == file:
                return name
        stem, number = stem_of(file), 2
        name = stem
        while name in self._files:
            name, number = f"{stem} {number}", number + 1
        return name


class ChoicesPanel(QWidget):  # type: ignore[misc]
    """Ticks methods, models and concept files, and says on which planes."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.methods = CheckTable(METHOD_ROWS, "Tick the methods to compare.")
        self.models = CheckTable(
            MODEL_ROWS,
            "Methods that use a model are tried with every ticked one.",
        )
        self.concepts = ConceptFiles()
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
        head = QHBoxLayout()
        head.addWidget(QLabel("Methods"))
        head.addStretch(1)
        head.addWidget(self.concepts.add_button)
        column.addLayout(head)
        column.addWidget(self.methods)
        column.addWidget(QLabel("Models"))
        column.addWidget(self.models)
        column.addWidget(self.concepts)
        column.addWidget(self.planes)
        for part in (self.methods, self.models, self.concepts):
            part.changed.connect(self.changed.emit)
        self.concepts.changed.connect(self._make_room)
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

    def _make_room(self) -> None:
        """Let concept files take the place of methods: the dock stays as high."""
        self.methods.show_rows(METHOD_ROWS - self.concepts.rows)

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

    def choices(self) -> list[tuple[str, str] | str]:
        """Return the pairs of method and model that are ticked, then concept files."""
        found: list[tuple[str, str] | str] = []
        models = self.models.checked() or ["auto"]
        for name in self.methods.checked():
            uses = get_method(name).spec.uses_model
            found += [(name, model) for model in (models if uses else ["auto"])]
        return found + list(self.concepts.checked())


def _line(concept: Concept) -> str:
    """Return in a few words what is in a concept."""
    count = len(concept.support)
    supports = "1 support" if count == 1 else f"{count} supports"
    names = ", ".join(concept.classes.values())
    return f"{concept.method}, {supports}: {names}"


def _state(is_on: bool) -> Qt.CheckState:
    return Qt.CheckState.Checked if is_on else Qt.CheckState.Unchecked
