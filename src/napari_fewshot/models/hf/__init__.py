"""SAM 2, MedSAM2 and SAM 3 as `transformers` computes them (extra ``hf``)."""

from napari_fewshot.models.hf._load import load
from napari_fewshot.models.hf._model import HfModel
from napari_fewshot.models.hf._video import VideoModel

__all__ = ["HfModel", "VideoModel", "load"]
