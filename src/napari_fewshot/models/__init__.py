"""Models: pixels to embeddings. The only importer of third-party networks."""

from napari_fewshot.models._protocols import Encoder
from napari_fewshot.models._recent import Recent, digest
from napari_fewshot.models._registry import (
    automatic,
    best_for_prompts,
    get_model_spec,
    how_to_get,
    installed_models,
    load_model,
    model_specs,
    recognise,
)
from napari_fewshot.models._settings import Settings, read_settings, settings_file
from napari_fewshot.models._spec import PROMPTABLE, ModelSpec
from napari_fewshot.models._text_models import installed_text_models, load_text_model

__all__ = [
    "PROMPTABLE",
    "Encoder",
    "ModelSpec",
    "Recent",
    "Settings",
    "automatic",
    "best_for_prompts",
    "digest",
    "get_model_spec",
    "how_to_get",
    "installed_models",
    "installed_text_models",
    "load_model",
    "load_text_model",
    "model_specs",
    "read_settings",
    "recognise",
    "settings_file",
]
