"""`medclip-sam`: gScoreCAM, a random field, the largest part, its box, SAM.

MedCLIP-SAM (Koleilat et al., MICCAI 2024), without fine-tuning and without its weakly
supervised network. Where this differs: see `gscorecam` for the map; the wide kernel of
the random field is summed over blocks; a plane on which nothing stands out has no mask,
where the published code asks for the box of the whole plane. Without SAM the field
itself is the mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from napari_fewshot.methods._base import MethodSpec
from napari_fewshot.methods._params import param
from napari_fewshot.methods.gscorecam import GScoreCamMethod, GScoreCamParams
from napari_fewshot.methods.text._asks import Drawing
from napari_fewshot.ops.random_field import WIDE_FIELD


@dataclass(frozen=True)
class MedClipSamParams(GScoreCamParams):
    """Parameters of `medclip-sam`."""

    cut: Literal["auto", "two-means", "otsu", "percentile", "fixed", "crf"] = param(
        "crf",
        "Where the heat map becomes a mask; crf is the random field of the paper.",
    )
    prompts: Literal["box", "points", "both", "mask"] = param(
        "box", "What the decoder is given; the paper gives a box.", advanced=True
    )
    parts: int = param(
        1,
        "Keep only so many largest parts, before and after SAM; 0 keeps all.",
        low=0,
        high=1000,
        at_low="all",
    )
    presence: bool = param(
        False,
        "Leave a plane empty where the phrase fits no better than nonsense; the paper "
        "always finds something.",
    )


class MedClipSamMethod(GScoreCamMethod):
    """The method object."""

    spec = MethodSpec(
        name="medclip-sam",
        summary="MedCLIP-SAM as published: one object, by gScoreCAM, a box and SAM.",
        params=MedClipSamParams,
        reads_text=True,
        citation="MedCLIP-SAM (Koleilat et al., MICCAI 2024)",
    )

    def drawing(self, params: Any) -> Drawing:
        """Return the paper's way: the box as it is, the only mask of SAM."""
        return Drawing(margin=0.0, as_is=True, field=WIDE_FIELD)


METHOD = MedClipSamMethod()
