"""Methods that read phrases: heat maps, and masks from them."""

from napari_fewshot.methods.text._base import TextFitted, TextMethod
from napari_fewshot.methods.text._heat import Found, Heat
from napari_fewshot.methods.text._params import TextParams
from napari_fewshot.methods.text._words import ClassWords, TextBank, encode_bank

__all__ = [
    "ClassWords",
    "Found",
    "Heat",
    "TextBank",
    "TextFitted",
    "TextMethod",
    "TextParams",
    "encode_bank",
]
