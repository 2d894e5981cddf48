"""Small networks that turn phrases into masks, on the features of a frozen CLIP."""

from napari_fewshot.models.text_heads._clipseg import ClipSegHead
from napari_fewshot.models.text_heads._dynamic import DynamicHead
from napari_fewshot.models.text_heads._fit import fit_module, mask_loss
from napari_fewshot.models.text_heads._head import (
    KINDS,
    TextHead,
    load_head,
    save_head,
)
from napari_fewshot.models.text_heads._lessons import HeadSettings, Lesson, Phrases
from napari_fewshot.models.text_heads._query import QueryHead, cross_predicted
from napari_fewshot.models.text_heads._seen import Seen, look, together
from napari_fewshot.models.text_heads._states import (
    pack_optimiser,
    read_tensors,
    replaced,
    restore_optimiser,
    write_tensors,
)
from napari_fewshot.models.text_heads._trainable import PARTS, TrainableClip
from napari_fewshot.models.text_heads._vlp import (
    Shown,
    VlpTokens,
    check_sam,
    sam_logits,
    shown_by,
)

__all__ = [
    "KINDS",
    "PARTS",
    "ClipSegHead",
    "DynamicHead",
    "HeadSettings",
    "Lesson",
    "Phrases",
    "QueryHead",
    "Seen",
    "Shown",
    "TextHead",
    "TrainableClip",
    "VlpTokens",
    "check_sam",
    "cross_predicted",
    "fit_module",
    "load_head",
    "look",
    "mask_loss",
    "pack_optimiser",
    "read_tensors",
    "replaced",
    "restore_optimiser",
    "sam_logits",
    "save_head",
    "shown_by",
    "together",
    "write_tensors",
]
