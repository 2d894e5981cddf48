"""A small vocabulary of what is looked for in images, in `words/*.json`.

It knows organs, findings, cells, tissue, preparations and faults of images by names,
lay words and abbreviations, how they look, and what they are taken for. Files are read
at first use.
"""

from __future__ import annotations

import difflib
import functools
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_fewshot.data._wordforms import WORD, fold, spoken, stem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from napari_fewshot.data._text import TextPrompt

FOLDER = Path(__file__).parent / "words"
FILES = ("anatomy", "findings", "microscopy", "imaging")
# Categories with a left and a right of the patient.
ANATOMY = (
    "body regions",
    "organs",
    "heart and vessels",
    "bones and joints",
    "brain and nerves",
    "eye",
)


@dataclass(frozen=True)
class Term:
    """Something that may be looked for.

    Attributes
    ----------
    name : str
        As it is usually written.
    category : str
        Such as ``"organs"`` or ``"cells"``.
    synonyms : tuple of str
        Other words, lay words and abbreviations.
    modalities : tuple of str
        Where it is usually seen; names of modalities.
    attributes : tuple of str
        What it looks like, true of any of its kind.
    negatives : tuple of str
        What it is taken for.
    """

    name: str
    category: str
    synonyms: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """Name and synonyms, in this order."""
        return (self.name, *self.synonyms)

    @property
    def anatomical(self) -> bool:
        """Whether it is a part of a body, so that "left" may be the patient's."""
        return self.category in ANATOMY


@dataclass(frozen=True)
class Modality:
    """A way of making images.

    Attributes
    ----------
    name : str
    synonyms : tuple of str
    image : str
        What one image of it is called, such as ``"CT scan"``.
    sentences : tuple of str
        Ways to say that something is seen in it; ``{}`` is its place.
    """

    name: str
    synonyms: tuple[str, ...] = ()
    image: str = ""
    sentences: tuple[str, ...] = ()


def terms() -> tuple[Term, ...]:
    """Return all terms, by category."""
    return _tables()[0]


def find(term: str) -> Term | None:
    """Return what a phrase names, or None.

    Case, plural, accents, hyphens, British or American spelling and an article at the
    beginning make no difference; a typing error does (see `nearest`).

    Parameters
    ----------
    term : str
        Name, synonym or abbreviation.
    """
    return _tables()[1].get(fold(term))


def nearest(term: str) -> str | None:
    """Return the word of the vocabulary that was perhaps meant, or None.

    Parameters
    ----------
    term : str
        With a typing error.
    """
    key = fold(term)
    if len(key) < 4 or len(key) > 60:
        return None
    close = difflib.get_close_matches(key, _tables()[1], n=1, cutoff=0.8)
    return _tables()[3][close[0]] if close else None


def find_modality(name: str) -> Modality | None:
    """Return a modality by any of its names, or None.

    Parameters
    ----------
    name : str
        Such as ``"ct"``, ``"CAT scan"`` or ``"H&E"``.
    """
    return _modalities().get(fold(name))


def modalities() -> tuple[str, ...]:
    """Return the names of all modalities."""
    return tuple(dict.fromkeys(m.name for m in _modalities().values()))


@functools.cache
def longest_word() -> int:
    """Return how many words the longest name has."""
    return max(key.count(" ") + 1 for key in _tables()[1])


def complete(prefix: str, limit: int = 8) -> list[str]:
    """Return phrases that may be meant by the beginning of one.

    One phrase per term: names that begin so come first, then other words that do, then
    those with a word that does; short ones first. If nothing begins like all that was
    typed, its last words are completed: ``"left kid"`` gives ``"left kidney"``.

    Parameters
    ----------
    prefix : str
        As typed so far.
    limit : int
        At most so many.
    """
    typed = prefix.lstrip()
    starts = [m.start() for m in WORD.finditer(typed)][-longest_word() :]
    if not starts or limit < 1:
        return []
    for start in starts:
        found = _completions(spoken(typed[start:]), limit)
        if found:
            return [typed[:start] + f for f in found]
    return []


