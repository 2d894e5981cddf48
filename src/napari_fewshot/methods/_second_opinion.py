"""A plane teaches itself: what was found on it joins the supports for a second look.

The object on the plane resembles itself more than the supports do (self-support, Fan
et al., ECCV 2022). The looks of the network read the mask that all candidates agreed on
beside the support, and what they then see is averaged in. Only with a single support:
five say enough themselves. And not where a look in detail takes part: seen as a whole,
thin structures blur.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.methods._fusion import LIMIT
from napari_fewshot.methods._looks import CLOSE, PRACTISED, LookFitted
from napari_fewshot.models.contexts import join_contexts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_fewshot._types import BoolArray, FloatArray
    from napari_fewshot.data import Hooks, Plane
    from napari_fewshot.methods._base import FittedMethod
    from napari_fewshot.methods._fusion import Recipe

# Smaller masks teach nothing (pixels).
MIN_AREA = 20


def second_looks(fits: Mapping[str, FittedMethod]) -> dict[str, LookFitted]:
    """Return looks at the whole plane, by name; after practice if there are both."""
    found = {
        name: fit
        for name, fit in fits.items()
        if isinstance(fit, LookFitted) and fit.params.side <= CLOSE
    }
    return {n: fit for n, fit in found.items() if n + PRACTISED not in found}


def shares(looks: Mapping[str, LookFitted], recipe: Recipe) -> dict[str, float]:
    """Return the share of every look in the first opinion, before and after practice.

    Parameters
    ----------
    looks : mapping of str to LookFitted
        From `second_looks`.
    recipe : Recipe
        Of the class.
    """
    found = {}
    for name in looks:
        share = recipe.weights.get(name, 0.0)
        if name.endswith(PRACTISED):
            share += recipe.weights.get(name.removesuffix(PRACTISED), 0.0)
        if share > 0:
            found[name] = share
    return found


def second_opinion(
    fits: Mapping[str, FittedMethod],
    recipe: Recipe,
    value: int,
    plane: Plane,
    first: FloatArray,
    mask: BoolArray,
    hooks: Hooks,
) -> FloatArray:
    """Return the log-odds of a class with what the plane says of itself.

    Parameters
    ----------
    fits : mapping of str to FittedMethod
        All candidates.
    recipe : Recipe
        Of the class.
    value : int
        The class.
    plane : Plane
        The query.
    first : array (H, W)
        Log-odds that the candidates agreed on.
    mask : array (H, W) bool
        What they found.
    hooks : Hooks
        For cancelling.

    Returns
    -------
    array (H, W)
        ``first`` itself where the plane has nothing to say.
    """
    looks = second_looks(fits)
    weights = shares(looks, recipe)
    asked = [f for n in recipe.weights if isinstance(f := fits[n], LookFitted)]
    useful = all(f.supports == 1 and f.params.side <= CLOSE for f in asked)
    if not weights or not useful or int(mask.sum()) < MIN_AREA:
        return first
    total = first.copy()
    for name, share in weights.items():
        hooks.check()
        look = looks[name]
        features = look.model.features(plane.image, look.params.side)
        own = look.model.context([features], [mask])
        context = join_contexts([look.contexts[value], own], [look.supports, 1])
        hooks.check()
        logits = look.model.decode(features, context, mask.shape)
        total += share * np.clip(logits, -LIMIT, LIMIT)
    mean: FloatArray = total / np.float32(1 + sum(weights.values()))
    return mean
