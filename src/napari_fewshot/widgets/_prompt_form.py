"""The controls of the Prompts tab, without what they do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QIcon, QKeySequence, QPixmap
from qtpy.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QListWidget,
    QMenu,
    QProgressBar,
    QPushButton,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_fewshot.models import PROMPTABLE, get_model_spec, installed_models
from napari_fewshot.session import POLICIES
from napari_fewshot.viewer._drawing import NEGATIVE, POSITIVE
from napari_fewshot.viewer._object_layers import VIEWS
from napari_fewshot.viewer._prompting import COLOURS

if TYPE_CHECKING:
    from collections.abc import Mapping

MINUS = "\N{MINUS SIGN}"
EMPTY = "Click on an object: its outline appears. Correct it with more clicks."
NO_IMAGE = "Open an image first: File > Open, or drag a file here."
TOOLS = {
    "points": (
        "Points",
        f"Click on the object; with {MINUS} on what does not belong to it.",
    ),
    "boxes": (
        "Boxes",
        "Draw a box around the object. Several boxes are several objects, found at "
        "once.",
    ),
    "lasso": (
        "Lasso",
        f"Draw round the object roughly; with {MINUS} round what is not it.",
    ),
    "scribbles": (
        "Scribbles",
        f"Draw on the object; with {MINUS} on the background.",
    ),
}
POLICY_NAMES = {
    "new": "new object",
    "overwrite": "overwrite what is there",
    "empty": "only empty pixels",
    "merge": "merge with what it touches",
}
# Key and what it does; none of napari's own keys is among them.
SHORTCUTS = {
    "toggle": ("Alt+T", f"Switch between + and {MINUS}"),
    "candidate": ("Alt+M", "Next mask on offer"),
    "outline": ("Alt+U", "Outline now, where it is not live"),
    "commit": ("Ctrl+Return", "Commit the object"),
    "next": ("Alt+N", "Commit it and begin the next"),
    "discard": ("Alt+Backspace", "Discard the outline and its prompts"),
    "previous_plane": ("Alt+Left", "Previous plane with an object"),
    "next_plane": ("Alt+Right", "Next plane with an object"),
}
LIST_HEIGHT, TOOL_WIDTH = 84, 70
EVERYTHING = "Outline all objects on this plane without prompts, or within a lasso."
NEEDS_SAM = (
    "Needs a model of the SAM family: get one with Plugins > napari-fewshot > Models."
)


class PromptForm(QWidget):  # type: ignore[misc]
    """Class, model, sign, tools, commit, objects."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._build_evidence()
        self._build_commit()
        self._lay_out()

    def _build_evidence(self) -> None:
        self.classes = QComboBox()
        self.classes.setToolTip("The class that the object belongs to.")
        self.add_class = QPushButton("+")
        self.add_class.setFixedWidth(28)
        self.add_class.setToolTip("Add a class.")
        self.models = QComboBox()
        self.models.setToolTip(
            "Who outlines the object. Further models: Plugins > napari-fewshot > "
            "Models."
        )
        self.positive = _toggle(" + object", "The next clicks are on the object.")
        self.negative = _toggle(
            f" {MINUS} not it", "The next clicks are on what is not it."
        )
        for button, sign in ((self.positive, POSITIVE), (self.negative, NEGATIVE)):
            button.setIcon(swatch(COLOURS[sign]))
        self.tools = {name: _toggle(*words) for name, words in TOOLS.items()}
        self.from_labels = QPushButton("Start from labels")
        self.from_labels.setToolTip(
            "Take the selected label of the active Labels layer as a first guess."
        )
        self.repair = QPushButton("Repair a label")
        self.repair.setToolTip(
            "Correct the selected label of the active Labels layer with prompts. "
            "Commit writes it back under its number; Ctrl+Z in that layer undoes it."
        )
        self.status = QLabel(EMPTY)
        self.status.setWordWrap(True)
        self.progress = QProgressBar()
        self.progress.setTextVisible(False)
        self.progress.setFixedHeight(4)
        # Nothing jumps when it comes and goes.
        policy = self.progress.sizePolicy()
        policy.setRetainSizeWhenHidden(True)
        self.progress.setSizePolicy(policy)
        self.progress.hide()
        self.offer = QLabel()
        self.offer.setToolTip("In brackets: how well the model expects it to overlap.")
        self.candidate_button = QPushButton(f"Next mask  {printed('candidate')}")
        self.candidate_button.setToolTip(
            "One click may mean a part or the whole: step through what the model "
            "offers."
        )
        self.live = QCheckBox("Live")
        self.live.setChecked(True)
        self.live.setToolTip("Outline after every change; off: when you ask for it.")
        self.outline_button = QPushButton(f"Outline  {printed('outline')}")
        self.outline_button.setToolTip("Outline what the prompts of now select.")
        self.helped = QCheckBox("Let the supports help")
        self.helped.setToolTip(
            "On: everything like the supports is outlined, clicks correct it. "
            "Off: only what you click on."
        )
        self.helped.setChecked(True)

    def _build_commit(self) -> None:
        self.commit_button = QPushButton(f"Commit  {printed('commit')}")
        self.commit_button.setToolTip("Write the outlined object into the result.")
        self.next_button = QPushButton(f"Next  {printed('next')}")
        self.next_button.setToolTip("Commit it, then begin the next object.")
        self.discard_button = QPushButton(f"Discard  {printed('discard')}")
        self.discard_button.setToolTip("Remove the outline and its prompts.")
        self.policy = _choices(
            {name: (POLICY_NAMES[name], text) for name, text in POLICIES.items()},
            "Which pixels a committed object gets.",
        )
        self.view = _choices(VIEWS, "How committed objects are shown and saved.")
        self.objects = QListWidget()
        self.objects.setMaximumHeight(LIST_HEIGHT)
        self.objects.setToolTip(
            "Committed objects. Click to go there and edit its prompts; Del removes it."
        )
        self.everything = QPushButton("Find everything")
        self.everything.setToolTip(EVERYTHING)
        self.spread = QPushButton("To other planes")
        self.spread.setToolTip(
            "Follow the committed objects of this class through the stack. Correct any "
            "plane and press it again."
        )

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 4, 0, 0)
        top = QGridLayout()
        top.addWidget(QLabel("Class"), 0, 0)
        top.addWidget(self.classes, 0, 1)
        top.addWidget(self.add_class, 0, 2)
        top.addWidget(QLabel("Model"), 1, 0)
        top.addWidget(self.models, 1, 1, 1, 2)
        top.setColumnStretch(1, 1)
        column.addLayout(top)
        grid = QGridLayout()
        signs, tools = QButtonGroup(self), QButtonGroup(self)
        grid.addWidget(self.positive, 0, 0, 1, 2)
        grid.addWidget(self.negative, 0, 2, 1, 2)
        for button in (self.positive, self.negative):
            signs.addButton(button)
        for number, button in enumerate(self.tools.values()):
            tools.addButton(button)
            # Four in a row of the narrow dock; styles ask for more than words need.
            button.setMinimumWidth(TOOL_WIDTH)
            grid.addWidget(button, 1, number)
        grid.addWidget(self.from_labels, 2, 0, 1, 2)
        grid.addWidget(self.repair, 2, 2, 1, 2)
        column.addLayout(grid)
        column.addWidget(self.progress)
        column.addWidget(self.status)
        column.addLayout(_row(self.offer, self.candidate_button))
        column.addWidget(self.commit_button)
        column.addLayout(_row(self.next_button, self.discard_button))
        column.addLayout(_row(self.live, self.outline_button))
        column.addWidget(self.helped)
        rules = QGridLayout()
        rules.addWidget(QLabel("Commit as"), 0, 0)
        rules.addWidget(self.policy, 0, 1)
        rules.addWidget(QLabel("Show as"), 1, 0)
        rules.addWidget(self.view, 1, 1)
        rules.setColumnStretch(1, 1)
        column.addLayout(rules)
        column.addWidget(self.objects)
        column.addLayout(_row(self.everything, self.spread))
        column.addLayout(self._hint())

    def _hint(self) -> QHBoxLayout:
        keys = "\n".join(f"{printed(k)}  {t}" for k, (_, t) in SHORTCUTS.items())
        row = QHBoxLayout()
        row.addWidget(QLabel(f"{printed('toggle')} switches + and {MINUS}"), 1)
        self.help = QToolButton()
        self.help.setText("?")
        self.help.setToolTip(keys)
        self.help.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.help.setStyleSheet("QToolButton::menu-indicator { image: none; }")
        menu = QMenu(self.help)
        for line in keys.split("\n"):
            menu.addAction(line).setEnabled(False)
        self.help.setMenu(menu)
        row.addWidget(self.help)
        return row


