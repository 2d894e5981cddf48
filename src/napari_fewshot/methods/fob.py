"""`fob`: prompts on the background all round an object keep the mask from leaking.

Focus on Background (arXiv 2603.21287): ten prototypes of the background just outside
the support's object are looked for round the query's, keep their order round it, and
become negative points; sure places inside become positive ones. The paper trains the
localiser by episodes and moves the points by a graph network. Here a prototype of the
object, against the ring and the rest, finds it on any encoder; the points are matched
in a band round what was found, in cyclic order and at a distance from each other, by
dynamic programming. Without a SAM the similarity map is cut instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.methods._base import MethodSpec
from napari_fewshot.methods._fusion import sigmoid
from napari_fewshot.methods._params import param
from napari_fewshot.methods.grid import (
    Ask,
    GridMethod,
    GridParams,
    Look,
    Segment,
    house_ask,
    house_segment,
)
from napari_fewshot.methods.panet import SCALE, background_prototype, class_prototype
from napari_fewshot.ops import (
    angular_best,
    cosine_maps,
    cyclic_match,
    ring_prototypes,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import AnyArray, BoolArray, FloatArray
    from napari_fewshot.data import Hooks
    from napari_fewshot.methods.grid import Decoder, GridPlane, GridSupport

# Gaussian round each point of the ring, in cells.
WIDTH = 1.0
# Rings of at most so many supports are kept: those of objects alike say the same.
MOST_RINGS = 5
# Directions in which points are looked for; neighbours keep half their even distance.
BINS = 72
# Positive points are at least so probable, and at most so many.
SURE, POSITIVES = 0.96, 10


@dataclass(frozen=True)
class FobParams(GridParams):
    """Parameters of `fob`."""

    points: int = param(
        10,
        "How many points are put on the background round each object.",
        low=3,
        high=24,
        advanced=True,
    )
    distance: float = param(
        2.0,
        "How far outside the object those points are.",
        low=1.0,
        high=10.0,
        step=0.5,
        unit="cells",
        advanced=True,
    )


@dataclass(frozen=True, eq=False)
class _State:
    inside: FloatArray
    outside: FloatArray
    rings: tuple[FloatArray, ...]


class FobMethod(GridMethod):
    """The method object."""

    makes_prompts = True
    spec = MethodSpec(
        name="fob",
        summary="Marks the background round each object so that the mask stops there.",
        params=FobParams,
        uses_model=True,
        citation="FoB (arXiv 2603.21287)",
    )

    def learn(
        self, supports: Sequence[GridSupport], value: int, params: Any, hooks: Hooks
    ) -> _State:
        """Pool the object, the rest, and the background round the object."""
        inside = class_prototype(supports, value)[None]
        outside = background_prototype(supports, value)[None]
        rings = []
        for support in [s for s in supports if s.holds(value)][:MOST_RINGS]:
            hooks.check()
            ring = ring_prototypes(
                support.features,
                support.cover(value),
                params.points,
                params.distance,
                WIDTH,
            )
            if len(ring):
                rings.append(ring)
        if rings:
            near = np.concatenate(rings).mean(0)[None]
            outside = np.concatenate([outside, near])
        return _State(inside, outside, tuple(rings))

    def look(self, state: Any, query: GridPlane, params: Any, hooks: Hooks) -> Look:
        """Compare the object with the rest and with what is round it."""
        mine = cosine_maps(query.features, state.inside)[0]
        rest = cosine_maps(query.features, state.outside)
        return Look(SCALE * (mine - rest.max(0)), {"class": mine, "ring": rest[-1]})

    def segment(
        self,
        state: Any,
        look: Look,
        odds: FloatArray,
        query: GridPlane,
        decoder: Decoder,
        params: Any,
        hooks: Hooks,
    ) -> Segment:
        """Prompt for every part, with points on the background all round it."""
        maps = [cosine_maps(query.features, ring) for ring in state.rings]
        make = partial(ring_ask, rings=maps, distance=params.distance)
        mask, asks = house_segment(odds, query, decoder, params.edges, hooks, make)
        return Segment(mask, asks)


def ring_ask(
    part: BoolArray,
    odds: FloatArray,
    query: GridPlane,
    rings: Sequence[FloatArray],
    distance: float,
) -> Ask:
    """Return the prompts for one part of a map, without a box.

    Parameters
    ----------
    part : array (h, w) bool
        Not empty.
    odds : array (h, w)
        Calibrated log-odds.
    query : GridPlane
        Where.
    rings : sequence of array (P, h, w)
        Similarity to the background prototypes of each support, clockwise.
    distance : float
        Of the band from the part, in cells.
    """
    inside = np.argwhere(part & (sigmoid(odds) > SURE))
    if not len(inside):
        inside = np.argwhere(part & (odds == odds[part].max()))[:1]
    even = np.unique(np.linspace(0, len(inside) - 1, POSITIVES).astype(int))
    inside = inside[even]
    outside = ring_cells(part, rings, distance)
    # A point that may be inside would cut the object.
    limit = min(0.0, float(np.median(odds[part])))
    outside = outside[odds[outside[:, 0], outside[:, 1]] < limit]
    if not len(outside):
        return house_ask(part, odds, query)
    labels = np.array([1] * len(inside) + [0] * len(outside), np.int8)
    return Ask(query.to_pixels(np.concatenate([inside, outside])), labels)


def ring_cells(
    part: BoolArray, rings: Sequence[FloatArray], distance: float
) -> AnyArray:
    """Return the cells (P, 2) round a part that match the ring of some support best.

    Parameters
    ----------
    part : array (h, w) bool
        Not empty.
    rings : sequence of array (P, h, w)
        Similarity to background prototypes, clockwise.
    distance : float
        In cells; the band reaches from half of it to twice.
    """
    found, worth = np.zeros((0, 2), int), -np.inf
    for ring in rings:
        best, cells = angular_best(ring, part, distance / 2, 2 * distance, BINS)
        chosen = cyclic_match(best, max(1, BINS // (2 * len(ring))))
        if not len(chosen):
            continue
        order = np.arange(len(ring))
        mean = float(best[order, chosen].mean())
        if mean > worth:
            found, worth = cells[order, chosen], mean
    return found


METHOD = FobMethod()
