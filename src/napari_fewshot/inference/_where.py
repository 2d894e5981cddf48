"""Where phrases fit, and whether they are understood: nothing is segmented."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import SupportSet, plane_of
from napari_fewshot.errors import PromptError
from napari_fewshot.inference._checks import check_request, is_constant
from napari_fewshot.inference._evidence import Evidence
from napari_fewshot.inference._reading import (
    leading_method,
    learn_evidence,
    text_model_of,
)
from napari_fewshot.inference._request import PlaneResult, SegmentRequest, Summary
from napari_fewshot.methods.text import rank_phrases, sensitivity

if TYPE_CHECKING:
    from napari_fewshot.data import Hooks, Plane
    from napari_fewshot.inference._cache import FitCache
    from napari_fewshot.inference._request import OnPlane


def show_where(
    request: SegmentRequest, hooks: Hooks, on_plane: OnPlane, cache: FitCache | None
) -> Summary:
    """Hand out a `PlaneResult` with heat maps for every plane; see `run_task`."""
    request = _alone(request)
    fit = learn_evidence(request, hooks, cache, {})
    query, fitted = request.query, fit.learnt.fitted
    every = range(query.n_planes) if request.planes is None else request.planes
    for number in every:
        hooks.report(f"Looking at plane {number}")
        nothing = np.zeros(query.plane_shape, np.int32)
        shown: dict[int, dict[str, Any]]
        if is_constant(query, number):
            blank = np.zeros(query.plane_shape, np.float32)
            shown = {v: {"heat map": blank} for v in request.text}
        else:
            shown = fitted.show(plane_of(query, number), hooks)  # type: ignore[attr-defined]
        found = {v: Evidence(maps) for v, maps in shown.items()}
        on_plane(PlaneResult(number, nothing, {}, evidence=found))
    return Summary(
        classes=fit.names,
        scores={},
        score_intervals={},
        present={},
        choice=fitted.choice,
        provenance={"notes": list(fit.notes)},
    )


def check_text(
    request: SegmentRequest, hooks: Hooks, on_plane: OnPlane, cache: FitCache | None
) -> Summary:
    """Compare maps of phrases with maps of nonsense; see `run_task`."""
    request = _alone(request)
    method, params, model, plane = _asked(request, hooks)
    rows = sensitivity(method, model, params, request.text, plane, hooks)
    told = [
        [r.value, r.phrase, r.nonsense_r, r.empty_r, r.other_r, r.gap, r.verdict]
        for r in rows
    ]
    return Summary(
        classes={},
        scores={},
        score_intervals={},
        present={},
        provenance={"sensitivity": told, "model": model.spec.name},
    )


def rank_text(
    request: SegmentRequest, hooks: Hooks, on_plane: OnPlane, cache: FitCache | None
) -> Summary:
    """Say which phrase, one per class, tells its object apart best; see `run_task`."""
    if not request.text:
        raise PromptError("There is no phrase. Type what to look for.")
    request = replace(request, support=SupportSet(()))
    method, params, model, plane = _asked(request, hooks)
    mask = request.options.get("mask")
    rows = rank_phrases(method, model, params, request.text, plane, hooks, mask)
    return Summary(
        classes={},
        scores={},
        score_intervals={},
        present={},
        provenance={"ranking": [[r.phrase, r.score, r.kind] for r in rows]},
    )


def _asked(request: SegmentRequest, hooks: Hooks) -> tuple[Any, Any, Any, Plane]:
    """Return method, parameters and model that read, and the first plane."""
    method, params = leading_method(request)
    model = text_model_of(request)
    hooks.report("Trying the phrases")
    number = 0 if request.planes is None else request.planes[0]
    return method, params, model, plane_of(request.query, number)


def _alone(request: SegmentRequest) -> SegmentRequest:
    """Return a request in which phrases are all there is."""
    if not request.text:
        raise PromptError("There is no phrase. Type what to look for.")
    request = replace(request, support=SupportSet(()), prompts={})
    check_request(request)
    return request
