"""Synthetic scenes with captions, and who of their objects a phrase means.

A scene has a few objects of some shape, colour, fill and size on a varied ground. A
phrase says some of it ("a dark round cell", "two striped squares on the left"), names
the ground, or means nothing. What is where is known, so every pair of a scene and a
phrase has a truth, and so has every pixel. `train_tiny_clip.py` trains with them; from
`HELD_OUT` on scenes are kept for measuring.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from tiny_shapes import (
    COLOURS,
    FILLS,
    HELD_OUT,
    RADII,
    SHAPES,
    SIDE,
    Scene,
    Thing,
    draw_scene,
    paint_scene,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "HELD_OUT",
    "SIDE",
    "Phrase",
    "Scene",
    "Thing",
    "draw_nonsense",
    "draw_others",
    "draw_phrases",
    "draw_scene",
    "paint_scene",
    "queries",
    "vocabulary",
]

# Where a phrase neither fits nor fails, such as "large" for middle sizes.
UNSURE = -1

# A noun says the shape, and perhaps more.
NOUNS: dict[str, dict[str, str]] = {
    "disk": {"shape": "disk"},
    "disc": {"shape": "disk"},
    "circle": {"shape": "disk"},
    "cell": {"shape": "disk"},
    "round cell": {"shape": "disk"},
    "blob": {"shape": "disk"},
    "ring": {"shape": "ring"},
    "annulus": {"shape": "ring"},
    "duct": {"shape": "ring"},
    "square": {"shape": "square"},
    "box": {"shape": "square"},
    "crystal": {"shape": "square"},
    "triangle": {"shape": "triangle"},
    "wedge": {"shape": "triangle"},
    "star": {"shape": "star"},
    "neuron": {"shape": "star"},
    "rod": {"shape": "rod"},
    "bar": {"shape": "rod"},
    "bacterium": {"shape": "rod"},
    "vessel": {"shape": "curve"},
    "blood vessel": {"shape": "curve"},
    "curve": {"shape": "curve"},
    "nucleus": {"shape": "disk", "colour": "dark"},
    "vacuole": {"shape": "ring", "colour": "bright"},
    "lesion": {"shape": "disk", "fill": "spotted"},
    "muscle fibre": {"shape": "rod", "fill": "striped"},
}
PLURALS = {
    "box": "boxes",
    "annulus": "annuli",
    "bacterium": "bacteria",
    "nucleus": "nuclei",
}
# Without a shape: any object will do.
ANY = ("object", "thing", "structure", "shape")
ADJECTIVES: dict[str, tuple[str, str]] = {
    "bright": ("colour", "bright"),
    "light": ("colour", "bright"),
    "white": ("colour", "bright"),
    "dark": ("colour", "dark"),
    "black": ("colour", "dark"),
    "red": ("colour", "red"),
    "green": ("colour", "green"),
    "blue": ("colour", "blue"),
    "striped": ("fill", "striped"),
    "banded": ("fill", "striped"),
    "spotted": ("fill", "spotted"),
    "dotted": ("fill", "spotted"),
    "granular": ("fill", "spotted"),
    "plain": ("fill", "plain"),
    "smooth": ("fill", "plain"),
    "small": ("size", "small"),
    "tiny": ("size", "small"),
    "large": ("size", "large"),
    "big": ("size", "large"),
}
SIDES = {
    "left": ("on the left", "at the left", "in the left half"),
    "right": ("on the right", "at the right", "in the right half"),
    "top": ("at the top", "near the top", "in the upper half"),
    "bottom": ("at the bottom", "near the bottom", "in the lower half"),
}
COUNTS = {1: ("one", "a single"), 2: ("two",), 3: ("three", "several")}
GROUND = ("background", "empty space", "nothing", "the ground", "empty background")
# Fits everything a little: neither yes nor no.
REST = ("something else", "anything else", "other")
# What is in no scene.
FOREIGN = (
    "sitting on a chair", "car", "dog", "house", "lorem ipsum", "elephant",
    "the weather is fine", "coffee cup", "airplane", "a street in a town", "pizza",
    "please wait", "music", "tree", "a person walking", "table of contents",
)  # fmt: skip
FORMS = (
    "a photo of a {}.", "a picture of the {}.", "an image with {}.", "an image of {}",
    "an image showing {}", "there is a {}", "the {}", "a {}",
)  # fmt: skip


@dataclass(frozen=True)
class Phrase:
    """Words, and what they say.

    Attributes
    ----------
    text : str
    says : tuple of dict, one per noun
        Of "shape", "colour", "fill", "size" and "side"; alternatives in a pixel, all
        of them in a scene.
    count : int
        How many; 3 is three or more, 0 does not say.
    kind : {"things", "ground", "rest", "nonsense"}
    """

    text: str
    says: tuple[dict[str, str], ...] = ()
    count: int = 0
    kind: str = "things"

    def __hash__(self) -> int:
        return hash((self.text, self.kind))

    def fits(self, thing: Thing) -> int:
        """Return whether an object is meant: 1, 0 or `UNSURE`."""
        return max((_agree(s, thing) for s in self.says), key=_RANK.get, default=0)

    def fits_scene(self, scene: Scene) -> int:
        """Return whether a scene is meant: 1, 0 or `UNSURE`."""
        if self.kind == "nonsense":
            return 0
        if self.kind != "things":
            return UNSURE
        answers = []
        for says in self.says:
            each = [_agree(says, t) for t in scene.things]
            sure, unsure = each.count(1), each.count(UNSURE)
            if self.count and sure and (unsure or min(sure, 3) != self.count):
                return UNSURE if unsure else 0
            answers.append(1 if sure else UNSURE if unsure else 0)
        return min(answers, key=_RANK.get)


# From "no" over "unsure" to "yes".
_RANK = {0: 0, UNSURE: 1, 1: 2}


def _agree(says: dict[str, str], thing: Thing) -> int:
    """Return whether all that is said of an object is so."""
    return min(
        (_holds(key, value, thing) for key, value in says.items()),
        key=_RANK.get,
        default=1,
    )


def _holds(key: str, value: str, thing: Thing) -> int:
    if key == "side":
        at = thing.middle[value in ("left", "right")]
        at = at if value in ("left", "top") else 1 - at
        return 1 if at < 0.42 else UNSURE if at < 0.58 else 0
    own = thing.looks[key]
    if key == "size" and own == "middle":
        return UNSURE
    return int(own == value)


def draw_phrases(
    rng: np.random.Generator, scene: Scene, count: int, short: bool = False
) -> list[Phrase]:
    """Return phrases for a scene: right ones, and some that are off by one word.

    Short ones are a noun, or one property of any object.
    """
    found = []
    for number in range(count):
        if not scene.things:
            break
        thing = scene.things[rng.integers(len(scene.things))]
        looks, middle = dict(thing.looks), thing.middle
        if number % 3 == 2:
            looks = _altered(rng, looks)
        if short:
            found.append(_shortest(rng, looks))
            continue
        phrase = say(rng, looks, middle)
        if number % 3 == 0 and rng.random() < 0.3:
            phrase = _counted(rng, phrase, scene)
        if number % 3 == 1 and rng.random() < 0.25:
            other = scene.things[rng.integers(len(scene.things))]
            more = say(rng, other.looks, other.middle)
            phrase = Phrase(f"{phrase.text} and {more.text}", phrase.says + more.says)
        found.append(_formed(rng, phrase))
    return found


def _shortest(rng: np.random.Generator, looks: dict[str, str]) -> Phrase:
    if rng.random() < 0.6:
        nouns = [n for n, s in NOUNS.items() if s == {"shape": looks["shape"]}]
        return Phrase(noun := str(rng.choice(nouns)), (NOUNS[noun],))
    key = str(rng.choice(["colour", "fill"]))
    words = [w for w, s in ADJECTIVES.items() if s == (key, looks[key])]
    return Phrase(f"{rng.choice(words)} object", ({key: looks[key]},))


def say(
    rng: np.random.Generator, looks: dict[str, str], middle: tuple[float, float]
) -> Phrase:
    """Describe an object by a noun and some of its properties."""
    fitting = [n for n, s in NOUNS.items() if all(looks[k] == s[k] for k in s)]
    noun = str(rng.choice(fitting)) if rng.random() < 0.85 else str(rng.choice(ANY))
    says = dict(NOUNS.get(noun, {}))
    free = [k for k in ("colour", "fill", "size") if k not in says]
    most = int(rng.choice([0, 1, 2, 3], p=(0.4, 0.4, 0.15, 0.05)))
    if noun in ANY and not most and rng.random() < 0.7:
        most = 1
    words = []
    for key in rng.permutation(free)[:most]:
        options = [w for w, s in ADJECTIVES.items() if s == (key, looks[key])]
        if options:
            words.append(str(rng.choice(options)))
            says[str(key)] = looks[key]
    text = " ".join([*words, noun])
    if rng.random() < 0.15:
        near = [
            s
            for s in SIDES
            if _holds("side", s, Thing(looks, middle, np.zeros(0))) == 1
        ]
        if near:
            says["side"] = str(rng.choice(near))
            text += " " + str(rng.choice(SIDES[says["side"]]))
    return Phrase(text, (says,))


def _altered(rng: np.random.Generator, looks: dict[str, str]) -> dict[str, str]:
    """Change one or two properties of an object."""
    values = {
        "shape": SHAPES,
        "colour": tuple(COLOURS),
        "fill": FILLS,
        "size": tuple(RADII),
    }
    for key in rng.choice(list(values), rng.integers(1, 3), p=(0.5, 0.2, 0.2, 0.1)):
        looks[str(key)] = str(rng.choice(values[str(key)]))
    return looks


def _counted(rng: np.random.Generator, phrase: Phrase, scene: Scene) -> Phrase:
    """Say how many there are, where that is certain."""
    each = [phrase.fits(t) for t in scene.things]
    if UNSURE in each or " on the " in phrase.text:
        return phrase
    number = min(each.count(1), 3)
    if not number:
        return phrase
    word = str(rng.choice(COUNTS[number]))
    text = phrase.text if number == 1 else plural(phrase)
    return Phrase(f"{word} {text}", phrase.says, number)


def plural(phrase: Phrase) -> str:
    """Return the words of a phrase with its noun in the plural."""
    every = sorted((*NOUNS, *ANY), key=len, reverse=True)
    noun = next(n for n in every if n in phrase.text)
    return phrase.text.replace(noun, PLURALS.get(noun, noun + "s"), 1)


def _formed(rng: np.random.Generator, phrase: Phrase) -> Phrase:
    """Put a phrase into a sentence, now and then."""
    text = phrase.text
    if not phrase.count and rng.random() < 0.15:
        text = plural(phrase) if len(phrase.says) == 1 else text
    if rng.random() < 0.45:
        text = str(rng.choice(FORMS)).replace("{}", text)
    return Phrase(text, phrase.says, phrase.count, phrase.kind)


def draw_nonsense(rng: np.random.Generator) -> Phrase:
    """Return letters without meaning, or words of another world, or nothing."""
    kind = rng.random()
    if kind < 0.1:
        text = ""
    elif kind < 0.25:
        text = str(rng.choice(FOREIGN))
    else:
        letters = list(string.ascii_lowercase)
        words = [
            "".join(rng.choice(letters, rng.integers(2, 9)))
            for _ in range(rng.integers(1, 4))
        ]
        text = " ".join(words)
    return _formed(rng, Phrase(text, (), 1, "nonsense"))


def draw_others(rng: np.random.Generator, nonsense: int) -> list[Phrase]:
    """Return phrases for the ground, for the rest, and without meaning."""
    ground = Phrase(str(rng.choice(GROUND)), (), 1, "ground")
    rest = Phrase(str(rng.choice(REST)), (), 1, "rest")
    found = [_formed(rng, ground), _formed(rng, rest)]
    return found + [draw_nonsense(rng) for _ in range(nonsense)]


def vocabulary() -> list[str]:
    """Return every word of the captions, then signs and letters for all others."""
    text: list[str] = [*NOUNS, *PLURALS.values(), *ANY, *ADJECTIVES, *GROUND, *REST]
    text += [n + "s" for n in (*NOUNS, *ANY)]
    text += [w for every in (*SIDES.values(), *COUNTS.values()) for w in every]
    text += [f.replace("{}", "").replace(".", "") for f in FORMS] + ["and"]
    words = sorted({w for t in text for w in t.split()} - set(string.ascii_lowercase))
    letters = list(string.ascii_lowercase + string.digits)
    return words + list(".,-'") + letters + ["##" + c for c in letters]


def queries(scene: Scene, rng: np.random.Generator, most: int = 2) -> Sequence[Phrase]:
    """Return short questions about a scene: a noun, or one property and a noun."""
    found: dict[str, Phrase] = {}
    for index in rng.permutation(len(scene.things)):
        looks = scene.things[int(index)].looks
        nouns = [n for n, s in NOUNS.items() if all(looks[k] == s[k] for k in s)]
        noun = str(rng.choice(nouns))
        says, text = dict(NOUNS[noun]), noun
        if rng.random() < 0.5 and "colour" not in says:
            says["colour"] = looks["colour"]
            text = f"{looks['colour']} {noun}"
        found.setdefault(text, Phrase(text, (says,)))
    return tuple(found.values())[:most]
