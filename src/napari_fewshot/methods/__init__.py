"""Few-shot methods: ``fit(samples) -> fitted``, ``fitted.predict(plane) -> maps``."""

from napari_fewshot.methods._base import (
    FittedMethod,
    Method,
    MethodSpec,
    Reliability,
)
from napari_fewshot.methods._params import (
    CommonParams,
    default_of,
    make_params,
    param,
    params_to_dict,
    parse_params,
)
from napari_fewshot.methods._registry import get_method, method_names

__all__ = [
    "CommonParams",
    "FittedMethod",
    "Method",
    "MethodSpec",
    "Reliability",
    "default_of",
    "get_method",
    "make_params",
    "method_names",
    "param",
    "params_to_dict",
    "parse_params",
]
