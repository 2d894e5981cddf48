"""`incontext`: the bundled network looks up in the supports what is wanted.

The supports are encoded once; for every class the network reads their masks from the
query by attention and by a closed-form regression. It looks in several ways: at the
whole image small, where shape and position count; closer, where texture and thin parts
count; on request also at mirrored copies. What each look weighs is decided per class on
the supports, each left out in turn. Then the network practises on the supports.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_fewshot.methods._base import MethodSpec, Reliability
from napari_fewshot.methods._fusion import (
    Candidate,
    Fused,
    Recipe,
    fit_fused,
    sigmoid,
)
from napari_fewshot.methods._params import CommonParams, param
from napari_fewshot.models import load_model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import Hooks, Plane, Sample
    from napari_fewshot.methods._base import FittedMethod
    from napari_fewshot.models import Encoder

MODEL = "incontext/small"
# Longest sides at which the network looks at the whole image.
WHOLE, CLOSE = 128, 256
FLIPS = ((1,), (0,))
# Looks are judged before practice, which was seen to bring more than this (Dice).
PRACTICE_GAIN = 0.03
PRACTISED = " after practice"


PRACTISE = (
    "Let the network practise on your supports for a few seconds: most often better "
    "masks, above all with few supports."
)


@dataclass(frozen=True)
class InContextParams(CommonParams):
    """Parameters of `incontext`."""

    look: Literal["auto", "whole", "close"] = param(
        "auto",
        "How the network looks: at the whole image small (large smooth objects), "
        "closer (small or thin ones), or both as the supports suggest.",
    )
    mirror: Literal["auto", "yes", "no"] = param(
        "no",
        "Also look at mirrored copies: three times slower, helps free objects a "
        "little, harms paired organs; auto tries it on the supports.",
    )
    practise: bool = param(True, PRACTISE)


@dataclass(frozen=True)
class LookParams(CommonParams):
    """One way of looking.

    Attributes
    ----------
    side : int
        Longest side of the network's copy of the image.
    mirrored : bool
        Whether mirrored copies are averaged in.
    """

    side: int = WHOLE
    mirrored: bool = False


@dataclass
class LookFitted:
    """What the supports say to one look, per class."""

    model: Any
    params: LookParams
    contexts: Mapping[int, Any]
    choice: str = ""

    def predict(self, plane: Plane, hooks: Hooks) -> dict[int, FloatArray]:
        """Return a probability map per class."""
        image = plane.image
        shape = (image.shape[0], image.shape[1])
        turns = [(), *FLIPS] if self.params.mirrored else [()]
        totals = {value: np.zeros(shape, np.float32) for value in self.contexts}
        for axes in turns:
            hooks.check()
            turned = np.flip(image, axes) if axes else image
            features = self.model.features(turned, self.params.side)
            for value, context in self.contexts.items():
                hooks.check()
                logits = self.model.decode(features, context, shape)
                totals[value] += np.flip(logits, axes) if axes else logits
        return {
            v: sigmoid(total / np.float32(len(turns))) for v, total in totals.items()
        }


class LookMethod:
    """One way of looking as a method, so that looks can be judged and fused."""

    spec = MethodSpec("look", "One look of the network.", LookParams, uses_model=True)

    def fit(
        self,
        samples: Sequence[Sample],
        classes: Sequence[int],
        params: LookParams,
        encoder: Encoder | None,
        hooks: Hooks,
    ) -> LookFitted:
        """Encode the supports; see `Method.fit`."""
        model: Any = network_of(encoder)
        stage, count = "Learning from the supports", len(samples)
        contexts = model.contexts(
            samples, classes, params.side, lambda n: hooks.report(stage, n, count)
        )
        return LookFitted(model, params, contexts)

    def fold_params(self, params: LookParams, fitted: FittedMethod) -> LookParams:
        """Leave-one-out uses the same parameters: encodings are kept."""
        return params

    def assess(
        self,
        samples: Sequence[Sample],
        classes: Sequence[int],
        params: LookParams,
        encoder: Encoder | None,
        hooks: Hooks,
        fitted: FittedMethod,
    ) -> Reliability:
        """Looks are judged by whoever fuses them."""
        return Reliability()


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
        looks = network_looks(params, encoder, params.look, params.mirror)
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
    closer = {}
    for value, recipe in fused.recipes.items():
        shares = {n: w for n, w in recipe.weights.items() if n in looks}
        if not shares:
            continue
        near = [w for n, w in shares.items() if looks[n].params.side == CLOSE]
        # Equal shares: whole images, which also show shape and position.
        closer[value] = max(0.0, 2 * sum(near) / sum(shares.values()) - 1)
    if not closer:
        return
    model = tuned(
        next(iter(looks.values())).model,
        samples,
        closer,
        seed,
        lambda step, steps: hooks.report("Practising on the supports", step, steps),
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


def is_network(encoder: Any) -> bool:
    """Whether an encoder is an in-context network."""
    return hasattr(encoder, "decode")


def network_of(encoder: Any) -> Any:
    """Return the encoder if it is an in-context network, else the bundled one.

    Raises
    ------
    WeightsError
        If the bundled weights are missing, damaged or altered.
    """
    return encoder if is_network(encoder) else load_model(MODEL)


def network_looks(
    params: CommonParams,
    encoder: Encoder | None,
    look: str = "auto",
    mirror: str = "auto",
) -> list[Candidate]:
    """Return the ways in which the network may look, as candidates for a fusion.

    Parameters
    ----------
    params : CommonParams
        Seed, whether anything is judged, and whether the network will practise.
    encoder : Encoder, optional
        An in-context network; default the bundled one.
    look, mirror : str
        See `InContextParams`.
    """
    model = network_of(encoder)
    sides = {"whole": [WHOLE], "close": [CLOSE]}.get(look, [WHOLE, CLOSE])
    mirrored = {"yes": [True], "no": [False]}.get(mirror, [False, True])
    words = {WHOLE: "network", CLOSE: "network (close)"}
    headroom = PRACTICE_GAIN if getattr(params, "practise", False) else 0.0
    found = []
    for side in sides:
        for both in mirrored:
            own = LookParams(
                seed=params.seed,
                leave_one_out=params.leave_one_out,
                side=side,
                mirrored=both,
            )
            name = words[side] + (" mirrored" if both else "")
            found.append(Candidate(name, LookMethod(), own, model, headroom))
    return found
