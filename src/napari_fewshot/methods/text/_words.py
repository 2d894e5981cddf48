"""Phrases as vectors: what the maps of one run are compared with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import (
    expand_prompt,
    find_term,
    meaning,
    nearest_word,
    parse_phrase,
    unknown_words,
)
from napari_fewshot.errors import PromptError
from napari_fewshot.methods.text._templates import (
    MODALITY,
    TEMPLATES,
    sentence,
    templates_for,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import Referring, TextPrompt

__all__ = [
    "BACKGROUND",
    "MODALITY",
    "NONSENSE",
    "TEMPLATES",
    "ClassWords",
    "TextBank",
    "encode_bank",
    "ensembled",
    "refuse_same",
    "unit",
]

# What a plane holds besides the classes; each is put into the same templates.
BACKGROUND = ("background", "empty space", "something else")
# What means nothing: a phrase must fit better than these do.
NONSENSE = ("qwrt zxv", "blorp fnarg", "xyzzy", "lorem ipsum", "asdf jkl")
SHOWN = 40


def _no_rows() -> FloatArray:
    return np.zeros((0, 0), np.float32)


@dataclass(frozen=True, eq=False)
class ClassWords:
    """Words of one class, and where a model puts them.

    Attributes
    ----------
    value : int
        The class.
    prompt : TextPrompt
        As the user gave it.
    positive : array (M, E)
        One row of length one per phrase and synonym; the best of them counts.
    negative : array (K, E)
        One row per phrase of what it is not; may be empty.
    nouns : tuple of M str
        What was encoded: phrases without relations such as "largest" or "on the left",
        which are resolved on masks.
    attributes : array (A, E)
        One row per attribute, for `with_knowledge`; may be empty.
    referring : Referring, optional
        The relations, for `ops.referring.select`; None if there are none.
    """

    value: int
    prompt: TextPrompt
    positive: FloatArray = field(repr=False)
    negative: FloatArray = field(repr=False)
    nouns: tuple[str, ...] = ()
    attributes: FloatArray = field(default_factory=_no_rows, repr=False)
    referring: Referring | None = None

    @property
    def mean(self) -> FloatArray:
        """All phrases as one row (E,) of length one."""
        return unit(self.positive.mean(0))


@dataclass(frozen=True, eq=False)
class TextBank:
    """All words of a run.

    Attributes
    ----------
    classes : tuple of ClassWords
    background : array (B, E)
        Rows of what is neither class.
    nonsense : array (R, E)
        Rows of phrases without meaning.
    empty : array (E,)
        The phrase "" in the same templates.
    notes : tuple of str
        What the user should know, such as phrases that were cut.
    """

    classes: tuple[ClassWords, ...]
    background: FloatArray = field(repr=False)
    nonsense: FloatArray = field(repr=False)
    empty: FloatArray = field(repr=False)
    notes: tuple[str, ...] = ()

    def rivals(self, number: int) -> tuple[int, ...]:
        """Return which other classes a class competes with, by place.

        Classes with a noun in common ("left kidney", "right kidney") have the same
        heat map and are told apart on masks; they do not compete.

        Parameters
        ----------
        number : int
            Place of a class in ``classes``.
        """
        mine = {w.casefold() for w in self.classes[number].nouns}
        return tuple(
            place
            for place, words in enumerate(self.classes)
            if place != number and not mine & {w.casefold() for w in words.nouns}
        )


def encode_bank(
    text: Mapping[int, TextPrompt],
    model: Any,
    templates: str,
    vocabulary: bool = False,
    relations: bool = True,
) -> TextBank:
    """Encode all words once.

    Parameters
    ----------
    text : dict of int to TextPrompt
        Per class.
    model : TextModel
        Who encodes.
    templates : str
        A key of `TEMPLATES`.
    vocabulary : bool
        Whether synonyms and attributes of the vocabulary are added.
    relations : bool
        Whether relations ("the largest nucleus") are taken out of phrases, to be
        resolved on masks; without, phrases are encoded as they were typed.
    """
    full = with_vocabulary(text) if vocabulary else dict(text)
    classes = tuple(
        _class_words(value, prompt, model, templates, relations)
        for value, prompt in full.items()
    )
    every = [w for c in classes for w in (*c.nouns, *c.prompt.negatives)]
    cut = (
        f"Of the phrase {_short(phrase)!r} {model.spec.name} reads only the "
        f"beginning ({model.context_length} tokens)."
        for phrase in model.too_long(list(dict.fromkeys(every)))
    )
    return TextBank(
        classes,
        ensembled(BACKGROUND, model, templates),
        ensembled(NONSENSE, model, templates),
        ensembled(("",), model, templates)[0],
        tuple(dict.fromkeys([*cut, *word_notes(text, relations)])),
    )


def _class_words(
    value: int, prompt: TextPrompt, model: Any, templates: str, relations: bool
) -> ClassWords:
    """Encode the nouns, negatives and attributes of a class."""
    modality = prompt.modality or MODALITY
    nouns, said = prompt.words, None
    if relations:
        nouns = tuple(dict.fromkeys(parse_phrase(w).noun for w in prompt.words))
        parsed = map(parse_phrase, prompt.phrases)
        said = next((r for r in parsed if not r.plain), None)
    looks = [f"{nouns[0]}, {a}" for a in prompt.attributes]
    return ClassWords(
        value,
        prompt,
        ensembled(nouns, model, templates, modality),
        ensembled(prompt.negatives, model, templates, modality),
        nouns,
        ensembled(looks, model, templates, modality),
        said,
    )


def with_vocabulary(text: Mapping[int, TextPrompt]) -> dict[int, TextPrompt]:
    """Return prompts with synonyms and attributes of the vocabulary.

    No class gets a word of another one, unless both name the same thing ("left
    kidney", "right kidney").

    Parameters
    ----------
    text : dict of int to TextPrompt
        Per class.
    """
    things = {v: find_term(parse_phrase(p.phrases[0]).noun) for v, p in text.items()}
    found: dict[int, TextPrompt] = {}
    for value, prompt in text.items():
        others = [
            word
            for other, words in {**text, **found}.items()
            if other != value and (things[other] != things[value] or not things[value])
            for word in words.words
        ]
        found[value] = expand_prompt(prompt, avoid=others)
    return found


def refuse_same(text: Mapping[int, TextPrompt]) -> None:
    """Refuse two classes with the same phrase or synonym.

    Parameters
    ----------
    text : dict of int to TextPrompt
        Per class.

    Raises
    ------
    PromptError
        If a model could not tell two classes apart.
    """
    owner: dict[tuple[object, ...], int] = {}
    for value, prompt in text.items():
        for word in prompt.words:
            first = owner.setdefault(meaning(word), value)
            if first != value:
                raise PromptError(
                    f"Classes {first} and {value} are both {_short(word)!r}. Give each "
                    "class words of its own."
                )


def word_notes(text: Mapping[int, TextPrompt], relations: bool = True) -> list[str]:
    """Return what the user should know of the words, whatever reads them.

    Parameters
    ----------
    text : dict of int to TextPrompt
        Per class, as the user gave it.
    relations : bool
        Whether relations are resolved on masks.
    """
    notes = []
    for prompt in text.values():
        for word in dict.fromkeys((*prompt.words, *prompt.negatives)):
            notes += _unknown_note(word)
    for prompt in text.values() if relations else ():
        said = [parse_phrase(p) for p in prompt.phrases]
        notes += [
            f"In {_short(r.phrase)!r} {r.unresolved[0]!r} is not resolved; the model "
            "reads the phrase as it stands."
            for r in said
            if r.unresolved
        ]
        if len({r.relation for r in said}) > 1:
            first = next(r for r in said if not r.plain)
            notes.append(
                f"The phrases of {_short(str(prompt.name))!r} say different things of "
                f"where and how many; only {_short(first.phrase)!r} counts for that."
            )
        notes += [
            f"What it is not ({_short(n)!r}) is compared by words only; where and how "
            "many is not resolved there."
            for n in prompt.negatives
            if not parse_phrase(n).plain
        ]
    return notes


def _unknown_note(phrase: str) -> list[str]:
    """Return a note of words that the vocabulary does not know, if there are any."""
    words = unknown_words(phrase)
    if not words or find_term(phrase):
        return []
    named = ", ".join(repr(_short(w)) for w in words[:3]) + ", ..." * (len(words) > 3)
    meant = nearest_word(phrase) or nearest_word(words[0])
    hint = f" Did you mean {meant!r}?" if meant else ""
    verb = ("is", "it is") if len(words) == 1 else ("are", "they are")
    return [f"{named} {verb[0]} not in the vocabulary; {verb[1]} used as typed.{hint}"]


def _short(phrase: str) -> str:
    return phrase if len(phrase) <= SHOWN else phrase[:SHOWN] + "..."


def ensembled(
    phrases: Sequence[str], model: Any, templates: str, modality: str = MODALITY
) -> FloatArray:
    """Return one row of length one per phrase, (n, E): the mean over templates.

    Every sentence is brought to length one before the mean is taken, and the mean
    again (Radford et al., 2021).

    Parameters
    ----------
    phrases : sequence of str
        Perhaps none.
    model : TextModel
        Who encodes.
    templates : str
        A key of `TEMPLATES`.
    modality : str
        For templates that name it; see `templates_for`.
    """
    forms = templates_for(modality, templates)
    sentences = [sentence(f, p) for p in phrases for f in forms]
    if not sentences:
        width = model.encode_text([""]).shape[1]
        return np.zeros((0, width), np.float32)
    rows = model.encode_text(sentences).reshape(len(phrases), len(forms), -1)
    return unit(rows.mean(1))


def unit(rows: FloatArray) -> FloatArray:
    """Bring rows (..., E) to length one."""
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    found: FloatArray = (rows / np.maximum(length, 1e-12)).astype(np.float32)
    return found
