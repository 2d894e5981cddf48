"""Phrases in volumes: found where they fit best, followed from there.

Planes on which a phrase fits better than on their neighbours are anchors. What was
found there is carried over the planes between by `run_propagation`, as if a user had
drawn it, so that one weak plane does not tear an object apart.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import plane_of
from napari_fewshot.inference._checks import is_constant
from napari_fewshot.inference._prompted import encoding
from napari_fewshot.inference._propagate import (
    PropagationRequest,
    resolve_mode,
    run_propagation,
)
from napari_fewshot.inference._propagation import AUTO, Propagation, stack_of
from napari_fewshot.methods.following import follower_of
from napari_fewshot.models import best_for_prompts, load_model
from napari_fewshot.ops import soft_dice

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_fewshot._types import BoolArray, FloatArray
    from napari_fewshot.data import Hooks
    from napari_fewshot.inference._request import SegmentRequest

# An anchor is the best plane among so many to either side.
REACH = 3
# Planes whose fit is below this share of the best one hold nothing, unless a plane
# above lies next to them (hysteresis).
LOW, HIGH = 0.3, 0.6
# Probability of what is outside a mask that was followed.
DOUBT = 0.1


@dataclass
class Fitness:
    """How well one class fits every plane of a stack.

    Attributes
    ----------
    scores : dict of int to float
        Certainty times area of what was found, per plane; 0 where it was not.
    masks : dict of int to array (H, W) bool
        What was found, packed away for planes where something was.
    """

    scores: dict[int, float] = field(default_factory=dict)
    masks: dict[int, Any] = field(default_factory=dict, repr=False)

    def add(self, plane: int, probability: FloatArray) -> None:
        """Note what was found on a plane."""
        mask = probability >= 0.5
        sure = float(soft_dice(probability)) if mask.any() else 0.0
        self.scores[plane] = sure * float(np.sqrt(mask.mean()))
        if mask.any():
            self.masks[plane] = np.packbits(mask), mask.shape

    def mask(self, plane: int) -> BoolArray:
        """Return what was found on a plane."""
        packed, shape = self.masks[plane]
        found: BoolArray = np.unpackbits(packed)[: shape[0] * shape[1]] > 0
        return found.reshape(shape)


@dataclass(frozen=True)
class Followed:
    """What came of the anchors.

    Attributes
    ----------
    state : Propagation
        An object per class.
    inside : dict of int to set of int
        Planes on which a class is.
    classes : tuple of int
    """

    state: Propagation
    inside: Mapping[int, set[int]]
    classes: tuple[int, ...]

    def maps(self, plane: int) -> dict[int, FloatArray]:
        """Return probabilities (H, W) per class; masks that were followed are sure."""
        found = {}
        for value in self.classes:
            mask = np.full(self.state.shape, DOUBT, np.float32)
            one = self.state.objects.get(value, {}).get(plane)
            if one is not None and plane in self.inside[value]:
                mask[one.window][one.mask] = 1 - DOUBT
            found[value] = mask
        return found


def anchors_of(scores: Sequence[float], reach: int = REACH) -> list[int]:
    """Return the places of local maxima that are high enough.

    Parameters
    ----------
    scores : sequence of float
        Per plane, in order.
    reach : int
        Planes to either side that must not be better.
    """
    values = np.asarray(scores, float)
    top = float(values.max(initial=0.0))
    if top <= 0:
        return []
    found: list[int] = []
    for place, value in enumerate(values):
        around = values[max(0, place - reach) : place + reach + 1]
        # Of equally good planes the first is the anchor.
        if value >= HIGH * top and value == around.max():
            if found and place - found[-1] <= reach and values[found[-1]] == value:
                continue
            found.append(place)
    return found


def extent_of(scores: Sequence[float]) -> BoolArray:
    """Return on which planes a class is, with hysteresis.

    Parameters
    ----------
    scores : sequence of float
        Per plane, in order.
    """
    from scipy import ndimage

    values = np.asarray(scores, float)
    top = float(values.max(initial=0.0))
    if top <= 0:
        return np.zeros(len(values), bool)
    labels, _ = ndimage.label(values >= LOW * top)
    kept = np.unique(labels[values >= HIGH * top])
    found: BoolArray = np.isin(labels, kept[kept > 0])
    return found


def follow_anchors(
    request: SegmentRequest,
    planes: Sequence[int],
    fitted: Any,
    hooks: Hooks,
    done_before: int,
) -> Followed:
    """Segment a stack by anchors.

    Parameters
    ----------
    request : SegmentRequest
        With text.
    planes : sequence of int
        Planes to segment.
    fitted : FittedMethod
        Finds masks on single planes.
    hooks : Hooks
        Progress and cancelling.
    done_before : int
        Steps of the bar that are done.

    Returns
    -------
    Followed
    """
    query = request.query
    fits = _look_everywhere(request, planes, fitted, hooks, done_before)
    state, inside = Propagation.of(query), dict[int, set[int]]()
    for value, fitness in fits.items():
        for stack in dict.fromkeys(stack_of(query, p) for p in planes):
            order = [p for p in stack if p in fitness.scores]
            scores = [fitness.scores[p] for p in order]
            kept = extent_of(scores)
            inside.setdefault(value, set()).update(np.array(order)[kept].tolist())
            for place in anchors_of(scores):
                state.annotate(value, order[place], fitness.mask(order[place]))
    if state.objects:
        model: Any = load_model(best_for_prompts(), None, request.device)
        follower = follower_of(model, encoding(model))
        mode = resolve_mode(AUTO, follower)
        wanted = sorted(set().union(*inside.values()))
        run_propagation(PropagationRequest(query, state, follower, mode, wanted), hooks)
    return Followed(state, inside, tuple(fits))


def _look_everywhere(
    request: SegmentRequest,
    planes: Sequence[int],
    fitted: Any,
    hooks: Hooks,
    done_before: int,
) -> Mapping[int, Fitness]:
    """Find the classes plane by plane."""
    query, start = request.query, time.perf_counter()
    fits: dict[int, Fitness] = {v: Fitness() for v in request.text}
    for done, number in enumerate(planes):
        spent = time.perf_counter() - start
        left = spent / done * (len(planes) - done) if done else None
        stage = f"Looking for anchors, plane {done + 1} of {len(planes)}"
        hooks.report(stage, done_before + done, done_before + len(planes), left)
        if is_constant(query, number):
            maps = dict.fromkeys(fits, np.zeros(query.plane_shape, np.float32))
        else:
            maps = fitted.predict(plane_of(query, number), hooks)
        for value, fitness in fits.items():
            if value in maps:
                fitness.add(number, maps[value])
    return fits
