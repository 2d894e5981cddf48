"""`auto`: tries the methods on the supports, then uses or fuses the best per class.

Every candidate segments each support with what the others taught (leave-one-out).
Per class, a weighted mean of the candidates' log-odds is compared with the best single
one on these held-out maps; a shift of the boundary is learnt on them too, held back
while there is little evidence.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.methods._base import MethodSpec, Reliability
from napari_fewshot.methods._params import CommonParams, default_of, param
from napari_fewshot.methods._registry import get_method
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
    from napari_fewshot.methods._base import FittedMethod
    from napari_fewshot.models import Encoder

CANDIDATES = ("pixel", "template", "prototype")
# A candidate that is worse than the best by more than this (Dice) does not take part.
MAX_GAP = 0.2
# How sharply better candidates outweigh worse ones in the mean of log-odds.
SHARPNESS = 8.0
# Scores on copies of a single support say little: weights stay nearly equal.
COPY_SHARPNESS = 2.0
# A single candidate is preferred to the mix only if it is better by this much.
MIX_BONUS = 0.01
LIMIT = 4.0
SHIFTS = np.linspace(-2.0, 2.0, 21)
# The boundary moves by n / (n + HOLD) of what n held-out supports suggest.
HOLD = 4.0


@dataclass(frozen=True)
class AutoParams(CommonParams):
    """Parameters of `auto`."""

    use_pixel: bool = param(True, "Let `pixel` take part.", advanced=True)
    use_template: bool = param(True, "Let `template` take part.", advanced=True)
    use_prototype: bool = param(True, "Let `prototype` take part.", advanced=True)


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
    """

    weights: Mapping[str, float]
    shift: float
    score: float


@dataclass
class AutoFitted:
    """What `auto` learnt."""

    fits: dict[str, FittedMethod]
    recipes: dict[int, Recipe]
    reliability: Reliability = field(default_factory=Reliability)
    choice: str = ""

    def predict(self, plane: Plane, hooks: Hooks) -> dict[int, FloatArray]:
        """Return a probability map per class."""
        found = {name: fit.predict(plane, hooks) for name, fit in self.fits.items()}
        return mix(found, self.recipes)


class AutoMethod:
    """The method object."""

    spec = MethodSpec(
        name="auto",
        summary="Tries the methods on your supports and uses or fuses the best.",
        params=AutoParams,
        uses_model=True,
        citation="Leave-one-out choice and log-opinion pooling (Genest & Zidek 1986)",
    )

    def fit(
        self,
        samples: Sequence[Sample],
        classes: Sequence[int],
        params: AutoParams,
        encoder: Encoder | None,
        hooks: Hooks,
    ) -> AutoFitted:
        """Try the candidates and choose; see `Method.fit`."""
        fits: dict[str, FittedMethod] = {}
        judged: dict[str, list[HeldOut]] = {}
        for name in _candidates(params):
            hooks.report(f"Trying the method {name}")
            method = get_method(name)
            own = _own_params(name, params)
            model = encoder if method.spec.uses_model else None
            fits[name] = method.fit(samples, classes, own, model, hooks)
            judged[name] = held_out(
                method, samples, classes, own, model, hooks, fits[name]
            )
        is_copy = len(split_folds(samples, classes)) == 1
        recipes = {v: choose_recipe(judged, v, is_copy=is_copy) for v in classes}
        mixed = _mix_held_out(judged, recipes)
        used = {name for recipe in recipes.values() for name in recipe.weights}
        return AutoFitted(
            {name: fit for name, fit in fits.items() if name in used},
            recipes,
            summarise(mixed, classes, is_copy=is_copy),
            _explain(recipes),
        )

    def fold_params(self, params: AutoParams, fitted: FittedMethod) -> AutoParams:
        """Return the parameters; `auto` is never refitted for leave-one-out."""
        return params

    def assess(
        self,
        samples: Sequence[Sample],
        classes: Sequence[int],
        params: AutoParams,
        encoder: Encoder | None,
        hooks: Hooks,
        fitted: FittedMethod,
    ) -> Reliability:
        """Return what the choice was based on."""
        reliability: Reliability = getattr(fitted, "reliability", Reliability())
        return reliability


