"""`TextPrompt`: what the user says."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_fewshot.errors import PromptError

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class TextPrompt:
    """Phrases for one class.

    Parameters
    ----------
    phrases : str or sequence of str
        What to look for; several are alternatives, any of which may fit.
    synonyms, negatives : sequence of str, optional
        Other words for it; words for what it is not.
    name : str, optional
        Name of the class; default the first phrase.
    attributes : sequence of str, optional
        What it looks like, such as ``"dark"`` or ``"round"``.
    modality : str, optional
        How the image was made, such as ``"chest X-ray"``.

    Raises
    ------
    PromptError
        If there is no phrase, or one says both what it is and what it is not.
    """

    phrases: str | Sequence[str]
    synonyms: Sequence[str] = ()
    negatives: Sequence[str] = ()
    name: str | None = None
    attributes: Sequence[str] = ()
    modality: str | None = None

    def __post_init__(self) -> None:
        """Tidy all words; refuse empty ones."""
        phrases = tidied(self.phrases)
        negatives = tidied(self.negatives)
        if not phrases and negatives:
            raise PromptError(
                f"The text says only what it is not ({negatives[0]!r}). Type what to "
                "look for, too."
            )
        if not phrases:
            raise PromptError("The text prompt is empty; type what to look for.")
        synonyms = tuple(s for s in tidied(self.synonyms) if s not in phrases)
        both = {p.casefold() for p in (*phrases, *synonyms)} & {
            n.casefold() for n in negatives
        }
        if both:
            raise PromptError(
                f"{min(both)!r} is both what to look for and what it is not. Remove "
                "one of them."
            )
        object.__setattr__(self, "phrases", phrases)
        object.__setattr__(self, "synonyms", synonyms)
        object.__setattr__(self, "negatives", negatives)
        object.__setattr__(self, "attributes", tidied(self.attributes))
        modality = tidied(self.modality or "")
        object.__setattr__(self, "modality", modality[0] if modality else None)
        object.__setattr__(self, "name", self.name or phrases[0])

    @property
    def words(self) -> tuple[str, ...]:
        """Phrases and synonyms, in this order."""
        return (*self.phrases, *self.synonyms)


def tidied(given: str | Sequence[str]) -> tuple[str, ...]:
    """Return phrases without control characters and needless blanks, each once.

    Parameters
    ----------
    given : str or sequence of str
        As typed. Letters of any script, digits and signs stay.
    """
    texts = (given,) if isinstance(given, str) else tuple(given)
    found = []
    for text in texts:
        if not isinstance(text, str):
            raise PromptError(f"A phrase is a text, not {text!r}. Put it in quotes.")
        plain = unicodedata.normalize("NFC", text)
        shown = "".join(
            " " if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") else c
            for c in plain
        )
        found.append(" ".join(shown.split()))
    return tuple(dict.fromkeys(f for f in found if f))
