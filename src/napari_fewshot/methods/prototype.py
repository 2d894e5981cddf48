"""`prototype`: nearest prototype in the space of an embedding.

Each class, and the background, is described by a few mean embeddings (masked average
pooling over k-means parts, as in PANet and ALPNet); a cell of the query belongs to the
class whose prototypes it resembles most. The boundary is calibrated on the supports.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.errors import ModelError
from napari_fewshot.methods._base import MethodSpec, Reliability
from napari_fewshot.methods._params import CommonParams, param
from napari_fewshot.methods._validation import dice, leave_one_out
from napari_fewshot.ops import cosine_maps, mask_to_grid, masked_average, resize_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import BoolArray, FloatArray
    from napari_fewshot.data import Hooks, Plane, Sample
    from napari_fewshot.methods._base import FittedMethod
    from napari_fewshot.models import Encoder

# The fixed scale of cosine similarities in the PANet line of work.
SCALE = 20.0
MAX_CELLS = 4000
SHIFTS = np.linspace(-4.0, 4.0, 33)


@dataclass(frozen=True)
class PrototypeParams(CommonParams):
    """Parameters of `prototype`."""

    parts: int = param(
        3, "Prototypes per class: more for varied objects.", low=1, high=32
    )
    background_parts: int = param(
        8, "Prototypes of the background: more for varied surroundings.", low=1, high=64
    )


@dataclass
class PrototypeFitted:
    """What `prototype` learnt."""

    encoder: Encoder
    prototypes: dict[int, FloatArray]
    background: FloatArray
    shifts: dict[int, float]
    choice: str = ""

    def predict(self, plane: Plane, hooks: Hooks) -> dict[int, FloatArray]:
        """Return a probability map per class."""
        hooks.check()
        features = self.encoder.encode(plane.image).cells
        hooks.check()
        shape = (plane.image.shape[0], plane.image.shape[1])
        logits = self.logits(features)
        return {
            v: resize_image(_sigmoid(logit + self.shifts[v]), shape)
            for v, logit in logits.items()
        }

    def logits(self, features: FloatArray) -> dict[int, FloatArray]:
        """Scaled similarity of each class over its strongest rival, per cell."""
        best = {
            v: cosine_maps(features, p).max(axis=0) for v, p in self.prototypes.items()
        }
        ground = cosine_maps(features, self.background).max(axis=0)
        found = {}
        for value, mine in best.items():
            rivals = [ground, *(m for v, m in best.items() if v != value)]
            found[value] = SCALE * (mine - np.max(rivals, axis=0))
        return found


class PrototypeMethod:
    """The method object."""

    spec = MethodSpec(
        name="prototype",
        summary="Compares the query with mean embeddings of classes and background.",
        params=PrototypeParams,
        uses_model=True,
        citation="Prototypical networks for segmentation: PANet (Wang et al., ICCV "
        "2019), ALPNet (Ouyang et al., ECCV 2020)",
    )

    def fit(
        self,
        samples: Sequence[Sample],
        classes: Sequence[int],
        params: PrototypeParams,
        encoder: Encoder | None,
        hooks: Hooks,
    ) -> PrototypeFitted:
        """Pool the prototypes; see `Method.fit`."""
        if encoder is None:
            raise ModelError(
                "The method 'prototype' needs a model; try model='filters'."
            )
        maps, covers, known = [], [], []
        for number, sample in enumerate(samples):
            hooks.report("Learning from the supports", number, len(samples))
            features = encoder.encode(sample.image).cells
            grid = (features.shape[1], features.shape[2])
            maps.append(features)
            covers.append(
                {
                    v: _never_empty(mask_to_grid(sample.labels == v, grid))
                    for v in classes
                }
            )
            off = sample.ignored
            known.append(1.0 if off is None else mask_to_grid(~off, grid))
        rng = np.random.default_rng(params.seed)
        prototypes = {
            v: _parts(maps, _sure([c[v] for c in covers], known), params.parts, rng)
            for v in classes
        }
        ground = _sure(
            [1 - np.max([c[v] for v in classes], axis=0) for c in covers], known
        )
        background = _parts(maps, ground, params.background_parts, rng)
        fitted = PrototypeFitted(
            encoder, prototypes, background, dict.fromkeys(classes, 0.0)
        )
        logits = [fitted.logits(m) for m in maps]
        for value in classes:
            truth = [c[value] >= 0.5 for c in covers]
            fitted.shifts[value] = _best_shift([x[value] for x in logits], truth)
        return fitted

    def fold_params(
        self, params: PrototypeParams, fitted: FittedMethod
    ) -> PrototypeParams:
        """Leave-one-out uses the same parameters: fitting is cheap."""
        return params

    def assess(
        self,
        samples: Sequence[Sample],
        classes: Sequence[int],
        params: PrototypeParams,
        encoder: Encoder | None,
        hooks: Hooks,
        fitted: FittedMethod,
    ) -> Reliability:
        """Estimate the quality by leave-one-out; see `Method.assess`."""
        return leave_one_out(self, samples, classes, params, encoder, hooks, fitted)


METHOD = PrototypeMethod()


def _sigmoid(logit: FloatArray) -> FloatArray:
    odds: FloatArray = np.exp(np.clip(logit, -30, 30)).astype(np.float32)
    return odds / (1 + odds)


def _never_empty(cover: FloatArray) -> FloatArray:
    """Give an object smaller than any cell the cell that holds most of it."""
    if 0 < cover.max() < 0.5:
        cover = cover.copy()
        cover[cover == cover.max()] = 1.0
    return cover


def _sure(covers: list[FloatArray], known: Sequence[Any]) -> list[FloatArray]:
    """Leave out what nobody labelled, unless nothing is left then."""
    sure = [c * k for c, k in zip(covers, known, strict=True)]
    return sure if any((c >= 0.5).any() for c in sure) else covers


def _parts(
    maps: Sequence[FloatArray],
    covers: Sequence[FloatArray],
    count: int,
    rng: np.random.Generator,
) -> FloatArray:
    """Pool one global prototype and the centres of k-means parts: (P, C)."""
    from sklearn.cluster import KMeans

    pairs = list(zip(maps, covers, strict=True))
    cells = np.concatenate([m[:, c >= 0.5].T for m, c in pairs])
    pooled = [masked_average(m, c) for m, c in pairs if c.max() > 0]
    whole: FloatArray = np.stack(pooled).mean(axis=0, keepdims=True)
    if count == 1 or len(cells) < 2 * count:
        return whole
    if len(cells) > MAX_CELLS:
        cells = cells[rng.choice(len(cells), MAX_CELLS, replace=False)]
    seed = int(rng.integers(2**31 - 1))
    parts = KMeans(count, n_init=1, random_state=seed).fit(cells).cluster_centers_
    found: FloatArray = np.concatenate([whole, parts]).astype(np.float32)
    return found


def _best_shift(logits: Sequence[FloatArray], truth: Sequence[BoolArray]) -> float:
    """Return the shift of the logits that gives the best mean Dice at one half."""
    scores = [
        np.mean([dice(x + s >= 0, t) for x, t in zip(logits, truth, strict=True)])
        for s in SHIFTS
    ]
    return float(SHIFTS[int(np.argmax(scores))])
