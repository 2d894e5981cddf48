"""The vocabulary: frozen values that every other layer speaks."""

from napari_fewshot.data._axes import (
    label_axes,
    label_shape,
    plane_axes,
    resolve_axes,
    resolve_scale,
)
from napari_fewshot.data._classes import ClassTable, SegmentClass, default_colour
from napari_fewshot.data._concept import Concept
from napari_fewshot.data._embedding import Embedding
from napari_fewshot.data._hooks import Hooks, Progress
from napari_fewshot.data._image import Image, apply_window, as_plane, intensity_window
from napari_fewshot.data._prediction import Prediction
from napari_fewshot.data._prompts import PlanePrompts, PromptSet
from napari_fewshot.data._sample import Plane, Sample
from napari_fewshot.data._sparse import SparsePlanes
from napari_fewshot.data._support import Support, SupportSet, layer_options
from napari_fewshot.data._text import TextPrompt, tidied

__all__ = [
    "ClassTable",
    "Concept",
    "Embedding",
    "Hooks",
    "Image",
    "Plane",
    "PlanePrompts",
    "Prediction",
    "Progress",
    "PromptSet",
    "Sample",
    "SegmentClass",
    "SparsePlanes",
    "Support",
    "SupportSet",
    "TextPrompt",
    "apply_window",
    "as_plane",
    "default_colour",
    "intensity_window",
    "label_axes",
    "label_shape",
    "layer_options",
    "plane_axes",
    "resolve_axes",
    "resolve_scale",
    "tidied",
]
