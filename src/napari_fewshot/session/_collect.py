"""Planes as they arrive, gathered into one `Prediction`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import Image, Prediction
from napari_fewshot.errors import StorageError
from napari_fewshot.io import cache_folder

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from napari_fewshot._types import LabelArray
    from napari_fewshot.inference import PlaneResult, Summary

# Larger results live in a zarr store on disk.
MAX_IN_MEMORY = 256 * 1024**2
CHUNK = 1024


class Collector:
    """Gathers the planes of one run.

    Parameters
    ----------
    query : Image
        What is segmented.
    out : path, optional
        A ``.zarr`` folder that receives the labels.
    kept : mapping of int to array (H, W), optional
        Planes that are not computed anew: accepted ones.
    """

    def __init__(
        self,
        query: Image,
        out: str | os.PathLike[str] | None = None,
        kept: Mapping[int, LabelArray] | None = None,
    ) -> None:
        self.query = query
        self.labels = allocate(query.label_shape, out)
        self.instances: Any = None
        self.probabilities: dict[int, Any] = {}
        self.plane_scores: dict[int, Any] = {}
        self.plane_novelty: Any = None
        # Whether planes came in parts, so that some may not be whole.
        self.in_parts = False
        # Highest object number so far, and what was added to those of a plane.
        self._top, self._low = 0, dict[int, int]()
        for plane, labels in (kept or {}).items():
            self.labels[query.label_key(plane)] = labels

    def add(self, result: PlaneResult) -> None:
        """Store one plane, or a part of it; a part that comes again replaces itself."""
        query = self.query
        self.in_parts = self.in_parts or result.region is not None
        key = query.label_key(result.plane, result.region)
        self.labels[key] = result.labels
        if result.novelty:
            if self.plane_novelty is None:
                self.plane_novelty = np.full(query.n_planes, np.nan, np.float32)
            self.plane_novelty[result.plane] = result.novelty
        for value, score in result.scores.items():
            if value not in self.plane_scores:
                self.plane_scores[value] = np.full(query.n_planes, np.nan, np.float32)
            self.plane_scores[value][result.plane] = score
        for value, probability in result.probabilities.items():
            if value not in self.probabilities:
                maps = allocate(query.label_shape, None, "float16")
                self.probabilities[value] = maps
            self.probabilities[value][key] = probability
        if result.instances is not None:
            if self.instances is None:
                self.instances = allocate(query.label_shape, None)
            self.instances[key] = self._unique(result)

    def _unique(self, result: PlaneResult) -> Any:
        """Return object numbers that are unique over the whole stack."""
        found: Any = result.instances
        if result.linked:
            return found
        if result.region is None:
            low = self._top
        else:
            # All parts of a plane are numbered together.
            low = self._low.setdefault(result.plane, self._top)
        moved = np.where(found > 0, found + low, 0)
        self._top = max(self._top, int(moved.max(initial=0)))
        return moved

    def prediction(self, summary: Summary, executor: str) -> Prediction:
        """Return everything as one value."""
        return Prediction(
            labels=self.labels,
            classes=dict(summary.classes),
            probabilities=self.probabilities,
            scores=dict(summary.scores),
            score_intervals=dict(summary.score_intervals),
            plane_scores=self.plane_scores,
            present=dict(summary.present),
            instances=self.instances,
            support_scores={k: dict(v) for k, v in summary.support_scores.items()},
            choice=summary.choice,
            provenance=provenance_of(summary.provenance, self.query, executor),
            plane_novelty=self.plane_novelty,
            suggested=summary.suggested,
            redundant=summary.redundant,
            tracks=summary.tracks,
        )


def provenance_of(
    provenance: Mapping[str, Any], query: Image, executor: str
) -> dict[str, Any]:
    """Return the record of a run with what only this side of it knows.

    Parameters
    ----------
    provenance : mapping
        Of the run.
    query : Image
        Its level is noted, and chunks that its store does not hold.
    executor : str
        Who computed.
    """
    found: dict[str, Any] = {**provenance, "executor": executor}
    inputs = dict(found.get("inputs", {}))
    if "query" in inputs:
        inputs["query"] = {**inputs["query"], "level": query.level}
        found["inputs"] = inputs
    missing, total = getattr(query.array, "missing", lambda: (0, 0))()
    if missing:
        found["notes"] = [
            *found.get("notes", ()),
            f"{missing} of {total} chunks of the image are not in its store and were "
            "read as empty",
        ]
    return found


def allocate(
    shape: tuple[int, ...],
    out: str | os.PathLike[str] | None,
    dtype: str = "int32",
) -> Any:
    """Return an array of zeros, on disk if it is large or a place is given.

    Parameters
    ----------
    shape : tuple of int
        Of it.
    out : path, optional
        A ``.zarr`` folder; what is there is overwritten.
    dtype : str
        Of it.

    Raises
    ------
    StorageError
        If there is no room.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if out is None and size <= MAX_IN_MEMORY:
        return np.zeros(shape, dtype)
    import zarr

    # Parts of large planes are written one by one: each is to touch few pixels more.
    side = CHUNK if max(shape[-2:]) <= 2 * CHUNK else CHUNK // 2
    chunks = (*(1,) * (len(shape) - 2), *(min(n, side) for n in shape[-2:]))
    try:
        if out is None:
            folder = cache_folder() / "results"
            folder.mkdir(parents=True, exist_ok=True)
            out = Path(tempfile.mkdtemp(prefix="labels-", dir=folder)) / "labels.zarr"
        return zarr.create_array(
            Path(out), shape=shape, chunks=chunks, dtype=dtype, overwrite=True
        )
    except OSError as error:
        raise StorageError(
            f"The result can't be written to {out} ({error.strerror or error}). Free "
            "some space or choose another folder."
        ) from error
