"""The controls of the Prompts tab, without what they do."""

from __future__ import annotations

from qtpy.QtGui import QColor, QIcon, QKeySequence, QPixmap
from qtpy.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QListWidget,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_fewshot.viewer._prompting import COLOURS, NEGATIVE, POSITIVE

MINUS = "\N{MINUS SIGN}"
EMPTY = "Click on an object: its outline appears. Correct it with more clicks."
NO_IMAGE = "Open an image first: File > Open, or drag a file here."
TOOLS = {
    "points": (
        "Points",
        f"Click on the object; with {MINUS} on what does not belong to it.",
    ),
    "boxes": ("Boxes", "Draw a box around the object."),
    "scribbles": ("Scribbles", f"Draw on the object; with {MINUS} on the background."),
}
# Key and what it does; none of napari's own keys is among them.
SHORTCUTS = {
    "toggle": ("Alt+T", f"Switch between + and {MINUS}"),
    "commit": ("Ctrl+Return", "Commit the object"),
    "next": ("Alt+N", "Commit it and begin the next"),
    "discard": ("Alt+Backspace", "Discard the outline and its prompts"),
    "previous_plane": ("Alt+Left", "Previous plane with an object"),
    "next_plane": ("Alt+Right", "Next plane with an object"),
}
LIST_HEIGHT = 84


class PromptForm(QWidget):  # type: ignore[misc]
    """Class, sign, tools, commit, objects."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._build()
        self._lay_out()

    def _build(self) -> None:
        self.classes = QComboBox()
        self.classes.setToolTip("The class that the object belongs to.")
        self.add_class = QPushButton("+")
        self.add_class.setFixedWidth(28)
        self.add_class.setToolTip("Add a class.")
        self.positive = _toggle(" + object", "The next clicks are on the object.")
        self.negative = _toggle(
            f" {MINUS} not it", "The next clicks are on what is not it."
        )
        for button, sign in ((self.positive, POSITIVE), (self.negative, NEGATIVE)):
            button.setIcon(swatch(COLOURS[sign]))
        self.tools = {name: _toggle(*words) for name, words in TOOLS.items()}
        self.status = QLabel(EMPTY)
        self.status.setWordWrap(True)
        self.commit_button = QPushButton(f"Commit  {printed('commit')}")
        self.commit_button.setToolTip("Write the outlined object into the result.")
        self.next_button = QPushButton(f"Next  {printed('next')}")
        self.next_button.setToolTip("Commit it, then begin the next object.")
        self.discard_button = QPushButton(f"Discard  {printed('discard')}")
        self.discard_button.setToolTip("Remove the outline and its prompts.")
        self.overwrite = QCheckBox("Replace other classes under it")
        self.overwrite.setToolTip(
            "Off: pixels that already have another class stay as they are."
        )
        self.helped = QCheckBox("Let the supports help")
        self.helped.setToolTip(
            "On: everything like the supports is outlined, clicks correct it. "
            "Off: only what you click on."
        )
        self.helped.setChecked(True)
        self.objects = QListWidget()
        self.objects.setMaximumHeight(LIST_HEIGHT)
        self.objects.setToolTip(
            "Committed objects. Click to go there and edit its prompts; Del removes it."
        )

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 4, 0, 0)
        row = QHBoxLayout()
        row.addWidget(QLabel("Class"))
        row.addWidget(self.classes, 1)
        row.addWidget(self.add_class)
        column.addLayout(row)
        grid = QGridLayout()
        signs, tools = QButtonGroup(self), QButtonGroup(self)
        grid.addWidget(self.positive, 0, 0, 1, 3)
        grid.addWidget(self.negative, 0, 3, 1, 3)
        for button in (self.positive, self.negative):
            signs.addButton(button)
        for number, button in enumerate(self.tools.values()):
            tools.addButton(button)
            grid.addWidget(button, 1, 2 * number, 1, 2)
        column.addLayout(grid)
        column.addWidget(self.status)
        column.addWidget(self.commit_button)
        row = QHBoxLayout()
        row.addWidget(self.next_button)
        row.addWidget(self.discard_button)
        column.addLayout(row)
        column.addWidget(self.helped)
        column.addWidget(self.overwrite)
        column.addWidget(self.objects)
        hint = QLabel(f"{printed('toggle')} switches + and {MINUS}")
        hint.setToolTip(
            "\n".join(f"{printed(k)}  {t}" for k, (_, t) in SHORTCUTS.items())
        )
        column.addWidget(hint)


def printed(name: str) -> str:
    """Return a shortcut as it is printed on a control."""
    keys: str = QKeySequence(SHORTCUTS[name][0]).toString(
        QKeySequence.SequenceFormat.NativeText
    )
    return keys


def _toggle(text: str, tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setCheckable(True)
    button.setToolTip(tip)
    return button


def swatch(colour: str) -> QIcon:
    """Return a small square of a colour."""
    pixmap = QPixmap(12, 12)
    pixmap.fill(QColor(colour))
    return QIcon(pixmap)
