"""Phrases that tell objects apart: "the two largest nuclei on the left".

`parse` splits a phrase into a noun, which a model can look for, and relations, which
no model of the CLIP kind resolves but masks do (`ops.referring.select`). Training-free
counterpart of models that learn free-form phrases (FLanS, KDD 2025; LSMS, 2024).

Left is the left of the viewer. Names that contain such words ("left ventricle", "large
intestine") are kept whole wherever the vocabulary knows them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_fewshot.data._relations import (
    ALL,
    BORDERS,
    COUNT,
    COUNTS,
    ELSE,
    FROM,
    GENERIC,
    KEPT,
    LONGEST,
    MASKED,
    MOST_WORDS,
    ORDINAL,
    ORDINALS,
    PLACE,
    POSITIONS,
    READ,
    SHARES,
    SIZES,
    SUPERLATIVE,
    SUPERLATIVES,
    TOKEN,
    TURNING,
)
from napari_fewshot.data._vocabulary import find, longest_word
from napari_fewshot.data._wordforms import ARTICLES, fold, is_plural, spoken

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Referring:
    """What a phrase says of objects; see `ops.referring.select`.

    Attributes
    ----------
    phrase : str
        As typed.
    noun : str
        What to look for, without relations, as typed; ``"object"`` if only relations
        were typed.
    position : tuple of str
        Where in the frame: of ``"left"``, ``"right"``, ``"upper"``, ``"lower"``,
        ``"central"``, ``"corner"``; all hold.
    reach : float
        Share of the frame that the position means.
    side : str or None
        ``"left"`` or ``"right"`` if said of a part of a body, as in "left kidney": the
        side of the patient if planes are shown the radiological way.
    part : tuple of str
        Which part of the object itself is meant; positions as above.
    share : float
        How much of the object, along an axis.
    order : str or None
        ``"largest"``, ``"smallest"``, ``"leftmost"``, ``"rightmost"``,
        ``"uppermost"``, ``"lowermost"`` or ``"innermost"``.
    ordinal : int
        1 is the first in that order.
    count : int or None
        How many; None is all that fit, or one if there is an order.
    size : str or None
        ``"large"`` or ``"small"``, against the others.
    border : str or None
        ``"touching"``, ``"near"`` or ``"apart"`` from the edge of the frame.
    everything : bool
        Whether "all" was said.
    unresolved : tuple of str
        Relations to other things, which stay in the noun.
    """

    phrase: str
    noun: str
    position: tuple[str, ...] = ()
    reach: float = 0.5
    side: str | None = None
    part: tuple[str, ...] = ()
    share: float = 0.5
    order: str | None = None
    ordinal: int = 1
    count: int | None = None
    size: str | None = None
    border: str | None = None
    everything: bool = False
    unresolved: tuple[str, ...] = ()

    @property
    def plain(self) -> bool:
        """Whether all objects of the noun are meant, whole."""
        parts = (self.position, self.side, self.part, self.order, self.count, self.size)
        return not any(parts) and self.border is None

    @property
    def relation(self) -> tuple[object, ...]:
        """All but the words, for comparing."""
        return (
            *(self.position, self.reach, self.side, self.part, self.share),
            *(self.order, self.ordinal, self.count, self.size, self.border),
        )


def parse(phrase: str) -> Referring:
    """Split a phrase into a noun and relations.

    Parameters
    ----------
    phrase : str
        As typed, in English; in another language it is the noun as a whole, and so is
        a description of many words.
    """
    if len(phrase) > LONGEST or len(TOKEN.findall(phrase)) > MOST_WORDS:
        return Referring(phrase, phrase.strip())
    words = _Words(phrase)
    found: dict[str, object] = {}
    _border(words, found)
    if TURNING.search(words.text):
        return Referring(phrase, phrase.strip())
    inner = _part_of_another(words)
    if inner:
        return Referring(phrase, phrase.strip(), unresolved=(inner,))
    for name in ("part", "whole part", "from", "place", "corner", "trailing part"):
        _take(words, name, found)
    _order(words, found)
    _take(words, "frame", found)
    _leading(words, found)
    for name in ("adjective", "last", "size"):
        _take(words, name, found)
    _leading(words, found)
    if re.search(rf"\band\b.*\b(?:{PLACE}|{SUPERLATIVE})\b", words.text):
        # Several relations in one phrase: taking one of them would be wrong.
        return Referring(phrase, phrase.strip(), unresolved=("and",))
    noun = words.noun()
    if not noun or spoken(noun) in GENERIC:
        noun = "object" if found else phrase.strip()
    if found.get("order") in ("largest", "smallest") and _several(noun, found):
        # "The largest nuclei" are a group, not a single one.
        found["size"] = {"largest": "large", "smallest": "small"}[str(found["order"])]
        del found["order"]
    if MASKED not in words.text:
        noun = phrase.strip()
    rest = tuple(dict.fromkeys(ELSE.findall(words.text.replace(MASKED, " "))))
    return Referring(phrase, noun, unresolved=rest, **found)  # type: ignore[arg-type]


class _Words:
    """A phrase as plain words, with names that are kept whole and what is left."""

    def __init__(self, phrase: str) -> None:
        """Find the words, and names of the vocabulary that contain relations."""
        self.phrase = phrase
        self.spans = [m.span() for m in TOKEN.finditer(phrase)]
        plain = [spoken(phrase[a:b]).replace(" ", "") or "_" for a, b in self.spans]
        self.plain = tuple(plain)
        typed = list(plain)
        for first, last in self._names(typed):
            for number in range(first, last):
                typed[number] = KEPT * len(typed[number])
        # A possessive is no word of its own.
        for number, (a, _) in enumerate(self.spans):
            if typed[number] == "s" and a and phrase[a - 1] in "'\u2019":
                typed[number] = KEPT
        self.lengths = [len(w) for w in typed]
        self.text = " ".join(typed)

    def _names(self, words: list[str]) -> Iterator[tuple[int, int]]:
        """Return (first, last + 1) of names of several words, longest first."""
        first = 0
        while first < len(words):
            stop = min(len(words), first + longest_word())
            for last in range(stop, first + 1, -1):
                name = " ".join(words[first:last])
                if words[first] not in ARTICLES and find(name):
                    yield first, last
                    first = last - 1
                    break
            first += 1

    def body_part(self, match: re.Match[str], after: bool) -> bool:
        """Return whether words next to a match begin, or end, a part of a body."""
        first = self.text[: match.start()].count(" ")
        last = first + match.group().count(" ") + 1
        for length in range(1, longest_word() + 1):
            low, high = (last, last + length) if after else (first - length, first)
            if low < 0 or high > len(self.plain):
                return False
            term = find(" ".join(self.plain[low:high]))
            if term and term.anatomical:
                return True
        return False

    def blank(self, start: int, end: int) -> None:
        """Take out what was understood; places of the rest do not move."""
        gone = "".join(" " if c == " " else MASKED for c in self.text[start:end])
        self.text = self.text[:start] + gone + self.text[end:]

    @property
    def begin(self) -> int:
        """Where the first word is that was not taken out."""
        rest = self.text.lstrip(MASKED + " ")
        return len(self.text) - len(rest)

    def noun(self) -> str:
        """Return what is left, as it was typed."""
        kept: list[int] = []
        place = 0
        for number, length in enumerate(self.lengths):
            if MASKED not in self.text[place : place + length]:
                kept.append(number)
            place += length + 1
        words = [self.phrase[slice(*self.spans[n])].casefold() for n in kept]
        loose = {*ARTICLES, "of", "and", "s"}
        while words and words[0] in loose:
            words, kept = words[1:], kept[1:]
        while words and words[-1] in loose - {"a"}:
            words, kept = words[:-1], kept[:-1]
        if not kept:
            return ""
        if len(kept) == kept[-1] - kept[0] + 1:
            whole = len(kept) == len(self.spans)
            first, last = self.spans[kept[0]][0], self.spans[kept[-1]][1]
            return self.phrase.strip() if whole else self.phrase[first:last]
        return " ".join(self.phrase[slice(*self.spans[n])] for n in kept)


def _several(noun: str, found: dict[str, object]) -> bool:
    """Return whether a superlative means a group: plural, and not counted."""
    if found.get("count") or found.get("ordinal", 1) != 1:
        return False
    term = find(noun)
    words = {spoken(w) for w in term.words} if term else set()
    return spoken(noun) not in words and is_plural(noun)


def _border(words: _Words, found: dict[str, object]) -> None:
    for kind, rule in BORDERS:
        match = rule.search(words.text)
        if match:
            found["border"] = kind
            words.blank(*match.span())
            return


def _part_of_another(words: _Words) -> str:
    """Return a part of a second thing ("stone in the lower pole of the kidney")."""
    for name in ("part", "whole part"):
        match = READ[name].search(words.text)
        before = words.text[: match.start()].replace(MASKED, "") if match else ""
        if match and before.strip():
            return match.group().strip()
    return ""


def _take(words: _Words, name: str, found: dict[str, object]) -> None:
    """Apply one rule once, and take out what it read."""
    match = READ[name].search(words.text)
    if match is None:
        return
    groups = match.groupdict()
    if name == "from":
        found["order"] = FROM[POSITIONS[groups["from"]]]
    elif "part" in name and "part" not in found:
        found["part"] = _positions(groups["pos"])
        found["share"] = SHARES[groups["share"]]
    elif name == "corner":
        found["position"] = ("corner",)
        found["reach"] = 1 / 4
    elif name == "size":
        found["size"] = SIZES[groups["size"]]
    elif name in ("place", "adjective", "last"):
        _place(words, name, match, found)
    words.blank(*match.span())


def _place(
    words: _Words, name: str, match: re.Match[str], found: dict[str, object]
) -> None:
    """Read a position in the frame, or a side of a body."""
    groups = match.groupdict()
    places = _positions(groups["pos"])
    if name != "place" and words.body_part(match, name == "adjective"):
        sides = [p for p in places if p in ("left", "right")]
        if sides:
            found["side"] = sides[0]
        places = tuple(p for p in places if p not in sides)
    if places or "position" in found:
        found["position"] = tuple(dict.fromkeys([*_held(found), *places]))
    reach = groups.get("reach")
    if reach in ("third", "quarter"):
        found["reach"] = SHARES[reach]
    if reach == "corner":
        found["reach"] = 1 / 3
    if reach in ("edge", "border", "margin"):
        found.setdefault("border", "near")


def _held(found: dict[str, object]) -> tuple[str, ...]:
    held = found.get("position", ())
    return held if isinstance(held, tuple) else ()


def _order(words: _Words, found: dict[str, object]) -> None:
    """Read superlatives with their number, and ordinals that count from a side."""
    if "order" in found:
        match = re.search(rf"\b(?P<ord>{ORDINAL}|last)\b", words.text)
        if match:
            found["ordinal"] = ORDINALS.get(match["ord"], 1)
            words.blank(*match.span())
        return
    match = READ["order"].search(words.text)
    if match is None or match["super"] == "last":
        return
    said = match["super"]
    side = said.removesuffix(" most")
    found["order"] = SUPERLATIVES.get(said) or FROM[POSITIONS[side]]
    if match["ord"]:
        found["ordinal"] = ORDINALS[match["ord"]]
    number = match["count"] or match["after"]
    # "The largest one" counts nothing.
    if number and not (match["after"] == "one" and not match["count"]):
        found["count"] = _number(number)
    words.blank(*match.span())


def _leading(words: _Words, found: dict[str, object]) -> None:
    """Read "all", and a number before a noun that means several."""
    begin = words.begin
    rest = words.text[begin:]
    match = ALL.search(rest)
    if match:
        found["everything"] = True
        words.blank(begin, begin + match.end())
        return
    match = COUNT.search(rest)
    if match is None or "count" in found or match.end() == len(rest):
        return
    number = _number(match["count"])
    after = words.noun().split()
    if number == 1 and match["count"] not in ("one", "single"):
        return
    if number > 1 and not (after and (is_plural(after[-1]) or not after[-1].isascii())):
        return
    found["count"] = number
    words.blank(begin, begin + match.end())


def _number(word: str) -> int:
    return COUNTS.get(word) or max(1, int(word))


def _positions(words: str) -> tuple[str, ...]:
    """Return places of words; both sides together are no restriction."""
    found = dict.fromkeys(POSITIONS[w] for w in words.split() if w in POSITIONS)
    for pair in (("left", "right"), ("upper", "lower")):
        if all(side in found for side in pair):
            found = {p: None for p in found if p not in pair}
    return tuple(found)


def meaning(phrase: str) -> tuple[object, ...]:
    """Return a key of a phrase: equal nouns and equal relations, equal keys.

    Parameters
    ----------
    phrase : str
        As typed.
    """
    said = parse(phrase)
    return (fold(said.noun) or said.noun, *said.relation)
