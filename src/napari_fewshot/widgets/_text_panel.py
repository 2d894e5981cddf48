"""The Text tab: say what to find, see where the model looks, get masks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QGridLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_fewshot.data import expand_prompt, nearest_word, parse_phrase
from napari_fewshot.errors import FewShotError, PromptError
from napari_fewshot.methods.text import ADVICE
from napari_fewshot.widgets._text_heat import HeatBox
from napari_fewshot.widgets._text_reading import ReadingPanel
from napari_fewshot.widgets._text_rows import TextRows, phrased, with_prompt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari_fewshot.data import TextPrompt
    from napari_fewshot.session import SessionState
    from napari_fewshot.viewer._binding import Binding

EMPTY = (
    "Type what to look for in the image, in English, as you would say it. Show where "
    "tells what the model makes of it; Segment draws the masks."
)
# Notes of a run that are shown; the rest is in the provenance of the result.
MOST_NOTES = 3


class TextPanel(QWidget):  # type: ignore[misc]
    """What is said of the class that is selected in the class table.

    Parameters
    ----------
    binding : Binding
        Session and viewer.
    """

    chosen = Signal(int)
    # Plane and class; plane.
    refine = Signal(int, int)
    keep = Signal(int)
    failed = Signal(object)

    def __init__(self, binding: Binding, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._binding = binding
        self._session = binding.session
        self._value = 1
        self.empty = QLabel(EMPTY)
        self.empty.setWordWrap(True)
        self.classes = QComboBox()
        self.classes.setToolTip("The class that these words are for.")
        self.classes.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.classes.setMinimumContentsLength(8)
        self.rows = TextRows()
        self.fill_button = QPushButton("Fill in")
        self.fill_button.setToolTip(
            "Add the synonyms and looks that the vocabulary knows for this phrase."
        )
        self.clear_button = QPushButton("Clear")
        self.clear_button.setToolTip("Take the words of this class away.")
        self.reading = ReadingPanel()
        self.heat = HeatBox(binding)
        self.notes = QLabel()
        self.notes.setWordWrap(True)
        self.notes.setToolTip("What the last run says of the words.")
        self.refine_button = QPushButton("Refine with clicks")
        self.refine_button.setToolTip(
            "Correct the mask of the plane you see in the Prompts tab."
        )
        self.keep_button = QPushButton("Keep as support")
        self.keep_button.setToolTip(
            "Accept the plane you see: it teaches the next runs, and is not computed "
            "again."
        )
        self._build()
        self._connect()

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        layout.addWidget(self.reading.missing)
        layout.addWidget(self.empty)
        layout.addWidget(self.classes)
        layout.addWidget(self.rows)
        grid = QGridLayout()
        grid.addWidget(self.fill_button, 0, 0)
        grid.addWidget(self.clear_button, 0, 1)
        layout.addLayout(grid)
        layout.addWidget(self.heat)
        layout.addWidget(self.notes)
        grid = QGridLayout()
        grid.addWidget(self.refine_button, 0, 0)
        grid.addWidget(self.keep_button, 0, 1)
        layout.addLayout(grid)
        layout.addWidget(self.reading)

    def _connect(self) -> None:
        self.classes.activated.connect(lambda _: self._on_chosen())
        self.rows.edited.connect(self.flush)
        self.fill_button.clicked.connect(self.fill_in)
        self.clear_button.clicked.connect(lambda: self.set_phrase(self._value, ""))
        self.reading.changed.connect(lambda choice: self._set(**choice))
        self.heat.levelled.connect(self._on_levelled)
        self.heat.failed.connect(self.failed)
        self.heat.wanted.connect(self.show_where)
        self.rows.phrase.textChanged.connect(lambda _: self._on_typing())
        self.refine_button.clicked.connect(
            lambda: self.refine.emit(self._binding.plane_shown(), self._value)
        )
        self.keep_button.clicked.connect(
            lambda: self.keep.emit(self._binding.plane_shown())
        )
        self._binding.viewer.dims.events.current_step.connect(self._on_moved)

    # -- verbs -----------------------------------------------------------------------

    @property
    def value(self) -> int:
        """The class that is shown."""
        return self._value

    def choose(self, value: int) -> None:
        """Show another class; what was typed for the last one is kept first."""
        if value != self._value:
            self.flush()
            self._value = value
            self.show_state(self._session.state)

    def flush(self) -> None:
        """Take over what was typed, as one step of undo; say what is wrong with it."""
        document = self._session.state.document
        old = document.text.get(self._value)
        try:
            name = self._name(old)
            new = self.rows.read(name)
            if new == old:
                self.rows.say("")
                return
            found = with_prompt(document.text, self._value, new)
        except PromptError as error:
            self.rows.say(str(error))
            return
        self.rows.say("")
        self._set(text=found)

    def show_where(self) -> None:
        """Show where the phrases fit on the plane that is shown."""
        self.flush()
        if not self.rows.message.text():
            self.heat.show_where()

    def set_phrase(self, value: int, typed: str) -> None:
        """Set the phrase of a class, from the class table; nothing takes it away.

        Parameters
        ----------
        value : int
            The class.
        typed : str
            Alternatives have semicolons between them.
        """
        text = self._session.state.document.text
        try:
            found = phrased(text, value, typed, self._name(text.get(value), value))
        except PromptError as error:
            self.choose(value)
            self.rows.say(str(error))
            self.failed.emit(error)
            # The cell shows again what holds.
            self._session._announce()
            return
        self.failed.emit(None)
        if found != dict(text):
            self._set(text=found)

    def fill_in(self) -> None:
        """Add what the vocabulary knows of the phrase."""
        self.flush()
        text = self._session.state.document.text
        prompt = text.get(self._value)
        if prompt is None:
            if not self.rows.message.text():
                self.rows.say("There is no phrase yet. Type what to look for first.")
            return
        taken = [w for v, t in text.items() if v != self._value for w in t.words]
        found = expand_prompt(prompt, avoid=taken)
        if found == prompt:
            self.rows.say(_nothing_to_add(prompt))
            return
        try:
            self._set(text=with_prompt(text, self._value, found))
        except PromptError as error:
            self.rows.say(str(error))

    # -- state -----------------------------------------------------------------------

    def show_state(self, state: SessionState) -> None:
        """Show what is said of the selected class."""
        names = state.classes.names
        if self._value not in names and names:
            self._value = min(names)
        document = state.document
        self._show_classes(names)
        self.rows.show_prompt(self._value, document.text.get(self._value))
        self.empty.setVisible(not document.text)
        has_words = self._value in document.text
        self.clear_button.setEnabled(has_words)
        self.reading.show_state(state)
        self.heat.choose(self._value)
        self.heat.show_state(state)
        self._on_typing()
        self._show_notes(state)
        self._show_followers(state)

    def showEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """Look again which models are here: one may have been fetched."""
        super().showEvent(event)
        self.reading.show_state(self._session.state)

    def shut_down(self) -> None:
        """Let go of the viewer."""
        self.heat.shut_down()
        self._binding.viewer.dims.events.current_step.disconnect(self._on_moved)

    def _show_classes(self, names: Mapping[int, str]) -> None:
        shown = {
            self.classes.itemData(i): self.classes.itemText(i)
            for i in range(self.classes.count())
        }
        if shown != dict(names):
            self.classes.clear()
            for value, name in names.items():
                self.classes.addItem(name, value)
        self.classes.setCurrentIndex(max(self.classes.findData(self._value), 0))
        self.classes.setVisible(len(names) > 1)

    def _show_notes(self, state: SessionState) -> None:
        found: tuple[str, ...] = ()
        if state.prediction is not None and _is_of_these_words(state):
            told = state.prediction.provenance.get("notes", ())
            # Whether it understood is said above, with its sign.
            found = tuple(str(n) for n in told if not str(n).endswith(ADVICE))
        # With supports the Supports tab says it.
        found = () if state.supports else found
        self.notes.setText("\n".join(found[:MOST_NOTES]))
        self.notes.setVisible(bool(found))

    def _show_followers(self, state: SessionState) -> None:
        is_there = state.prediction is not None and not state.running
        for button in (self.refine_button, self.keep_button):
            button.setEnabled(is_there)
        if is_there and self._binding.plane_shown() in state.accepted:
            self.keep_button.setEnabled(False)

    def _on_moved(self, event: Any = None) -> None:
        self._show_followers(self._session.state)

    def _on_typing(self) -> None:
        self.heat.show_can_ask(is_typed=bool(self.rows.phrase.text().strip()))

    def _on_chosen(self) -> None:
        self.choose(self.classes.currentData())
        self.chosen.emit(self._value)

    def _on_levelled(self, level: float) -> None:
        params = dict(self._session.state.document.reading.params)
        params["level"] = level
        if level == 0.5:
            del params["level"]
        self._set(params=params)

    def _name(self, old: TextPrompt | None, value: int | None = None) -> str | None:
        names = self._session.state.classes.names
        mine = names.get(self._value if value is None else value)
        return mine if old is None else old.name

    def _set(self, text: Any = None, **choice: Any) -> None:
        given = self._session.state.document.text if text is None else text
        self._guard(lambda: self._session.set_text(given, **choice))

    def _guard(self, action: Callable[[], None]) -> None:
        try:
            action()
        except (FewShotError, TypeError, ValueError) as error:
            self.failed.emit(error)
            return
        self.failed.emit(None)


def _is_of_these_words(state: SessionState) -> bool:
    """Whether the last run read what is said now."""
    if state.prediction is None or not state.document.text:
        return False
    read = state.prediction.provenance.get("text", {}).get("phrases", {})
    was = {value: tuple(words["phrases"]) for value, words in read.items()}
    return was == {str(v): t.phrases for v, t in state.document.text.items()}


def _nothing_to_add(prompt: TextPrompt) -> str:
    """Return why the vocabulary adds nothing."""
    phrase = prompt.phrases[0]
    bare = replace(prompt, phrases=(phrase,), synonyms=(), attributes=())
    if expand_prompt(bare) != bare:
        return "All that the vocabulary knows of it is there already."
    near = nearest_word(parse_phrase(phrase).noun)
    meant = f" Did you mean {near!r}?" if near else " Add other words yourself."
    short = phrase if len(phrase) <= 40 else f"{phrase[:39]}…"
    return f"The vocabulary does not know {short!r}.{meant}"
