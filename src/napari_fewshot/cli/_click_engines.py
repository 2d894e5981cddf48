"""What answers the robots of ``benchmark clicks``: methods, a reference, SAM models.

Every engine opens an image and returns a function from the interactions so far to a
mask. What a model wants back from its last answer is kept by that function.
"""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_fewshot.cli._benchmark import plane_query
from napari_fewshot.data import Hooks, PromptSet, SupportSet
from napari_fewshot.evaluation import Interaction
from napari_fewshot.inference import FitCache, PlaneResult, SegmentRequest, run

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray, BoolArray, FloatArray
    from napari_fewshot.data import Embedding

Segment = Callable[[Sequence[Interaction]], "BoolArray"]
# Points that a model without scribbles gets of one, evenly spread.
POINTS_PER_SCRIBBLE = 8
# Embeddings that are kept, for other classes and draws of the same images.
KEPT = 32


class Engine(Protocol):
    """Something that segments from interactions."""

    def open(self, image: FloatArray) -> tuple[Callable[[], Segment], float | None]:
        """Return a maker of `Segment`, one per object, and the seconds to embed.

        Parameters
        ----------
        image : array (H, W, C)
            In [0, 1].
        """


@dataclass(frozen=True, eq=False)
class MethodEngine:
    """A method, asked through `inference.run` as a user's session would.

    Attributes
    ----------
    options : dict
        Fields of `SegmentRequest`.
    support : SupportSet
        Accepted images; may be empty.
    """

    options: dict[str, Any]
    support: SupportSet
    _cache: FitCache = field(default_factory=FitCache)

    def open(self, image: FloatArray) -> tuple[Callable[[], Segment], float | None]:
        """See `Engine`; encoding is part of the first answer."""
        query, shape = plane_query(image), image.shape[:2]

        def segment(done: Sequence[Interaction]) -> BoolArray:
            results: list[PlaneResult] = []
            request = SegmentRequest(
                query,
                self.support,
                prompts={1: _prompts(done, shape)} if done else {},
                keep_probabilities=False,
                **self.options,
            )
            run(request, Hooks(), results.append, self._cache)
            mask: BoolArray = results[0].labels == 1
            return mask

        return lambda: segment, None


def _prompts(done: Sequence[Interaction], shape: tuple[int, ...]) -> PromptSet:
    clicks = [d for d in done if d.kind == "click"]
    boxes = [d.places.ravel() for d in done if d.kind == "box"]
    scribbles = None
    if any(d.kind == "scribble" for d in done):
        scribbles = np.zeros(shape, np.int8)
        for drawn in done:
            if drawn.kind == "scribble":
                scribbles[tuple(drawn.places.T)] = 1 if drawn.positive else -1
    return PromptSet(
        points=[d.places[0] for d in clicks] or None,
        point_labels=[int(d.positive) for d in clicks] or None,
        boxes=boxes or None,
        scribbles=scribbles,
    )


class WalkerEngine:
    """The reference: scikit-image's random walker from the same interactions."""

    def open(self, image: FloatArray) -> tuple[Callable[[], Segment], float | None]:
        """See `Engine`."""
        return lambda: lambda done: _random_walk(image, done), None


