"""Fusing several ways of segmenting, by what they do on supports they have not seen.

Every candidate segments each support with what the others taught (leave-one-out).
Per class, a weighted mean of the candidates' log-odds is compared with the best single
one on these held-out maps; a shift of the boundary is learnt on them too, held back
while there is little evidence.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.methods._base import Reliability
from napari_fewshot.methods._boundary import bolder
from napari_fewshot.methods._validation import (
    HeldOut,
    dice,
    held_out,
    split_folds,
    summarise,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_fewshot._types import BoolArray, FloatArray
    from napari_fewshot.data import Hooks, Plane, Sample
    from napari_fewshot.methods._base import FittedMethod, Method
    from napari_fewshot.methods._params import CommonParams
    from napari_fewshot.models import Encoder

# A candidate that is worse than the best by more than this (Dice) does not take part.
MAX_GAP = 0.2
# How sharply better candidates outweigh worse ones in the mean of log-odds.
SHARPNESS = 8.0
# Scores on copies of a single support say little: weights stay nearly equal.
COPY_SHARPNESS = 1.0
# A single candidate is preferred to the mix only if it is better by this much.
MIX_BONUS = 0.01
# What the names of the network's looks begin with.
NETWORK = "network"
LIMIT = 4.0
SHIFTS = np.linspace(-2.0, 2.0, 21)
# The boundary moves by n / (n + HOLD) of what n held-out supports suggest.
HOLD = 4.0
# Mixed log-odds times this are about calibrated. With held-out supports the boundary is
# drawn by it only where that is better by more than the margin (Dice).
BELIEF, BELIEF_MARGIN = 2.0, 0.01


@dataclass(frozen=True)
class Candidate:
    """One way of segmenting.

    Attributes
    ----------
    name : str
        As the user reads it.
    method : Method
    params : CommonParams
    encoder : Encoder, optional
        For methods that use one.
    headroom : float
        By how much (Dice) it will be better than when it was judged.
    flattery : float
        By how much (Dice) copies of a single support overrate it, beside the others.
    """

    name: str
    method: Method
    params: CommonParams
    encoder: Encoder | None = None
    headroom: float = 0.0
    flattery: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """How the candidates' maps become one map of a class.

    Attributes
    ----------
    weights : dict of str to float
        Share of every candidate that takes part; they add up to 1.
    shift : float
        Added to the mixed log-odds.
    score : float
        Held-out Dice of this recipe.
    belief : float
        How far the mixed log-odds are believed when the boundary is drawn, see
        `bolder`.
    """

    weights: Mapping[str, float]
    shift: float
    score: float
    belief: float = 0.0


@dataclass
class Fused:
    """Fitted candidates with a recipe per class."""

    fits: dict[str, FittedMethod]
    recipes: dict[int, Recipe]
    reliability: Reliability = field(default_factory=Reliability)
    choice: str = ""

    def predict(self, plane: Plane, hooks: Hooks) -> dict[int, FloatArray]:
        """Return a probability map per class."""
        # Looks are methods that are fused here: imported late, not in a circle.
        from napari_fewshot.methods._second_opinion import second_opinion

        found = {name: fit.predict(plane, hooks) for name, fit in self.fits.items()}
        maps = {}
        for value, recipe in self.recipes.items():
            odds = mixed_odds(found, value, recipe)
            mask = bolder(odds, recipe.belief) >= 0
            odds = second_opinion(self.fits, recipe, value, plane, odds, mask, hooks)
            maps[value] = sigmoid(bolder(odds, recipe.belief))
        return maps


def fit_fused(
    candidates: Sequence[Candidate],
    samples: Sequence[Sample],
    classes: Sequence[int],
    hooks: Hooks,
) -> Fused:
    """Fit the candidates, judge them on the supports, and write the recipes.

    Parameters
    ----------
    candidates : sequence of Candidate
        At least one.
    samples, classes, hooks
        As for `Method.fit`.
    """
    if len(candidates) == 1 and not candidates[0].params.leave_one_out:
        only = candidates[0]
        fit = only.method.fit(samples, classes, only.params, only.encoder, hooks)
        alone = dict.fromkeys(classes, Recipe({only.name: 1.0}, 0.0, 0.0))
        return Fused({only.name: fit}, alone, choice=only.name)
    fits: dict[str, FittedMethod] = {}
    judged: dict[str, list[HeldOut]] = {}
    for item in candidates:
        hooks.report(f"Trying the method {item.name}")
        method, params, model = item.method, item.params, item.encoder
        fits[item.name] = method.fit(samples, classes, params, model, hooks)
        judged[item.name] = held_out(
            method, samples, classes, params, model, hooks, fits[item.name]
        )
    is_copy = len(split_folds(samples, classes)) == 1
    later = {i.name: i.headroom - i.flattery * is_copy for i in candidates}
    recipes = {v: choose_recipe(judged, v, later, is_copy=is_copy) for v in classes}
    mixed = _mix_held_out(judged, recipes)
    used = {name for recipe in recipes.values() for name in recipe.weights}
    return Fused(
        {name: fit for name, fit in fits.items() if name in used},
        recipes,
        summarise(mixed, classes, is_copy=is_copy),
        explain(recipes),
    )


def choose_recipe(
    judged: Mapping[str, Sequence[HeldOut]],
    value: int,
    headroom: Mapping[str, float] | None = None,
    *,
    is_copy: bool = False,
) -> Recipe:
    """Choose candidates, weights and boundary for one class on held-out maps.

    Parameters
    ----------
    judged : mapping of str to sequence of HeldOut
        Per candidate, in the same order of samples.
    value : int
        The class.
    headroom : dict of str to float, optional
        By how much candidates will be better than here (worse if negative); default 0.
    is_copy : bool
        Whether the samples are copies of a single support.

    Returns
    -------
    Recipe
    """
    later = headroom or {}
    truth = [item.labels == value for item in next(iter(judged.values()))]
    odds = {n: [log_odds(i.maps[value]) for i in items] for n, items in judged.items()}
    scores = {n: _score(o, truth, 0.0) for n, o in odds.items()}
    scores = {n: s + later.get(n, 0.0) if s > 0 else s for n, s in scores.items()}
    best = max(scores, key=lambda n: scores[n])
    near = {n: s for n, s in scores.items() if s >= scores[best] - MAX_GAP and s > 0}
    options = [{best: 1.0}]
    if len(near) > 1:
        sharpness = COPY_SHARPNESS if is_copy else SHARPNESS
        gaps = {n: s - scores[best] for n, s in near.items()}
        raw = {n: float(np.exp(sharpness * gap)) for n, gap in gaps.items()}
        if not is_copy:
            # The looks of one network err alike: n of them count as much as sqrt(n).
            alike = [n for n in raw if n.startswith(NETWORK)]
            raw |= {n: raw[n] / len(alike) ** 0.5 for n in alike}
        mixture = {n: w / sum(raw.values()) for n, w in raw.items()}
        options = [mixture] if is_copy else [*options, mixture]
    recipes = []
    for number, weights in enumerate(options):
        mixed = [
            np.sum([w * odds[n][i] for n, w in weights.items()], axis=0)
            for i in range(len(truth))
        ]
        # Copies of a single support say nothing of the boundary on other images.
        shift = 0.0 if is_copy else _held_back_shift(mixed, truth)
        belief = BELIEF if is_copy else _belief([o + shift for o in mixed], truth)
        score = _score(mixed, truth, 0.0) + (MIX_BONUS if number else 0.0)
        hope = sum(w * later.get(n, 0.0) for n, w in weights.items())
        recipes.append((score + hope, Recipe(weights, shift, score, belief)))
    return max(recipes, key=lambda r: r[0])[1]


def mix(
    found: Mapping[str, Mapping[int, FloatArray]], recipes: Mapping[int, Recipe]
) -> dict[int, FloatArray]:
    """Fuse the candidates' maps by their recipes.

    Parameters
    ----------
    found : mapping of str to mapping of int to array (H, W)
        Probability maps per candidate and class.
    recipes : mapping of int to Recipe
        Per class.
    """
    return {
        value: sigmoid(bolder(mixed_odds(found, value, recipe), recipe.belief))
        for value, recipe in recipes.items()
    }


def mixed_odds(
    found: Mapping[str, Mapping[int, FloatArray]], value: int, recipe: Recipe
) -> FloatArray:
    """Return the weighted mean of the candidates' log-odds of a class, shifted."""
    parts = [w * log_odds(found[n][value]) for n, w in recipe.weights.items()]
    total: FloatArray = np.sum(parts, axis=0) + np.float32(recipe.shift)
    return total


