"""Run a frozen request: planes in, planes out."""

from napari_fewshot.inference._assess import assess
from napari_fewshot.inference._cache import FitCache
from napari_fewshot.inference._checks import check_request
from napari_fewshot.inference._embeddings import EmbeddingCache, get_cache
from napari_fewshot.inference._evidence import Evidence
from napari_fewshot.inference._propagation import PROPAGATION_MODES, plan, stack_of
from napari_fewshot.inference._request import (
    OnPlane,
    PlaneResult,
    SegmentRequest,
    Summary,
)
from napari_fewshot.inference._run import run

__all__ = [
    "PROPAGATION_MODES",
    "EmbeddingCache",
    "Evidence",
    "FitCache",
    "OnPlane",
    "PlaneResult",
    "SegmentRequest",
    "Summary",
    "assess",
    "check_request",
    "get_cache",
    "plan",
    "run",
    "stack_of",
]
