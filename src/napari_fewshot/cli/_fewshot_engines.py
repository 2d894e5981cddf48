"""What ``benchmark few-shot`` scores: methods as users run them, and two references."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_fewshot.inference import SegmentRequest
from napari_fewshot.session import InlineExecutor
from napari_fewshot.session._api import run_to_end
from napari_fewshot.session._collect import Collector

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_fewshot._types import AnyArray, BoolArray
    from napari_fewshot.data import Image, SupportSet

COPY, FOREST = "copy", "forest"
REFERENCES = (COPY, FOREST)
# The classical pixel classifier of the reference: features, trees, training pixels.
SIGMAS, N_SIGMAS = (1, 16), 5
TREES, DEPTH, LEAF = 100, 12, 4
PIXELS_PER_CLASS = 4000
# Forests kept: the volume protocol takes turns with three support slices.
MAX_FORESTS = 3


@dataclass(frozen=True, eq=False)
class Answers:
    """What an engine says of the planes of a query.

    Attributes
    ----------
    masks : array (T, H, W) bool
    expected : tuple of float
        Dice that it expects of each plane; empty if it says nothing.
    instances : array (T, H, W), optional
        Object numbers, if it finds single objects.
    fit_seconds : float
        Spent on the supports.
    """

    masks: BoolArray
    expected: tuple[float, ...] = ()
    instances: AnyArray | None = None
    fit_seconds: float = 0.0


class Engine(Protocol):
    """Segments queries by supports; learns from the same supports once."""

    def segment(self, support: SupportSet, query: Image) -> Answers:
        """Return the masks of class 1 on all planes of a query."""


@dataclass
class MethodEngine:
    """A method, run through the path that users take.

    Attributes
    ----------
    method, model, device : str
    params : dict
    """

    method: str
    model: str
    params: Mapping[str, Any]
    device: str = "auto"
    # Remembers what was learnt from the last supports.
    _executor: InlineExecutor = field(default_factory=InlineExecutor)

    def segment(self, support: SupportSet, query: Image) -> Answers:
        """Return the masks of class 1 on all planes of a query."""
        request = SegmentRequest(
            query,
            support,
            method=self.method,
            model=self.model,
            params=self.params,
            keep_probabilities=False,
            device=self.device,
        )
        # Volumes and large planes come in parts, and again when all of it is known.
        found = Collector(query)
        summary = run_to_end(request, self._executor, found.add)
        seconds = summary.provenance["seconds"]
        estimates = self.params.get("leave_one_out", True)
        scores = found.plane_scores.get(1, ()) if estimates else ()
        shape = (query.n_planes, *query.plane_shape)
        objects = found.instances
        return Answers(
            (np.asarray(found.labels) == 1).reshape(shape),
            tuple(float(s) for s in scores),
            None if objects is None else np.asarray(objects).reshape(shape),
            seconds["fit"] + seconds["assess"],
        )


@dataclass
class CopyEngine:
    """Copies the support's mask: the floor that needs no image."""

    def segment(self, support: SupportSet, query: Image) -> Answers:
        """Return the support's mask for every plane of a query of the same shape."""
        mask = support[0].label_plane(0) == 1
        return Answers(np.repeat(mask[None], query.n_planes, axis=0))


@dataclass
class ForestEngine:
    """A random forest on multi-scale features: what pixel classifiers do today."""

    _fits: list[tuple[SupportSet, Any]] = field(default_factory=list)

    def segment(self, support: SupportSet, query: Image) -> Answers:
        """Return the masks of class 1 on all planes of a query."""
        start = time.perf_counter()
        forest = next((f for s, f in self._fits if s is support), None)
        if forest is None:
            forest = _grow(support)
            self._fits = [*self._fits, (support, forest)][-MAX_FORESTS:]
        spent = time.perf_counter() - start
        column = list(forest.classes_).index(1)
        masks = []
        for number in range(query.n_planes):
            features = _features(query.raw_plane(number))
            shape = features.shape[:2]
            sure = forest.predict_proba(features.reshape(-1, features.shape[-1]))
            masks.append(sure[:, column].reshape(shape) > 0.5)
        return Answers(np.stack(masks), fit_seconds=spent)


def _grow(support: SupportSet) -> Any:
    """Train a forest on as many pixels of each support inside as outside at most."""
    from sklearn.ensemble import RandomForestClassifier

    rng = np.random.default_rng(0)
    inputs, targets = [], []
    for one in support:
        features = _features(one.source.raw_plane(0))
        flat = features.reshape(-1, features.shape[-1])
        truth = (one.label_plane(0) == 1).ravel()
        for value in (0, 1):
            at = np.flatnonzero(truth == value)
            at = rng.choice(at, min(len(at), PIXELS_PER_CLASS), replace=False)
            inputs.append(flat[at])
            targets.append(np.full(len(at), value))
    forest = RandomForestClassifier(
        TREES, max_depth=DEPTH, min_samples_leaf=LEAF, n_jobs=-1, random_state=0
    )
    return forest.fit(np.concatenate(inputs), np.concatenate(targets))


def _features(plane: AnyArray) -> AnyArray:
    from skimage.feature import multiscale_basic_features

    found: AnyArray = multiscale_basic_features(
        np.atleast_3d(plane),
        channel_axis=-1,
        sigma_min=SIGMAS[0],
        sigma_max=SIGMAS[1],
        num_sigma=N_SIGMAS,
    )
    return found
