"""Phrases as they are, for models that read them by themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_fewshot.data import parse_phrase
from napari_fewshot.methods.text._words import word_notes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_fewshot.data import Referring, TextPrompt
    from napari_fewshot.methods.text._exemplars import Exemplar


@dataclass(frozen=True)
class ClassPhrases:
    """Words of one class; see `ClassWords`.

    Attributes
    ----------
    value : int
        The class.
    prompt : TextPrompt
        As the user gave it.
    nouns : tuple of str
        What the model reads: phrases and synonyms without relations such as "largest"
        or "on the left", which are resolved on masks.
    referring : Referring, optional
        The relations; None if there are none.
    """

    value: int
    prompt: TextPrompt
    nouns: tuple[str, ...] = ()
    referring: Referring | None = None

    @property
    def positive(self) -> tuple[str, ...]:
        """What to look for."""
        return self.nouns or self.prompt.words

    @property
    def negative(self) -> tuple[str, ...]:
        """Phrases of what it is not."""
        return tuple(self.prompt.negatives)


@dataclass(frozen=True)
class PhraseBank:
    """All words of a run; see `TextBank`, which holds vectors.

    Attributes
    ----------
    classes : tuple of ClassPhrases
    notes : tuple of str
        What the user should know, such as phrases that were cut.
    exemplars : dict of int to tuple of Exemplar
        Per class value: objects of the supports, for models that look at examples.
    """

    classes: tuple[ClassPhrases, ...]
    notes: tuple[str, ...] = ()
    exemplars: Mapping[int, tuple[Exemplar, ...]] = field(default_factory=dict)

    @property
    def phrases(self) -> tuple[str, ...]:
        """Every phrase once: what is looked for, then what is not meant."""
        wanted = [p for words in self.classes for p in words.positive]
        unwanted = [p for words in self.classes for p in words.negative]
        return tuple(dict.fromkeys([*wanted, *unwanted]))

    def rivals(self, number: int) -> tuple[int, ...]:
        """Return which other classes a class competes with; see `TextBank.rivals`."""
        mine = {w.casefold() for w in self.classes[number].positive}
        return tuple(
            place
            for place, words in enumerate(self.classes)
            if place != number and not mine & {w.casefold() for w in words.positive}
        )

    def numbers(self, phrases: tuple[str, ...]) -> list[int]:
        """Return the places of phrases in ``phrases`` of the bank."""
        every = self.phrases
        return [every.index(p) for p in phrases]


def phrase_bank(
    text: Mapping[int, TextPrompt], model: Any, relations: bool = True
) -> PhraseBank:
    """Gather all words, and say what of them the model does not read.

    Parameters
    ----------
    text : dict of int to TextPrompt
        Per class.
    model : Reader
        With ``too_long`` and ``unreadable``.
    relations : bool
        Whether relations ("the largest nucleus") are taken out of phrases, to be
        resolved on masks.
    """
    classes = tuple(_class_phrases(v, p, relations) for v, p in text.items())
    every = PhraseBank(classes).phrases
    name = model.spec.name
    cut = [
        f"Of the phrase {_short(phrase)!r} {name} reads only the beginning "
        f"({model.context_length} tokens)."
        for phrase in model.too_long(every)
    ]
    unknown = [
        f"{name} knows no word of the phrase {_short(phrase)!r}; what it finds has "
        "nothing to do with it. Say it in English."
        for phrase in model.unreadable(every)
    ]
    notes = dict.fromkeys([*cut, *unknown, *word_notes(text, relations)])
    return PhraseBank(classes, tuple(notes))


def _class_phrases(value: int, prompt: TextPrompt, relations: bool) -> ClassPhrases:
    """Take the relations out of the phrases of a class."""
    if not relations:
        return ClassPhrases(value, prompt, prompt.words)
    nouns = tuple(dict.fromkeys(parse_phrase(w).noun for w in prompt.words))
    said = (parse_phrase(p) for p in prompt.phrases)
    referring = next((r for r in said if not r.plain), None)
    return ClassPhrases(value, prompt, nouns, referring)


def _short(phrase: str) -> str:
    return phrase if len(phrase) <= 40 else phrase[:40] + "..."
