"""Run a frozen request: planes in, planes out."""

from napari_fewshot.inference._request import (
    OnPlane,
    PlaneResult,
    SegmentRequest,
    Summary,
)
from napari_fewshot.inference._run import run

__all__ = ["OnPlane", "PlaneResult", "SegmentRequest", "Summary", "run"]
