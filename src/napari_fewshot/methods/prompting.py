"""Clicks, boxes and scribbles on a query, with or without supports.

Clicks are followed one after the other, as a user places them: every click corrects
the answer to those before. The network looks first small, then larger, and at later
clicks larger only, each time with the last answer before its eyes, as it was trained
to. The same prompts in the same order always give the same mask; answers are kept only
to save time. Without supports the clicks also start a random walk on the image, which
knows nothing of shapes but stops at edges; its log-odds are added, the fewer the
clicks the more. With supports, what the clicks change in the network's answer is added
to what was found without them. A small object on a large plane is then decoded once
more on a crop around it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from napari_fewshot.data import PlanePrompts
from napari_fewshot.methods._fusion import sigmoid
from napari_fewshot.models import digest
from napari_fewshot.ops import (
    fit_factor,
    resize_image,
    scaled_shape,
    taper,
    walk_from_clicks,
)
from napari_fewshot.ops.walker import CLICK_SIDE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import Hooks, Sample

# Two looks: small for the whole, then larger for the edges, with the first answer. A
# correction needs the edges only: a second look at the whole blurred them again.
SIDES = (128, 256)
CROP_SIDE = 192
# Of more clicks than this the first ones (so many, or twice, ...) count as one.
REPLAYED = 16
# A crop shows more only of planes that are larger than the network's copy of them.
LARGE = 384
# An object smaller than this share of the plane is looked at again on a crop.
SMALL = 0.3
# The crop is this many times as large as the object.
CROP_MARGIN = 2.2
MIN_CROP = 24
# The walk from one click weighs this much against the network, whose log-odds are held
# back; the more is given the better the network knows, and the walk's weight falls.
WALK_WEIGHT, CERTAIN = 2.0, 4.0
# A mask given as a first guess is believed as much as these log-odds.
BELIEF = 3.0


@dataclass(frozen=True)
class Prompter:
    """Turns prompts into masks with a network.

    Attributes
    ----------
    model : InContextModel
        The network.
    contexts : dict of int to dict of int to Context
        What supports say, per size of the look and class; classes may be missing.
    name : str
        Tells answers with these contexts from others.
    """

    model: Any
    contexts: Mapping[int, Mapping[int, Any]] = field(default_factory=dict)
    name: str = ""

    @classmethod
    def fit(
        cls, model: Any, samples: Sequence[Sample], classes: Sequence[int]
    ) -> Prompter:
        """Encode the supports, if there are any.

        Parameters
        ----------
        model : InContextModel
            The network.
        samples : sequence of Sample
            May be empty.
        classes : sequence of int
            Classes with foreground in the samples.
        """
        if not samples:
            return cls(model)
        contexts = {s: model.contexts(samples, classes, s) for s in SIDES}
        return cls(model, contexts, uuid4().hex)

    def refine(
        self,
        image: FloatArray,
        value: int,
        prompts: PlanePrompts,
        start: FloatArray | None,
        hooks: Hooks,
    ) -> FloatArray:
        """Return the log-odds of a class on a plane with prompts.

        Parameters
        ----------
        image : array (H, W, C)
            The plane, in [0, 1].
        value : int
            The class, for its supports.
        prompts : PlanePrompts
            In pixels of the plane.
        start : array (H, W), optional
            Log-odds of what another method found.
        hooks : Hooks
            For cancelling.

        Returns
        -------
        array (H, W) float32
        """
        past = start
        if prompts.mask is not None:
            past = np.where(prompts.mask, BELIEF, -BELIEF).astype(np.float32)
        drawn = len(prompts.boxes) > 0 or prompts.scribbles is not None
        begin = 0 if drawn else min(1, prompts.clicks)
        begin = max(begin, prompts.clicks // REPLAYED * REPLAYED)
        seen = f"{self.name} {value} {_named(image, past)}"
        base = None
        if start is not None and prompts.mask is None:
            base = self._without(image, value, start, seen, hooks)
        said = f"{seen} {_named(prompts.boxes, prompts.scribbles)}"
        for clicks in range(begin, prompts.clicks + 1):
            step = prompts.after(clicks)
            said += f" {step.positive.tobytes()!r} {step.negative.tobytes()!r}"
            known: FloatArray | None = self.model.answers.get(said)
            if known is None or clicks == prompts.clicks:
                sides = SIDES if clicks == begin else SIDES[-1:]
                found = self._look(image, value, step, past, sides, hooks)
                if start is not None and base is not None:
                    found = start + (found - base)
                known = shrunk(found)
                self.model.answers.put(said, known)
            past = known
        shape = (image.shape[0], image.shape[1])
        window = None if max(shape) < LARGE else crop_window(found, prompts)
        if window is not None:
            hooks.check()
            walk = self._is_alone(value, prompts)
            found = self._look_closer(image, prompts, found, window, walk=walk)
        return found

    def _without(
        self,
        image: FloatArray,
        value: int,
        start: FloatArray,
        seen: str,
        hooks: Hooks,
    ) -> FloatArray:
        """Return what the network makes of an answer before any prompt.

        Only what prompts change is added to that answer: where nobody clicked the
        network shall not replace what other methods know better, above all thin things.
        """
        known: FloatArray | None = self.model.answers.get(seen)
        if known is None:
            known = self._look(image, value, PlanePrompts(), start, SIDES, hooks)
            self.model.answers.put(seen, known)
        return known

    def _context(self, value: int, side: int) -> Any:
        return self.contexts.get(side, {}).get(value)

    def _is_alone(self, value: int, prompts: PlanePrompts) -> bool:
        """Whether neither supports nor a first guess show what is meant."""
        return self._context(value, SIDES[0]) is None and prompts.mask is None

    def _look(
        self,
        image: FloatArray,
        value: int,
        prompts: PlanePrompts,
        past: FloatArray | None,
        sides: Sequence[int],
        hooks: Hooks,
    ) -> FloatArray:
        """Look with the answer to the earlier clicks, then the last look, in view."""
        shape = (image.shape[0], image.shape[1])
        looks: list[FloatArray] = []
        for side in sides:
            hooks.check()
            features = self.model.features(image, side)
            context = self._context(value, side)
            if context is None and prompts.mask is not None:
                # A first guess is what a support is: it shows what is meant.
                context = self.model.context([features], [prompts.mask])
            past = self.model.decode(features, context, shape, prompts, past)
            looks.append(past)
        found: FloatArray = np.mean(looks, axis=0)
        if self._is_alone(value, prompts):
            found = add_walk(found, image, prompts)
        return found

    def _look_closer(
        self,
        image: FloatArray,
        prompts: PlanePrompts,
        past: FloatArray,
        window: tuple[slice, slice],
        *,
        walk: bool,
    ) -> FloatArray:
        """Decode a crop; its scale is not that of the supports, so they stay out."""
        part = np.ascontiguousarray(image[window])
        shape = (part.shape[0], part.shape[1])
        inside = shifted(prompts, window)
        features = self.model.features(part, CROP_SIDE)
        closer = self.model.decode(features, None, shape, inside, past[window])
        if walk:
            closer = add_walk(closer, part, inside)
        weight = taper(shape)
        found: FloatArray = past.copy()
        found[window] = weight * closer + (1 - weight) * past[window]
        return found


def _named(*arrays: Any) -> list[str | None]:
    """Tell arrays apart; None stays None."""
    return [None if a is None else digest(np.ascontiguousarray(a)) for a in arrays]


def add_walk(
    logits: FloatArray, image: FloatArray, prompts: PlanePrompts
) -> FloatArray:
    """Add the log-odds of a random walk from the clicks to those of the network.

    Parameters
    ----------
    logits : array (H, W)
        Of the network.
    image : array (H, W, C)
        The plane, in [0, 1].
    prompts : PlanePrompts
        In its pixels; without anything positive the logits are returned as they are.
    """
    shape = (image.shape[0], image.shape[1])
    positive, negative = np.zeros((2, *shape), bool)
    if len(prompts.boxes):
        negative[:] = True
        for box in np.asarray(prompts.boxes):
            low = np.floor(np.maximum(box[:2], 0)).astype(int)
            high = np.ceil(np.maximum(box[2:], 0)).astype(int)
            negative[low[0] : high[0], low[1] : high[1]] = False
    # A click is as large on the small copy as it is in the robot's hand: 3 x 3.
    reach = max(1, round(max(shape) / CLICK_SIDE))
    for points, known in ((prompts.negative, negative), (prompts.positive, positive)):
        for row, column in np.rint(np.asarray(points).reshape(-1, 2)).astype(int):
            rows = slice(max(row - reach, 0), max(row + reach + 1, 0))
            known[rows, max(column - reach, 0) : max(column + reach + 1, 0)] = True
    if prompts.scribbles is not None:
        drawn = np.asarray(prompts.scribbles)
        positive |= drawn == 1
        negative |= drawn == -1
    if not positive.any():
        return logits
    logits = np.clip(logits, -CERTAIN, CERTAIN)
    given = len(prompts.positive) + len(prompts.negative) + len(prompts.boxes)
    if prompts.scribbles is not None:
        given += 2
    doubt = max(given, 1) ** -0.5
    barred = negative & ~positive
    walked = walk_from_clicks(image, positive, barred, sigmoid(logits), doubt)
    total: FloatArray = logits + WALK_WEIGHT * doubt * walked
    return total


def shrunk(logits: FloatArray) -> FloatArray:
    """Return logits (H, W) no larger than the network will look at them."""
    shape = (logits.shape[0], logits.shape[1])
    return resize_image(logits, scaled_shape(shape, fit_factor(shape, SIDES[-1])))


def crop_window(
    logits: FloatArray, prompts: PlanePrompts
) -> tuple[slice, slice] | None:
    """Return a window around what was found and asked for, if that is small.

    Parameters
    ----------
    logits : array (H, W)
        What was found on the whole plane.
    prompts : PlanePrompts
        Clicks and boxes stay inside the window.

    Returns
    -------
    (slice, slice) or None
        None if the window would be most of the plane.
    """
    from scipy import ndimage

    shape = np.array(logits.shape)
    parts, _ = ndimage.label(logits > 0)
    points = np.rint(prompts.positive).astype(int)
    points = points[((points >= 0) & (points < shape)).all(1)]
    asked = {int(parts[tuple(p)]) for p in points} - {0}
    found = np.argwhere(np.isin(parts, list(asked)) if asked else logits > 0)
    corners = [prompts.positive, prompts.negative[:0]]
    if len(found):
        corners += [found.min(0)[None], found.max(0)[None] + 1]
    if len(prompts.boxes):
        corners += [prompts.boxes[:, :2], prompts.boxes[:, 2:]]
    every = np.concatenate([np.asarray(c, float).reshape(-1, 2) for c in corners])
    if not len(every):
        return None
    low, high = every.min(0), every.max(0)
    if (high - low).max() > SMALL * shape.max():
        return None
    half = max((high - low).max() * CROP_MARGIN, MIN_CROP) / 2
    middle = (low + high) / 2
    first = np.clip(np.floor(middle - half).astype(int), 0, shape - 1)
    last = np.clip(np.ceil(middle + half).astype(int), first + 1, shape)
    return slice(int(first[0]), int(last[0])), slice(int(first[1]), int(last[1]))


def shifted(prompts: PlanePrompts, window: tuple[slice, slice]) -> PlanePrompts:
    """Return the prompts in the coordinates of a window; those outside are dropped."""
    origin = np.array([window[0].start, window[1].start], float)
    size = np.array([window[0].stop, window[1].stop], float) - origin

    def inside(points: Any) -> Any:
        moved = np.asarray(points, float).reshape(-1, 2) - origin
        return moved[((moved >= -0.5) & (moved < size)).all(1)]

    boxes = np.asarray(prompts.boxes, float).reshape(-1, 4) - np.tile(origin, 2)
    return PlanePrompts(
        inside(prompts.positive),
        inside(prompts.negative),
        boxes[(boxes[:, 2:] > 0).all(1) & (boxes[:, :2] < size).all(1)],
        None if prompts.scribbles is None else prompts.scribbles[window],
        None,
    )
