"""Fine-tuning a CLIP on images with captions."""

from napari_fewshot.adapt.text._finetune import finetune
from napari_fewshot.adapt.text._pairs import Pair, as_pairs, read_pairs, split_pairs
from napari_fewshot.adapt.text._settings import Finetuned, FinetuneSettings

__all__ = [
    "FinetuneSettings",
    "Finetuned",
    "Pair",
    "as_pairs",
    "finetune",
    "read_pairs",
    "split_pairs",
]