def _random_walk(image: AnyArray, done: Sequence[Interaction]) -> BoolArray:
    """Grow what was said; the border of the image is background (Grady 2006)."""
    from skimage.segmentation import random_walker

    seeds = np.zeros(image.shape[:2], np.int32)
    seeds[[0, -1]] = 2
    seeds[:, [0, -1]] = 2
    for said in done:
        if said.kind == "box":
            (top, left), (bottom, right) = said.places
            outside = np.ones(seeds.shape, bool)
            outside[top:bottom, left:right] = False
            seeds[outside] = 2
            _mark(seeds, (top + bottom) // 2, (left + right) // 2, 1)
        elif said.kind == "scribble":
            seeds[tuple(said.places.T)] = 1 if said.positive else 2
        else:
            row, column = said.places[0]
            _mark(seeds, row, column, 1 if said.positive else 2)
    with warnings.catch_warnings():
        # The solver's tolerance lets probabilities stick out of [0, 1] a little.
        warnings.simplefilter("ignore", UserWarning)
        found: AnyArray = random_walker(
            image, seeds, beta=130, mode="cg_j", channel_axis=-1, tol=1e-3
        )
    grown: BoolArray = found == 1
    return grown


def _mark(seeds: AnyArray, row: int, column: int, value: int) -> None:
    seeds[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = value


class PromptedEngine:
    """A promptable model such as SAM; the last logits go back as a mask prompt.

    Parameters
    ----------
    model : SamModel or like it
        With ``encode`` and ``predict``.
    candidates_first : bool
        Ask for candidates at the first answer whatever was given, as micro-sam does;
        otherwise when it is to a single click, the only ambiguous prompt.
    """

    def __init__(self, model: Any, *, candidates_first: bool = False) -> None:
        self._model, self._candidates_first = model, candidates_first
        # What the weights have learnt to read; by default, as SAM, everything.
        preset = getattr(model, "preset", None)
        self._takes_points = bool(getattr(preset, "points", True))
        self._takes_mask = getattr(preset, "mask", "logits") != "none"
        self._candidates = str(getattr(preset, "multimask", "first"))
        self._kept: dict[str, tuple[Embedding, float]] = {}

    def open(self, image: FloatArray) -> tuple[Callable[[], Segment], float | None]:
        """See `Engine`; an image that was embedded before keeps its seconds."""
        pixels = np.ascontiguousarray(image)
        key = hashlib.sha256(pixels.tobytes()).hexdigest() + str(pixels.shape)
        if key not in self._kept:
            start = time.perf_counter()
            embedding = self._model.encode(pixels)
            self._kept[key] = embedding, time.perf_counter() - start
            if len(self._kept) > KEPT:
                del self._kept[next(iter(self._kept))]
        embedding, seconds = self._kept[key]
        return lambda: self._object(embedding), seconds

    def _object(self, embedding: Embedding) -> Segment:
        model = self._model
        logits: Any = None
        mask: BoolArray = np.zeros(embedding.image_shape, bool)

        def segment(done: Sequence[Interaction]) -> BoolArray:
            nonlocal logits, mask
            points, labels = _points(done)
            boxes = [d.places for d in done if d.kind == "box"]
            box = boxes[-1] if boxes else None
            if not self._takes_points:
                box = _box_around(mask, points[labels == 1], box)
                points, labels = points[:0], labels[:0]
            if box is None and not len(points):
                return mask
            masks, scores, found = model.predict(
                embedding,
                points=points if len(points) else None,
                point_labels=labels if len(points) else None,
                # Corners of pixels; whole numbers are their centres.
                boxes=None if box is None else box.ravel() - 0.5,
                mask=logits if self._takes_mask else None,
                multimask=self._asks_for_candidates(logits, box, points),
            )
            best = int(np.argmax(scores))
            logits, mask = found[best], masks[best]
            return mask

        return segment

    def _asks_for_candidates(self, logits: Any, box: Any, points: AnyArray) -> bool:
        if self._candidates != "first":
            return self._candidates == "always"
        is_click = box is None and len(points) == 1
        return logits is None and (is_click or self._candidates_first)


def _points(done: Sequence[Interaction]) -> tuple[AnyArray, AnyArray]:
    """Return clicks and points of scribbles, (N, 2), and their labels, (N,)."""
    places, labels = [np.zeros((0, 2), int)], [np.zeros(0, int)]
    for said in done:
        if said.kind == "box":
            continue
        count = min(len(said.places), POINTS_PER_SCRIBBLE)
        at = np.linspace(0, len(said.places) - 1, count).round().astype(int)
        places.append(said.places[at])
        labels.append(np.full(count, int(said.positive)))
    return np.concatenate(places), np.concatenate(labels)


def _box_around(mask: BoolArray, points: AnyArray, box: Any) -> Any:
    """Return the box of all that is wanted, for models that take boxes only."""
    corners = [points, np.argwhere(mask)]
    if box is not None:
        corners.append(box - [[0, 0], [1, 1]])
    every = np.concatenate(corners)
    if not len(every):
        return None
    return np.stack([every.min(0), every.max(0) + 1])