def log_odds(probability: FloatArray) -> FloatArray:
    """Return clipped log-odds of a probability map."""
    p = np.clip(probability, 1e-4, 1 - 1e-4)
    odds: FloatArray = np.clip(np.log(p / (1 - p)), -LIMIT, LIMIT)
    return odds


def sigmoid(odds: FloatArray) -> FloatArray:
    """Return probabilities of log-odds."""
    chance: FloatArray = (1 / (1 + np.exp(-np.clip(odds, -30, 30)))).astype(np.float32)
    return chance


def _score(
    odds: Sequence[FloatArray], truth: Sequence[BoolArray], shift: float
) -> float:
    """Mean Dice; images without the class count only if it was found in them."""
    pairs = [(o + shift >= 0, t) for o, t in zip(odds, truth, strict=True)]
    found = [dice(m, t) for m, t in pairs if m.any() or t.any()]
    return float(np.mean(found)) if found else 1.0


def _held_back_shift(odds: Sequence[FloatArray], truth: Sequence[BoolArray]) -> float:
    """Best mean shift over the samples, moved towards zero by lack of evidence."""
    curve = np.array([_score(odds, truth, float(s)) for s in SHIFTS])
    # Neighbouring shifts are averaged: a lone peak is an accident of few samples.
    padded = np.pad(curve, 2, mode="edge")
    steady = np.convolve(padded, np.ones(5) / 5, mode="valid")
    # Of equally good shifts the smallest; without any hit there is nothing to learn.
    tied = np.flatnonzero(steady >= steady.max() - 1e-9)
    best = float(SHIFTS[tied[np.argmin(np.abs(SHIFTS[tied]))]])
    return best * len(truth) / (len(truth) + HOLD)


