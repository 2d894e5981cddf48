"""Models of the CLIP kind, which compare images with words, by open_clip."""

from napari_fewshot.models.clip._identify import identify
from napari_fewshot.models.clip._load import load
from napari_fewshot.models.clip._model import ClipModel
from napari_fewshot.models.clip._towers import NativeTower, TimmTower, tower_of

__all__ = ["ClipModel", "NativeTower", "TimmTower", "identify", "load", "tower_of"]
