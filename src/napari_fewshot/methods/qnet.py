"""`qnet`: two scales, a threshold of the query's own, and a prototype refined on it.

Query-informed few-shot anomaly detection (Shen et al., Q-Net, 2022; arXiv 2208.11451).
The paper trains encoder and threshold by episodes and refines the prototype by gradient
steps. Here the encoder stays as it is; the threshold of a query is halfway between what
the supports say and where the query's own similarities part (Otsu), and the prototype
moves towards the mean of the cells found, which is where those steps lead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.methods._base import MethodSpec
from napari_fewshot.methods._fusion import sigmoid
from napari_fewshot.methods._params import param
from napari_fewshot.methods.grid import (
    Boundary,
    GridMethod,
    GridParams,
    Look,
    fit_boundary,
)
from napari_fewshot.methods.panet import SCALE
from napari_fewshot.ops import (
    cosine_maps,
    masked_average,
    resize_image,
    self_prototype,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import Hooks
    from napari_fewshot.methods.grid import GridPlane, GridSupport

# The wider scale averages so many cells a side.
WIDE = 2
# Thresholds are learnt on at most so many supports.
MOST_PLANES = 8


@dataclass(frozen=True)
class QnetParams(GridParams):
    """Parameters of `qnet`."""

    fine: float = param(
        0.6,
        "How much the fine scale counts against the wide one: 1 for sharp detail, less "
        "for noisy images.",
        low=0.0,
        high=1.0,
        step=0.1,
        advanced=True,
    )
    refine: float = param(
        0.3,
        "How far the learnt look moves to that of the image itself; 0 keeps what the "
        "supports say.",
        low=0.0,
        high=1.0,
        step=0.1,
    )


@dataclass(frozen=True, eq=False)
class _State:
    prototypes: tuple[FloatArray, FloatArray]
    boundary: Boundary


class QnetMethod(GridMethod):
    """The method object."""

    spec = MethodSpec(
        name="qnet",
        summary="Finds what is like the object at two scales and adapts to each image.",
        params=QnetParams,
        uses_model=True,
        citation="Q-Net (Shen et al., IntelliSys 2023)",
    )

    def learn(
        self, supports: Sequence[GridSupport], value: int, params: Any, hooks: Hooks
    ) -> _State:
        """Pool a prototype per scale, and find the threshold on the supports."""
        pooled = []
        for wide in (1, WIDE):
            found = []
            for support in supports:
                if support.holds(value):
                    features = _pooled(support.features, wide)
                    cover = resize_image(support.cover(value), features.shape[1:])
                    found.append(masked_average(features, cover))
            pooled.append(np.mean(found, 0))
        prototypes = (pooled[0], pooled[1])
        some = sorted(supports, key=lambda s: not s.holds(value))[:MOST_PLANES]
        raws = [_similarity(s, prototypes, params.fine) for s in some]
        boundary = fit_boundary(raws, [s.cover(value) for s in some])
        return _State(prototypes, boundary)

    def look(self, state: Any, query: GridPlane, params: Any, hooks: Hooks) -> Look:
        """Return the similarity to refined prototypes less the query's threshold."""
        first = _similarity(query, state.prototypes, params.fine)
        odds = state.boundary(first) - state.boundary.slope * _shift(first, state)
        mask = np.where(odds > 0, sigmoid(odds), 0).astype(np.float32)
        refined = tuple(
            self_prototype(_pooled(query.unit, wide), p, _fit(mask, query, wide), w)
            for wide, p, w in zip(
                (1, WIDE), state.prototypes, [params.refine] * 2, strict=True
            )
        )
        raw = _similarity(query, refined, params.fine)
        maps = {"before refinement": first, "own cells": mask}
        return Look(raw - _shift(raw, state), maps)


def _fit(mask: FloatArray, query: GridPlane, wide: int) -> FloatArray:
    return resize_image(mask, _pooled(query.unit[:1], wide).shape[1:])


def _similarity(plane: GridPlane, prototypes: Any, fine: float) -> FloatArray:
    """Return the similarity at both scales, mixed, (h, w)."""
    near = cosine_maps(plane.features, prototypes[0][None])[0]
    wide = cosine_maps(_pooled(plane.features, WIDE), prototypes[1][None])[0]
    mixed = fine * near + (1 - fine) * resize_image(wide, plane.grid)
    found: FloatArray = (SCALE * mixed).astype(np.float32)
    return found


def _pooled(features: FloatArray, wide: int) -> FloatArray:
    """Return means over squares of cells, (C, h / wide, w / wide)."""
    if wide == 1:
        return features
    shape = tuple(max(1, n // wide) for n in features.shape[1:])
    cells = resize_image(np.moveaxis(features, 0, -1), (shape[0], shape[1]))
    return np.moveaxis(cells, -1, 0)


def _shift(raw: FloatArray, state: _State) -> float:
    """Return by how much the query's threshold differs from that of the supports."""
    from skimage.filters import threshold_otsu

    if float(np.ptp(raw)) < 1e-6:
        return 0.0
    # No farther than one unit of log-odds: most queries hold no second mode.
    reach = 1.0 / max(state.boundary.slope, 1e-6)
    own = float(threshold_otsu(raw)) - state.boundary.level
    return float(np.clip(0.5 * own, -reach, reach))


METHOD = QnetMethod()
