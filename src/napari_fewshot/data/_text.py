"""`TextPrompt`: what the user says."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_fewshot.errors import PromptError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


# Tags and comments of pasted markup; "a<b and c>d" is none.
_VALUE = r"""\s*=\s*(?:"[^"<>]*"|'[^'<>]*'|[^\s"'<>]+)"""
MARKUP = re.compile(
    rf"<!--[^<>]*-->|</?[A-Za-z][A-Za-z0-9]*(?:\s+[\w:-]+{_VALUE})*\s*/?>"
)
# Joiners that belong to letters and emoji beside them.
JOINERS = "\u200c\u200d"


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


@dataclass(frozen=True)
class TextChoice:
    """How phrases are read, beside the method that learns from supports.

    Attributes
    ----------
    method : str
        A method that reads phrases; ``"text"`` chooses one by the model.
    model : str
        A model that reads phrases; ``"auto"`` is the best one installed.
    checkpoint : str, optional
        Weights of one's own for it.
    params : dict
        Parameters of the method.
    share : {"learnt", "equal", "gate", "alone"}
        What text counts beside supports: as much as it brings on them, as much as
        they do, only whether the class is there at all, or supports are left out.
    """

    method: str = "text"
    model: str = "auto"
    checkpoint: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    share: str = "learnt"


def tidied(given: str | Sequence[str]) -> tuple[str, ...]:
    """Return phrases without markup, control characters and blanks, each once.

    Parameters
    ----------
    given : str or sequence of str
        As typed. Letters of any script, digits, signs and emoji stay; tags such as
        ``<b>`` are removed.
    """
    try:
        texts: tuple[Any, ...] = (given,) if isinstance(given, str) else tuple(given)
    except TypeError:
        texts = (given,)
    found = []
    for text in texts:
        if not isinstance(text, str):
            raise PromptError(f"A phrase is a text, not {text!r}. Put it in quotes.")
        plain = MARKUP.sub(" ", unicodedata.normalize("NFC", text))
        found.append(" ".join(_shown(plain).split()))
    return tuple(dict.fromkeys(f for f in found if f))


def _shown(text: str) -> str:
    """Return a text with blanks for what is not shown."""
    around = f" {text} "
    return "".join(
        " "
        if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        and (c not in JOINERS or (before + after).isascii())
        else c
        for before, c, after in zip(around, text, around[2:], strict=False)
    )
