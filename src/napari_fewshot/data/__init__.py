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
from napari_fewshot.data._continued import Continued
from napari_fewshot.data._embedding import Embedding
from napari_fewshot.data._hooks import Hooks, Progress
from napari_fewshot.data._ignored import IGNORED
from napari_fewshot.data._image import Image, apply_window, as_plane, intensity_window
from napari_fewshot.data._lattice import Lattice, Region
from napari_fewshot.data._levels import (
    Levels,
    at_level,
    downsampling,
    fit_level,
    make_levels,
    unit_factor,
    unit_name,
)
from napari_fewshot.data._prediction import Prediction
from napari_fewshot.data._prompts import PlanePrompts, PromptSet
from napari_fewshot.data._referring import Referring, meaning
from napari_fewshot.data._referring import parse as parse_phrase
from napari_fewshot.data._sample import Plane, Sample, plane_of
from napari_fewshot.data._sparse import SparsePlanes
from napari_fewshot.data._strips import strips
from napari_fewshot.data._support import Support, SupportSet, layer_options
from napari_fewshot.data._text import TextChoice, TextPrompt, tidied
from napari_fewshot.data._vocabulary import Modality, Term, find_modality, unknown_words
from napari_fewshot.data._vocabulary import complete as complete_phrase
from napari_fewshot.data._vocabulary import expand as expand_prompt
from napari_fewshot.data._vocabulary import find as find_term
from napari_fewshot.data._vocabulary import nearest as nearest_word
from napari_fewshot.data._windows import WindowedImage, WindowedPrompts
from napari_fewshot.data._wordforms import with_article, without_article

__all__ = [
    "IGNORED",
    "ClassTable",
    "Concept",
    "Continued",
    "Embedding",
    "Hooks",
    "Image",
    "Lattice",
    "Levels",
    "Modality",
    "Plane",
    "PlanePrompts",
    "Prediction",
    "Progress",
    "PromptSet",
    "Referring",
    "Region",
    "Sample",
    "SegmentClass",
    "SparsePlanes",
    "Support",
    "SupportSet",
    "Term",
    "TextChoice",
    "TextPrompt",
    "WindowedImage",
    "WindowedPrompts",
    "apply_window",
    "as_plane",
    "at_level",
    "complete_phrase",
    "default_colour",
    "downsampling",
    "expand_prompt",
    "find_modality",
    "find_term",
    "fit_level",
    "intensity_window",
    "label_axes",
    "label_shape",
    "layer_options",
    "make_levels",
    "meaning",
    "nearest_word",
    "parse_phrase",
    "plane_axes",
    "plane_of",
    "resolve_axes",
    "resolve_scale",
    "strips",
    "tidied",
    "unit_factor",
    "unit_name",
    "unknown_words",
    "with_article",
    "without_article",
]
