"""Before a run: what to expect of the supports. After it: why it came out so."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import PlanePrompts, PromptSet, plane_of
from napari_fewshot.inference._assess import learn_only
from napari_fewshot.inference._checks import check_request
from napari_fewshot.inference._request import PlaneResult, SegmentRequest, Summary

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_fewshot._types import BoolArray, FloatArray
    from napari_fewshot.data import Hooks, Plane
    from napari_fewshot.inference._cache import FitCache
    from napari_fewshot.inference._learn import Fit
    from napari_fewshot.inference._request import OnPlane


@dataclass(frozen=True, eq=False)
class Evidence:
    """Every intermediate of one class on one plane.

    Attributes
    ----------
    maps : dict of str to array (H, W) float32
        Always ``"probability"`` and ``"uncertainty"`` (0 sure, 1 undecided); methods
        on embeddings add ``"similarity"`` and others.
    prompts : PromptSet, optional
        Points and boxes that the method made, in pixels of the plane.
    candidates : array (M, H, W) bool, optional
        Masks that were considered, the best first.
    scores : tuple of float
        Of the candidates.
    """

    maps: Mapping[str, FloatArray] = field(repr=False)
    prompts: PromptSet | None = None
    candidates: BoolArray | None = field(default=None, repr=False)
    scores: tuple[float, ...] = ()


def check_supports(
    request: SegmentRequest, hooks: Hooks, on_plane: OnPlane, cache: FitCache | None
) -> Summary:
    """Learn, and tell what is to be expected; see `run_task`."""
    check_request(request)
    fit, provenance = learn_only(request, hooks, cache)
    reliability = fit.learnt.reliability
    return Summary(
        classes=fit.names,
        scores=reliability.scores,
        score_intervals=reliability.intervals,
        present={},
        support_scores=reliability.support_scores,
        choice=fit.learnt.fitted.choice,
        provenance=provenance,
        redundant=redundant_of(fit),
    )


def explain_planes(
    request: SegmentRequest, hooks: Hooks, on_plane: OnPlane, cache: FitCache | None
) -> Summary:
    """Hand out a `PlaneResult` with ``evidence`` for every plane; see `run_task`."""
    check_request(request)
    fit, provenance = learn_only(request, hooks, cache)
    query = request.query
    every = range(query.n_planes) if request.planes is None else request.planes
    for number in every:
        hooks.report(f"Explaining plane {number}")
        found = evidence_of(fit.learnt.fitted, plane_of(query, number), hooks)
        nothing = np.zeros(query.plane_shape, np.int32)
        on_plane(PlaneResult(number, nothing, {}, evidence=found))
    return Summary(
        classes=fit.names,
        scores={},
        score_intervals={},
        present={},
        choice=fit.learnt.fitted.choice,
        provenance=provenance,
    )


def evidence_of(fitted: Any, plane: Plane, hooks: Hooks) -> dict[int, Evidence]:
    """Return what a fitted method can tell of a plane, per class.

    Parameters
    ----------
    fitted : FittedMethod
        One with ``explain`` tells more than probabilities.
    plane : Plane
        Where.
    hooks : Hooks
        Progress and cancelling.
    """
    if not hasattr(fitted, "explain"):
        maps = fitted.predict(plane, hooks)
        return {value: Evidence(basic_maps(maps[value])) for value in maps}
    return {
        value: Evidence(
            {**basic_maps(told.probability), **told.maps},
            as_prompt_set(told.prompts),
            told.candidates,
            told.scores,
        )
        for value, told in fitted.explain(plane, hooks).items()
    }


def basic_maps(probability: FloatArray) -> dict[str, FloatArray]:
    """Return the maps (H, W) that every method can show."""
    unsure: FloatArray = (1 - np.abs(2 * probability - 1)).astype(np.float32)
    return {"probability": probability, "uncertainty": unsure}


def as_prompt_set(prompts: PlanePrompts) -> PromptSet | None:
    """Return prompts of a plane as a user would have given them; None if empty."""
    if prompts.is_empty:
        return None
    points = np.concatenate([prompts.positive, prompts.negative])
    labels = np.repeat([1, 0], [len(prompts.positive), len(prompts.negative)])
    return PromptSet(
        points=points if len(points) else None,
        point_labels=labels if len(points) else None,
        boxes=prompts.boxes if len(prompts.boxes) else None,
    )


def redundant_of(fit: Fit) -> tuple[str, ...]:
    """Return the supports that teach nothing new beside the others."""
    familiarity = fit.learnt.familiarity
    return () if familiarity is None else familiarity.redundant
