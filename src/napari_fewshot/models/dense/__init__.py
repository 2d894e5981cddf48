"""Encoders whose maps of features serve any method: DINOv2, DINOv3, CLIP, timm."""

from napari_fewshot.models.dense._identify import identify
from napari_fewshot.models.dense._load import load
from napari_fewshot.models.dense._model import DenseModel

__all__ = ["DenseModel", "identify", "load"]