def _row(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    for widget in widgets:
        row.addWidget(widget)
    return row


def _choices(items: Mapping[str, tuple[str, str]], tip: str) -> QComboBox:
    """Return a menu of named things, each with its explanation as a tooltip."""
    menu = QComboBox()
    menu.setToolTip(tip)
    for name, (title, text) in items.items():
        menu.addItem(title, name)
        menu.setItemData(menu.count() - 1, text, Qt.ItemDataRole.ToolTipRole)
    return menu


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


def show_models(menu: QComboBox, chosen: str) -> None:
    """List the models that answer to prompts on this machine.

    Parameters
    ----------
    menu : QComboBox
        Is filled anew.
    chosen : str
        The model of the session; it is listed even if its weights are elsewhere.
    """
    names = {"auto": "bundled network"}
    names |= {name: name for name in promptable_models()}
    if get_model_spec(chosen).task == PROMPTABLE:
        names[chosen] = chosen
    shown = {menu.itemData(i): menu.itemText(i) for i in range(menu.count())}
    if shown != names:
        menu.clear()
        for name, title in names.items():
            menu.addItem(title, name)
    menu.setCurrentIndex(max(menu.findData(chosen), 0))


def promptable_models() -> list[str]:
    """Return the installed models that answer to prompts."""
    installed = installed_models()
    return [n for n in installed if get_model_spec(n).task == PROMPTABLE]
