"""Parameters that all text methods share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from napari_fewshot.methods._params import CommonParams, param


@dataclass(frozen=True)
class TextParams(CommonParams):
    """From a heat map to masks; see `draw_masks`."""

    cut: Literal["auto", "two-means", "otsu", "percentile", "fixed", "crf"] = param(
        "auto",
        "Where the heat map becomes a mask: by competition with other words (auto), "
        "between two groups of values (two-means), Otsu's way, the brightest share "
        "(percentile), at a fixed share of its range, or by a random field (crf).",
    )
    level: float = param(
        0.5,
        "For fixed: share of the range of the heat map. For percentile: share of the "
        "plane that is left out. For auto: the least certainty.",
        low=0.0,
        high=1.0,
        step=0.01,
    )
    decoder: Literal["auto", "sam", "network", "map"] = param(
        "auto",
        "Who draws the masks: SAM if one is installed (auto), the bundled network, or "
        "the heat map itself with edges from the image (map).",
    )
    prompts: Literal["box", "points", "both", "mask"] = param(
        "both",
        "What the decoder is given for every part of the heat map.",
        advanced=True,
    )
    parts: int = param(
        0,
        "Keep only so many largest parts of the heat map; 0 keeps all.",
        low=0,
        high=1000,
        at_low="all",
    )
    templates: Literal["medical", "natural", "none"] = param(
        "medical",
        "Sentences that the phrase is put into, averaged: 'a scan with {phrase}' "
        "(medical), 'a photo of {phrase}' (natural), or the phrase alone.",
        advanced=True,
    )
    windows: Literal["auto", "on", "off"] = param(
        "auto",
        "Look through overlapping windows as well: finds small things on large planes; "
        "auto does so where a plane is much larger than what the model reads.",
        advanced=True,
    )
    flips: bool = param(
        False, "Average with the mirrored plane; twice the time.", advanced=True
    )
    presence: bool = param(
        True,
        "Leave a plane empty where the phrase fits no better than other words do.",
    )
    rescore: bool = param(
        False,
        "Let the model look at every mask by itself and drop those that other words "
        "fit better; a few looks more per mask.",
        advanced=True,
    )
    vocabulary: bool = param(
        False,
        "Add synonyms and looks that the vocabulary knows to what you typed.",
    )
    knowledge: bool = param(
        False,
        "Let what the class looks like ('dark', 'round') sharpen the phrase, by the "
        "attributes that the plane shows; with the vocabulary these are filled in.",
        advanced=True,
    )
    radiological: bool = param(
        False,
        "The patient's left is on the right of the picture, as scans are often shown: "
        "for words such as 'left kidney', not for 'on the left'.",
        advanced=True,
    )
    through: Literal["planes", "anchors"] = param(
        "planes",
        "In stacks: every plane by itself (planes), or from the planes where the "
        "phrase fits best to their neighbours (anchors).",
    )
    refine: bool = param(
        False,
        "Let the decoder look again at the masks of all classes, half of each hidden "
        "at a time; twice its time.",
        advanced=True,
    )
    drop_covered: bool = param(
        False,
        "Drop a class that keeps less than half of its mask where classes overlap.",
        advanced=True,
    )
