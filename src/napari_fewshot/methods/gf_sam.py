"""`gf-sam`: a mask for every likely point; a graph says which belong together.

GF-SAM (Zhang et al., Bridge the Points, NeurIPS 2024): the most similar cells are
points, each prompts one mask. A mask leads to another if it covers that one's point;
connected masks are a group. Within a group, masks are accepted while what they add is
mostly like the object; a group is dropped if its points look more like another group.

This form differs: similarity to the background counts in the map that is calibrated on
the supports, and takes the place of the paper's mid-range in saying what is like the
object; points are spread over the likely cells instead of being the best of them, so
that many objects get one each; points lie in the middle of cells. Scaling of channels,
which the published code (MIT licence) does without saying, is a parameter.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.methods._base import MethodSpec
from napari_fewshot.methods._params import param
from napari_fewshot.methods.grid import Ask, GridMethod, GridParams, Look
from napari_fewshot.methods.grid._cascade import Drawn, draw, joined_masks
from napari_fewshot.methods.grid._reference import (
    Reference,
    likeness,
    reference_of,
)
from napari_fewshot.ops import (
    covering_components,
    overshoot_gate,
    positive_gate,
    raster_cells,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import BoolArray, FloatArray
    from napari_fewshot.data import Hooks
    from napari_fewshot.methods.grid import Decoder, GridPlane, GridSupport, Segment


@dataclass(frozen=True)
class GfSamParams(GridParams):
    """Parameters of `gf-sam`."""

    points: int = param(
        64,
        "At most so many points, one mask each; more take longer.",
        low=1,
        high=256,
        step=16,
    )
    channel_scale: bool = param(
        False,
        "Make all channels of an embedding count alike on every plane; may help where "
        "a few channels outshine the others.",
        advanced=True,
    )


class GfSamMethod(GridMethod):
    """The method object."""

    spec = MethodSpec(
        name="gf-sam",
        summary="Clicks on all likely places and keeps masks that support each other.",
        params=GfSamParams,
        uses_model=True,
        citation="GF-SAM (Zhang et al., NeurIPS 2024)",
    )
    makes_prompts = True

    def learn(
        self, supports: Sequence[GridSupport], value: int, params: Any, hooks: Hooks
    ) -> Reference:
        """Collect cells of the class and of the rest."""
        if params.channel_scale:
            supports = [replace(s, embedding=_scaled(s.embedding)) for s in supports]
        return reference_of(supports, value, params.seed)

    def look(self, state: Any, query: GridPlane, params: Any, hooks: Hooks) -> Look:
        """Return mean times largest similarity, less the same for the background."""
        if params.channel_scale:
            query = replace(query, embedding=_scaled(query.embedding))
        mean, most = _both(state.inside, query)
        mean_rest, most_rest = _both(state.outside, query)
        maps = {
            "mean": mean,
            "largest": most,
            "background": mean_rest,
        }
        return Look(mean * most - mean_rest * most_rest, maps)

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
        """Prompt a mask per point; keep groups of masks that pass the gates."""
        likely = odds > 0
        worth = np.where(likely, look.maps["mean"] * look.maps["largest"], 0.0)
        share = worth / max(float(worth.max()), 1e-9)
        most = int(np.clip(share.sum(), 1, params.points))
        cells = raster_cells(np.where(likely, odds, 0.0), 0.0, most)
        asks = [Ask(query.to_pixels(cell[None]), np.ones(1, np.int8)) for cell in cells]
        drawn = draw(asks, [likely] * len(asks), odds, query, decoder, hooks)
        masks = np.stack([d.cover >= 0.5 for d in drawn])
        means = np.array(
            [odds[m].mean() if m.any() else -np.inf for m in masks], np.float32
        )
        groups = covering_components(masks, cells)
        passed = _gated(masks, groups, means, likely, cells, query, look)
        order = [i for i in np.argsort(-means, kind="stable") if passed[i]]
        chosen = [
            Drawn(drawn[i].logits, drawn[i].cover, float(means[i]), drawn[i].ask)
            for i in order
        ]
        return joined_masks(chosen, odds, query, decoder, params.edges)


def _gated(
    masks: BoolArray,
    groups: Any,
    means: FloatArray,
    likely: BoolArray,
    cells: Any,
    query: GridPlane,
    look: Look,
) -> BoolArray:
    """Return masks that pass both gates; if none does, the best that passes one."""
    positive = positive_gate(masks, groups, means, likely)
    unions = np.stack([masks[groups == g].any(0) for g in range(int(groups.max()) + 1)])
    own = overshoot_gate(unions, groups, cells, query.unit)[groups]
    passed: BoolArray = positive & own
    if not passed.any():
        passed = np.zeros(len(masks), bool)
        either = np.where(positive | own, means, -np.inf)
        passed[int(either.argmax())] = True
    return passed


def _both(tokens: FloatArray, query: GridPlane) -> tuple[FloatArray, FloatArray]:
    """Return mean and largest likeness to cells (N, C) on the grid, in [0, 1]."""
    every = (likeness(tokens, query) + 1) / 2
    return every.mean(0).reshape(query.grid), every.max(0).reshape(query.grid)


def _scaled(embedding: Any) -> Any:
    """Divide every channel by its norm over the plane."""
    array = embedding.array
    length = np.linalg.norm(array, axis=(1, 2), keepdims=True)
    return replace(embedding, array=array / (length + 1e-6))


METHOD = GfSamMethod()
