"""Models: pixels to embeddings. The only importer of third-party networks."""

from napari_fewshot.models._protocols import Encoder
from napari_fewshot.models._registry import get_model_spec, load_model, model_specs
from napari_fewshot.models._spec import ModelSpec

__all__ = ["Encoder", "ModelSpec", "get_model_spec", "load_model", "model_specs"]
