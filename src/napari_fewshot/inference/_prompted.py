"""Prompts in a run: which planes they are on, and what they change there."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.inference._embeddings import get_cache
from napari_fewshot.methods import (
    PromptableGuide,
    Prompter,
    log_odds,
    network_of,
    sigmoid,
)
from napari_fewshot.models import (
    PROMPTABLE,
    best_for_prompts,
    get_model_spec,
    load_model,
    recognise,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import (
        Embedding,
        Hooks,
        Plane,
        PlanePrompts,
        PromptSet,
        Sample,
    )
    from napari_fewshot.inference._cache import Learnt
    from napari_fewshot.inference._request import SegmentRequest
    from napari_fewshot.methods import Answer
    from napari_fewshot.models import Encoder


@dataclass(frozen=True)
class Followed:
    """What became of the maps of a plane.

    Attributes
    ----------
    maps : dict of int to array (H, W)
        Probabilities per class.
    answers : dict of int to Answer
        What a promptable model said, per class.
    """

    maps: dict[int, FloatArray]
    answers: dict[int, Answer] = field(default_factory=dict)


# Probability of what was clicked away.
REFUSED = 0.1


@dataclass(frozen=True)
class Prompting:
    """Everything needed to follow the prompts of a request.

    Attributes
    ----------
    guide : Prompter or PromptableGuide
        Who follows them.
    prompts : dict of int to PromptSet
        As the user gave them.
    n_planes : int
        Planes of the query.
    learnt : bool
        Whether maps come from supports; those of phrases that fit nothing say nothing.
    """

    guide: Prompter | PromptableGuide
    prompts: Mapping[int, PromptSet]
    n_planes: int
    learnt: bool = True

    def apply(
        self,
        index: int,
        plane: Plane,
        maps: Mapping[int, FloatArray],
        hooks: Hooks,
    ) -> Followed:
        """Return probability maps in which the prompts of a plane are followed.

        Parameters
        ----------
        index : int
            Number of the plane.
        plane : Plane
            Its pixels.
        maps : dict of int to array (H, W)
            What was found without prompts; classes known from prompts alone are added.
        hooks : Hooks
            For cancelling.
        """
        found = Followed(dict(maps))
        shape = plane.image.shape[:2]
        for value, prompts in self.prompts.items():
            here = prompts.on_plane(index, self.n_planes)
            if here.is_empty:
                found.maps.setdefault(value, np.zeros(shape, np.float32))
                continue
            if not self.learnt and value in maps and _only_refuses(here):
                found.maps[value] = without_refused(maps[value], here.negative)
                continue
            known = value in maps and (self.learnt or _agrees(maps[value], here))
            start = log_odds(maps[value]) if known else None
            if isinstance(self.guide, PromptableGuide):
                answer = self.guide.answer(plane.image, here, start, hooks)
                found.answers[value], odds = answer, answer.odds
            else:
                odds = self.guide.refine(plane.image, value, here, start, hooks)
            found.maps[value] = sigmoid(odds)
        return found


def _agrees(probability: FloatArray, prompts: PlanePrompts) -> bool:
    """Whether what a phrase found is what positive clicks are on.

    Clicks beside all of it mean another thing: they are then answered by themselves.
    """
    inside = probability >= 0.5
    if not inside.any():
        return False
    if not len(prompts.positive):
        return True
    limits = np.array(inside.shape) - 1
    at = np.clip(np.rint(prompts.positive).astype(int), 0, limits)
    return bool(inside[at[:, 0], at[:, 1]].any())


def _only_refuses(prompts: PlanePrompts) -> bool:
    """Whether there are negative clicks and nothing else."""
    others = len(prompts.positive) or len(prompts.boxes)
    drawn = prompts.scribbles is not None or prompts.mask is not None
    return bool(len(prompts.negative)) and not others and not drawn


def without_refused(probability: FloatArray, clicks: FloatArray) -> FloatArray:
    """Return what a phrase found without the objects that were clicked away.

    A click beside all objects changes nothing: it was not found there anyway.

    Parameters
    ----------
    probability : array (H, W)
        Inside is 0.5 and above.
    clicks : array (N, 2)
        Row and column of negative clicks.
    """
    from scipy import ndimage

    parts, _ = ndimage.label(probability >= 0.5, np.ones((3, 3)))
    limits = np.array(parts.shape) - 1
    at = np.clip(np.rint(clicks).astype(int), 0, limits)
    refused = np.setdiff1d(parts[at[:, 0], at[:, 1]], 0)
    found: FloatArray = np.where(
        np.isin(parts, refused), np.minimum(probability, REFUSED), probability
    ).astype(np.float32)
    return found


def prepare_prompting(
    request: SegmentRequest,
    learnt: Learnt,
    samples: Sequence[Sample],
    classes: Sequence[int],
    encoder: Encoder | None,
) -> Prompting | None:
    """Return what follows the prompts, or None when there are none.

    The encoded supports stay in ``learnt``, so that the next click finds them.

    Raises
    ------
    WeightsError
        If the bundled network or the model of the request cannot be loaded.
    """
    if not request.prompts:
        return None
    if learnt.guide is None:
        if is_promptable(request):
            model = load_model(request.model, request.checkpoint, request.device)
            learnt.guide = PromptableGuide(model, encoding(model))
        else:
            learnt.guide = Prompter.fit(network_of(encoder), samples, classes)
    prompts, planes = dict(request.prompts), request.query.n_planes
    learnt_from = len(request.support) > 0 or not request.text
    return Prompting(learnt.guide, prompts, planes, learnt_from)


def with_model(request: SegmentRequest) -> SegmentRequest:
    """Return a request that names its model where prompts are all there is.

    Parameters
    ----------
    request : SegmentRequest
        With supports, or a model of the user's choice, it stays as it is.
    """
    asks = request.task == "segment" and request.prompts and not len(request.support)
    if request.model != "auto" or request.checkpoint is not None:
        return request
    if asks or request.task == "encode":
        return replace(request, model=best_for_prompts())
    return request


def is_promptable(request: SegmentRequest) -> bool:
    """Whether the model of a request answers to prompts by itself."""
    name = request.model
    if name == "auto" and request.checkpoint is not None:
        name = recognise(request.checkpoint)
    return get_model_spec(name).task == PROMPTABLE


def asks_nothing(request: SegmentRequest) -> bool:
    """Whether there is no evidence at all."""
    return not len(request.support) and not request.prompts and not request.text


def knows_classes(request: SegmentRequest) -> bool:
    """Whether the model of a request finds classes of its own without evidence.

    Raises
    ------
    WeightsError
        If its weights are missing or damaged.
    """
    if not is_promptable(request):
        return False
    model: Any = load_model(request.model, request.checkpoint, request.device)
    return bool(model.classes)


@dataclass(frozen=True)
class ClassFinder:
    """Finds the classes that a model has learnt, on planes without any prompt.

    Attributes
    ----------
    model : SamModel
        With classes of its own; the first is the background.
    choice : str
        What it is, in words.
    """

    model: Any
    choice: str

    def predict(self, plane: Plane, hooks: Hooks) -> dict[int, FloatArray]:
        """Return probabilities per class; 0.5 is where another class is as likely."""
        embedding = encoding(self.model)(plane.image, hooks)
        logits, _ = self.model.decode(embedding)
        shape = (plane.image.shape[0], plane.image.shape[1])
        full = self.model.restore(logits[0], shape)
        found = {}
        for value in range(1, len(full)):
            others = np.delete(full, value, 0).max(0)
            found[value] = sigmoid(full[value] - others)
        return found


def encoding(model: Any) -> Callable[[FloatArray, Hooks], Embedding]:
    """Return what makes the embedding of a plane, or finds it among those kept.

    Parameters
    ----------
    model : SamModel or like it
        Who encodes.
    """

    def encode(image: FloatArray, hooks: Hooks) -> Embedding:
        def check(number: int, total: int) -> None:
            hooks.report(f"Encoding with {model.spec.name}", number, total)

        return get_cache().encode(model, image, check)

    return encode


def prompted_planes(prompts: Mapping[int, PromptSet], n_planes: int) -> tuple[int, ...]:
    """Return the planes that have prompts of any class, in order."""
    found = {i for p in prompts.values() for i in p.planes(n_planes)}
    return tuple(sorted(found))
