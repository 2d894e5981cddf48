"""Segment Anything (Kirillov et al., ICCV 2023) and weights of the same make."""

from napari_fewshot.models.sam._convert import convert
from napari_fewshot.models.sam._identify import choose, identify
from napari_fewshot.models.sam._load import load
from napari_fewshot.models.sam._model import SamModel
from napari_fewshot.models.sam._promptable import Promptable, check_preset, note_preset
from napari_fewshot.models.sam._unet import UnetModel

__all__ = [
    "Promptable",
    "SamModel",
    "UnetModel",
    "check_preset",
    "choose",
    "convert",
    "identify",
    "load",
    "note_preset",
]
