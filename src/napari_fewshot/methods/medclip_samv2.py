"""`medclip-samv2`: M2IB, two groups of values, the largest part, its box, SAM.

MedCLIP-SAMv2 (Koleilat et al., 2024), without fine-tuning and
without its weakly supervised network. Where this differs: the two groups of values are
found exactly; the variance counts in `m2ib` (1, the default, equals the published
code); a plane on which nothing stands out has no mask, where the published code fails.
Without SAM the two groups are the mask. The paper chooses ``beta``, ``var`` and
``layer`` on labelled planes; the defaults here are fixed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from napari_fewshot.methods._base import MethodSpec
from napari_fewshot.methods._params import param
from napari_fewshot.methods.m2ib import M2ibMethod, M2ibParams
from napari_fewshot.methods.text._asks import Drawing

# Random points of each kind that the paper's options draw.
POINTS = 10


@dataclass(frozen=True)
class MedClipSamV2Params(M2ibParams):
    """Parameters of `medclip-samv2`."""

    cut: Literal["auto", "two-means", "otsu", "percentile", "fixed", "crf"] = param(
        "two-means",
        "Where the heat map becomes a mask; the paper's is between two groups of "
        "values (two-means), and by a random field (crf) as an option.",
    )
    prompts: Literal["box", "points", "both", "mask"] = param(
        "box",
        "What the decoder is given: a box as in the paper, or random points, or both.",
        advanced=True,
    )
    parts: int = param(
        1,
        "Keep only so many largest parts, before and after SAM, such as 2 for lungs; 0 "
        "keeps all.",
        low=0,
        high=1000,
        at_low="all",
    )
    boxes: Literal["one", "each"] = param(
        "one", "One box round all parts, or one for each, as for lungs.", advanced=True
    )
    presence: bool = param(
        False,
        "Leave a plane empty where the phrase fits no better than nonsense; the paper "
        "always finds something.",
    )


class MedClipSamV2Method(M2ibMethod):
    """The method object."""

    spec = MethodSpec(
        name="medclip-samv2",
        summary="MedCLIP-SAMv2 as published: M2IB, its largest part, a box and SAM.",
        params=MedClipSamV2Params,
        reads_text=True,
        citation="MedCLIP-SAMv2 (Koleilat et al., 2024)",
    )

    def drawing(self, params: Any) -> Drawing:
        """Return the paper's way: boxes as they are, the only mask of SAM."""
        return Drawing(
            margin=0.0, joined=params.boxes == "one", as_is=True, random=POINTS
        )


METHOD = MedClipSamV2Method()
