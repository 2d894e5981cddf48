"""What is said of one class: lines with completion, and what they become."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QStringListModel, Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QCompleter,
    QFormLayout,
    QLabel,
    QLineEdit,
    QStyledItemDelegate,
    QWidget,
)

from napari_fewshot.data import TextPrompt, complete_phrase, tidied
from napari_fewshot.data._vocabulary import modalities
from napari_fewshot.errors import PromptError
from napari_fewshot.methods.text._words import refuse_same

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OFFERS = 8
# Letters of a phrase; models read about 77 pieces of words, some 50 words.
LONGEST = 400
# Alternatives of a phrase; a comma is part of a phrase, but parts single words.
BETWEEN_PHRASES, BETWEEN_WORDS = re.compile(";"), re.compile("[;,]")
HINT = "such as: round dark nucleus"


class PhraseEdit(QLineEdit):  # type: ignore[misc]
    """A line that offers what the vocabulary knows while one types.

    Parameters
    ----------
    several : bool
        Whether a comma ends a word, as in a list of synonyms.
    """

    # The user is done with the line, or chose an offer.
    edited = Signal()

    def __init__(self, *, several: bool = False, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._between = BETWEEN_WORDS if several else BETWEEN_PHRASES
        self._offers = QStringListModel(self)
        offers = QCompleter(self._offers, self)
        offers.setCompletionMode(QCompleter.CompletionMode.UnfilteredPopupCompletion)
        offers.setCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
        offers.setMaxVisibleItems(OFFERS)
        self.setCompleter(offers)
        self.textEdited.connect(self._offer)
        self.editingFinished.connect(self.edited)
        offers.activated.connect(lambda *_: self.edited.emit())

    @property
    def offers(self) -> list[str]:
        """What is offered for the text of now."""
        return list(self._offers.stringList())

    def parts(self) -> tuple[str, ...]:
        """Return phrases or words without blanks and markup, each once."""
        return tidied(self._between.split(self.text()))

    def _offer(self, text: str) -> None:
        ends = [m.end() for m in self._between.finditer(text)]
        start = ends[-1] if ends else 0
        before = f"{text[:start]} " if start else ""
        # What is that long is no beginning of a word.
        typed = text[start:].lstrip()
        found = complete_phrase(typed, OFFERS) if len(typed) <= LONGEST else []
        self._offers.setStringList([before + f for f in found if f != typed])


class PhraseDelegate(QStyledItemDelegate):  # type: ignore[misc]
    """Edits the phrases of the class table, with the same offers."""

    def createEditor(  # noqa: N802 - Qt's name
        self, parent: QWidget, option: Any, index: Any
    ) -> QWidget:
        """Return a line with offers."""
        return PhraseEdit(parent=parent)


class TextRows(QWidget):  # type: ignore[misc]
    """Phrase, synonyms, what it is not, what it looks like, modality."""

    edited = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._shown: tuple[Any, ...] = ()
        self._texts: list[str] = []
        self.phrase = PhraseEdit()
        self.phrase.setPlaceholderText(HINT)
        self.synonyms = PhraseEdit(several=True)
        self.negatives = PhraseEdit(several=True)
        self.looks = QLineEdit()
        self.modality = QComboBox()
        self.modality.setEditable(True)
        self.modality.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.modality.addItems(["", *modalities()])
        self.modality.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.modality.setMinimumContentsLength(8)
        self.message = QLabel()
        self.message.setWordWrap(True)
        self.message.setTextFormat(Qt.TextFormat.PlainText)
        self.message.hide()
        self._lay_out()
        for line in (self.phrase, self.synonyms, self.negatives):
            line.edited.connect(self._on_edited)
        self.looks.editingFinished.connect(self._on_edited)
        self.modality.activated.connect(lambda _: self._on_edited())
        self._line_of(self.modality).editingFinished.connect(self._on_edited)

    def _lay_out(self) -> None:
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        rows = (
            (
                "Phrase",
                self.phrase,
                "What to look for, with its look and place: 'large dark nucleus', "
                "'left lung'. A semicolon parts alternatives.",
                "",
            ),
            ("Also", self.synonyms, "Other words for it, with commas.", "synonyms"),
            (
                "Not",
                self.negatives,
                "What is like it and does not belong to it, with commas: the phrase "
                "must fit better than these.",
                "what it is taken for",
            ),
            (
                "Looks",
                self.looks,
                "What it looks like, with commas: 'dark, round'. Used by the parameter "
                "'knowledge'.",
                "dark, round",
            ),
            (
                "Modality",
                self.modality,
                "How the image was made; the model then reads 'nucleus in a "
                "fluorescence image'. Choose, or type your own.",
                "any kind",
            ),
        )
        for name, control, tip, hint in rows:
            control.setToolTip(tip)
            self._line_of(control).setToolTip(tip)
            control.setAccessibleName(name)
            if hint:
                self._line_of(control).setPlaceholderText(hint)
            form.addRow(name, control)
            form.labelForField(control).setToolTip(tip)
            if control is self.phrase:
                form.addRow(self.message)

    @staticmethod
    def _line_of(control: QWidget) -> Any:
        return control.lineEdit() if isinstance(control, QComboBox) else control

    def show_prompt(self, value: int, prompt: TextPrompt | None) -> None:
        """Show what is said of a class; what is being typed stays.

        Parameters
        ----------
        value : int
            The class.
        prompt : TextPrompt, optional
            None empties all lines.
        """
        if self._shown == (value, prompt):
            return
        self._shown = (value, prompt)
        self.say("")
        self.phrase.setText(joined(prompt.phrases if prompt else ()))
        self.synonyms.setText(", ".join(prompt.synonyms if prompt else ()))
        self.negatives.setText(", ".join(prompt.negatives if prompt else ()))
        self.looks.setText(", ".join(prompt.attributes if prompt else ()))
        self.modality.setCurrentText((prompt.modality if prompt else "") or "")
        for line in self._lines():
            line.setCursorPosition(0)
        self._texts = [line.text() for line in self._lines()]

    def read(self, name: str | None = None) -> TextPrompt | None:
        """Return what is said of the class; None if there is no phrase.

        Lines that nobody touched keep what they showed, commas within words included.

        Parameters
        ----------
        name : str, optional
            Of the class.

        Raises
        ------
        PromptError
            If it is none that a model could read.
        """
        _, shown = self._shown or (1, None)
        was = shown if isinstance(shown, TextPrompt) else None
        phrases = self.phrase.parts()
        if not phrases and (was is not None or not self._has_more()):
            _refuse_nothing(self.phrase.text())
            return None
        looks = tidied(BETWEEN_WORDS.split(self.looks.text()))
        told: dict[str, Any] = {
            "phrases": phrases,
            "synonyms": self.synonyms.parts(),
            "negatives": self.negatives.parts(),
            "attributes": looks,
            "modality": self.modality.currentText() or None,
        }
        if was is not None:
            rows = zip(self._lines(), self._texts, told, strict=False)
            for line, before, field in rows:
                if line.text() == before:
                    told[field] = getattr(was, field)
        checked((*told["phrases"], *told["synonyms"], *told["negatives"]))
        checked((*looks, told["modality"] or ""))
        return TextPrompt(**told, name=name)

    def say(self, text: str) -> None:
        """Show what is wrong under the phrase, or nothing."""
        self.message.setText(f"⚠ {text}" if text else "")
        self.message.setVisible(bool(text))

    def _lines(self) -> tuple[QLineEdit, ...]:
        return (self.phrase, self.synonyms, self.negatives, self.looks)

    def _has_more(self) -> bool:
        """Whether anything but a phrase was typed."""
        return bool(
            self.synonyms.parts() or self.negatives.parts() or self.looks.text().strip()
        )

    def _on_edited(self) -> None:
        self.edited.emit()


def joined(phrases: Sequence[str]) -> str:
    """Return alternatives as they are typed."""
    return "; ".join(phrases)


def checked(words: Sequence[str]) -> None:
    """Refuse words that are too long to be read.

    Raises
    ------
    PromptError
        If one is.
    """
    longest = max(map(len, words), default=0)
    if longest > LONGEST:
        raise PromptError(
            f"A phrase has {longest:,} letters; models read a sentence, some "
            f"{LONGEST} letters. Say it in a few words."
        )


def phrased(
    text: Mapping[int, TextPrompt], value: int, typed: str, name: str | None
) -> dict[int, TextPrompt]:
    """Return the text of all classes with another phrase for one of them.

    Parameters
    ----------
    text : dict of int to TextPrompt
        As it is.
    value : int
        The class.
    typed : str
        Its phrase; nothing takes it away, with all that is said of the class.
    name : str, optional
        Of the class.

    Raises
    ------
    PromptError
        If no model could read it, or another class has it.
    """
    phrases = tidied(BETWEEN_PHRASES.split(typed))
    checked(phrases)
    if not phrases:
        _refuse_nothing(typed)
        return {v: t for v, t in text.items() if v != value}
    old = text.get(value)
    new = (
        TextPrompt(phrases, name=name)
        if old is None
        else replace(old, phrases=phrases, name=name)
    )
    return with_prompt(text, value, new)


def with_prompt(
    text: Mapping[int, TextPrompt], value: int, prompt: TextPrompt | None
) -> dict[int, TextPrompt]:
    """Return the text of all classes with what is said of one of them.

    Raises
    ------
    PromptError
        If another class has the same words.
    """
    found = {v: t for v, t in text.items() if v != value}
    if prompt is not None:
        found[value] = prompt
        refuse_same(found)
    return dict(sorted(found.items()))


def _refuse_nothing(typed: str) -> None:
    """Refuse a line that is not empty but says nothing.

    Raises
    ------
    PromptError
        If it holds markup or control characters alone.
    """
    if typed.strip():
        raise PromptError("That holds no words. Type what to look for.")
