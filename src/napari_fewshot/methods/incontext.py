"""`incontext`: the bundled network looks up in the supports what is wanted.

The supports are encoded once; for every class the network reads their masks from the
query by attention and by a closed-form regression. It looks in several ways: at the
whole image small, where shape and position count; closer, where texture and small parts
count; at thin structures in detail; on request also at mirrored copies. What each look
weighs is decided per class on the supports, each left out in turn. Then the network
practises on the supports.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from napari_fewshot.methods._base import MethodSpec, Reliability
from napari_fewshot.methods._fusion import Fused, Recipe, fit_fused
from napari_fewshot.methods._looks import (
    CLOSE,
    PRACTISED,
    LookFitted,
    LookMethod,
    detail_side,
    network_looks,
)
from napari_fewshot.methods._params import CommonParams, param

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot.data import Hooks, Sample
    from napari_fewshot.methods._base import FittedMethod
    from napari_fewshot.models import Encoder

PRACTISE = (
    "Let the network practise on your supports for a few seconds: most often better "
    "masks, above all with few supports."
)
NEIGHBOURS = (
    "In stacks, let the planes that were segmented best help the others: masks agree "
    "from slice to slice. Turn it off for stacks of unrelated images."
)
ONE_OBJECT = (
    "A class of which the supports show one object (an organ) is one object near that "
    "place: what lies apart from it is dropped. Needs neighbours and leave_one_out."
)
MATCH_LIGHT = (
    "With a single support: where its object is much darker or brighter than in the "
    "image to segment, brighten the darker one if that helps."
)


@dataclass(frozen=True)
class InContextParams(CommonParams):
    """Parameters of `incontext`."""

    look: Literal["auto", "whole", "close", "detail"] = param(
        "auto",
        "How the network looks: at the whole image small (large smooth objects), "
        "closer (small ones), in detail on tiles (thin ones), or as the supports "
        "suggest.",
    )
    mirror: Literal["auto", "yes", "no"] = param(
        "no",
        "Also look at mirrored copies: three times slower, helps free objects a "
        "little, harms paired organs; auto tries it on the supports.",
    )
    practise: bool = param(True, PRACTISE)
    neighbours: bool = param(True, NEIGHBOURS)
    one_object: bool = param(False, ONE_OBJECT)
    match_light: bool = param(True, MATCH_LIGHT, advanced=True)


class InContextMethod:
    """The method object."""

    spec = MethodSpec(
        name="incontext",
        summary="A small neural network that copies what your supports show.",
        params=InContextParams,
        uses_model=True,
        citation="Own network; in-context segmentation as in UniverSeg (Butoi et al., "
        "ICCV 2023) and DCAMA (Shi et al., ECCV 2022)",
    )

    def fit(
        self,
        samples: Sequence[Sample],
        classes: Sequence[int],
        params: InContextParams,
        encoder: Encoder | None,
        hooks: Hooks,
    ) -> Fused:
        """Encode the supports and weigh the looks; see `Method.fit`."""
        looks = network_looks(
            params, encoder, samples, classes, params.look, params.mirror
        )
        fitted = fit_fused(looks, samples, classes, hooks)
        if params.practise:
            let_practise(fitted, samples, params.seed, hooks)
        return fitted

    def fold_params(
        self, params: InContextParams, fitted: FittedMethod
    ) -> InContextParams:
        """Return the parameters; the looks were judged one by one."""
        return params

    def assess(
        self,
        samples: Sequence[Sample],
        classes: Sequence[int],
        params: InContextParams,
        encoder: Encoder | None,
        hooks: Hooks,
        fitted: FittedMethod,
    ) -> Reliability:
        """Return what the weights of the looks were based on."""
        reliability: Reliability = getattr(fitted, "reliability", Reliability())
        return reliability if params.leave_one_out else Reliability()


METHOD = InContextMethod()


def let_practise(
    fused: Fused, samples: Sequence[Sample], seed: int, hooks: Hooks
) -> None:
    """Let a network that has practised on the supports look as well, in place.

    With several supports it votes beside the network before practice, each with half
    the weight; with a single one it replaces it. What was judged is the network before
    practice: whoever practises with a support cannot be judged on it.

    Parameters
    ----------
    fused : Fused
        Without looks, or with a recipe that does not use them, it stays as it is.
    samples : sequence of Sample
        The supports.
    seed : int
        Of the practice.
    hooks : Hooks
        For progress and cancelling.
    """
    from napari_fewshot.models.tuning import tuned

    looks = {n: f for n, f in fused.fits.items() if isinstance(f, LookFitted)}
    closer, wanted = {}, dict.fromkeys((CLOSE, detail_side(samples)), 0.0)
    for value, recipe in fused.recipes.items():
        shares = {n: w for n, w in recipe.weights.items() if n in looks}
        if not shares:
            continue
        near = {n: w for n, w in shares.items() if looks[n].params.side >= CLOSE}
        for name, weight in near.items():
            wanted[looks[name].params.side] += weight
        # Equal shares: whole images, which also show shape and position.
        closer[value] = max(0.0, 2 * sum(near.values()) / sum(shares.values()) - 1)
    if not closer:
        return
    model = tuned(
        next(iter(looks.values())).model,
        samples,
        closer,
        seed,
        lambda step, steps: hooks.report("Practising on the supports", step, steps),
        max(wanted, key=lambda side: wanted[side]),
    )
    for name, look in looks.items():
        every = list(look.contexts)
        after = LookMethod().fit(samples, every, look.params, model, hooks)
        if len(samples) == 1:
            fused.fits[name] = after
        else:
            fused.fits[name + PRACTISED] = after
            for value, recipe in fused.recipes.items():
                fused.recipes[value] = _shared(recipe, name)


def _shared(recipe: Recipe, name: str) -> Recipe:
    """Give half the weight of a look to the same look after practice."""
    weight = recipe.weights.get(name, 0.0)
    if not weight:
        return recipe
    half = {name: weight / 2, name + PRACTISED: weight / 2}
    # The boundary was moved for the others and for the network before practice.
    shift = recipe.shift * (1 - weight / 2)
    return replace(recipe, weights={**recipe.weights, **half}, shift=shift)
