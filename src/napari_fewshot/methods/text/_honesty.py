"""Does a model understand a phrase? Its map is compared with maps of other phrases.

A model that gives the same map for a phrase, for letters without meaning, for the
opposite and for no phrase at all shows what stands out, not what was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import TextPrompt, parse_phrase
from napari_fewshot.methods.text._separation import PhraseScore, separation
from napari_fewshot.methods.text._words import NONSENSE, TextBank

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_fewshot._types import BoolArray, FloatArray
    from napari_fewshot.data import Hooks, Plane

# Maps that correlate more than this are the same map.
SAME = 0.9
OPPOSITES = (
    ("bright", "dark"),
    ("light", "dark"),
    ("left", "right"),
    ("upper", "lower"),
    ("top", "bottom"),
    ("large", "small"),
    ("big", "small"),
    ("round", "square"),
    ("thick", "thin"),
    ("smooth", "rough"),
    ("inner", "outer"),
)
# Methods whose maps of a few more phrases cost next to nothing.
QUICK = ("maskclip", "clearclip", "sclip", "surgery", "proxy", "clipseg")
UNDERSTOOD, NOT_UNDERSTOOD, UNSURE = "understood", "not understood", "unsure"
ADVICE = "This model does not understand the phrase well: add a support or a click."


@dataclass(frozen=True)
class Sensitivity:
    """How far the map of a phrase depends on the phrase.

    Attributes
    ----------
    value : int
        The class.
    phrase : str
    nonsense_r, empty_r, other_r : float
        Correlation of its map with the maps of letters without meaning (the highest),
        of no phrase, and of its opposite or of other classes (the highest); nan where
        there is none.
    gap : float
        Cosine of the plane with the phrase, less that with the best nonsense; nan
        where the model has none.
    """

    value: int
    phrase: str
    nonsense_r: float
    empty_r: float
    other_r: float
    gap: float

    @property
    def verdict(self) -> str:
        """``"understood"``, ``"not understood"`` or ``"unsure"``."""
        if self.nonsense_r > SAME or self.other_r > SAME:
            return NOT_UNDERSTOOD
        # With one thing on the plane what stands out may be what was asked for.
        if self.gap <= 0 or self.empty_r > SAME:
            return UNSURE
        return UNDERSTOOD

    @property
    def trust(self) -> float:
        """Share in [0, 1] of the map that letters without meaning do not give, too.

        Of two maps with correlation r, 1 - r^2 of one is not explained by the other.
        """
        worst = max(0.0, self.nonsense_r) if self.nonsense_r == self.nonsense_r else 0.0
        return float(np.sqrt(max(0.0, 1 - worst**2)))


def understanding(
    fitted: Any,
    text: Mapping[int, TextPrompt],
    plane: Plane,
    hooks: Hooks,
) -> list[Sensitivity]:
    """Return how far the phrases of a run are understood, if that is soon told.

    Parameters
    ----------
    fitted : TextFitted
        With method, model and parameters. Maps that take long are judged by one of the
        same model that does not.
    text, plane, hooks
        As for `sensitivity`.

    Returns
    -------
    list of Sensitivity
        Empty for models that find boxes or objects.
    """
    from napari_fewshot.methods.text._choose import chosen

    if fitted.model.spec.text not in ("clip", "heat"):
        return []
    method, params = chosen(fitted.model, fitted.params)
    if fitted.method.spec.name in QUICK:
        method, params = fitted.method, fitted.params
    return sensitivity(method, fitted.model, params, text, plane, hooks, NONSENSE[:2])


def sensitivity(
    method: Any,
    model: Any,
    params: Any,
    text: Mapping[int, TextPrompt],
    plane: Plane,
    hooks: Hooks,
    nonsense: Sequence[str] = NONSENSE[:2],
) -> list[Sensitivity]:
    """Compare the map of every class with maps that should differ.

    Parameters
    ----------
    method : TextMethod
        Who looks.
    model : TextModel
        Who reads.
    params : TextParams
        Of the method.
    text : dict of int to TextPrompt
        Per class.
    plane : Plane
        Where.
    hooks : Hooks
        For progress and cancelling.
    nonsense : sequence of str
        Phrases without meaning.
    """
    asked = [(value, prompt) for value, prompt in text.items()]
    probes = [TextPrompt(p) for p in (*nonsense, "empty")]
    # Relations are resolved on masks: "left" and "right" have the same map.
    against = [opposite(parse_phrase(p.phrases[0]).noun) for _, p in asked]
    probes += [TextPrompt(word) for word in against if word]
    every = dict(enumerate([p for _, p in asked] + probes, 1))
    bank = _with_nothing(method.bank(every, model, params), len(asked) + len(nonsense))
    heat = method.heat(model, plane, bank, params, hooks)
    maps = heat.maps
    first = len(asked)
    silly = range(first, first + len(nonsense))
    blank = first + len(nonsense)
    contrary = iter(range(blank + 1, len(maps)))
    found = []
    for number, (value, prompt) in enumerate(asked):
        others = [i for i in bank.rivals(number) if i < len(asked)]
        if against[number]:
            others.append(next(contrary))
        has_rows = isinstance(bank, TextBank)
        gap = float("nan")
        if heat.fits is not None:
            gap = float(heat.fits[number] - max(heat.fits[i] for i in silly))
        found.append(
            Sensitivity(
                value,
                prompt.phrases[0],
                _highest(maps, number, list(silly)),
                correlation(maps[number], maps[blank]) if has_rows else float("nan"),
                _highest(maps, number, others),
                gap,
            )
        )
    return found


def rank_phrases(
    method: Any,
    model: Any,
    params: Any,
    text: Mapping[int, TextPrompt],
    plane: Plane,
    hooks: Hooks,
    mask: BoolArray | None = None,
) -> list[PhraseScore]:
    """Return which phrase, one per class, tells its object apart best, best first.

    Parameters
    ----------
    method, model, params, text, plane, hooks
        As for `sensitivity`.
    mask : array (H, W) bool, optional
        What is meant; without, phrases are compared with nonsense.
    """
    asked = list(text.values())
    probes = [TextPrompt(p) for p in NONSENSE[:2]]
    every = dict(enumerate([*asked, *probes], 1))
    heat = method.heat(model, plane, method.bank(every, model, params), params, hooks)
    count = len(asked)
    against = heat.maps[count:]
    if heat.background is not None:
        against = np.concatenate([against, heat.background[None]])
    phrases = [prompt.phrases[0] for prompt in asked]
    return separation(phrases, heat.maps[:count], mask, against)


def opposite(phrase: str) -> str:
    """Return a phrase with one word turned into its opposite; "" if none can be.

    Parameters
    ----------
    phrase : str
        As typed.
    """
    words = phrase.split()
    for number, word in enumerate(words):
        for one, other in OPPOSITES:
            turned = {one: other, other: one}.get(word.lower())
            if turned:
                return " ".join([*words[:number], turned, *words[number + 1 :]])
    return ""


def correlation(one: FloatArray, other: FloatArray) -> float:
    """Return Pearson's correlation of two maps; 1 if both are flat, 0 if one is.

    Parameters
    ----------
    one, other : array (h, w)
        Of equal shape.
    """
    a = np.asarray(one, np.float64).ravel() - np.mean(one)
    b = np.asarray(other, np.float64).ravel() - np.mean(other)
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    if length < 1e-12:
        flat = np.linalg.norm(a) < 1e-6 and np.linalg.norm(b) < 1e-6
        return 1.0 if flat else 0.0
    return float(a @ b / length)


def _highest(maps: FloatArray, number: int, others: Sequence[int]) -> float:
    found = [correlation(maps[number], maps[i]) for i in others]
    return max(found, default=float("nan"))


def _with_nothing(bank: Any, number: int) -> Any:
    """Put no phrase at all in the place of a probe; other banks stay as they are."""
    if not isinstance(bank, TextBank):
        return bank
    classes = list(bank.classes)
    classes[number] = replace(classes[number], positive=bank.empty[None])
    return replace(bank, classes=tuple(classes))
