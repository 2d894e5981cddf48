"""`run`: the pure function behind every executor.

It reads supports and query plane by plane, and hands every finished plane out at once,
so that memory does not depend on the length of a stack. It keeps no state of its own.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import Hooks, Plane, Progress
from napari_fewshot.errors import PromptError, WeightsError
from napari_fewshot.inference._cache import Learnt
from napari_fewshot.inference._checks import check_request, is_constant
from napari_fewshot.inference._prompted import (
    Prompting,
    prepare_prompting,
    prompted_planes,
)
from napari_fewshot.inference._provenance import provenance_of
from napari_fewshot.inference._request import PlaneResult, SegmentRequest, Summary
from napari_fewshot.inference._samples import collect_samples
from napari_fewshot.methods import (
    Reliability,
    ReverseJudge,
    get_method,
    make_params,
    network_of,
    params_to_dict,
)
from napari_fewshot.models import load_model
from napari_fewshot.ops import (
    has_holes,
    probabilities_to_labels,
    soft_dice,
    split_instances,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import Sample
    from napari_fewshot.inference._cache import FitCache
    from napari_fewshot.inference._request import OnPlane
    from napari_fewshot.methods import CommonParams, Method
    from napari_fewshot.models import Encoder

# Weight of what a mask teaches against the leave-one-out score of the supports.
JUDGE_WEIGHT = 1.0
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
    seconds: dict[str, float] = {}
    method = get_method(request.method)
    params = make_params(method.spec.params, request.params)
    hooks.report("Checking the images")
    check_request(request)
    planes = _wanted_planes(request)
    fit_steps = max(1, round(FIT_SHARE * len(planes)))
    total = fit_steps + len(planes)
    fit = _fit(
        request, method, params, _scaled(hooks, fit_steps, total), cache, seconds
    )
    tally = _Tally(fit.learnt.reliability)
    start = time.perf_counter()
    for done, plane in enumerate(planes):
        left = (
            (time.perf_counter() - start) / done * (len(planes) - done)
            if done
            else None
        )
        stage = (
            "Segmenting" if len(planes) == 1 else f"Plane {done + 1} of {len(planes)}"
        )
        hooks.report(stage, fit_steps + done, total, left)
        on_plane(_segment_plane(request, plane, fit, params, hooks, tally))
    seconds["predict"] = time.perf_counter() - start
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
    )


def _wanted_planes(request: SegmentRequest) -> tuple[int, ...]:
    """Planes to segment; without supports only those that have prompts."""
    every = range(request.query.n_planes)
    wanted = tuple(every if request.planes is None else request.planes)
    if len(request.support):
        return wanted
    prompted = prompted_planes(request.prompts, request.query.n_planes)
    found = tuple(p for p in wanted if p in prompted)
    if not found:
        raise PromptError(
            "There are prompts on none of the chosen planes. Click on one of them, "
            "choose others, or add a support."
        )
    return found


@dataclass
class _Fit:
    learnt: Learnt
    names: dict[int, str]
    model: Encoder | None
    digests: list[str]
    fillable: dict[int, bool]
    prompting: Prompting | None = None


@dataclass
class _Unfitted:
    """What is known without supports: nothing."""

    choice: str = "bundled network, prompts alone"

    def predict(self, plane: Plane, hooks: Hooks) -> dict[int, FloatArray]:
        return {}


@dataclass
class _Tally:
    """What is gathered while planes pass by."""

    reliability: Reliability
    present: dict[int, bool] = field(default_factory=dict)
    plane_scores: dict[int, list[float]] = field(default_factory=dict)
    absent_scores: dict[int, list[float]] = field(default_factory=dict)
    digest: Any = field(default_factory=lambda: hashlib.blake2b(digest_size=16))

    def add(self, value: int, score: float, is_present: bool) -> None:
        self.present[value] = self.present.get(value, False) or is_present
        target = self.plane_scores if is_present else self.absent_scores
        target.setdefault(value, []).append(score)

    def scores(self) -> dict[int, float]:
        found = {}
        for value in self.present:
            values = self.plane_scores.get(value) or self.absent_scores[value]
            found[value] = float(np.mean(values))
        return found

    def intervals(self) -> dict[int, tuple[float, float]]:
        """Shift the leave-one-out interval to the score of this query."""
        found = {}
        for value, score in self.scores().items():
            low, high = self.reliability.intervals.get(value, (0.0, 1.0))
            shift = score - self.reliability.scores.get(value, score)
            found[value] = (max(0.0, low + shift), min(1.0, high + shift))
        return found


def _scaled(hooks: Hooks, steps: int, total: int) -> Hooks:
    """Return hooks that squeeze the reports of a stage into its share of the bar."""

    def forward(progress: Progress) -> None:
        share = progress.done / progress.total if progress.total else 0.0
        hooks.on_progress(Progress(progress.stage, int(steps * min(1.0, share)), total))

    return Hooks(forward, hooks.is_cancelled, hooks.started)


def _fit(
    request: SegmentRequest,
    method: Method,
    params: CommonParams,
    hooks: Hooks,
    cache: FitCache | None,
    seconds: dict[str, float],
) -> _Fit:
    start = time.perf_counter()
    count = len(request.support)
    asked = {v: str(v) for v in request.prompts}
    if not count:
        encoder = network_of(_encoder(request, method))
        names = {v: dict(request.classes).get(v, n) for v, n in asked.items()}
        nothing = Learnt(_Unfitted(), Reliability())
        prompting = prepare_prompting(request, nothing, (), (), encoder)
        seconds["fit"] = time.perf_counter() - start
        fillable = dict.fromkeys(names, True)
        return _Fit(nothing, names, encoder, [], fillable, prompting)
    stage = (
        "Learning from 1 support" if count == 1 else f"Learning from {count} supports"
    )
    hooks.report(stage)
    samples, digests = collect_samples(request.support, hooks)
    classes = request.support.label_values
    names = {**asked, **request.support.class_names, **dict(request.classes)}
    encoder = _encoder(request, method)
    model = encoder.spec.name if encoder is not None else None
    key = json.dumps(
        [
            digests,
            [s.group for s in samples],
            method.spec.name,
            model,
            getattr(encoder, "sha256", None),
            params_to_dict(params),
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
        seconds["assess"] = time.perf_counter() - start
        if cache is not None:
            cache.put(key, learnt)
    else:
        seconds.update(fit=time.perf_counter() - start, assess=0.0)
    fillable = {v: not _has_holes(samples, v) for v in names}
    used = {v: n for v, n in names.items() if v in classes or v in asked}
    prompting = prepare_prompting(request, learnt, samples, classes, encoder)
    return _Fit(learnt, used, encoder, digests, fillable, prompting)


def _judge(
    encoder: Encoder | None, samples: Sequence[Sample], classes: Sequence[int]
) -> ReverseJudge | None:
    """Return who judges masks on queries; without the network nobody does."""
    try:
        return ReverseJudge.fit(network_of(encoder), samples, classes)
    except WeightsError:
        return None


def _encoder(request: SegmentRequest, method: Method) -> Encoder | None:
    """Load the model of the request if the method uses one."""
    if not method.spec.uses_model:
        return None
    return load_model(request.model, request.checkpoint, request.device)


def _has_holes(samples: Sequence[Sample], value: int) -> bool:
    """Whether holes belong to a class: most supports have them (meshes, rings)."""
    masks = [s.labels == value for s in samples if (s.labels == value).any()]
    return sum(has_holes(mask) for mask in masks) > len(masks) / 2


def _segment_plane(
    request: SegmentRequest,
    plane: int,
    fit: _Fit,
    params: CommonParams,
    hooks: Hooks,
    tally: _Tally,
) -> PlaneResult:
    query, learnt = request.query, fit.learnt
    digest = query.plane_digest(plane)
    tally.digest.update(digest.encode())
    seen = None
    if is_constant(query, plane):
        # A blank plane of a stack holds nothing; methods need not be asked.
        shape = query.plane_shape
        maps = {v: np.zeros(shape, np.float32) for v in fit.names}
    else:
        position = query.relative_position(plane)
        seen = Plane(query.plane(plane), position, query.pixel_size)
        key = f"{digest} {query.window} {position} {query.pixel_size}"
        known = learnt.recall(key)
        if known is None:
            known = learnt.fitted.predict(seen, hooks)
            learnt.remember(key, known)
        maps = known
        if fit.prompting is not None:
            maps = fit.prompting.apply(plane, seen, maps, hooks)
    labels = probabilities_to_labels(
        maps,
        threshold=params.threshold,
        min_area=params.min_area,
        max_area=params.max_area,
        fill_holes=fit.fillable if params.fill_holes else False,
        largest_only=params.largest_only,
    )
    scores = {}
    for value, probability in maps.items():
        score = _plane_score(value, probability, learnt.reliability)
        mask = labels == value
        if learnt.judge is not None and seen is not None and mask.any():
            # What the mask teaches about the supports says most about this plane.
            taught = learnt.judge.expected_dice(seen.image, value, mask)
            score = (score + JUDGE_WEIGHT * taught) / (1 + JUDGE_WEIGHT)
        scores[value] = score
        tally.add(value, score, bool(mask.any()))
    instances = None
    if params.instances != "none":
        instances = split_instances(labels, params.instances)
    return PlaneResult(
        plane, labels, scores, instances, _kept(request, query.n_planes, maps)
    )


def _plane_score(
    value: int, probability: FloatArray, reliability: Reliability
) -> float:
    """Expected Dice on one plane.

    The leave-one-out Dice of the supports, lowered where the method is less sure of
    itself than it was on the supports that were left out.
    """
    confidence = float(soft_dice(probability))
    if value not in reliability.scores:
        return confidence
    usual = max(float(reliability.confidence.get(value, confidence)), 1e-6)
    return float(
        np.clip(reliability.scores[value] * min(1.0, confidence / usual), 0, 1)
    )


def _kept(
    request: SegmentRequest, n_planes: int, maps: Mapping[int, FloatArray]
) -> dict[int, Any]:
    keep = request.keep_probabilities
    if keep is None:
        keep = n_planes == 1
    return {v: p.astype(np.float16) for v, p in maps.items()} if keep else {}
