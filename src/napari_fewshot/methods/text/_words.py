"""Phrases as vectors: what the maps of one run are compared with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import TextPrompt

# What a plane holds besides the classes; each is put into the same templates.
BACKGROUND = ("background", "empty space", "something else")
# What means nothing: a phrase must fit better than these do.
NONSENSE = ("qwrt zxv", "blorp fnarg", "xyzzy", "lorem ipsum", "asdf jkl")
TEMPLATES = {
    "none": ("{}",),
    "natural": ("a photo of a {}.", "a picture of the {}.", "an image with {}."),
    "medical": ("{}", "{modality} of {}", "{modality} showing {}"),
}
MODALITY = "an image"


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
    """

    value: int
    prompt: TextPrompt
    positive: FloatArray = field(repr=False)
    negative: FloatArray = field(repr=False)

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


def encode_bank(text: Mapping[int, TextPrompt], model: Any, templates: str) -> TextBank:
    """Encode all words once.

    Parameters
    ----------
    text : dict of int to TextPrompt
        Per class.
    model : TextModel
        Who encodes.
    templates : str
        A key of `TEMPLATES`.
    """
    classes = []
    for value, prompt in text.items():
        modality = prompt.modality or MODALITY
        positive = ensembled(prompt.words, model, templates, modality)
        negative = ensembled(prompt.negatives, model, templates, modality)
        classes.append(ClassWords(value, prompt, positive, negative))
    every = [w for t in text.values() for w in (*t.words, *t.negatives)]
    notes = tuple(
        f"Of the phrase {phrase[:40] + '...'!r} {model.spec.name} reads only the "
        f"beginning ({model.context_length} tokens)."
        for phrase in model.too_long(every)
    )
    return TextBank(
        tuple(classes),
        ensembled(BACKGROUND, model, templates),
        ensembled(NONSENSE, model, templates),
        ensembled(("",), model, templates)[0],
        notes,
    )


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
        For templates that name it.
    """
    forms = TEMPLATES[templates]
    sentences = [
        f.replace("{modality}", modality).replace("{}", p).strip()
        for p in phrases
        for f in forms
    ]
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
