"""``--text``: phrases for classes, and parameters of two methods at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_fewshot.data import TextPrompt
from napari_fewshot.errors import DataError
from napari_fewshot.methods import get_method, parse_params

if TYPE_CHECKING:
    from collections.abc import Sequence

NOT, AS, IN = "not ", "looks ", "in "


def parse_text(words: Sequence[str], modality: str | None = None) -> dict[int, Any]:
    """Read phrases as typed.

    Parameters
    ----------
    words : sequence of str
        ``"nucleus"`` (class 1), ``"2=membrane"``, or all at once:
        ``"1=nucleus: a dark round nucleus | cell nucleus | not cytoplasm | looks
        dark"``. What stands before the colon is the name of the class; parts after the
        first are synonyms, what it is not, and attributes.
    modality : str, optional
        How the images were made.

    Raises
    ------
    DataError
        If two are for one class.
    PromptError
        If there is no phrase.
    """
    found: dict[int, Any] = {}
    for word in words:
        number, sign, rest = word.partition("=")
        if not (sign and number.strip().isdigit()):
            number, rest = "1", word
        value = int(number)
        if value in found:
            raise DataError(
                f"Two --text are for class {value}. Number them: 1=..., 2=..."
            )
        found[value] = _prompt(rest, modality)
    return found


def _prompt(rest: str, modality: str | None) -> TextPrompt:
    name, colon, phrases = rest.partition(":")
    parts = [p.strip() for p in (phrases if colon else rest).split("|")]
    kept = [p for p in parts if not p.lower().startswith((NOT, AS))]
    return TextPrompt(
        kept[:1],
        synonyms=kept[1:],
        negatives=[p[len(NOT) :] for p in parts if p.lower().startswith(NOT)],
        attributes=[p[len(AS) :] for p in parts if p.lower().startswith(AS)],
        name=name.strip() if colon and name.strip() else None,
        modality=modality,
    )


def parse_for_both(
    method: str, reader: str, words: Sequence[str], *, has_support: bool
) -> dict[str, Any]:
    """Read ``name=value`` for a method that learns and one that reads text.

    Parameters
    ----------
    method, reader : str
        Names of the methods.
    words : sequence of str
        As typed.
    has_support : bool
        Whether ``method`` takes part.

    Raises
    ------
    TypeError, ValueError
        For names that neither knows, or values outside their limits.
    """
    classes = [get_method(name).spec.params for name in (method, reader)]
    if not has_support:
        classes = classes[1:]
    found: dict[str, Any] = {}
    for name, value in split_params(words).items():
        knows = [c for c in classes if name in c.__dataclass_fields__]
        parsed = parse_params((knows or classes)[0], {name: value})
        found[name] = getattr(parsed, name)
    return found


def split_params(words: Sequence[str]) -> dict[str, str]:
    """Return names with their values from ``name=value`` words.

    Raises
    ------
    DataError
        For a word without an equals sign.
    """
    texts = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not sign:
            raise DataError(f"--param {word} is not of the form name=value.")
        texts[name.strip()] = value.strip()
    return texts
