"""Segment Anything (Kirillov et al., ICCV 2023) and weights of the same make."""

from napari_fewshot.models.sam._model import SamModel, load

__all__ = ["SamModel", "load"]