def _belief(odds: Sequence[FloatArray], truth: Sequence[BoolArray]) -> float:
    """How far to believe the odds: as usual, or not at all if that is as good."""
    drawn = [bolder(o, BELIEF) for o in odds]
    better = _score(drawn, truth, 0.0) > _score(odds, truth, 0.0) + BELIEF_MARGIN
    return BELIEF if better else 0.0


def _mix_held_out(
    judged: Mapping[str, Sequence[HeldOut]], recipes: Mapping[int, Recipe]
) -> list[HeldOut]:
    rows = zip(*judged.values(), strict=True)
    names = list(judged)
    return [
        replace(
            row[0],
            maps=mix({n: r.maps for n, r in zip(names, row, strict=True)}, recipes),
        )
        for row in rows
    ]


def explain(recipes: Mapping[int, Recipe]) -> str:
    """Return one line in plain words: which methods for which class."""
    words = {}
    for value, recipe in recipes.items():
        order = sorted(recipe.weights, key=lambda n: -recipe.weights[n])
        kept = [n for n in order if recipe.weights[n] >= 0.05]
        # The looks of the network are one thing to the user.
        plain = ["network" if n.startswith(NETWORK) else n for n in kept]
        words[value] = " + ".join(dict.fromkeys(plain))
    if len(set(words.values())) == 1:
        return next(iter(words.values()))
    return "; ".join(f"class {value}: {text}" for value, text in words.items())
