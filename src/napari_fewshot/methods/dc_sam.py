"""`dc-sam`: attention to cells that stand the way there and back, in two stages.

DC-SAM (Qi et al., arXiv 2504.12080) learns the prompts of SAM by episodes: one branch
for the object and one for the background attend to cells of the support, but not to
those whose way to the query and back ends on the other side of the mask; the first mask
is then used to check cells of the query in the same way, and SAM is asked again.

This form learns nothing: the branches are softmax attention to the cells themselves,
and prompts are points and the map instead of learnt tokens. Every connected part of the
calibrated map is an object of its own. The published code is under Apache-2.0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.methods._base import MethodSpec
from napari_fewshot.methods._params import param
from napari_fewshot.methods.grid import Ask, GridMethod, GridParams, Look, parts_of
from napari_fewshot.methods.grid._cascade import (
    CROWD,
    Drawn,
    draw,
    joined_masks,
)
from napari_fewshot.methods.grid._reference import (
    Reference,
    likeness,
    reference_of,
)
from napari_fewshot.ops import cycle_consistent, ring_mask, spread_cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import AnyArray, BoolArray, FloatArray
    from napari_fewshot.data import Hooks
    from napari_fewshot.methods.grid import Decoder, GridPlane, GridSupport, Segment

TEMPERATURE = 0.07
# Points outside lie between so many cells from the object.
NEAR, FAR = 1.0, 5.0


@dataclass(frozen=True)
class DcSamParams(GridParams):
    """Parameters of `dc-sam`."""

    points: int = param(
        3,
        "Points inside every object, and as many outside.",
        low=1,
        high=16,
        step=1,
    )


class DcSamMethod(GridMethod):
    """The method object."""

    spec = MethodSpec(
        name="dc-sam",
        summary="Attends to object and background, checks the way back, asks twice.",
        params=DcSamParams,
        uses_model=True,
        citation="DC-SAM (Qi et al., 2025)",
    )
    makes_prompts = True

    def learn(
        self, supports: Sequence[GridSupport], value: int, params: Any, hooks: Hooks
    ) -> Reference:
        """Collect cells of the class and of the rest."""
        return reference_of(supports, value, params.seed)

    def look(self, state: Any, query: GridPlane, params: Any, hooks: Hooks) -> Look:
        """Return the difference of the branches for the object and the background."""
        similarity = likeness(state.tokens, query)
        kept = cycle_consistent(similarity, state.is_inside)
        branches = [
            attend(similarity, side, kept)
            for side in (state.is_inside, ~state.is_inside)
        ]
        mine, rest = (b.reshape(query.grid) for b in branches)
        return Look(mine - rest, {"class": mine, "background": rest})

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
        """Ask with points and the map, then with cells that the first mask confirms."""
        regions = parts_of(odds)
        everything = np.ones(query.grid, bool)
        asks = [_ask(r, odds > 0, look, everything, query, params) for r in regions]
        if len(regions) <= CROWD:
            # A crowd goes as one batch, which has no place for masks.
            asks = [
                replace(
                    a, mask=decoder.as_mask(query, np.where(r, odds, -np.abs(odds)))
                )
                for a, r in zip(asks, regions, strict=True)
            ]
        first = draw(asks, regions, odds, query, decoder, hooks)
        if len(regions) > CROWD:
            return joined_masks(first, odds, query, decoder, params.edges)
        total = np.max([d.cover for d in first], 0) >= 0.5
        sure = confirmed(state, total, query)
        again, about = [], []
        for one, region in zip(first, regions, strict=True):
            seen = one.cover >= 0.5
            if (seen & region).any():
                ask = _ask(seen, total, look, sure, query, params)
                again.append(replace(ask, mask=one.logits))
                about.append(region)
        second = draw(again, about, odds, query, decoder, hooks, several=True)
        return joined_masks(
            _better(first, second, regions, about), odds, query, decoder, params.edges
        )


def attend(similarity: FloatArray, side: BoolArray, kept: BoolArray) -> FloatArray:
    """Return the log of the mean attention of query cells to one side of the mask.

    Parameters
    ----------
    similarity : array (N, M)
        Cosines of support cells with query cells.
    side : array (N,) bool
        Support cells of this side.
    kept : array (N,) bool
        Those that are consistent; if none of the side is, all of it counts.

    Returns
    -------
    array (M,)
        ``t log(mean(exp(cosine / t)))``: between the mean and the largest cosine.
    """
    wanted = side & kept if (side & kept).any() else side
    rows = similarity[wanted] / TEMPERATURE
    top = rows.max(0)
    found: FloatArray = TEMPERATURE * (top + np.log(np.exp(rows - top).mean(0)))
    return found


def confirmed(reference: Reference, mask: BoolArray, query: GridPlane) -> BoolArray:
    """Return query cells whose way to the supports and back keeps to their side.

    Parameters
    ----------
    reference : Reference
        Cells of the supports.
    mask : array (h, w) bool
        Of the first stage.
    query : GridPlane
        The plane.

    Returns
    -------
    array (h, w) bool
    """
    similarity = likeness(reference.tokens, query)
    back = cycle_consistent(similarity.T, mask.ravel())
    agrees = reference.is_inside[similarity.argmax(0)] == mask.ravel()
    found: BoolArray = (back & agrees).reshape(query.grid)
    return found


def _ask(
    region: BoolArray,
    every: BoolArray,
    look: Look,
    sure: BoolArray,
    query: GridPlane,
    params: Any,
) -> Ask:
    """Return points on the surest cells of a region, and near it on the background."""
    inside = _surest(region, look.raw, sure, params)
    near = (
        ring_mask(region, NEAR, FAR) & ~every & (look.raw < np.median(look.raw[region]))
    )
    outside = _surest(near, -look.raw, sure, params)
    cells = np.concatenate([inside, outside])
    labels = np.array([1] * len(inside) + [0] * len(outside), np.int8)
    return Ask(query.to_pixels(cells), labels)


def _surest(
    region: BoolArray, worth: FloatArray, sure: BoolArray, params: Any
) -> AnyArray:
    """Return cells of a region, spread over its better half."""
    wanted = region & sure if (region & sure).any() else region
    if not wanted.any():
        return np.zeros((0, 2), int)
    good = wanted & (worth >= np.median(worth[wanted]))
    return spread_cells(np.argwhere(good), params.points, params.seed)


def _better(
    first: Sequence[Drawn],
    second: Sequence[Drawn],
    regions: Sequence[BoolArray],
    about: Sequence[BoolArray],
) -> list[Drawn]:
    """Return the mask of the second stage where there is one that is not empty."""
    found = []
    for one, region in zip(first, regions, strict=True):
        later = [
            s
            for s, r in zip(second, about, strict=True)
            if r is region and (s.logits > 0).any()
        ]
        found.append(later[0] if later else one)
    return found


METHOD = DcSamMethod()
