"""`auto`: tries the methods on the supports, then uses or fuses the best per class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_fewshot.errors import WeightsError
from napari_fewshot.methods._base import MethodSpec, Reliability
from napari_fewshot.methods._fusion import Candidate, Fused, fit_fused
from napari_fewshot.methods._looks import is_network, network_looks
from napari_fewshot.methods._params import CommonParams, default_of, param
from napari_fewshot.methods._registry import get_method
from napari_fewshot.methods.incontext import (
    MATCH_LIGHT,
    NEIGHBOURS,
    ONE_OBJECT,
    PRACTISE,
    let_practise,
)
from napari_fewshot.models import load_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot.data import Hooks, Sample
    from napari_fewshot.methods._base import FittedMethod
    from napari_fewshot.models import Encoder

CLASSICAL = ("pixel", "template", "prototype")
# `template` finds a bent copy of its own piece more easily than the others find
# theirs: by so much (Dice) a single support overrates it.
FLATTERY = {"template": 0.15}


@dataclass(frozen=True)
class AutoParams(CommonParams):
    """Parameters of `auto`."""

    use_network: bool = param(True, "Let the bundled network take part.", advanced=True)
    practise: bool = param(True, PRACTISE)
    neighbours: bool = param(True, NEIGHBOURS)
    one_object: bool = param(False, ONE_OBJECT)
    match_light: bool = param(True, MATCH_LIGHT, advanced=True)
    use_pixel: bool = param(True, "Let `pixel` take part.", advanced=True)
    use_template: bool = param(True, "Let `template` take part.", advanced=True)
    use_prototype: bool = param(True, "Let `prototype` take part.", advanced=True)


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
    ) -> Fused:
        """Try the candidates and choose; see `Method.fit`."""
        candidates, trouble = [], ""
        if params.use_network:
            try:
                # Mirrored looks cost thrice as much and, among others, add little.
                candidates += network_looks(
                    params, encoder, samples, classes, mirror="no"
                )
            except WeightsError as error:
                trouble = f" (without the bundled network: {error})"
        candidates += [
            _candidate(name, params, encoder)
            for name in CLASSICAL
            if getattr(params, f"use_{name}")
        ]
        if not candidates:
            candidates = [_candidate(CLASSICAL[0], params, encoder)]
        fitted = fit_fused(candidates, samples, classes, hooks)
        if params.practise:
            let_practise(fitted, samples, params.seed, hooks)
        fitted.choice += trouble
        return fitted

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


def _candidate(name: str, params: AutoParams, encoder: Encoder | None) -> Candidate:
    method = get_method(name)
    cls = method.spec.params
    known = {f: default_of(d) for f, d in cls.__dataclass_fields__.items()}
    common = {f: getattr(params, f) for f in ("seed", "leave_one_out")}
    model = None
    if method.spec.uses_model:
        # The network takes part by itself; its features make no better prototypes.
        model = load_model("filters") if is_network(encoder) else encoder
    return Candidate(
        name,
        method,
        cls(**{**known, **common}),
        model,
        flattery=FLATTERY.get(name, 0.0),
    )
