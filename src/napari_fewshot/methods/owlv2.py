"""`owlv2`: boxes for phrases, each phrase by itself, then masks in the boxes.

With supports, boxes of what looks like their objects join those of the phrases.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from napari_fewshot.methods._base import MethodSpec
from napari_fewshot.methods._params import param
from napari_fewshot.methods.text._boxes import BoxMethod, BoxParams
from napari_fewshot.methods.text._exemplars import ExemplarParams

if TYPE_CHECKING:
    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import Hooks, Plane

# Scores of boxes stay this far from 0 and 1.
END = 1e-4


@dataclass(frozen=True)
class OwlParams(BoxParams, ExemplarParams):
    """Which boxes count, of OWLv2."""

    least_alike: float = param(
        0.6,
        "Least score of a box that looks like an example from the supports.",
        low=0.01,
        high=0.99,
        step=0.01,
        advanced=True,
    )


class OwlMethod(BoxMethod):
    """The method object; runs on any model that finds boxes."""

    spec = MethodSpec(
        name="owlv2",
        summary="Finds boxes around what you type and masks in them; many phrases cost "
        "no more time than one.",
        params=OwlParams,
        reads_text=True,
        citation="Minderer et al., Scaling open-vocabulary object detection, NeurIPS "
        "2023",
    )
    exemplary: ClassVar[bool] = True

    def takes_exemplars(self, model: Any) -> bool:
        """Return whether this detector looks for what examples look like."""
        return hasattr(model, "boxes_like")

    def and_examples(
        self, found: Any, model: Any, plane: Plane, bank: Any, params: Any, hooks: Hooks
    ) -> Any:
        """Return boxes of phrases and examples; where they overlap the best counts."""
        from napari_fewshot.models.grounding import Detections, kept_boxes

        if not bank.exemplars:
            return found
        level = params.least_score or model.threshold
        parts = [found]
        for number, words in enumerate(bank.classes):
            examples = bank.exemplars.get(words.value)
            if not examples:
                continue
            like = model.boxes_like(
                plane.image,
                [e.crop for e in examples],
                params.least_alike,
                overlap=params.overlap,
                largest=params.largest,
                check=lambda *_: hooks.check(),
            )
            scores = rescaled(like.scores, params.least_alike, level)
            owner = np.full(len(like), len(bank.phrases) + number)
            parts.append(Detections(like.boxes, scores, owner))
        names = ("boxes", "scores", "phrases")
        every = Detections(
            *(np.concatenate([getattr(p, n) for p in parts]) for n in names)
        )
        shape = (int(plane.image.shape[0]), int(plane.image.shape[1]))
        return kept_boxes(every, shape, params.overlap, params.largest)


def rescaled(scores: FloatArray, level: float, other: float) -> FloatArray:
    """Return scores on a scale with another least score, equally far above it.

    Examples and phrases are scored on scales of their own. The odds of a score against
    those of its least one are kept, as in `likely`.

    Parameters
    ----------
    scores : array (M,)
        In [0, 1].
    level, other : float
        The least score that counts, on the old scale and on the new one.

    Returns
    -------
    array (M,) float32
    """
    inside = (np.clip(x, END, 1 - END) for x in (scores, level, other))
    mine, old, new = (np.log(x / (1 - x)) for x in inside)
    found: FloatArray = (1 / (1 + np.exp(old - new - mine))).astype(np.float32)
    return found


METHOD = OwlMethod()
