"""Learning from the supports of a request, once for all planes."""

from __future__ import annotations

import functools
import json
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from napari_fewshot.data import Hooks, WindowedImage
from napari_fewshot.errors import WeightsError
from napari_fewshot.inference._alike import banks_of
from napari_fewshot.inference._cache import Learnt
from napari_fewshot.inference._embeddings import KeepingEncoder
from napari_fewshot.inference._familiar import Familiarity
from napari_fewshot.inference._light import Lights, Place, brightened
from napari_fewshot.inference._prompted import (
    ClassFinder,
    Prompting,
    asks_nothing,
    is_promptable,
    prepare_prompting,
)
from napari_fewshot.inference._samples import collect_samples
from napari_fewshot.inference._scale import at_query_scale
from napari_fewshot.methods import (
    Reliability,
    ReverseJudge,
    network_of,
    params_to_dict,
)
from napari_fewshot.models import load_model
from napari_fewshot.ops import has_holes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import Plane, Sample
    from napari_fewshot.inference._cache import FitCache
    from napari_fewshot.inference._request import SegmentRequest
    from napari_fewshot.methods import CommonParams, Method
    from napari_fewshot.models import Encoder
    from napari_fewshot.ops import ShapeBank


@dataclass
class Fit:
    """What planes need: what was learnt, names of classes, who follows prompts.

    Notes tell the user what was done to the supports, or could not be known; trust is
    how far a phrase decides its map, in [0, 1]; absence is how likely images without
    a class are, see `absence_of`.
    """

    learnt: Learnt
    names: dict[int, str]
    model: Encoder | None
    digests: list[str]
    fillable: dict[int, bool]
    prompting: Prompting | None = None
    notes: list[str] = field(default_factory=list)
    banks: dict[int, ShapeBank] = field(default_factory=dict)
    trust: dict[int, float] = field(default_factory=dict)
    absence: dict[int, float] = field(default_factory=dict)


@dataclass
class _Unfitted:
    """What is known without supports: nothing."""

    choice: str = "bundled network, prompts alone"

    def predict(self, plane: Plane, hooks: Hooks) -> dict[int, FloatArray]:
        return {}


def learn(
    request: SegmentRequest,
    method: Method,
    params: CommonParams,
    hooks: Hooks,
    cache: FitCache | None,
    seconds: dict[str, float],
    gain: float = 1.0,
) -> Fit:
    """Learn from the supports, or find in the cache what they taught.

    Parameters
    ----------
    request, cache
        As for `run`.
    method : Method
        Of the request.
    params : CommonParams
        Checked.
    hooks : Hooks
        For this stage.
    seconds : dict of str to float
        Receives what fitting and assessing took.
    gain : float
        How much brighter the supports are looked at; see `_light`.
    """
    start = time.perf_counter()
    count = len(request.support)
    asked = {v: str(v) for v in request.prompts}
    if not count:
        fit = _unsupported(request, method, asked, cache)
        seconds["fit"] = time.perf_counter() - start
        return fit
    stage = (
        "Learning from 1 support" if count == 1 else f"Learning from {count} supports"
    )
    hooks.report(stage)
    samples, digests, notes = samples_for(request, params, hooks)
    if gain != 1:
        samples = [replace(s, image=brightened(s.image, gain)) for s in samples]
    classes = request.support.label_values
    names = {**asked, **request.support.class_names, **dict(request.classes)}
    encoder = _encoder(request, method)
    model = encoder.spec.name if encoder is not None else None
    key = json.dumps(
        [
            digests,
            [(s.group, s.name, s.labels.shape, s.pixel_size) for s in samples],
            method.spec.name,
            model,
            getattr(encoder, "sha256", None),
            params_to_dict(params),
            gain,
        ]
    )
    learnt = cache.get(key) if cache is not None else None
    if learnt is None:
        fitted = method.fit(samples, classes, params, encoder, hooks)
        seconds["fit"] = time.perf_counter() - start
        start = time.perf_counter()
        learnt = Learnt(
            fitted, method.assess(samples, classes, params, encoder, hooks, fitted)
        )
        if params.leave_one_out and learnt.reliability.kind == "leave-one-out":
            learnt.judge = _judge(encoder, samples, classes)
            learnt.familiarity = _familiarity(encoder, samples, learnt, hooks)
        seconds["assess"] = time.perf_counter() - start
        if cache is not None:
            cache.put(key, learnt)
    else:
        seconds.update(fit=time.perf_counter() - start, assess=0.0)
    fillable = {v: not _has_holes(samples, v) for v in names}
    used = {v: n for v, n in names.items() if v in classes or v in asked}
    prompting = prepare_prompting(request, learnt, samples, classes, encoder)
    banks = banks_of(samples, names) if params.instances == "alike" else {}
    return Fit(
        learnt,
        used,
        encoder,
        digests,
        fillable,
        prompting,
        notes,
        banks,
        absence=absence_of(samples, classes),
    )


