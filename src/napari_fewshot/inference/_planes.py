"""Planes of a request: looked at, agreed upon with neighbours, turned into labels."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import Hooks, Plane, WindowedImage, plane_of
from napari_fewshot.inference._alike import objects_alike
from napari_fewshot.inference._anchors import follow_anchors
from napari_fewshot.inference._checks import is_constant
from napari_fewshot.inference._light import AS_IS
from napari_fewshot.inference._numbered import numbered
from napari_fewshot.inference._request import PlaneResult, SegmentRequest
from napari_fewshot.methods import Fused, Neighbours, Reliability, block_size
from napari_fewshot.ops import probabilities_to_labels, soft_dice, split_instances

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from napari_fewshot._types import BoolArray, FloatArray, LabelArray
    from napari_fewshot.inference._learn import Fit
    from napari_fewshot.inference._light import Light, Lights
    from napari_fewshot.inference._tally import Tally
    from napari_fewshot.methods import Answer, CommonParams, Lesson

# Weight of what a mask teaches against the leave-one-out score of the supports.
JUDGE_WEIGHT = 1.0
# Option of a request that goes on behind a block: what the planes before it teach.
LESSONS = "lessons"


@dataclass
class Looked:
    """A plane and what was found on it so far; a blank plane is not looked at.

    Planes that are looked at in another light have a fit of their own.
    """

    number: int
    digest: str
    seen: Plane | None
    maps: dict[int, FloatArray]
    objects: dict[int, LabelArray] = field(default_factory=dict)
    follow: int = 0
    lessons: tuple[Lesson, ...] | None = None
    fit: Fit | None = None


def look_at_all(
    request: SegmentRequest,
    planes: Sequence[int],
    fit: Fit,
    params: CommonParams,
    hooks: Hooks,
    done_before: int,
    lights: Lights | None = None,
) -> Iterator[Looked]:
    """Segment planes in order; those that help one another come a block at a time."""
    eyes = _Eyes(request, fit, params, len(planes), lights)
    start, total = time.perf_counter(), done_before + len(planes)
    waiting: list[Looked] = []
    for done, plane in enumerate(planes):
        spent = time.perf_counter() - start
        left = spent / done * (len(planes) - done) if done else None
        stage = (
            "Segmenting" if len(planes) == 1 else f"Plane {done + 1} of {len(planes)}"
        )
        hooks.report(stage, done_before + done, total, left)
        waiting.append(_look_at(request, plane, fit, hooks))
        if len(waiting) < eyes.block and done + 1 < len(planes):
            continue
        yield from eyes.settle(waiting, hooks)
        waiting = []


class _Eyes:
    """Look at blocks of planes again: in a better light, and as neighbours."""

    def __init__(
        self,
        request: SegmentRequest,
        fit: Fit,
        params: CommonParams,
        count: int,
        lights: Lights | None,
    ) -> None:
        self._request, self._params, self._lights = request, params, lights
        self._light = AS_IS
        self._neighbours: Neighbours | None = None
        self.block = 1
        # Windows of a plane are no neighbours in depth, and must not see one another.
        if not isinstance(request.query, WindowedImage):
            self._neighbours = _neighbours(request, fit, params, count)
        if self._neighbours is not None:
            lessons = request.options.get(LESSONS) or ()
            self._neighbours.recall(lessons, self._seen)
            self.block = block_size(request.query.plane_shape, len(fit.names))

    def settle(self, waiting: list[Looked], hooks: Hooks) -> list[Looked]:
        """Return a block of planes after all second looks at it."""
        light = AS_IS if self._lights is None else self._lights.choose(waiting)
        if self._lights is not None and light != AS_IS:
            fit = self._lights.fit_in(light)
            waiting = [
                _look_again(self._request, w, fit, light, hooks) for w in waiting
            ]
        if self._lights is not None and light != self._light:
            self._turn_to(light, self._lights.fit_in(light))
        if self._neighbours is not None:
            _let_agree(self._neighbours, waiting, hooks)
        return waiting

    def _turn_to(self, light: Light, fit: Fit) -> None:
        """Look on in another light; the planes before teach in it, too."""
        self._light, before = light, self._neighbours
        if before is None:
            return
        # At least two: this is a stack whose planes help one another.
        self._neighbours = _neighbours(self._request, fit, self._params, 2)
        if self._neighbours is not None:
            self._neighbours.recall(before.lessons, self._seen)

    def _seen(self, number: int) -> Plane:
        return self._light.on(plane_of(self._request.query, number))


def look_from_anchors(
    request: SegmentRequest,
    planes: Sequence[int],
    fit: Fit,
    hooks: Hooks,
    done_before: int,
) -> Iterator[Looked]:
    """Segment planes of a stack by what was found where phrases fit best."""
    fitted = fit.learnt.fitted
    followed = follow_anchors(request, planes, fitted, hooks, done_before)
    query = request.query
    for plane in planes:
        digest, maps = query.plane_digest(plane), followed.maps(plane)
        yield Looked(plane, digest, plane_of(query, plane), maps)


def _look_at(request: SegmentRequest, number: int, fit: Fit, hooks: Hooks) -> Looked:
    """Segment a plane by itself."""
    query = request.query
    digest = query.plane_digest(number)
    if is_constant(query, number):
        # A blank plane of a stack holds nothing; methods need not be asked.
        blank = {v: np.zeros(query.plane_shape, np.float32) for v in fit.names}
        return Looked(number, digest, None, blank)
    seen = plane_of(query, number)
    return Looked(number, digest, seen, *_found(request, digest, seen, fit, hooks))


def _look_again(
    request: SegmentRequest, looked: Looked, fit: Fit, light: Light, hooks: Hooks
) -> Looked:
    """Segment a plane that was read already in another light."""
    if looked.seen is None:
        return replace(looked, fit=fit)
    seen, digest = light.on(looked.seen), f"{looked.digest} {light}"
    maps, objects = _found(request, digest, seen, fit, hooks)
    return replace(looked, seen=seen, maps=maps, objects=objects, fit=fit)


def _found(
    request: SegmentRequest, digest: str, seen: Plane, fit: Fit, hooks: Hooks
) -> tuple[dict[int, FloatArray], dict[int, LabelArray]]:
    """Return maps and objects of a plane; those of the plane seen last are known."""
    learnt, window = fit.learnt, request.query.window
    key = f"{digest} {window} {seen.position} {seen.pixel_size} {seen.frame}"
    known = learnt.recall(key)
    if known is None:
        known = _predict(learnt.fitted, seen, hooks)
        learnt.remember(key, *known)
    return known


def _predict(
    fitted: Any, seen: Plane, hooks: Hooks
) -> tuple[dict[int, FloatArray], dict[int, LabelArray]]:
    """Return maps, and objects from a method that finds them one by one."""
    if hasattr(fitted, "predict_objects"):
        found: tuple[dict[int, FloatArray], dict[int, LabelArray]]
        found = fitted.predict_objects(seen, hooks)
        return found
    return fitted.predict(seen, hooks), {}


def _neighbours(
    request: SegmentRequest, fit: Fit, params: CommonParams, count: int
) -> Neighbours | None:
    """Return who lets the planes of a stack help one another, if anybody."""
    # A last plane that is left alone has had neighbours in the run that it is from.
    lessons = request.options.get(LESSONS)
    one_object = getattr(params, "one_object", False)
    several = count > 1 or lessons is not None or one_object
    wanted = several and getattr(params, "neighbours", False)
    fitted, judge = fit.learnt.fitted, fit.learnt.judge
    if not wanted or judge is None or not isinstance(fitted, Fused):
        return None
    return Neighbours(fitted, judge, one_object)


def _let_agree(neighbours: Neighbours, waiting: Sequence[Looked], hooks: Hooks) -> None:
    """Replace the maps of a block of planes by what they agree on; note the block."""
    looked = [(w, w.seen) for w in waiting if w.seen is not None]
    found = neighbours.agree(
        [w.number for w, _ in looked],
        [seen for _, seen in looked],
        [w.maps for w, _ in looked],
        hooks,
    )
    for (one, _), maps in zip(looked, found, strict=True):
        one.maps = maps
    for left, one in enumerate(reversed(waiting)):
        one.follow = left
    waiting[-1].lessons = neighbours.lessons


def finish_plane(
    request: SegmentRequest,
    looked: Looked,
    fit: Fit,
    params: CommonParams,
    hooks: Hooks,
    tally: Tally,
) -> PlaneResult:
    """Follow the prompts, then turn maps into labels and scores."""
    fit = looked.fit or fit
    query, learnt = request.query, fit.learnt
    number, seen, maps = looked.number, looked.seen, looked.maps
    tally.digest.update(looked.digest.encode())
    answers: Mapping[int, Answer] = {}
    if seen is not None and fit.prompting is not None:
        followed = fit.prompting.apply(number, seen, maps, hooks)
        maps, answers = followed.maps, followed.answers
    labels = _labels_of(request, maps, fit, params)
    novelty = 0.0
    if learnt.familiarity is not None and seen is not None:
        novelty = learnt.familiarity.novelty(seen.image)
    scores = {}
    for value, probability in maps.items():
        score = _plane_score(value, probability, learnt.reliability)
        if value in answers and answers[value].scores:
            score = max(0.0, min(1.0, float(np.mean(answers[value].scores[:1]))))
        mask = labels == value
        score = _second_look(value, score, mask, seen, fit, query.n_planes)
        score *= fit.trust.get(value, 1.0)
        scores[value] = score
        tally.add(value, score, bool(mask.any()))
    tally.note(number, scores, novelty)
    instances = None
    if params.instances == "alike":
        instances = objects_alike(labels, maps, fit.banks)
    elif params.instances != "none":
        instances = split_instances(labels, params.instances)
    elif looked.objects:
        instances = numbered(labels, looked.objects)
    elif any(a.objects is not None for a in answers.values()):
        instances = _objects(labels, answers)
    return PlaneResult(
        number,
        labels,
        scores,
        instances,
        _kept(request, query.n_planes, maps),
        {v: a.candidates for v, a in answers.items() if len(a.candidates)},
        {v: a.scores for v, a in answers.items()},
        novelty,
        digest=looked.digest,
        follow=looked.follow,
        lessons=looked.lessons,
        notes=tuple(getattr(learnt.fitted, "notes", ())),
    )


def _labels_of(
    request: SegmentRequest,
    maps: Mapping[int, FloatArray],
    fit: Fit,
    params: CommonParams,
) -> LabelArray:
    """Turn maps into labels; rules about whole objects are not for windows of them."""
    if isinstance(request.query, WindowedImage):
        threshold = params.threshold
        return probabilities_to_labels(maps, threshold=threshold, fill_holes=False)
    return probabilities_to_labels(
        maps,
        threshold=params.threshold,
        min_area=params.min_area,
        max_area=params.max_area,
        fill_holes=fit.fillable if params.fill_holes else False,
        largest_only=params.largest_only,
    )


def _second_look(
    value: int,
    score: float,
    mask: BoolArray,
    seen: Plane | None,
    fit: Fit,
    n_planes: int,
) -> float:
    """Return the expected Dice of a mask, with what it would teach about the supports.

    That says most about this plane. An empty mask teaches nothing: of a stack many
    planes are without a class, of single images few, as far as the supports show.
    """
    if not mask.any():
        return min(score, fit.absence.get(value, 1.0)) if n_planes == 1 else score
    judge = fit.learnt.judge
    if judge is None or seen is None:
        return score
    taught = judge.expected_dice(seen.image, value, mask)
    if taught is None:
        return score
    return (score + JUDGE_WEIGHT * taught) / (1 + JUDGE_WEIGHT)


def _objects(labels: LabelArray, answers: Mapping[int, Answer]) -> LabelArray:
    """Number the objects of all classes that were asked for one by one."""
    found = np.zeros(labels.shape, np.int32)
    for value, answer in answers.items():
        mine = labels == value
        here = mine if answer.objects is None else answer.objects * mine
        found = np.where(here > 0, here + found.max(initial=0), found)
    return found.astype(np.int32)


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
