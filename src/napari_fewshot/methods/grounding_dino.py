"""`grounding-dino`: boxes for phrases, then masks in the boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from napari_fewshot.methods._base import MethodSpec
from napari_fewshot.methods._params import param
from napari_fewshot.methods.text._boxes import BoxMethod, BoxParams


@dataclass(frozen=True)
class DinoParams(BoxParams):
    """Which boxes count, of Grounding DINO."""

    least_word: float = param(
        0.25,
        "Least score of the phrase itself: below it a box fits the sentence and no "
        "phrase in it.",
        low=0.0,
        high=1.0,
        step=0.01,
        advanced=True,
    )


class DinoMethod(BoxMethod):
    """The method object; runs on any model that finds boxes."""

    spec = MethodSpec(
        name="grounding-dino",
        summary="Finds boxes around what you type and masks in them; for colour "
        "photographs and the like.",
        params=DinoParams,
        reads_text=True,
        citation="Liu et al., Grounding DINO, ECCV 2024; with SAM after lang-segment-"
        "anything",
    )

    def thresholds(self, params: Any) -> dict[str, float]:
        """Return the least score of a phrase."""
        return {"text_threshold": params.least_word}


METHOD = DinoMethod()
