"""Everything mode over all planes of an image: objects without prompts or examples."""

from __future__ import annotations

import hashlib
import platform
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import Hooks, Progress
from napari_fewshot.errors import DataError, ModelError, PromptError, WeightsError
from napari_fewshot.inference._checks import is_constant
from napari_fewshot.inference._prompted import encoding
from napari_fewshot.inference._provenance import versions
from napari_fewshot.inference._request import PlaneResult, Summary
from napari_fewshot.methods import make_params
from napari_fewshot.methods.everything import EverythingParams, find_objects
from napari_fewshot.models import (
    PROMPTABLE,
    get_model_spec,
    installed_models,
    load_model,
    model_specs,
)
from napari_fewshot.ops.proposals import paint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_fewshot._types import AnyArray, BoolArray
    from napari_fewshot.data import Image
    from napari_fewshot.inference._request import OnPlane
    from napari_fewshot.ops.proposals import Proposal

OBJECT = 1
# Side of the smallest tiles in pixels.
MIN_TILE = 64


@dataclass(frozen=True, eq=False)
class EverythingRequest:
    """Everything that the search for all objects depends on.

    Attributes
    ----------
    query : Image
        Where to look.
    region : array, optional
        Not 0 where objects are wanted: of the shape of a plane, or of all planes.
    model, checkpoint, device : str, optional
        As for `segment`; ``"auto"`` is the first promptable model on this machine.
    params : dict
        Of `EverythingParams`.
    """

    query: Image
    region: Any = None
    model: str = "auto"
    checkpoint: Any = None
    device: str = "auto"
    params: Mapping[str, Any] = field(default_factory=dict)


def run_everything(
    request: EverythingRequest, hooks: Hooks, on_plane: OnPlane
) -> Summary:
    """Find all objects on all planes.

    Parameters
    ----------
    request : EverythingRequest
        What to do.
    hooks : Hooks
        Progress and cancelling.
    on_plane : callable
        Receives a `PlaneResult` with labels (1 where an object is) and instances for
        every plane.

    Returns
    -------
    Summary
        Its provenance lists the ``"objects"``: id, plane, area, box (y0, x0, y1, x1),
        predicted_iou, stability and point (row, column) each.

    Raises
    ------
    DataError, PromptError, ModelError, WeightsError
        If the request can't be done.
    Cancelled
        If the hooks say so.
    TypeError, ValueError
        For unknown parameters or values outside their limits.
    """
    params = checked_params(request.params)
    hooks.report("Checking the image")
    query = request.query
    _check(request)
    start = time.perf_counter()
    model = load_promptable(request.model, request.checkpoint, request.device)
    seconds = {"load": time.perf_counter() - start}
    start = time.perf_counter()
    objects: list[dict[str, Any]] = []
    digest = hashlib.blake2b(digest_size=16)
    encode = encoding(model)
    for plane in range(query.n_planes):
        digest.update(query.plane_digest(plane).encode())
        found: list[Proposal] = []
        region = _region_of(request, plane)
        wanted = region is None or bool(region.any())
        if wanted and not is_constant(query, plane):
            part = _part_of(hooks, plane, query.n_planes)
            pixels = _pixels(query, plane)
            found = find_objects(model, encode, pixels, params, region, part)
        instances = paint(found, query.plane_shape)
        scores = {OBJECT: _mean_iou(found)} if found else {}
        labels = (instances > 0).astype(np.int32)
        on_plane(PlaneResult(plane, labels, scores, instances))
        first = len(objects) + 1
        objects += [_record(p, first + i, plane) for i, p in enumerate(found)]
    seconds["find"] = time.perf_counter() - start
    hooks.on_progress(Progress("Done", query.n_planes, query.n_planes, 0.0))
    score = float(np.mean([o["predicted_iou"] for o in objects])) if objects else 0.0
    score = min(max(score, 0.0), 1.0)
    return Summary(
        classes={OBJECT: "object"},
        scores={OBJECT: score},
        score_intervals={},
        present={OBJECT: bool(objects)},
        choice=f"{model.spec.name}, everything",
        provenance={
            **_facts(request, model, params, digest.hexdigest(), seconds),
            "objects": objects,
        },
    )


def checked_params(values: Mapping[str, Any]) -> EverythingParams:
    """Return settings from what the user gave.

    Raises
    ------
    TypeError
        For an unknown name; the message names the nearest one.
    ValueError
        For a value outside its limits, or tiles and crops at once.
    """
    # `make_params` reads nothing but the fields.
    cls: Any = EverythingParams
    made: Any = make_params(cls, values)
    params: EverythingParams = made
    if params.tile and params.crop_layers:
        raise ValueError(
            "Tiles and crops do not go together; give either tile or crop_layers."
        )
    if 0 < params.tile < MIN_TILE:
        raise ValueError(f"tile={params.tile} is too small; give {MIN_TILE} or more.")
    return params


