"""Run a frozen request: planes in, planes out."""

from napari_fewshot.inference._cache import FitCache
from napari_fewshot.inference._checks import check_request
from napari_fewshot.inference._request import (
    OnPlane,
    PlaneResult,
    SegmentRequest,
    Summary,
)
from napari_fewshot.inference._run import run

__all__ = [
    "FitCache",
    "OnPlane",
    "PlaneResult",
    "SegmentRequest",
    "Summary",
    "check_request",
    "run",
]
