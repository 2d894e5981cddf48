"""What a phrase looks like, taken from the vocabulary and from the plane itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray, FloatArray
    from napari_fewshot.methods.text._words import ClassWords

# Attributes that are added to a phrase, and cells that they are looked for in.
ATTRIBUTES = 5
CELLS = 32


def chosen_attributes(
    tokens: AnyArray,
    target: AnyArray,
    bank: AnyArray,
    k: int = ATTRIBUTES,
    cells: int = CELLS,
) -> AnyArray:
    """Return which attributes are seen where a phrase fits best, best first.

    The score of an attribute is its highest cosine among the ``cells`` cells that are
    closest to the phrase.

    Parameters
    ----------
    tokens : array (h * w, E)
        Cells of a plane, of length one.
    target : array (E,)
        The phrase, of length one.
    bank : array (K, E)
        Attributes, of length one.
    k, cells : int
        How many attributes and cells at most.

    Returns
    -------
    array (min(k, K),)
        Rows of ``bank``; of equal scores the first.
    """
    rows = np.asarray(bank, np.float64)
    if not len(rows) or k < 1 or not len(tokens):
        return np.zeros(0, np.intp)
    closest = np.argsort(-(tokens @ target), kind="stable")[: max(1, cells)]
    scores = (np.asarray(tokens, np.float64)[closest] @ rows.T).max(0)
    found: AnyArray = np.argsort(-scores, kind="stable")[:k]
    return found


def with_knowledge(
    tokens: AnyArray,
    words: ClassWords,
    bank: AnyArray | None = None,
    k: int = ATTRIBUTES,
    cells: int = CELLS,
) -> FloatArray:
    """Return the phrase of a class with what it looks like on this plane, (E,).

    t' = norm(t + mean of the chosen attributes). After the knowledge bank of
    StructuralGLIP (ICLR 2025), which does so in every layer of a detector, with
    attributes chosen by all cells; here once, on cells of the phrase itself, without
    training.

    Parameters
    ----------
    tokens : array (h * w, E)
        Cells of the plane, of length one.
    words : ClassWords
        Of the class.
    bank : array (K, E), optional
        Rows of length one; default the attributes of the class. Without any the
        phrase stays as it is.
    k, cells : int
        See `chosen_attributes`.
    """
    target = np.asarray(words.mean, np.float64)
    rows = words.attributes if bank is None else bank
    which = chosen_attributes(tokens, target, rows, k, cells)
    if len(which):
        target = target + np.asarray(rows, np.float64)[which].mean(0)
    length = max(float(np.linalg.norm(target)), 1e-12)
    found: FloatArray = (target / length).astype(np.float32)
    return found
