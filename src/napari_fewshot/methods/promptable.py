"""Clicks, boxes, scribbles and masks answered by a promptable model (SAM and its kin).

Prompts are followed one after the other, as a user places them: the logits of one
answer go into the next as a mask prompt, and only the first click asks for candidates
(Kirillov et al., Segment Anything, ICCV 2023, interactive protocol). The same prompts
in the same order always give the same mask; answers are kept only to save time.

Every box is one object; points belong to the box they lie in.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from napari_fewshot.data import PlanePrompts
from napari_fewshot.errors import PromptError
from napari_fewshot.models import Recent, digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_fewshot._types import BoolArray, FloatArray, LabelArray
    from napari_fewshot.data import Embedding, Hooks

# Points that a scribble becomes, of each sign.
SCRIBBLE_POINTS = 12
# Of more clicks than this only the last ones are followed one by one.
REPLAYED = 12
# A pixel of a given mask is believed as much as these odds (logit of 0.999).
CERTAIN = 6.9
KEPT_BYTES = 64 * 2**20


@dataclass(frozen=True, eq=False)
class Answer:
    """What a model makes of prompts on a plane.

    Attributes
    ----------
    odds : array (H, W) float32
        Mask logits; the object is where they are positive.
    candidates : array (M, H, W) bool
        Masks that an ambiguous prompt may mean, the best first; empty otherwise.
    scores : tuple of float
        Predicted intersection over union of the candidates, or of the one mask.
    objects : array (H, W) int32, optional
        Number of the object of every pixel, from 1, if there are several.
    """

    odds: FloatArray = field(repr=False)
    candidates: BoolArray = field(repr=False)
    scores: tuple[float, ...] = ()
    objects: LabelArray | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class PromptableGuide:
    """Follows prompts with a promptable model.

    Attributes
    ----------
    model : SamModel or like it
        With ``encode``, ``decode`` and ``restore``.
    encode : callable
        Takes a plane (H, W, C) and hooks, returns its embedding, most often a kept one.
    """

    model: Any
    encode: Callable[[FloatArray, Hooks], Embedding]
    _answers: Recent[tuple[FloatArray, FloatArray]] = field(
        default_factory=lambda: Recent(KEPT_BYTES), repr=False
    )

    def answer(
        self,
        image: FloatArray,
        prompts: PlanePrompts,
        start: FloatArray | None,
        hooks: Hooks,
    ) -> Answer:
        """Return the mask of prompts on a plane.

        Parameters
        ----------
        image : array (H, W, C)
            The plane, in [0, 1].
        prompts : PlanePrompts
            In its pixels.
        start : array (H, W), optional
            Log-odds of what was found without prompts: objects are added to it, and
            what only negative clicks point at is taken away.
        hooks : Hooks
            For progress and cancelling.

        Raises
        ------
        PromptError
            If the model does not take such prompts.
        """
        embedding = self.encode(image, hooks)
        if start is not None and not asks_for_something(prompts):
            return self._without(embedding, prompts, start, hooks)
        parts = objects_of(prompts)
        if len(parts) == 1:
            found = self._one(embedding, parts[0], hooks)
        else:
            found = self._many(embedding, parts, hooks)
        if start is None:
            return found
        return replace(
            found,
            odds=np.maximum(found.odds, start),
            candidates=found.candidates | (start > 0),
        )

    def _one(self, embedding: Embedding, prompts: PlanePrompts, hooks: Hooks) -> Answer:
        """Follow the prompts of one object."""
        shape = embedding.image_shape
        logits, scores = self._follow(embedding, prompts, hooks)
        order = np.argsort(-scores, kind="stable")
        full = self.model.restore(logits[order], shape)
        chosen = min(prompts.candidate or 0, len(full) - 1)
        several = len(full) > 1
        return Answer(
            np.asarray(full[chosen], np.float32),
            full > 0 if several else np.zeros((0, *shape), bool),
            tuple(float(s) for s in scores[order]),
        )

    def _follow(
        self, embedding: Embedding, prompts: PlanePrompts, hooks: Hooks
    ) -> tuple[FloatArray, FloatArray]:
        """Return low-resolution logits (M, h, w) and scores after the last click."""
        drawn = scribble_points(prompts.scribbles)
        rest = bool(len(prompts.boxes)) or bool(len(drawn[0]))
        mask = None
        if prompts.mask is not None and prompts.mask.any():
            mask = low_resolution(prompts.mask, embedding, self.model.mask_side)
            rest = True
        first = 0 if rest else min(1, prompts.clicks)
        first = max(first, prompts.clicks - REPLAYED)
        given = digest_of(prompts.boxes, prompts.scribbles, mask)
        said = f"{_name(embedding)} {given} {first} {prompts.candidate}"
        logits, scores = np.zeros((0, 0, 0), np.float32), np.zeros(0, np.float32)
        for clicks in range(first, prompts.clicks + 1):
            hooks.check()
            step = prompts.after(clicks)
            said += digest_of(step.positive, step.negative)
            known = self._answers.get(said)
            if known is None:
                known = self._decode(embedding, step, drawn, mask)
                self._answers.put(said, known)
            logits, scores = known
            best = np.argsort(-scores, kind="stable")
            mask = logits[best[min(prompts.candidate or 0, len(best) - 1)]]
        return logits, scores

    def _decode(
        self,
        embedding: Embedding,
        step: PlanePrompts,
        drawn: tuple[FloatArray, FloatArray],
        mask: FloatArray | None,
    ) -> tuple[FloatArray, FloatArray]:
        positive = np.concatenate([drawn[0], step.positive])
        negative = np.concatenate([drawn[1], step.negative])
        box = step.boxes[0] - 0.5 if len(step.boxes) else None
        points: Any = np.concatenate([positive, negative])
        labels: Any = np.repeat([1, 0], [len(positive), len(negative)])
        if not self.model.preset.points:
            box = self._box_instead(embedding, positive, box, mask)
            points = labels = mask = None
        if not self.model.preset.takes_mask:
            mask = None
        count = 0 if points is None else len(points)
        logits, scores = self.model.decode(
            embedding,
            points=points if count else None,
            point_labels=labels if count else None,
            boxes=box,
            mask=mask,
            multimask=self.model.wants_candidates(
                count, boxes=box is not None, mask=mask is not None
            ),
        )
        return logits[0], scores[0]

    def _box_instead(
        self,
        embedding: Embedding,
        positive: FloatArray,
        box: Any,
        mask: FloatArray | None,
    ) -> Any:
        """Return the box around everything that is wanted, for models of boxes only."""
        corners = [] if box is None else [box[:2], box[2:]]
        corners += list(positive)
        if mask is not None:
            full = self.model.restore(mask[None], embedding.image_shape)[0] > 0
            found = np.argwhere(full)
            corners += [found.min(0), found.max(0)] if len(found) else []
        every = np.array(corners, float).reshape(-1, 2)
        if len(every) < 2 or (np.ptp(every, 0) < 1).any():
            raise PromptError(
                f"{self.model.spec.name} answers to boxes only. Draw a box around the "
                "object; clicks then make it larger."
            )
        return np.concatenate([every.min(0), every.max(0)])

    def _many(
        self, embedding: Embedding, parts: list[PlanePrompts], hooks: Hooks
    ) -> Answer:
        """Answer for several objects; those with a box alone are decoded at once."""
        shape = embedding.image_shape
        odds = np.full(shape, -np.inf, np.float32)
        objects = np.zeros(shape, np.int32)
        scores = np.zeros(len(parts))

        def add(number: int, logits: FloatArray, score: float) -> None:
            full = self.model.restore(logits[None], shape)[0]
            # Of two objects a pixel belongs to the one that is surer of it.
            objects[(full > 0) & (full > odds)] = number + 1
            np.maximum(odds, full, out=odds)
            scores[number] = score

        alone = [i for i, p in enumerate(parts) if is_box_alone(p)]
        size = self.model.batch_for(embedding) if len(alone) > 1 else 1
        for begin in range(0, len(alone), size):
            hooks.check()
            some = alone[begin : begin + size]
            boxes = np.concatenate([parts[i].boxes for i in some]) - 0.5
            logits, found = self.model.decode(embedding, boxes=boxes, multimask=False)
            for number, low, score in zip(some, logits, found, strict=True):
                add(number, low[0], float(score[0]))
        for number, part in enumerate(parts):
            if number not in alone:
                logits, found = self._follow(embedding, part, hooks)
                best = int(found.argmax())
                add(number, logits[best], float(found[best]))
        none = np.zeros((0, *shape), bool)
        return Answer(odds, none, tuple(scores.tolist()), objects)

    def _without(
        self,
        embedding: Embedding,
        prompts: PlanePrompts,
        start: FloatArray,
        hooks: Hooks,
    ) -> Answer:
        """Take the objects under negative clicks away from what was found."""
        odds = np.array(start, np.float32)
        off = np.concatenate([prompts.negative, scribble_points(prompts.scribbles)[1]])
        for point in off:
            asked = PlanePrompts(positive=point[None], order=(True,))
            gone = self._one(embedding, asked, hooks)
            odds[gone.odds > 0] = -CERTAIN
        none = np.zeros((0, *odds.shape), bool)
        return Answer(odds, none)


def asks_for_something(prompts: PlanePrompts) -> bool:
    """Whether anything says where the object is, not only where it is not."""
    drawn = prompts.scribbles is not None and bool((prompts.scribbles == 1).any())
    guess = prompts.mask is not None and bool(prompts.mask.any())
    return drawn or guess or bool(len(prompts.boxes)) or bool(len(prompts.positive))


def is_box_alone(prompts: PlanePrompts) -> bool:
    """Whether a box is all there is."""
    drawn = prompts.scribbles is not None or prompts.mask is not None
    return len(prompts.boxes) == 1 and not prompts.clicks and not drawn


def objects_of(prompts: PlanePrompts) -> list[PlanePrompts]:
    """Split prompts into one set per object.

    Every box is an object. A click belongs to the box it lies in; negative ones outside
    all boxes belong to the nearest; what else is positive is one object more.

    Parameters
    ----------
    prompts : PlanePrompts
        All of a plane.
    """
    if len(prompts.boxes) < 2:
        return [prompts]
    drawn = scribble_points(prompts.scribbles)
    positive = np.concatenate([prompts.positive, drawn[0]])
    negative = np.concatenate([prompts.negative, drawn[1]])
    homes = _homes(positive, prompts.boxes), _homes(negative, prompts.boxes)
    parts = []
    for number, box in enumerate(prompts.boxes):
        mine = positive[homes[0] == number + 1]
        # Negative clicks outside every box go to the nearest one.
        off = negative[np.abs(homes[1]) == number + 1]
        parts.append(PlanePrompts(mine, off, box[None]))
    outside = positive[homes[0] < 0]
    if len(outside) or prompts.mask is not None:
        parts.append(PlanePrompts(positive=outside, mask=prompts.mask))
    return parts


def _homes(points: FloatArray, boxes: FloatArray) -> Any:
    """Number of the box of every point from 1; minus the nearest one outside all."""
    if not len(points):
        return np.zeros(0, int)
    low, high = boxes[None, :, :2] - 0.5, boxes[None, :, 2:] - 0.5
    beyond = np.maximum(np.maximum(low - points[:, None], points[:, None] - high), 0)
    far = np.hypot(beyond[..., 0], beyond[..., 1])
    nearest = far.argmin(1)
    return np.where(far.min(1) > 0, -(nearest + 1), nearest + 1)


def scribble_points(scribbles: Any) -> tuple[FloatArray, FloatArray]:
    """Return points (N, 2) spread over the positive and the negative strokes.

    Farthest-point sampling, so that every stroke and both of its ends are met.

    Parameters
    ----------
    scribbles : array (H, W), optional
        1 positive, -1 negative, 0 none.
    """
    if scribbles is None:
        return np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32)
    drawn = np.asarray(scribbles)
    first, second = (
        _spread(np.argwhere(drawn == sign), SCRIBBLE_POINTS) for sign in (1, -1)
    )
    return first, second


def _spread(pixels: Any, most: int) -> FloatArray:
    """Return at most ``most`` of the pixels (N, 2), far from one another."""
    if len(pixels) <= most:
        return np.asarray(pixels, np.float32).reshape(-1, 2)
    middle = pixels.mean(0)
    chosen = [int(((pixels - middle) ** 2).sum(1).argmax())]
    far = ((pixels - pixels[chosen[0]]) ** 2).sum(1)
    while len(chosen) < most:
        chosen.append(int(far.argmax()))
        far = np.minimum(far, ((pixels - pixels[chosen[-1]]) ** 2).sum(1))
    found: FloatArray = pixels[chosen].astype(np.float32)
    return found


def low_resolution(mask: BoolArray, embedding: Embedding, side: int) -> FloatArray:
    """Return a mask as logits in the frame that a model's decoder reads.

    Parameters
    ----------
    mask : array (H, W) bool
        In pixels of the plane.
    embedding : Embedding
        Of that plane; says how it lies in the frame.
    side : int
        Side of the decoder's logits.

    Returns
    -------
    array (side, side) float32
        Logit of the share of a cell that is covered, held within 0.001 and 0.999; the
        padding is background.
    """
    from napari_fewshot.ops import resize_image

    rows, columns = (max(1, round(side * share)) for share in embedding.valid)
    small = resize_image(mask.astype(np.float32), (rows, columns))
    share = np.clip(small, 1e-3, 1 - 1e-3)
    logits = np.full((side, side), -CERTAIN, np.float32)
    logits[:rows, :columns] = np.log(share / (1 - share))
    return logits


# Digests of embeddings, which are large and come again with every click.
_NAMES: WeakKeyDictionary[Embedding, str] = WeakKeyDictionary()


def _name(embedding: Embedding) -> str:
    """Tell embeddings apart."""
    known = _NAMES.get(embedding)
    if known is None:
        known = _NAMES[embedding] = digest_of(embedding.array)
    return known


def digest_of(*arrays: Any) -> str:
    """Tell arrays apart; None is told from an empty one."""
    return " ".join(
        "-" if a is None else digest(np.ascontiguousarray(a)) for a in arrays
    )
