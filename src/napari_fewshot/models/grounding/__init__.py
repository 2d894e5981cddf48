"""Models of `transformers` that look for phrases by themselves (extra ``hf``).

CLIPSeg makes maps, Grounding DINO and OWLv2 find boxes, SAM 3 finds every object of a
concept. All are read from folders on this computer; nothing is downloaded.
"""

from napari_fewshot.models.grounding._boxes import BoxModel, Detections, kept_boxes
from napari_fewshot.models.grounding._canvas import Canvas, canvas_of
from napari_fewshot.models.grounding._clipseg import ClipSeg, visual_prompt
from napari_fewshot.models.grounding._concepts import ConceptModel, Concepts
from napari_fewshot.models.grounding._dino import GroundingDino
from napari_fewshot.models.grounding._load import load
from napari_fewshot.models.grounding._owl import Owl
from napari_fewshot.models.grounding._windows import windows_of

__all__ = [
    "BoxModel",
    "Canvas",
    "ClipSeg",
    "ConceptModel",
    "Concepts",
    "Detections",
    "GroundingDino",
    "Owl",
    "canvas_of",
    "kept_boxes",
    "load",
    "visual_prompt",
    "windows_of",
]
