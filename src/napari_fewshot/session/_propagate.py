"""`propagate`: a few annotated planes of a volume or time series, then the others."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import Hooks, SupportSet
from napari_fewshot.errors import DataError, ModelError
from napari_fewshot.inference import (
    PlaneResult,
    SegmentRequest,
    Summary,
    check_request,
)
from napari_fewshot.inference._annotate import annotate_masks, annotate_prompts
from napari_fewshot.inference._prompted import encoding
from napari_fewshot.inference._propagate import (
    STOP_IOU,
    PropagationRequest,
    resolve_mode,
    run_propagation,
)
from napari_fewshot.inference._propagation import (
    AUTO,
    ENDED,
    INTERPOLATE,
    PROPAGATION_MODES,
    Propagation,
)
from napari_fewshot.inference._provenance import versions
from napari_fewshot.io import open_image, open_labels, save_labels, suffix_of
from napari_fewshot.methods.following import follower_of
from napari_fewshot.models import load_model
from napari_fewshot.session._asked import normalise_prompts
from napari_fewshot.session._collect import Collector

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray
    from napari_fewshot.data import Image, Prediction, PromptSet


def propagate(
    query: Any,
    prompts: Any = None,
    masks: Any = None,
    *,
    model: str = "auto",
    checkpoint: Any = None,
    mode: str = AUTO,
    planes: Sequence[int] | None = None,
    scale: Any = None,
    axes: str | None = None,
    channels: Any = None,
    device: str = "auto",
    stop_iou: float = STOP_IOU,
    hooks: Hooks | None = None,
    out: str | os.PathLike[str] | None = None,
) -> Prediction:
    """Carry objects from a few annotated planes to the others.

    Parameters
    ----------
    query : array, path or layer
        A volume or a time series, or a time series of volumes. Objects are followed
        along z, at every time point by themselves: annotate each. Without z they are
        followed along t.
    prompts : dict of int to PromptSet, optional
        Points, boxes or scribbles per object, (plane, row, column); a lone `PromptSet`
        is object 1. What they outline on their planes is carried on. Planes are counted
        from 0 over z and t together, in the order of the axes.
    masks : dict of int to array (H, W), array, path or layer, optional
        Finished planes: labels per plane number, or labels of the query's shape in
        which some planes are painted. A number is one object on all planes; where a
        painted plane does not show it, it ends.
    model : str
        See `list_models`; ``"auto"`` is the bundled network.
    checkpoint : path, optional
        Weights file of your own.
    mode : str
        ``"auto"``: the memory of the model if it has one; else shapes interpolated
        between annotated planes and corrected by the model, and plane by plane beyond
        them. ``"interpolate"`` needs no model; ``"memory"``; or how every plane is
        asked for with what was found on the one before: ``"box"``, ``"mask"``,
        ``"points"``, ``"points+mask"``, ``"point"``, ``"box+mask"``.
    planes : sequence of int, optional
        Fill in these planes only. Default all.
    scale : sequence of float, optional
        Pixel size per spatial axis (z, y, x).
    axes : str, optional
        One letter of ``tzcyx`` per axis of the query.
    channels : int or sequence of int, optional
        Channels of the query to use.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
    stop_iou : float
        An object ends where less than this share of it and of what it was on the plane
        before is common to both (intersection over union). Lower it for things that
        move fast.
    hooks : Hooks, optional
        Progress and cancelling.
    out : path, optional
        Write the labels there: ``.zarr`` plane by plane, other formats at the end, also
        when it is stopped.

    Returns
    -------
    Prediction
        ``.labels`` holds the numbers of the objects. Annotated planes are as they were
        given. Where objects would overlap, the one with the higher score is in front.

    Raises
    ------
    PromptError, DataError, ModelError, WeightsError, StorageError
        All are `FewShotError`; the message says what to do next.
    Cancelled
        If the hooks say so.
    """
    hooks = hooks or Hooks()
    check_options(mode, stop_iou)
    image = open_image(query, axes=axes, scale=scale, channels=channels)
    given = normalise_prompts(prompts)
    state = Propagation.of(image)
    _check_query(image, given, planes)
    if masks is not None:
        annotate_masks(state, painted_planes(masks, image))
    elif not given:
        raise DataError(
            "No plane is annotated. Give masks= of one plane or more, or prompts=."
        )
    follower = None
    if mode != INTERPOLATE or given:
        loaded: Any = load_model(model, checkpoint, device)
        follower = follower_of(loaded, encoding(loaded))
    empty = annotate_prompts(state, image, given, follower, hooks) if follower else []
    way = resolve_mode(mode, follower)
    request = PropagationRequest(image, state, follower, way, planes, stop_iou)
    like = query if isinstance(query, (str, os.PathLike)) else None
    prediction = _run_and_collect(request, hooks, out, like)
    prediction.prompts.update(given)
    prediction.provenance["unanswered"] = [list(pair) for pair in empty]
    return prediction


def check_options(mode: str, stop_iou: float) -> None:
    """Refuse unknown modes and thresholds that are none.

    Raises
    ------
    ModelError, DataError
    """
    if mode not in PROPAGATION_MODES:
        raise ModelError(
            f"There is no mode {mode!r}. Modes: {', '.join(PROPAGATION_MODES)}."
        )
    if not 0 <= stop_iou <= 1:
        raise DataError(f"stop_iou is a share from 0 to 1, not {stop_iou}.")


def painted_planes(masks: Any, image: Image) -> Iterator[tuple[int, AnyArray]]:
    """Yield annotated planes and their labels, one at a time.

    Parameters
    ----------
    masks : dict of int to array (H, W), array, path or layer
        Planes of a dict all count, planes of a stack only if something is painted.
    image : Image
        The query.

    Raises
    ------
    DataError
        If a stack does not have the shape of the query.
    """
    if isinstance(masks, Mapping):
        for plane, labels in masks.items():
            yield int(plane), np.asarray(labels)
        return
    labels = open_labels(masks)
    if not hasattr(labels, "shape"):
        labels = np.asarray(labels)
    if tuple(labels.shape) != image.label_shape:
        raise DataError(
            f"The masks have shape {tuple(labels.shape)}, but the image has "
            f"{image.label_shape}. Give labels of that shape, or a dict of plane to "
            "labels (rows, columns)."
        )
    for plane in range(image.n_planes):
        found = np.asarray(labels[image.label_key(plane)])
        if found.any():
            yield plane, found


def _check_query(
    image: Image, prompts: Mapping[int, PromptSet], planes: Sequence[int] | None
) -> None:
    """Refuse what is no stack, and prompts or planes that are not on it."""
    if image.n_planes < 2:
        raise DataError(
            f"The image {image.name!r} has one plane only; there is nothing to "
            "propagate to. Use segment, or check axes=."
        )
    asked = SegmentRequest(image, SupportSet(()), prompts=prompts, planes=planes)
    if prompts:
        check_request(asked)
    for plane in planes if planes is not None else ():
        if not 0 <= plane < image.n_planes:
            raise DataError(
                f"Plane {plane} does not exist: the image {image.name!r} has planes 0 "
                f"to {image.n_planes - 1}."
            )


def _run_and_collect(
    request: PropagationRequest, hooks: Hooks, out: Any, like: Any
) -> Prediction:
    """Run, gather the planes as they are finished, and write them if wanted."""
    image, state = request.query, request.state
    is_store = out is not None and suffix_of(out) == ".zarr"
    collector = Collector(image, out if is_store else None)

    def add(plane: int) -> None:
        labels, scores = state.labels(plane), state.scores(plane)
        collector.add(PlaneResult(plane, labels, scores))

    given = {p for value in state.objects for p in state.annotated(value)}
    for plane in sorted(given):
        add(plane)
    try:
        seconds = run_propagation(request, hooks, add)
    finally:
        # What is done is kept, however it ends.
        if out is not None and not is_store:
            save_labels(
                out,
                collector.labels,
                like=like,
                scale=image.scale,
                axes=image.label_axes,
            )
    return collector.prediction(_summary(request, seconds), "inline")


def _summary(request: PropagationRequest, seconds: dict[str, float]) -> Summary:
    """Return scores and the record of a run."""
    state, query, follower = request.state, request.query, request.follower
    names = {value: f"object {value}" for value in state.objects}
    scores = {}
    for value, known in state.objects.items():
        found = [f.score for f in known.values() if f.is_present and not f.is_annotated]
        scores[value] = float(np.mean(found)) if found else 1.0
    model = None if follower is None else follower.model
    provenance = {
        "method": "propagate",
        "model": None if model is None else model.spec.name,
        "weights_sha256": getattr(model, "sha256", None),
        "params": {"mode": request.mode, "stop_iou": request.stop_iou},
        "objects": {str(v): _told(state, v) for v in state.objects},
        "versions": {
            "python": platform.python_version(),
            **versions(),
        },
        "inputs": {
            "query": {
                "name": query.name,
                "shape": list(query.shape),
                "dtype": str(query.array.dtype),
                "axes": query.axes,
                "channels": list(query.channels),
                "scale": None if query.scale is None else list(query.scale),
                "planes": None
                if request.planes is None
                else [int(p) for p in request.planes],
            }
        },
        "seconds": {k: round(v, 4) for k, v in seconds.items()},
        "score_kind": "uncalibrated",
        "device": str(getattr(model, "device", "cpu")),
        "notes": [*getattr(model, "notes", ())],
    }
    present = {v: any(f.is_present for f in state.objects[v].values()) for v in names}
    return Summary(names, scores, {}, present, provenance=provenance)


def _told(state: Propagation, value: int) -> dict[str, Any]:
    """Return how the planes of an object came about, and why it ended."""
    known = state.objects[value]
    told: dict[str, Any] = {}
    for plane in sorted(known):
        if known[plane].source != ENDED:
            told.setdefault(known[plane].source, []).append(plane)
    # The first plane on each side tells where it ended; the rest follow from it.
    told["ended"] = {
        str(p): known[p].why
        for p in sorted(known)
        if known[p].source == ENDED and _is_beside(state, value, p)
    }
    return told


def _is_beside(state: Propagation, value: int, plane: int) -> bool:
    """Whether an object is on a plane next to this one."""
    stack = state.stack(plane)
    beside = (plane - stack.step, plane + stack.step)
    return any(p in stack and state.is_present(value, p) for p in beside)
