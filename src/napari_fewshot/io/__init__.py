"""Files in, files out. Nothing here computes."""

from napari_fewshot.io._atomic import atomic_write, write_text
from napari_fewshot.io._images import (
    SUFFIXES,
    open_image,
    open_labels,
    resolve_support,
    stem_of,
    suffix_of,
)
from napari_fewshot.io._labels import labels_suffix, save_labels, smallest_dtype
from napari_fewshot.io._places import cache_folder, data_folder, log_folder
from napari_fewshot.io._prompts import open_prompts

__all__ = [
    "SUFFIXES",
    "atomic_write",
    "cache_folder",
    "data_folder",
    "labels_suffix",
    "log_folder",
    "open_image",
    "open_labels",
    "open_prompts",
    "resolve_support",
    "save_labels",
    "smallest_dtype",
    "stem_of",
    "suffix_of",
    "write_text",
]
