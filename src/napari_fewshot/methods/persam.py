"""`persam`: one point on the most, one on the least similar place, per object.

PerSAM (Zhang et al., Personalize Segment Anything with One Shot, ICLR 2024): the place
most like the object on the supports is a point inside, the least similar one a point
outside; in the first pass SAM's attention is drawn to similar places and its prompts
know the mean look of the object; two more passes refine the mask.

This form differs: the look of the background is subtracted, since grey images resemble
the object everywhere; the boundary is calibrated on the supports, and every connected
part above it is an object of its own; the point outside keeps its distance from all of
them; of the candidates the one that agrees with the map counts, not SAM's score alone.
The published code is under the MIT licence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.methods._base import MethodSpec
from napari_fewshot.methods.grid import Ask, GridMethod, GridParams, Look, parts_of
from napari_fewshot.methods.grid._cascade import draw, joined_masks, refine
from napari_fewshot.methods.grid._reference import Reference, reference_of
from napari_fewshot.ops import cosine_maps, highest, lowest_outside

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import BoolArray, FloatArray
    from napari_fewshot.data import Hooks
    from napari_fewshot.methods.grid import (
        Decoder,
        GridPlane,
        GridSupport,
        Segment,
    )

# A point outside is at least so many cells from the coarse mask.
MARGIN = 2.0


@dataclass(frozen=True)
class PersamParams(GridParams):
    """Parameters of `persam`."""


class PersamMethod(GridMethod):
    """The method object."""

    spec = MethodSpec(
        name="persam",
        summary="Clicks on the place most like the object, and refines its mask.",
        params=PersamParams,
        uses_model=True,
        citation="PerSAM (Zhang et al., ICLR 2024)",
    )
    makes_prompts = True

    def learn(
        self, supports: Sequence[GridSupport], value: int, params: Any, hooks: Hooks
    ) -> Reference:
        """Pool the mean look of the class and of the rest."""
        return reference_of(supports, value, params.seed)

    def look(self, state: Any, query: GridPlane, params: Any, hooks: Hooks) -> Look:
        """Return by how much a cell is more like the class than like the rest."""
        mine, rest = cosine_maps(query.features, np.stack([state.mine, state.rest]))
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
        """Prompt every part of the map and refine the masks in two more passes."""
        parts = parts_of(odds)
        asks = [point_ask(part, look.raw, odds > 0, query) for part in parts]
        guidance = {"attention": look.raw, "target": state.mine}
        drawn = draw(asks, parts, odds, query, decoder, hooks, **guidance)
        drawn = refine(drawn, parts, odds, query, decoder, hooks)
        return joined_masks(drawn, odds, query, decoder, params.edges)


def point_ask(
    part: BoolArray, raw: FloatArray, region: BoolArray | None, query: GridPlane
) -> Ask:
    """Return a point on the most similar cell of a part, and one on the least similar.

    Parameters
    ----------
    part : array (h, w) bool
        Not empty.
    raw : array (h, w)
        Similarity.
    region : array (h, w) bool, optional
        Coarse mask of all objects, which the point outside keeps away from; without it
        there is no point outside.
    query : GridPlane
        The plane.
    """
    cells = [highest(raw, part)]
    lowest = None if region is None else lowest_outside(raw, region, MARGIN)
    if lowest is not None:
        cells.append(lowest)
    labels = np.array([1, 0][: len(cells)], np.int8)
    return Ask(query.to_pixels(np.stack(cells)), labels)


METHOD = PersamMethod()