def lights_for(
    request: SegmentRequest,
    fit: Fit,
    method: Method,
    params: CommonParams,
    hooks: Hooks,
    cache: FitCache | None,
) -> Lights | None:
    """Return who finds the light in which planes look like the support.

    That is for a single support of whole planes: several show by themselves how bright
    an object may be. None where nobody should.

    Parameters
    ----------
    request, method, params, hooks, cache
        As for `learn`.
    fit : Fit
        What was learnt.
    """
    wanted = getattr(params, "match_light", False) and not request.text
    if not wanted or len(fit.digests) != 1 or isinstance(request.query, WindowedImage):
        return None
    quiet = Hooks(is_cancelled=hooks.is_cancelled)

    @functools.cache
    def place() -> Place | None:
        samples, _, _ = samples_for(request, params, quiet)
        if len(samples) != 1:
            return None
        return Place.of(samples[0], request.support.label_values, quiet)

    def relearn(gain: float) -> Fit:
        hooks.report("Learning from the support in another light")
        return learn(request, method, params, quiet, cache, {}, gain)

    return Lights(fit, place, relearn, quiet)


def samples_for(
    request: SegmentRequest, params: CommonParams, hooks: Hooks
) -> tuple[list[Sample], list[str], list[str]]:
    """Read what the supports show, at the pixel size of the query if wanted.

    Parameters
    ----------
    request, params, hooks
        As for `learn`.

    Returns
    -------
    samples : list of Sample
    digests : list of str
        Their fingerprints, see `collect_samples`.
    notes : list of str
        What was done to them.
    """
    samples, digests = collect_samples(request.support, hooks)
    notes: list[str] = []
    if params.match_scale:
        query = request.query
        samples, notes = at_query_scale(samples, query.plane_shape, query.pixel_size)
    return samples, digests, notes


def absence_of(samples: Sequence[Sample], classes: Sequence[int]) -> dict[int, float]:
    """Return how likely an image is without a class that every support shows.

    Laplace's rule of succession: after n supports that all show it, 1 / (n + 2). With
    a support that does not, methods judge presence by themselves: nothing is said.

    Parameters
    ----------
    samples : sequence of Sample
        The supports.
    classes : sequence of int
        Their classes.
    """
    groups = {s.group for s in samples}
    found = {}
    for value in classes:
        shown = {s.group for s in samples if (s.labels == value).any()}
        if shown == groups:
            found[value] = 1 / (len(groups) + 2)
    return found


def _unsupported(
    request: SegmentRequest,
    method: Method,
    asked: dict[int, str],
    cache: FitCache | None,
) -> Fit:
    """Return what follows prompts where there are no supports."""
    names = {v: dict(request.classes).get(v, n) for v, n in asked.items()}
    if not is_promptable(request):
        encoder = network_of(_encoder(request, method))
        nothing = Learnt(_Unfitted(), Reliability())
        prompting = prepare_prompting(request, nothing, (), (), encoder)
        return Fit(nothing, names, encoder, [], dict.fromkeys(names, True), prompting)
    model: Any = load_model(request.model, request.checkpoint, request.device)
    if asks_nothing(request):
        names = {value: f"class {value}" for value in range(1, model.classes)}
        names.update({v: n for v, n in dict(request.classes).items() if v in names})
    sha256 = getattr(model, "sha256", "")
    key = f"prompts {model.spec.name} {sha256} {asks_nothing(request)}"
    learnt = cache.get(key) if cache is not None else None
    if learnt is None:
        name, kind = model.spec.name, "predicted-iou"
        finder: Any = _Unfitted(f"{name}, prompts alone")
        if asks_nothing(request):
            finder, kind = (
                ClassFinder(model, f"{name}, its own classes"),
                "uncalibrated",
            )
        learnt = Learnt(finder, Reliability(kind=kind))
        if cache is not None:
            cache.put(key, learnt)
    prompting = prepare_prompting(request, learnt, (), (), model)
    # Its masks are shown as they are, with their holes.
    return Fit(learnt, names, model, [], dict.fromkeys(names, False), prompting)


def _judge(
    encoder: Encoder | None, samples: Sequence[Sample], classes: Sequence[int]
) -> ReverseJudge | None:
    """Return who judges masks on queries; without the network nobody does."""
    try:
        return ReverseJudge.fit(network_of(encoder), samples, classes)
    except WeightsError:
        return None


def _familiarity(
    encoder: Encoder | None, samples: Sequence[Sample], learnt: Learnt, hooks: Hooks
) -> Familiarity | None:
    """Return who tells planes that are unlike the supports, as for `_judge`."""
    try:
        network = network_of(encoder)
    except WeightsError:
        return None
    scores = learnt.reliability.support_scores
    return Familiarity.fit(network, samples, scores, hooks)


def _encoder(request: SegmentRequest, method: Method) -> Encoder | None:
    """Load the model of the request if the method uses one."""
    if not method.spec.uses_model:
        return None
    model = load_model(request.model, request.checkpoint, request.device)
    return KeepingEncoder(model) if model.spec.needs_download else model


def _has_holes(samples: Sequence[Sample], value: int) -> bool:
    """Whether holes belong to a class: most supports have them (meshes, rings)."""
    masks = [s.labels == value for s in samples if (s.labels == value).any()]
    return sum(has_holes(mask) for mask in masks) > len(masks) / 2
