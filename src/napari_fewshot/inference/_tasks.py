"""Tasks of a request besides segmenting: encode, find everything, propagate.

They travel as a `SegmentRequest`, so that every executor can carry them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_fewshot.errors import ModelError
from napari_fewshot.inference._everything import EverythingRequest, run_everything
from napari_fewshot.inference._evidence import (
    check_supports,
    explain_planes,
)
from napari_fewshot.inference._prompted import encoding
from napari_fewshot.inference._propagate import (
    PropagationRequest,
    resolve_mode,
    run_propagation,
)
from napari_fewshot.inference._propagation import AUTO, Propagation
from napari_fewshot.inference._request import PlaneResult, Summary
from napari_fewshot.inference._where import check_text, rank_text, show_where
from napari_fewshot.methods.following import follower_of
from napari_fewshot.models import load_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_fewshot.data import Hooks
    from napari_fewshot.inference._cache import FitCache
    from napari_fewshot.inference._request import OnPlane, SegmentRequest


def run_task(
    request: SegmentRequest,
    hooks: Hooks,
    on_plane: OnPlane,
    cache: FitCache | None = None,
) -> Summary:
    """Do what a request asks for besides segmenting.

    Parameters
    ----------
    request : SegmentRequest
        With a task:

        ``"encode"``
            No options; makes and keeps the embeddings of the planes.
        ``"everything"``
            ``region``: array, optional; ``params``: of `EverythingParams`.
        ``"propagate"``
            ``masks``: ``{object: {plane: (H, W) bool}}``, the annotated planes;
            ``mode``: one of `PROPAGATION_MODES`, optional.
        ``"check"``
            No options; learns, says what to expect of the supports, segments nothing.
            A run that follows finds what was learnt in the cache.
        ``"explain"``
            No options; hands out every intermediate of the method on the planes.
        ``"where"``
            No options; hands out heat maps of the phrases, and draws no masks.
        ``"check-text"``
            No options; says on the first plane whether the phrases are understood.
        ``"rank-text"``
            ``mask``: array (H, W) bool, optional, of what is meant; says on the first
            plane which phrase, one per class, tells it apart best.
    hooks : Hooks
        Progress and cancelling.
    on_plane : callable
        Receives a `PlaneResult` for every finished plane; its labels are numbers of
        objects when objects are propagated.
    cache : FitCache, optional
        As for `run`.

    Raises
    ------
    ModelError
        For an unknown task, or a model that can't do it.
    """
    tasks: dict[str, Callable[[SegmentRequest, Hooks, OnPlane], Summary]] = {
        "encode": _encode,
        "everything": _everything,
        "propagate": _propagate,
    }
    learning = {
        "check": check_supports,
        "explain": explain_planes,
        "where": show_where,
        "check-text": check_text,
        "rank-text": rank_text,
    }
    if request.task in learning:
        return learning[request.task](request, hooks, on_plane, cache)
    if request.task not in tasks:
        every = ", ".join([*tasks, *learning])
        raise ModelError(f"There is no task {request.task!r}. Tasks: segment, {every}.")
    return tasks[request.task](request, hooks, on_plane)


def _encode(request: SegmentRequest, hooks: Hooks, on_plane: OnPlane) -> Summary:
    encode = encoding(load_model(request.model, request.checkpoint, request.device))
    every = range(request.query.n_planes)
    for plane in every if request.planes is None else request.planes:
        encode(request.query.plane(plane), hooks)
    return Summary(classes={}, scores={}, score_intervals={}, present={})


def _everything(request: SegmentRequest, hooks: Hooks, on_plane: OnPlane) -> Summary:
    asked = EverythingRequest(
        query=request.query,
        region=request.options.get("region"),
        model=request.model,
        checkpoint=request.checkpoint,
        device=request.device,
        params=request.options.get("params", {}),
    )
    return run_everything(asked, hooks, on_plane)


def _propagate(request: SegmentRequest, hooks: Hooks, on_plane: OnPlane) -> Summary:
    query = request.query
    state = Propagation.of(query)
    for number, planes in request.options["masks"].items():
        for plane, mask in planes.items():
            state.annotate(number, plane, mask)
    model: Any = load_model(request.model, request.checkpoint, request.device)
    follower = follower_of(model, encoding(model))
    mode = resolve_mode(request.options.get("mode", AUTO), follower)
    task = PropagationRequest(query, state, follower, mode, request.planes)

    def add(plane: int) -> None:
        on_plane(PlaneResult(plane, state.labels(plane), state.scores(plane)))

    seconds = run_propagation(task, hooks, add)
    names = {number: f"object {number}" for number in state.objects}
    return Summary(
        classes=names,
        scores={},
        score_intervals={},
        present=dict.fromkeys(names, True),
        provenance={"method": "propagate", "mode": mode, "seconds": seconds},
    )
