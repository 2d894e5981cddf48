"""Files in, files out. Nothing here computes."""

from napari_fewshot.io._atomic import atomic_write, write_text
from napari_fewshot.io._bundle import bundle_models, import_bundle, is_bundle
from napari_fewshot.io._concept import is_concept, read_concept, write_concept
from napari_fewshot.io._download import download_model
from napari_fewshot.io._endings import (
    SLIDES,
    SUFFIXES,
    Opened,
    is_store,
    stem_of,
    suffix_of,
)
from napari_fewshot.io._images import (
    fit_pair,
    open_image,
    open_labels,
    resolve_support,
)
from napari_fewshot.io._labels import (
    LABEL_SUFFIXES,
    keeps_objects,
    labels_suffix,
    save_labels,
    save_prediction,
    smallest_dtype,
)
from napari_fewshot.io._model_store import (
    FileFacts,
    InstalledModel,
    downloaded_models,
    installed_model,
)
from napari_fewshot.io._models import (
    import_weights,
    remove_model,
    save_settings,
    verify_model,
)
from napari_fewshot.io._ome import is_label_image, label_names
from napari_fewshot.io._ome_write import note_array
from napari_fewshot.io._open import open_path, read_labels
from napari_fewshot.io._places import cache_folder, data_folder, log_folder
from napari_fewshot.io._prompts import open_prompts
from napari_fewshot.io._records import (
    image_record,
    relabelled,
    reopen_image,
    restore_image,
    restore_support,
)
from napari_fewshot.io._slides import TiledLevel

__all__ = [
    "LABEL_SUFFIXES",
    "SLIDES",
    "SUFFIXES",
    "FileFacts",
    "InstalledModel",
    "Opened",
    "TiledLevel",
    "atomic_write",
    "bundle_models",
    "cache_folder",
    "data_folder",
    "download_model",
    "downloaded_models",
    "fit_pair",
    "image_record",
    "import_bundle",
    "import_weights",
    "installed_model",
    "is_bundle",
    "is_concept",
    "is_label_image",
    "is_store",
    "keeps_objects",
    "label_names",
    "labels_suffix",
    "log_folder",
    "note_array",
    "open_image",
    "open_labels",
    "open_path",
    "open_prompts",
    "read_concept",
    "read_labels",
    "relabelled",
    "remove_model",
    "reopen_image",
    "resolve_support",
    "restore_image",
    "restore_support",
    "save_labels",
    "save_prediction",
    "save_settings",
    "smallest_dtype",
    "stem_of",
    "suffix_of",
    "verify_model",
    "write_concept",
    "write_text",
]
