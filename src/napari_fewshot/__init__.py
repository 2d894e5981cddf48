"""Annotate a few. Get the rest.

Few-shot segmentation of biological and medical images::

    import napari_fewshot as nf

    prediction = nf.segment(query, support=nf.Support(image, labels))
    prediction.labels
"""

from __future__ import annotations

import importlib
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_fewshot.data import (
        Concept,
        Embedding,
        Prediction,
        PromptSet,
        Support,
        SupportSet,
        TextPrompt,
    )
    from napari_fewshot.errors import (
        Cancelled,
        DataError,
        FewShotError,
        ModelError,
        PromptError,
        StorageError,
        SupportError,
        WeightsError,
        WorkerError,
    )
    from napari_fewshot.evaluation import evaluate
    from napari_fewshot.models import load_model
    from napari_fewshot.session import (
        Session,
        check_supports,
        check_text,
        compare,
        estimate,
        explain,
        finetune_clip,
        fit_text_head,
        link_instances,
        list_methods,
        list_models,
        load_concept,
        measure,
        propagate,
        rank_phrases,
        save_concept,
        segment,
        segment_everything,
        segment_many,
        where,
    )

# name -> module. Everything is imported at first use, so that `import napari_fewshot`
# costs nothing.
_HOMES = {
    "Cancelled": "errors",
    "Concept": "data",
    "DataError": "errors",
    "Embedding": "data",
    "FewShotError": "errors",
    "ModelError": "errors",
    "Prediction": "data",
    "PromptError": "errors",
    "PromptSet": "data",
    "Session": "session",
    "StorageError": "errors",
    "Support": "data",
    "SupportError": "errors",
    "SupportSet": "data",
    "TextPrompt": "data",
    "WeightsError": "errors",
    "WorkerError": "errors",
    "check_supports": "session",
    "check_text": "session",
    "compare": "session",
    "evaluate": "evaluation",
    "estimate": "session",
    "explain": "session",
    "finetune_clip": "session",
    "fit_text_head": "session",
    "link_instances": "session",
    "list_methods": "session",
    "list_models": "session",
    "load_concept": "session",
    "load_model": "models",
    "measure": "session",
    "propagate": "session",
    "rank_phrases": "session",
    "save_concept": "session",
    "segment": "session",
    "segment_everything": "session",
    "segment_many": "session",
    "where": "session",
}

__all__ = [
    "Cancelled",
    "Concept",
    "DataError",
    "Embedding",
    "FewShotError",
    "ModelError",
    "Prediction",
    "PromptError",
    "PromptSet",
    "Session",
    "StorageError",
    "Support",
    "SupportError",
    "SupportSet",
    "TextPrompt",
    "WeightsError",
    "WorkerError",
    "__version__",
    "check_supports",
    "check_text",
    "compare",
    "estimate",
    "evaluate",
    "explain",
    "finetune_clip",
    "fit_text_head",
    "link_instances",
    "list_methods",
    "list_models",
    "load_concept",
    "load_model",
    "measure",
    "propagate",
    "rank_phrases",
    "save_concept",
    "segment",
    "segment_everything",
    "segment_many",
    "where",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return metadata.version("napari-fewshot")
    if name in _HOMES:
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
