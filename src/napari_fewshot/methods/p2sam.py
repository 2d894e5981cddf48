"""`p2sam`: one point per part of the object, as many parts as explain it best.

P2SAM (Zhao and Shen, Part-aware Prompted Segment Anything, arXiv 2403.05433): the look
of the object on the supports is split into one to five parts by k-means; the place most
like each part is a point inside, the place most like the background a point outside.
The number of parts is the one whose mask looks most like the object on the supports, by
the earth mover's distance of their cells.

This form differs: every connected part of the calibrated map is an object of its own,
and points lie within it; the point outside lies outside all of them. For the published
code no licence is stated; nothing here comes from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.methods._base import MethodSpec
from napari_fewshot.methods._params import param
from napari_fewshot.methods.grid import (
    Ask,
    GridMethod,
    GridParams,
    Look,
    parts_of,
    thinned,
)
from napari_fewshot.methods.grid._cascade import Drawn, draw, joined_masks, refine
from napari_fewshot.methods.grid._reference import (
    Reference,
    likeness,
    reference_of,
    unit,
)
from napari_fewshot.ops import (
    cluster_centres,
    highest,
    lowest_outside,
    token_distance,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import AnyArray, BoolArray, FloatArray
    from napari_fewshot.data import Hooks
    from napari_fewshot.methods.grid import Decoder, GridPlane, GridSupport, Segment

# Masks that are decoded to choose the number of parts; more objects, fewer choices.
MOST_ASKS = 40
# Cells that are compared to choose among masks.
TOKENS = 96
MARGIN = 2.0


@dataclass(frozen=True)
class P2samParams(GridParams):
    """Parameters of `p2sam`."""

    parts: int = param(
        5,
        "At most so many parts of an object; one point each.",
        low=1,
        high=12,
        step=1,
    )


@dataclass(frozen=True, eq=False)
class Parts:
    """What is learnt of a class.

    Attributes
    ----------
    reference : Reference
        Cells of the class and of the rest.
    centres : tuple of array (k, C)
        Of the parts, for every number of parts; of length one.
    """

    reference: Reference
    centres: tuple[FloatArray, ...]


class P2samMethod(GridMethod):
    """The method object."""

    spec = MethodSpec(
        name="p2sam",
        summary="Clicks on every part of the object, as many as explain it best.",
        params=P2samParams,
        uses_model=True,
        citation="P2SAM (Zhao & Shen, 2024)",
    )
    makes_prompts = True

    def learn(
        self, supports: Sequence[GridSupport], value: int, params: Any, hooks: Hooks
    ) -> Parts:
        """Split the look of the class into parts."""
        reference = reference_of(supports, value, params.seed)
        centres = []
        for count in range(1, params.parts + 1):
            hooks.check()
            found, _ = cluster_centres(reference.inside, count, params.seed)
            if len(found) == count:
                centres.append(unit(found))
        return Parts(reference, tuple(centres))

    def look(self, state: Any, query: GridPlane, params: Any, hooks: Hooks) -> Look:
        """Return by how much a cell is more like some part than like the rest."""
        likely = likeness(state.centres[-1], query).reshape(-1, *query.grid)
        rest = likeness(unit(state.reference.rest)[None], query).reshape(query.grid)
        return Look(
            likely.max(0) - rest,
            {f"part {i + 1}": m for i, m in enumerate(likely)} | {"background": rest},
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
        """Prompt every object with one point per part, and keep the best number."""
        regions = parts_of(odds)
        outside = lowest_outside(-look.maps["background"], odds > 0, MARGIN)
        choices = state.centres[: max(1, MOST_ASKS // len(regions))]
        asks, about = [], []
        for region in regions:
            for cells in _different(choices, region, query):
                asks.append(_ask(cells, outside, query))
                about.append(region)
        found = draw(asks, about, odds, query, decoder, hooks)
        drawn: list[Drawn] = []
        for region in regions:
            hooks.check()
            mine = [d for d, r in zip(found, about, strict=True) if r is region]
            drawn.append(_nearest(mine, state.reference, query))
        drawn = refine(drawn, regions, odds, query, decoder, hooks)
        return joined_masks(drawn, odds, query, decoder, params.edges)


def _different(
    choices: Sequence[FloatArray], region: BoolArray, query: GridPlane
) -> list[AnyArray]:
    """Return the points of every number of parts, each set of points once."""
    found: dict[bytes, AnyArray] = {}
    for centres in choices:
        maps = likeness(centres, query).reshape(-1, *query.grid)
        cells = np.unique([highest(m, region) for m in maps], axis=0)
        found.setdefault(cells.tobytes(), cells)
    return list(found.values())


def _ask(cells: AnyArray, outside: AnyArray | None, query: GridPlane) -> Ask:
    labels = np.ones(len(cells), np.int8)
    if outside is not None:
        cells = np.concatenate([cells, outside[None]])
        labels = np.append(labels, np.int8(0))
    return Ask(query.to_pixels(cells), labels)


def _nearest(drawn: Sequence[Drawn], reference: Reference, query: GridPlane) -> Drawn:
    """Return the mask whose cells are nearest to those of the supports."""
    if len(drawn) == 1:
        return drawn[0]
    known = thinned(reference.inside, TOKENS, 0)
    gaps = []
    for one in drawn:
        cells = query.unit[:, one.cover >= 0.5].T
        gaps.append(
            token_distance(known, thinned(cells, TOKENS, 0)) if len(cells) else 1
        )
    return drawn[int(np.argmin(gaps))]


METHOD = P2samMethod()
