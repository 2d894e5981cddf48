"""`sam3`: every object of a concept, with a mask each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from napari_fewshot.methods._base import MethodSpec
from napari_fewshot.methods._params import param
from napari_fewshot.methods.text._base import TextMethod
from napari_fewshot.methods.text._boxes import FLOOR, likely
from napari_fewshot.methods.text._exemplars import ExemplarParams
from napari_fewshot.methods.text._heat import Heat
from napari_fewshot.methods.text._phrases import phrase_bank
from napari_fewshot.ops import mask_to_grid, resize_image

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_fewshot._types import AnyArray, BoolArray, FloatArray
    from napari_fewshot.data import Hooks, Plane, TextPrompt

# Rows of the plane per example beside it, at least.
ROWS = 16


@dataclass(frozen=True)
class ConceptParams(ExemplarParams):
    """Which objects count."""

    least_score: float = param(
        0.3,
        "Least score of an object: how sure it is, times how sure it is that there is "
        "any. Weights trained on medical images are used with less (0.1).",
        low=0.01,
        high=0.99,
        step=0.01,
    )
    overlap: float = param(
        0.7,
        "Objects of several phrases that overlap more than this are one object.",
        low=0.0,
        high=1.0,
        step=0.05,
        advanced=True,
    )
    shown: Literal["both", "objects", "region"] = param(
        "both",
        "What the heat map shows: single objects, the region of the concept as a whole "
        "(better for vessels and other things without number), or both.",
        advanced=True,
    )


class ConceptMethod(TextMethod):
    """The method object."""

    spec = MethodSpec(
        name="sam3",
        summary="SAM 3 finds every object of what you type, with a mask each.",
        params=ConceptParams,
        reads_text=True,
        citation="Carion et al., SAM 3: segment anything with concepts, 2025",
    )
    model_kinds: ClassVar[tuple[str, ...]] = ("concept",)
    exemplary: ClassVar[bool] = True

    def bank(self, text: Mapping[int, TextPrompt], model: Any, params: Any) -> Any:
        """Gather the phrases; the model reads them as they are."""
        return phrase_bank(text, model)

    def heat(
        self, model: Any, plane: Plane, bank: Any, params: Any, hooks: Hooks
    ) -> Heat:
        """Say where objects are, with ``objects``, ``scores`` and ``boxes`` per class.

        Objects that fit what is not meant better are dropped. A class of which only
        the region is seen has no ``objects``: its mask comes from the map. A class
        with examples from supports is looked for with these beside the plane.
        """
        asked = _asked(bank)
        # Each example needs some rows of the plane beside it.
        most = int(plane.image.shape[0]) // ROWS
        found = {}
        for number, (value, phrase) in enumerate(asked):
            hooks.report("Looking for phrases", number, len(asked))
            found[value, phrase] = model.concepts(
                plane.image,
                phrase,
                exemplars=[
                    (e.image, e.box) for e in bank.exemplars.get(value, ())[:most]
                ],
                threshold=params.least_score,
                check=lambda *_: hooks.check(),
            )
        found = on_one_grid(found)
        maps, objects, scores, boxes = [], {}, {}, {}
        for words in bank.classes:
            beside = words.value if words.value in bank.exemplars else None
            answers = [found[beside, p] for p in words.positive]
            against = [found[None, p] for p in words.negative]
            mine = joined(answers, against, params.overlap)
            maps.append(shown(*mine[:2], answers, against, params))
            if params.shown == "region" or (
                params.shown == "both" and not len(mine[1]) and (maps[-1] > 0.5).any()
            ):
                # The mask is drawn from the map, as for things without number.
                continue
            objects[words.value], values, boxes[words.value] = mine
            scores[words.value] = tuple(float(s) for s in values)
        return Heat(
            np.stack(maps), "probability", objects=objects, scores=scores, boxes=boxes
        )


def _asked(bank: Any) -> list[tuple[int | None, str]]:
    """Return phrases, each with the class whose examples are shown; each pair once.

    Plain ones come first, then class by class: what is seen of a plane is kept for the
    next phrase as long as the same examples are beside it.
    """
    with_examples = [w for w in bank.classes if w.value in bank.exemplars]
    plain = [w for w in bank.classes if w.value not in bank.exemplars]
    every: list[tuple[int | None, str]] = [(None, p) for w in plain for p in w.positive]
    every += [(None, p) for w in bank.classes for p in w.negative]
    every += [(w.value, p) for w in with_examples for p in w.positive]
    return list(dict.fromkeys(every))


def on_one_grid(found: dict[Any, Any]) -> dict[Any, Any]:
    """Return answers with their regions on the finest grid of all of them.

    Parameters
    ----------
    found : dict of any to Concepts
        Beside examples a region has the size of the plane, else that of the model.
    """
    finest = max((a.region.shape for a in found.values()), key=lambda s: s[0] * s[1])
    return {
        key: replace(answer, region=resize_image(answer.region, finest))
        for key, answer in found.items()
    }


def joined(
    answers: Sequence[Any], against: Sequence[Any], overlap: float
) -> tuple[BoolArray, FloatArray, FloatArray]:
    """Return the objects of all phrases of a class, each once.

    Parameters
    ----------
    answers : sequence of Concepts
        One per phrase; at least one.
    against : sequence of Concepts
        One per phrase of what is not meant: what fits one of them at least as well is
        dropped.
    overlap : float
        Masks of more intersection over union are of one object.

    Returns
    -------
    masks : array (M, H, W) bool
        Best first.
    scores : array (M,) float32
    boxes : array (M, 4) float32
    """
    masks = np.concatenate([a.masks for a in (*answers, *against)])
    scores = np.concatenate([a.scores for a in (*answers, *against)])
    boxes = np.concatenate([a.boxes for a in (*answers, *against)])
    wanted = np.arange(len(scores)) < sum(len(a) for a in answers)
    kept: list[int] = []
    # What is not meant comes first among equals.
    for number in np.lexsort((wanted, -scores)):
        before = [k for k in kept if alike(masks[number], masks[k]) > overlap]
        if not before and masks[number].any():
            kept.append(int(number))
    mine = [k for k in kept if wanted[k]]
    return masks[mine], scores[mine].astype(np.float32), boxes[mine]


def alike(one: AnyArray, other: AnyArray) -> float:
    """Return the intersection over union of two masks; 0 of empty ones."""
    both = int(np.count_nonzero(one & other))
    every = int(np.count_nonzero(one)) + int(np.count_nonzero(other)) - both
    return both / every if every else 0.0


def shown(
    masks: BoolArray,
    scores: FloatArray,
    answers: Sequence[Any],
    against: Sequence[Any],
    params: Any,
) -> FloatArray:
    """Return the heat map (h, w) of a class: its objects, its region, or both.

    Parameters
    ----------
    masks, scores
        From `joined`.
    answers, against : sequence of Concepts
        As for `joined`. A region counts as far as the concept is present, and less
        where the region of what is not meant is.
    params : ConceptParams
        ``shown`` and ``least_score`` of them.
    """
    regions = [a.region * a.presence for a in answers]
    grid = regions[0].shape
    found = np.full(grid, FLOOR, np.float32)
    if params.shown != "objects":
        found = np.maximum(found, np.max(regions, 0))
        for other in against:
            found = np.maximum(found * (1 - other.region * other.presence), FLOOR)
    if params.shown != "region":
        for mask, value in zip(masks, likely(scores, params.least_score), strict=True):
            found = np.maximum(found, mask_to_grid(mask, grid) * value)
    return found.astype(np.float32)


METHOD = ConceptMethod()
