"""`run`: the pure function behind every executor.

It reads supports and query plane by plane, and hands every finished plane out at once,
so that memory does not depend on the length of a stack. It keeps no state of its own.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from napari_fewshot.data import Hooks, Progress, WindowedImage
from napari_fewshot.errors import PromptError
from napari_fewshot.inference._checks import check_request
from napari_fewshot.inference._evidence import redundant_of
from napari_fewshot.inference._learn import lights_for
from napari_fewshot.inference._planes import (
    finish_plane,
    look_at_all,
    look_from_anchors,
)
from napari_fewshot.inference._prompted import (
    asks_nothing,
    knows_classes,
    prompted_planes,
    with_model,
)
from napari_fewshot.inference._provenance import provenance_of
from napari_fewshot.inference._reading import (
    leading_method,
    learn_evidence,
    note_understanding,
)
from napari_fewshot.inference._request import SegmentRequest, Summary
from napari_fewshot.inference._tally import Tally
from napari_fewshot.inference._tasks import run_task

if TYPE_CHECKING:
    from napari_fewshot.inference._cache import FitCache
    from napari_fewshot.inference._request import OnPlane

# Learning counts as this share of the planes in the progress bar.
FIT_SHARE = 0.25


def run(
    request: SegmentRequest,
    hooks: Hooks,
    on_plane: OnPlane,
    cache: FitCache | None = None,
) -> Summary:
    """Learn from the supports and segment the planes that were asked for.

    Parameters
    ----------
    request : SegmentRequest
        What to do.
    hooks : Hooks
        Progress and cancelling.
    on_plane : callable
        Receives a `PlaneResult` for every plane, in the order of ``request.planes``.
    cache : FitCache, optional
        Kept by the caller between runs; a repeated fit is then free.

    Returns
    -------
    Summary

    Raises
    ------
    SupportError, PromptError, DataError, ModelError
        If the request can't be done.
    Cancelled
        If the hooks say so.
    TypeError, ValueError
        For unknown parameters or values outside their limits.
    """
    request = with_model(request)
    if request.task != "segment":
        return run_task(request, hooks, on_plane, cache)
    seconds: dict[str, float] = {}
    method, params = leading_method(request)
    hooks.report("Checking the images")
    finds_classes = asks_nothing(request) and knows_classes(request)
    check_request(request, needs_evidence=not finds_classes)
    planes = _wanted_planes(request, finds_classes=finds_classes)
    fit_steps = max(1, round(FIT_SHARE * len(planes)))
    total = fit_steps + len(planes)
    fit = learn_evidence(request, _scaled(hooks, fit_steps, total), cache, seconds)
    tally = Tally(fit.learnt.reliability)
    start = time.perf_counter()
    is_stack = len(planes) > 1 and not isinstance(request.query, WindowedImage)
    if getattr(params, "through", "planes") == "anchors" and is_stack:
        looks = look_from_anchors(request, planes, fit, hooks, fit_steps)
    else:
        lights = lights_for(request, fit, method, params, hooks, cache)
        looks = look_at_all(request, planes, fit, params, hooks, fit_steps, lights)
    for looked in looks:
        if looked.seen is not None and not fit.trust:
            note_understanding(request, fit, looked.seen, hooks)
        on_plane(finish_plane(request, looked, fit, params, hooks, tally))
    seconds["predict"] = time.perf_counter() - start
    # Some is known only when planes were seen.
    told = getattr(fit.learnt.fitted, "notes", ())
    fit.notes += [note for note in told if note not in fit.notes]
    hooks.on_progress(Progress("Done", total, total, 0.0))
    return Summary(
        classes=fit.names,
        scores=tally.scores(),
        score_intervals=tally.intervals(),
        present=tally.present,
        support_scores=fit.learnt.reliability.support_scores,
        choice=fit.learnt.fitted.choice,
        provenance=provenance_of(
            request, params, fit, tally.digest.hexdigest(), seconds
        ),
        suggested=tally.suggested,
        redundant=redundant_of(fit),
        fillable=dict(fit.fillable),
        reliability=fit.learnt.reliability,
    )


def _wanted_planes(request: SegmentRequest, *, finds_classes: bool) -> tuple[int, ...]:
    """Planes to segment; without supports only those that have prompts."""
    every = range(request.query.n_planes)
    wanted = tuple(every if request.planes is None else request.planes)
    if len(request.support) or request.text or finds_classes:
        return wanted
    prompted = prompted_planes(request.prompts, request.query.n_planes)
    found = tuple(p for p in wanted if p in prompted)
    if not found:
        raise PromptError(
            "There are prompts on none of the chosen planes. Click on one of them, "
            "choose others, or add a support."
        )
    return found


def _scaled(hooks: Hooks, steps: int, total: int) -> Hooks:
    """Return hooks that squeeze the reports of a stage into its share of the bar."""

    def forward(progress: Progress) -> None:
        share = progress.done / progress.total if progress.total else 0.0
        hooks.on_progress(Progress(progress.stage, int(steps * min(1.0, share)), total))

    return Hooks(forward, hooks.is_cancelled, hooks.started)