def expand(prompt: TextPrompt, limit: int = 6, avoid: Iterable[str] = ()) -> TextPrompt:
    """Add synonyms and attributes of the vocabulary to a prompt.

    What the user gave stays, and comes first. A phrase with more than a term of the
    vocabulary in it (``"dark nuclei"``) is not expanded, for its synonyms would mean
    something else; relations (``"the largest nucleus"``) do not count.

    Parameters
    ----------
    prompt : TextPrompt
        As the user gave it.
    limit : int
        At most so many synonyms are added.
    avoid : iterable of str
        Words of other classes, which are not added.
    """
    from napari_fewshot.data._referring import parse

    taken = {fold(w) for w in (*prompt.words, *prompt.negatives, *avoid)}
    synonyms: list[str] = []
    attributes: list[str] = []
    for phrase in prompt.phrases:
        term = find(parse(phrase).noun)
        for word in term.words if term else ():
            if fold(word) not in taken and len(synonyms) < limit:
                taken.add(fold(word))
                synonyms.append(word)
        attributes += term.attributes if term else ()
    if prompt.attributes:
        attributes = []
    return replace(
        prompt,
        synonyms=(*prompt.synonyms, *synonyms),
        attributes=(*prompt.attributes, *dict.fromkeys(attributes)),
    )


def unknown_words(phrase: str) -> tuple[str, ...]:
    """Return the words of a phrase that occur nowhere in the vocabulary, as typed.

    Parameters
    ----------
    phrase : str
        Any text. Numbers and words such as "the" or "left" are never returned.
    """
    known = _tables()[2]
    typed = dict.fromkeys(WORD.findall(phrase))
    return tuple(
        w
        for w in typed
        if (bare := spoken(w))
        and not bare.isdecimal()
        and bare not in _function_words()
        and not any(stem(b) in known for b in bare.split())
    )


def _completions(start: str, limit: int) -> list[str]:
    """Return the best words for the beginning of a name, in small letters."""
    if not start:
        return []
    best: dict[int, tuple[int, int, str]] = {}
    inside = " " + start
    for number, rank, text, word in _tables()[4]:
        if text.startswith(start):
            place = rank
        elif inside in text:
            place = 2 + rank
        else:
            continue
        entry = (place, len(word), word)
        if number not in best or entry < best[number]:
            best[number] = entry
    return [word for _, _, word in sorted(best.values())[:limit]]


Tables = tuple[
    tuple[Term, ...],
    "Mapping[str, Term]",
    frozenset[str],
    "Mapping[str, str]",
    tuple[tuple[int, int, str, str], ...],
]


@functools.cache
def _tables() -> Tables:
    """Return terms, terms by key, all stems, words by key, and what completes."""
    lists = ("synonyms", "modalities", "attributes", "negatives")
    every = tuple(
        Term(row["name"], row["category"], *(tuple(row[k]) for k in lists))
        for name in FILES
        for row in json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    )
    by_key: dict[str, Term] = {}
    word_of: dict[str, str] = {}
    # Names before synonyms, so that a name is never hidden by a synonym.
    for depth in (slice(0, 1), slice(1, None)):
        for term in every:
            for word in term.words[depth]:
                by_key.setdefault(fold(word), term)
                word_of.setdefault(fold(word), word)
    lines = tuple(
        (number, min(rank, 1), spoken(word), word)
        for number, term in enumerate(every)
        for rank, word in enumerate(term.words)
    )
    texts = [w for t in every for w in (*t.words, *t.attributes, *t.negatives)]
    texts += [w for m in _modalities().values() for w in (m.name, *m.synonyms, m.image)]
    stems = frozenset(stem(w) for text in texts for w in spoken(text).split())
    return every, by_key, stems, word_of, lines


@functools.cache
def _function_words() -> frozenset[str]:
    """Return words that say nothing of what is looked for."""
    text = (FOLDER / "function_words.json").read_text(encoding="utf-8")
    return frozenset(json.loads(text))


@functools.cache
def _modalities() -> Mapping[str, Modality]:
    rows = json.loads((FOLDER / "modalities.json").read_text(encoding="utf-8"))
    found: dict[str, Modality] = {}
    for row in rows:
        modality = Modality(
            row["name"], tuple(row["synonyms"]), row["image"], tuple(row["sentences"])
        )
        for word in (modality.name, *modality.synonyms, modality.image):
            found.setdefault(fold(word), modality)
    return found
