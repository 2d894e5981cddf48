"""Methods that read phrases: heat maps, and masks from them."""

from napari_fewshot.methods.text._base import TextFitted, TextMethod
from napari_fewshot.methods.text._fused import TextFused, fuse_text
from napari_fewshot.methods.text._heat import Found, Heat
from napari_fewshot.methods.text._honesty import (
    ADVICE,
    NOT_UNDERSTOOD,
    Sensitivity,
    rank_phrases,
    sensitivity,
    understanding,
)
from napari_fewshot.methods.text._params import TextParams
from napari_fewshot.methods.text._words import ClassWords, TextBank, encode_bank

__all__ = [
    "ADVICE",
    "NOT_UNDERSTOOD",
    "ClassWords",
    "Found",
    "Heat",
    "Sensitivity",
    "TextBank",
    "TextFitted",
    "TextFused",
    "TextMethod",
    "TextParams",
    "encode_bank",
    "fuse_text",
    "rank_phrases",
    "sensitivity",
    "understanding",
]
