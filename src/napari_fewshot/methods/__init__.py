"""Few-shot methods: ``fit(samples) -> fitted``, ``fitted.predict(plane) -> maps``."""

from napari_fewshot.methods._base import (
    FittedMethod,
    Method,
    MethodSpec,
    Reliability,
)
from napari_fewshot.methods._completion import complete_labels
from napari_fewshot.methods._fusion import Fused, log_odds, sigmoid
from napari_fewshot.methods._looks import network_of
from napari_fewshot.methods._params import (
    CommonParams,
    default_of,
    make_params,
    param,
    params_to_dict,
    parse_params,
)
from napari_fewshot.methods._registry import (
    TEXT_METHODS,
    get_method,
    learning_methods,
    method_names,
)
from napari_fewshot.methods._validation import altered_copies
from napari_fewshot.methods.neighbours import Lesson, Neighbours, block_size
from napari_fewshot.methods.promptable import Answer, PromptableGuide
from napari_fewshot.methods.prompting import Prompter
from napari_fewshot.methods.reverse import ReverseJudge

__all__ = [
    "TEXT_METHODS",
    "Answer",
    "CommonParams",
    "FittedMethod",
    "Fused",
    "Lesson",
    "Method",
    "MethodSpec",
    "Neighbours",
    "PromptableGuide",
    "Prompter",
    "Reliability",
    "ReverseJudge",
    "altered_copies",
    "block_size",
    "complete_labels",
    "default_of",
    "get_method",
    "learning_methods",
    "log_odds",
    "make_params",
    "method_names",
    "network_of",
    "param",
    "params_to_dict",
    "parse_params",
    "sigmoid",
]