def load_promptable(name: str, checkpoint: Any = None, device: str = "auto") -> Any:
    """Load a model that answers to points.

    Parameters
    ----------
    name : str
        Of the model; ``"auto"`` is the one whose weights ``checkpoint`` holds, or the
        first on this machine.
    checkpoint : path, optional
        Weights file of your own.
    device : str
        As for `load_model`.

    Raises
    ------
    ModelError
        If there is no such model or it does not answer to points.
    WeightsError
        If the weights are missing or damaged.
    """
    if name == "auto" and checkpoint is None:
        here = [n for n in installed_models() if get_model_spec(n).task == PROMPTABLE]
        if not here:
            raise WeightsError(
                "Finding everything needs a model that answers to points, and none is "
                "on this machine. See `napari-fewshot models list`, or pass model= and "
                "checkpoint=, for example model='sam/vit_b'."
            )
        name = here[0]
    if name != "auto" and get_model_spec(name).task != PROMPTABLE:
        raise _unsuitable(name)
    model: Any = load_model(name, checkpoint, device)
    takes = getattr(model, "takes_points", None)
    if takes is None:
        takes = getattr(getattr(model, "preset", None), "points", True)
    if model.spec.task != PROMPTABLE or not takes:
        raise _unsuitable(model.spec.name)
    return model


def _unsuitable(name: str) -> ModelError:
    others = [s.name for s in model_specs() if s.task == PROMPTABLE and s.name != name]
    return ModelError(
        f"{name} does not answer to points, so it cannot find everything. Choose "
        f"another model: {', '.join(others)}."
    )


def _check(request: EverythingRequest) -> None:
    """Refuse what can't work before anything is loaded."""
    query = request.query
    if request.region is not None:
        shapes = {query.plane_shape, query.label_shape}
        shape = tuple(int(n) for n in request.region.shape)
        if shape not in shapes:
            raise PromptError(
                f"The region has the shape {shape}, but the image has "
                f"{' or '.join(str(s) for s in sorted(shapes))}. Draw it on a layer of "
                "the image's size."
            )
        regions = (_region_of(request, p) for p in range(query.n_planes))
        if not any(r is not None and r.any() for r in regions):
            raise PromptError("The region is empty. Draw where objects are wanted.")
    if query.n_planes == 1 and is_constant(query, 0):
        raise DataError(
            f"The image {query.name!r} is constant: every pixel has the same value. "
            "Choose another image or channel."
        )


def _region_of(request: EverythingRequest, plane: int) -> BoolArray | None:
    """Return where objects are wanted on a plane."""
    if request.region is None:
        return None
    key: Any = request.query.label_key(plane)
    if len(request.region.shape) == 2:
        key = (slice(None), slice(None))
    region: BoolArray = np.asarray(request.region[key]) != 0
    return region


def _pixels(query: Image, plane: int) -> AnyArray:
    """Return a plane as the model takes it.

    Colours of 8 bits stay as they are, as the weights have seen them; everything else
    is windowed, as for all other methods.
    """
    windowed = query.plane(plane)
    raw = query.raw_plane(plane)
    is_colour = raw.dtype == np.uint8 and raw.ndim == 3 and raw.shape[-1] == 3
    return raw if is_colour else windowed


def _part_of(hooks: Hooks, plane: int, planes: int) -> Hooks:
    """Return hooks that show the progress of a plane as part of all planes."""
    if planes == 1:
        return hooks

    def forward(progress: Progress) -> None:
        stage = f"Plane {plane + 1} of {planes}: {progress.stage.lower()}"
        total = progress.total
        hooks.on_progress(
            Progress(stage, plane * total + progress.done, planes * total)
        )

    return Hooks(forward, hooks.is_cancelled, hooks.started)


def _mean_iou(found: list[Proposal]) -> float:
    return float(np.clip(np.mean([p.predicted_iou for p in found]), 0, 1))


def _record(proposal: Proposal, number: int, plane: int) -> dict[str, Any]:
    y0, x0, y1, x1 = proposal.box
    return {
        "id": number,
        "plane": plane,
        "area": proposal.area,
        "y0": y0,
        "x0": x0,
        "y1": y1,
        "x1": x1,
        "predicted_iou": round(proposal.predicted_iou, 4),
        "stability": round(proposal.stability, 4),
        "point_y": round(proposal.point[0], 2),
        "point_x": round(proposal.point[1], 2),
    }


def _facts(
    request: EverythingRequest,
    model: Any,
    params: EverythingParams,
    fingerprint: str,
    seconds: dict[str, float],
) -> dict[str, Any]:
    """Return the JSON-able record of a run, with the keys of every other run."""
    query, region = request.query, request.region
    return {
        "method": "everything",
        "model": model.spec.name,
        "weights_sha256": getattr(model, "sha256", None),
        "params": asdict(params),
        "classes": {str(OBJECT): "object"},
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
                "window": list(query.window),
                "planes": None,
                "fingerprint": fingerprint,
            },
            "region": None if region is None else [int(n) for n in region.shape],
        },
        "seconds": {k: round(v, 4) for k, v in seconds.items()},
        "score_kind": "predicted-iou",
        "device": str(getattr(model, "device", "cpu")),
        "precision": str(getattr(model, "precision", "fp32")),
        "notes": [*getattr(model, "notes", ())],
        "seed": 0,
    }
