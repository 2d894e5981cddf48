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
LABEL_BYTES = 4


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
        self.labels = _allocate(query.label_shape, out)
        self.instances: Any = None
        self.probabilities: dict[int, Any] = {}
        self.plane_scores: dict[int, Any] = {}
        self.plane_novelty: Any = None
        for plane, labels in (kept or {}).items():
            self.labels[query.label_key(plane)] = labels

    def add(self, result: PlaneResult) -> None:
        """Store one plane."""
        key = self.query.label_key(result.plane)
        self.labels[key] = result.labels
        shape, count = self.query.label_shape, self.query.n_planes
        if result.novelty:
            if self.plane_novelty is None:
                self.plane_novelty = np.full(count, np.nan, np.float32)
            self.plane_novelty[result.plane] = result.novelty
        for value, score in result.scores.items():
            if value not in self.plane_scores:
                self.plane_scores[value] = np.full(count, np.nan, np.float32)
            self.plane_scores[value][result.plane] = score
        for value, probability in result.probabilities.items():
            if value not in self.probabilities:
                self.probabilities[value] = np.zeros(shape, np.float16)
            self.probabilities[value][key] = probability
        if result.instances is not None:
            if self.instances is None:
                self.instances = np.zeros(shape, np.int32)
            # Object numbers stay unique over the whole stack.
            top = int(self.instances.max(initial=0))
            moved = np.where(result.instances > 0, result.instances + top, 0)
            self.instances[key] = moved

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
            provenance={**summary.provenance, "executor": executor},
            plane_novelty=self.plane_novelty,
            suggested=summary.suggested,
            redundant=summary.redundant,
        )


def _allocate(shape: tuple[int, ...], out: str | os.PathLike[str] | None) -> Any:
    size = int(np.prod(shape)) * LABEL_BYTES
    if out is None and size <= MAX_IN_MEMORY:
        return np.zeros(shape, np.int32)
    import zarr

    chunks = (*(1,) * (len(shape) - 2), *(min(n, 1024) for n in shape[-2:]))
    try:
        if out is None:
            folder = cache_folder() / "results"
            folder.mkdir(parents=True, exist_ok=True)
            out = Path(tempfile.mkdtemp(prefix="labels-", dir=folder)) / "labels.zarr"
        return zarr.create_array(
            Path(out), shape=shape, chunks=chunks, dtype="int32", overwrite=True
        )
    except OSError as error:
        raise StorageError(
            f"The result can't be written to {out} ({error.strerror or error}). Free "
            "some space or choose another folder."
        ) from error