METHOD = AutoMethod()


def choose_recipe(
    judged: Mapping[str, Sequence[HeldOut]], value: int, *, is_copy: bool = False
) -> Recipe:
    """Choose candidates, weights and boundary for one class on held-out maps.

    Parameters
    ----------
    judged : mapping of str to sequence of HeldOut
        Per candidate, in the same order of samples.
    value : int
        The class.
    is_copy : bool
        Whether the samples are copies of a single support.

    Returns
    -------
    Recipe
    """
    truth = [item.labels == value for item in next(iter(judged.values()))]
    odds = {n: [_log_odds(i.maps[value]) for i in items] for n, items in judged.items()}
    scores = {n: _score(o, truth, 0.0) for n, o in odds.items()}
    best = max(scores, key=lambda n: scores[n])
    near = {n: s for n, s in scores.items() if s >= scores[best] - MAX_GAP and s > 0}
    options = [{best: 1.0}]
    if len(near) > 1:
        sharpness = COPY_SHARPNESS if is_copy else SHARPNESS
        gaps = {n: s - scores[best] for n, s in near.items()}
        raw = {n: float(np.exp(sharpness * gap)) for n, gap in gaps.items()}
        mixture = {n: w / sum(raw.values()) for n, w in raw.items()}
        options = [mixture] if is_copy else [*options, mixture]
    recipes = []
    for number, weights in enumerate(options):
        mixed = [
            np.sum([w * odds[n][i] for n, w in weights.items()], axis=0)
            for i in range(len(truth))
        ]
        shift = _held_back_shift(mixed, truth)
        bonus = MIX_BONUS if number else 0.0
        if is_copy:
            shift = 0.0
        recipes.append((_score(mixed, truth, 0.0) + bonus, Recipe(weights, shift, 0.0)))
    score, chosen = max(recipes, key=lambda r: r[0])
    return Recipe(chosen.weights, chosen.shift, score)


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
    maps = {}
    for value, recipe in recipes.items():
        parts = [w * _log_odds(found[n][value]) for n, w in recipe.weights.items()]
        total = np.sum(parts, axis=0) + recipe.shift
        maps[value] = (1.0 / (1.0 + np.exp(-total))).astype(np.float32)
    return maps


def _candidates(params: AutoParams) -> list[str]:
    wanted = [name for name in CANDIDATES if getattr(params, f"use_{name}")]
    return wanted or list(CANDIDATES[:1])


def _own_params(name: str, params: AutoParams) -> CommonParams:
    cls = get_method(name).spec.params
    common = {f: getattr(params, f) for f in ("seed", "leave_one_out")}
    known = {f: default_of(d) for f, d in cls.__dataclass_fields__.items()}
    return cls(**{**known, **common})


def _log_odds(probability: FloatArray) -> FloatArray:
    p = np.clip(probability, 1e-4, 1 - 1e-4)
    odds: FloatArray = np.clip(np.log(p / (1 - p)), -LIMIT, LIMIT)
    return odds


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


def _mix_held_out(
    judged: Mapping[str, Sequence[HeldOut]], recipes: Mapping[int, Recipe]
) -> list[HeldOut]:
    rows = zip(*judged.values(), strict=True)
    names = list(judged)
    return [
        HeldOut(
            row[0].name,
            row[0].labels,
            mix({n: r.maps for n, r in zip(names, row, strict=True)}, recipes),
        )
        for row in rows
    ]


def _explain(recipes: Mapping[int, Recipe]) -> str:
    """Return one line in plain words: which methods for which class."""
    words = {}
    for value, recipe in recipes.items():
        order = sorted(recipe.weights, key=lambda n: -recipe.weights[n])
        kept = [n for n in order if recipe.weights[n] >= 0.05]
        words[value] = " + ".join(kept)
    if len(set(words.values())) == 1:
        return next(iter(words.values()))
    return "; ".join(f"class {value}: {text}" for value, text in words.items())
