"""`mumford-shah`: looks of object and background that adapt to each image in turn.

The model of LMS-Net (arXiv 2502.05473): soft masks and prototypes explain the query
together, with a cosine distance and a term that keeps boundaries short. The paper
unrolls it into a trained network; here it is minimised as it is, with total variation
in place of the learnt prior, several prototypes per side, and a boundary calibrated on
the supports. The paper's code is not public.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.methods._base import MethodSpec
from napari_fewshot.methods._params import param
from napari_fewshot.methods.grid import (
    GridMethod,
    GridParams,
    Look,
    cells_of,
    fit_boundary,
    thinned,
)
from napari_fewshot.methods.panet import SCALE
from napari_fewshot.ops import Phases, cosine_maps, kmeans_parts, mumford_shah

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import Hooks
    from napari_fewshot.methods.grid import GridPlane, GridSupport

INSIDE, OUTSIDE = 3, 8
MOST_TOKENS = 4096
# The level between object and background is learnt on at most so many supports.
MOST_PLANES = 8


@dataclass(frozen=True)
class MumfordShahParams(GridParams):
    """Parameters of `mumford-shah`."""

    smoothness: float = param(
        0.05,
        "How short boundaries are kept: more for large smooth organs, less for small "
        "or ragged objects.",
        low=0.0,
        high=2.0,
        step=0.05,
    )
    memory: float = param(
        0.9,
        "How much of the supports' look is kept in each round of adapting to an image; "
        "1 does not adapt.",
        low=0.0,
        high=1.0,
        step=0.05,
        advanced=True,
    )


@dataclass(frozen=True, eq=False)
class _State:
    prototypes: FloatArray
    inside: int
    bias: float


class MumfordShahMethod(GridMethod):
    """The method object."""

    spec = MethodSpec(
        name="mumford-shah",
        summary="Adapts the looks of object and background to each image and keeps "
        "boundaries short.",
        params=MumfordShahParams,
        uses_model=True,
        citation="LMS-Net (Zhang et al., arXiv 2502.05473)",
    )

    def learn(
        self, supports: Sequence[GridSupport], value: int, params: Any, hooks: Hooks
    ) -> _State:
        """Group the tokens of either side; find the level between the groups."""
        inside, outside = cells_of(supports, value)
        mine, _ = kmeans_parts(thinned(inside, MOST_TOKENS, params.seed), INSIDE)
        rest = np.zeros((1, inside.shape[1]), np.float32)
        if len(outside):
            hooks.check()
            rest, _ = kmeans_parts(thinned(outside, MOST_TOKENS, params.seed), OUTSIDE)
        prototypes, count = np.concatenate([mine, rest]), len(mine)
        some = sorted(supports, key=lambda s: not s.holds(value))[:MOST_PLANES]
        raws = [margin(s.unit, prototypes, count) for s in some]
        boundary = fit_boundary(raws, [s.cover(value) for s in some])
        return _State(prototypes, count, boundary.level)

    def look(self, state: Any, query: GridPlane, params: Any, hooks: Hooks) -> Look:
        """Alternate between masks and prototypes; return the log-odds."""
        hooks.check()
        settings = Phases(SCALE, params.smoothness, params.memory)
        odds, _ = mumford_shah(
            query.unit, state.prototypes, state.inside, state.bias, settings
        )
        first = margin(query.unit, state.prototypes, state.inside) - state.bias
        return Look(odds, {"before adapting": first})


def margin(unit: FloatArray, prototypes: FloatArray, inside: int) -> FloatArray:
    """Return the log-odds of the class before anything adapts.

    Parameters
    ----------
    unit : array (C, h, w)
        Cells of unit length.
    prototypes : array (P, C)
        Of class and background.
    inside : int
        The first so many are of the class.

    Returns
    -------
    array (h, w)
    """
    scores = SCALE * cosine_maps(unit, prototypes)
    found: FloatArray = np.logaddexp.reduce(scores[:inside], 0) - np.logaddexp.reduce(
        scores[inside:], 0
    )
    return found


METHOD = MumfordShahMethod()
