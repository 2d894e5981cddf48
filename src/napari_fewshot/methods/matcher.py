"""`matcher`: cells that find each other in both directions, in many small selections.

Matcher (Liu et al., Segment Anything with One Shot Using All-Purpose Feature Matching,
ICLR 2024): cells of the object are paired with cells of the query by the Hungarian
method, forward and back; pairs that come back to the object give points. Many random
selections of the points prompt the decoder; each mask is scored by the earth mover's
distance of its cells to the object's, and by how full of points it is and how many it
holds; the best are joined.

This form differs: at most 30 selections with one mask each; only points in the
calibrated map count; cells are thinned so that the time does not grow with the number
of supports; objects with more cells than the query has are paired in rounds instead of
being dropped. The published code is for academic use only; nothing here comes from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.methods._base import MethodSpec
from napari_fewshot.methods._params import param
from napari_fewshot.methods.grid import Ask, GridMethod, GridParams, Look, thinned
from napari_fewshot.methods.grid._cascade import Drawn, draw, joined_masks
from napari_fewshot.methods.grid._reference import (
    Reference,
    likeness,
    reference_of,
)
from napari_fewshot.ops import (
    bidirectional,
    point_subsets,
    purity_and_coverage,
    spread_cells,
    suppress_masks,
    token_distance,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import AnyArray, BoolArray, FloatArray
    from napari_fewshot.data import Hooks
    from napari_fewshot.methods.grid import Decoder, GridPlane, GridSupport, Segment

SIZES = (4, 5, 6)
# Weights of distance, and of purity times coverage, in the score of a mask.
DISTANCE, FULLNESS = 0.8, 0.2
# Masks that are joined: scores from lowest to highest become 0 to 1.
BEST, LEAST_SCORE = 10, 0.7
SAME = 0.9
# More pairs than this are halved by similarity.
MANY = 40
# Cells that are paired, and cells that are compared to score a mask.
PAIRED, TOKENS = 256, 96


@dataclass(frozen=True)
class MatcherParams(GridParams):
    """Parameters of `matcher`."""

    points: int = param(
        8,
        "Points on the query, at least; more are used where a support has more "
        "objects.",
        low=2,
        high=64,
        step=1,
    )
    selections: int = param(
        30,
        "Random selections of the points that are tried; more take longer.",
        low=1,
        high=200,
        step=5,
        advanced=True,
    )


class MatcherMethod(GridMethod):
    """The method object."""

    spec = MethodSpec(
        name="matcher",
        summary="Pairs places of support and query, and tries many sets of clicks.",
        params=MatcherParams,
        uses_model=True,
        citation="Matcher (Liu et al., ICLR 2024)",
    )
    makes_prompts = True

    def learn(
        self, supports: Sequence[GridSupport], value: int, params: Any, hooks: Hooks
    ) -> Reference:
        """Collect cells of the class and of the rest."""
        return reference_of(supports, value, params.seed)

    def look(self, state: Any, query: GridPlane, params: Any, hooks: Hooks) -> Look:
        """Return by how much the nearest cell of the class is nearer than any other."""
        mine = likeness(state.inside, query).max(0)
        rest = likeness(state.outside, query).max(0)
        maps = {"class": mine, "background": rest}
        return Look(
            (mine - rest).reshape(query.grid),
            {name: m.reshape(query.grid) for name, m in maps.items()},
        )

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
        """Prompt with selections of matched points; join the best masks."""
        cells = matched_cells(state, odds > 0, query, params.seed)
        wanted = max(params.points, 2 * state.objects)
        centres = spread_cells(cells, wanted, params.seed)
        chosen = point_subsets(len(centres), SIZES, params.selections, params.seed)
        asks = [
            Ask(query.to_pixels(centres[list(c)]), np.ones(len(c), np.int8))
            for c in chosen
        ]
        regions = [odds > 0] * len(asks)
        drawn = draw(asks, regions, odds, query, decoder, hooks)
        drawn = [d for d in drawn if (d.cover >= 0.5).any()]
        best = _best(drawn, cells, state, query, hooks) if drawn else []
        return joined_masks(best, odds, query, decoder, params.edges)


def matched_cells(
    reference: Reference, region: BoolArray, query: GridPlane, seed: int
) -> AnyArray:
    """Return the query cells whose match is mutual and that lie in a region, (K, 2).

    Parameters
    ----------
    reference : Reference
        Cells of the supports.
    region : array (h, w) bool
        Not empty; the region itself if no match lies in it.
    query : GridPlane
        The plane.
    seed : int
        Of the thinning.
    """
    inside = thinned(reference.inside, PAIRED, seed)
    outside = thinned(reference.outside, 2 * PAIRED, seed)
    similarity = likeness(np.concatenate([inside, outside]), query)
    mask = np.arange(len(similarity)) < len(inside)
    rows, columns = bidirectional(similarity, mask)
    if len(columns) > MANY:
        order = np.argsort(-similarity[rows, columns], kind="stable")
        columns = columns[order[: (len(order) + 1) // 2]]
    cells = np.argwhere(np.ones(query.grid, bool))[np.unique(columns)]
    cells = cells[region[cells[:, 0], cells[:, 1]]]
    return cells if len(cells) else np.argwhere(region)


def _best(
    drawn: Sequence[Drawn],
    cells: AnyArray,
    reference: Reference,
    query: GridPlane,
    hooks: Hooks,
) -> list[Drawn]:
    """Return different masks of the highest scores, the best first."""
    masks = np.stack([d.cover >= 0.5 for d in drawn])
    purity, coverage = purity_and_coverage(masks, cells)
    known = thinned(reference.inside, TOKENS, 0)
    scores = FULLNESS * purity * coverage
    for number, mask in enumerate(masks):
        hooks.check()
        tokens = thinned(query.unit[:, mask].T, TOKENS, 0)
        scores[number] += DISTANCE * (1 - token_distance(known, tokens))
    span = float(np.ptp(scores)) or 1.0
    kept = suppress_masks(masks, scores, SAME)[:BEST]
    return [
        Drawn(drawn[i].logits, drawn[i].cover, float(scores[i]), drawn[i].ask)
        for i in kept
        if (scores[i] - scores.min()) / span > LEAST_SCORE or i == kept[0]
    ]


METHOD = MatcherMethod()
