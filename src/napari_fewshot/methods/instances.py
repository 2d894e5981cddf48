"""`instances`: all objects like those of the supports, one by one.

A bank of single objects and candidate masks, as in No time to train! (Espinosa et al.,
arXiv 2507.02798): each object of the supports leaves a prototype, candidate masks are
scored by it, and those that overlap are suppressed or merged softly. What differs from
the paper: candidates come from a promptable model only where there is one, else they
are cut out of a map and of the image; points are asked where the map finds the class
plausible, not on the whole plane; the score is not one cosine, but what a small forest
learns on the supports from likeness, contrast with the ring round a candidate, shape
and edges; and what was found is taken away and searched again, as long as it pays.
The published code has no licence file; nothing of it is used.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.methods._base import MethodSpec
from napari_fewshot.methods._heads import (
    MOST_ROWS,
    FineMethod,
    HeadParams,
    HeadState,
    Rows,
    balance,
    described,
    draw_rows,
    scale_of,
)
from napari_fewshot.methods._object_scores import (
    Guide,
    Scorer,
    colours_of,
    fit_guide,
    fit_scorer,
    lesson_of,
    pixels_of,
)
from napari_fewshot.methods._object_search import Search, view_of
from napari_fewshot.methods._params import param
from napari_fewshot.methods.grid import (
    Boundary,
    Look,
    Segment,
    fit_boundary,
    thinned,
    upsampled,
)
from napari_fewshot.methods.linear import fit_logistic
from napari_fewshot.ops import (
    Candidate,
    ShapeBank,
    as_rows,
    candidates_of,
    mask_to_grid,
    resize_labels,
    ring_mask,
    shape_bank,
    split_alike,
    split_instances,
    unit_rows,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import AnyArray, FloatArray, LabelArray
    from napari_fewshot.data import Hooks
    from napari_fewshot.methods.grid import Decoder, GridPlane, GridSupport

STRENGTH = 30.0
# Supports whose candidates are learnt from, prototypes and pixels that are kept.
MOST_LESSONS, MOST_PROTOTYPES, MOST_PIXELS = 8, 200, 2000
MOST_ROUNDS, MOST_SHOWN = 3, 8
# Log-odds that are given to what is an object against the map, or none; what makers of
# candidates say of themselves if they don't know.
JUST, HALF = 0.5, 0.5


@dataclass(frozen=True)
class InstancesParams(HeadParams):
    """Parameters of `instances`."""

    partial: bool = param(
        False,
        "The supports show only some of the objects: what is not labelled is not taken "
        "for background if it looks like them.",
    )


@dataclass(frozen=True, eq=False)
class InstanceState:
    """What single objects of a class are like.

    Attributes
    ----------
    head : HeadState
        Where the class is.
    prototypes : array (P, C)
        Mean embedding of single objects, of length one; only their mean where all are
        of one support.
    owners : array (P,) int
        Which of the supports that hold the class each is of.
    bank : ShapeBank
        What their shapes are like, in pixels of the plane.
    guide : Guide
        Which colour they have.
    scorer : Scorer, optional
        How well candidates are expected to fit.
    """

    head: HeadState
    prototypes: FloatArray = field(repr=False)
    owners: AnyArray = field(repr=False)
    bank: ShapeBank
    guide: Guide = field(repr=False)
    scorer: Scorer | None = field(default=None, repr=False)


class InstancesMethod(FineMethod):
    """The method object."""

    spec = MethodSpec(
        name="instances",
        summary="Finds all single objects that look like those of the supports, and "
        "numbers them.",
        params=InstancesParams,
        uses_model=True,
        citation="Espinosa et al., No time to train! Training-free reference-based "
        "instance segmentation, arXiv 2507.02798; scores learnt as in Arteta et al., "
        "Learning to detect cells using non-overlapping extremal regions, MICCAI 2012",
    )
    makes_prompts = True
    always_draws = True

    def learn(
        self, supports: Sequence[GridSupport], value: int, params: Any, hooks: Hooks
    ) -> InstanceState:
        """Fit the map, and collect objects, their shapes and their colours."""
        holding = [s for s in supports if s.holds(value)]
        objects = [objects_of(s, value) for s in holding]
        bank = shape_bank(objects) or _any_shape(objects)
        prototypes = [
            view_of(s, np.zeros(s.grid, np.float32), "none", s.shape).means(
                as_rows(candidates_of(o), s.shape)
            )
            for s, o in zip(holding, objects, strict=True)
        ]
        owners = np.repeat(np.arange(len(holding)), [len(p) for p in prototypes])
        kept = thinned(np.arange(len(owners)), MOST_PROTOTYPES, params.seed)
        every, owners = np.concatenate(prototypes)[kept], owners[kept]
        draw = partial_rows if params.partial else draw_rows
        values, cover = draw(supports, value, MOST_ROWS, params.seed)
        scale = scale_of([values.T[:, :, None]])
        scaled = scale(values.T[:, :, None])[:, :, 0].T
        rows = Rows(scaled, cover, balance(cover))
        head = HeadState(fit_logistic(rows, STRENGTH, hooks), scale)
        if len(holding) == 1:
            every, owners = unit_rows(every.mean(0)[None]), owners[:1]
        guide = guide_of(holding, value, params)
        return InstanceState(head, every, owners, bank, guide)

    def look(self, state: Any, query: GridPlane, params: Any, hooks: Hooks) -> Look:
        """Return the log-odds of every cell, and the likeness to the prototypes."""
        hooks.check()
        found = state.head.scale(described(query))
        odds = state.head.head(found.reshape(len(found), -1).T).reshape(query.grid)
        like = np.tensordot(unit_rows(state.prototypes.mean(0)[None])[0], query.unit, 1)
        return Look(odds.astype(np.float32), {"likeness": like.astype(np.float32)})

    def boundary(
        self, raws: Sequence[FloatArray], covers: Sequence[FloatArray], params: Any
    ) -> Boundary:
        """Leave the map as it was fitted if the truth is not known everywhere."""
        return Boundary() if params.partial else fit_boundary(raws, covers)

    def tune(
        self,
        state: Any,
        supports: Sequence[GridSupport],
        value: int,
        decoder: Decoder,
        params: Any,
        hooks: Hooks,
    ) -> InstanceState:
        """Learn from candidates on the supports how well such candidates fit."""
        holding = [s for s in supports if s.holds(value)]
        lessons = []
        for number in range(0, len(holding), -(-len(holding) // MOST_LESSONS)):
            hooks.check()
            support = holding[number]
            odds = self.look(state, support, params, hooks).raw
            search = Search(support, state, decoder, params.edges, hooks)
            truth = dense(resize_labels(objects_of(support, value), search.shape))
            view = search.view(odds)
            # The objects themselves are good candidates, whatever else is found.
            found = [*search.candidates(view, odds), *candidates_of(truth, HALF)]
            if params.partial:
                found = [c for c in found if truth[c.place][c.mask].any()]
            # To its own prototype an object is too alike.
            others = state.prototypes[state.owners != number]
            known = others if len(others) else state.prototypes
            if found:
                lessons.append(lesson_of(found, view, truth, known, search.bank))
        scorer = fit_scorer(lessons, params.seed) if lessons else None
        tuned: InstanceState = replace(state, scorer=scorer)
        return tuned

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
        """Find objects, take them away, and search again, as long as it pays."""
        search = Search(query, state, decoder, params.edges, hooks)
        view = search.view(odds)
        left = np.ones(search.shape, bool)
        taken: list[tuple[Candidate, float]] = []
        for number in range(MOST_ROUNDS):
            hooks.check()
            found = search.candidates(view, odds, left, cuts_only=number > 0)
            best = search.best(found, view, again=number > 0)
            if not best:
                break
            taken += best
            for one, _ in best:
                left[one.place] &= ~one.mask
        objects = np.zeros(search.shape, np.int32)
        for number, (one, _) in enumerate(taken, 1):
            part = objects[one.place]
            part[one.mask & (part == 0)] = number
        objects = resize_labels(objects, query.shape)
        fine = upsampled(odds, query, params.edges)
        if not objects.any():
            return Segment(fine, objects=split_instances((fine > 0).astype(np.int32)))
        fine = np.where(
            objects > 0, np.maximum(fine, JUST), np.minimum(fine, -JUST)
        ).astype(np.float32)
        shown = [objects == i for i in range(1, min(len(taken), MOST_SHOWN) + 1)]
        return Segment(
            fine,
            search.asks,
            np.stack(shown),
            tuple(score for _, score in taken[:MOST_SHOWN]),
            objects,
        )


def objects_of(support: GridSupport, value: int) -> LabelArray:
    """Return single objects (H, W) of a class: parts, cut where they touch."""
    mask = support.sample.labels == value
    parts = split_instances(mask.astype(np.int32))
    bank = shape_bank([parts])
    if bank is None:
        return parts
    return split_alike(mask, mask.astype(np.float32), bank)


def dense(objects: LabelArray) -> LabelArray:
    """Return object numbers without gaps."""
    values = np.unique(objects[objects > 0])
    found = np.where(objects > 0, np.searchsorted(values, objects) + 1, 0)
    numbers: LabelArray = found.astype(np.int32)
    return numbers


def guide_of(supports: Sequence[GridSupport], value: int, params: Any) -> Guide:
    """Return the colours of a class against the rest, or against rings round it."""
    inside, outside = [], []
    most = max(50, MOST_PIXELS // len(supports))
    for support in supports:
        mask = support.sample.labels == value
        wide = 2.0 + 0.25 * float(mask.sum()) ** 0.5
        rest = ring_mask(mask, 0.0, min(wide, 6.0)) if params.partial else ~mask
        colours = colours_of(support.sample.image)
        inside.append(pixels_of(mask, colours, most))
        outside.append(pixels_of(rest, colours, most) if rest.any() else colours[:1, 0])
    return fit_guide(np.concatenate(inside), np.concatenate(outside))


def partial_rows(
    supports: Sequence[GridSupport], value: int, most: int, seed: int
) -> tuple[FloatArray, FloatArray]:
    """Return features (N, F) and covers (N,) of supports that show some objects only.

    Background is the ring right round the objects, and what is less like the class than
    that ring is; what looks like an object and is not labelled says nothing.

    Parameters
    ----------
    supports, value, most, seed
        As for `draw_rows`.
    """
    rows, covers = [], []
    inside = np.concatenate([s.unit[:, s.cover(value) >= 0.5].T for s in supports])
    mine = unit_rows(inside.mean(0)[None])[0]
    for number, support in enumerate(supports):
        cover = support.cover(value)
        mask = support.sample.labels == value
        known = cover > 0
        if mask.any():
            ring = ring_mask(
                mask, 0.0, max(2.0, 1.5 * max(support.shape) / max(support.grid))
            )
            known |= mask_to_grid(ring, support.grid) >= 0.5
            near = known & (cover <= 0)
            like = np.tensordot(mine, support.unit, 1)
            if near.any():
                known |= like <= np.median(like[near])
        else:
            known[:] = True
        at = thinned(
            np.flatnonzero(known), max(32, most // len(supports)), seed + number
        )
        rows.append(described(support).reshape(-1, cover.size)[:, at].T)
        covers.append(cover.ravel()[at])
    return np.concatenate(rows), np.concatenate(covers)


def _any_shape(objects: Sequence[LabelArray]) -> ShapeBank:
    """Return a bank of objects that are too small to have shapes."""
    sizes = [int((o > 0).sum()) / max(int(o.max(initial=0)), 1) for o in objects]
    usual = max(float(np.mean(sizes)), 1.0)
    return ShapeBank(float(np.log(usual)), 1.0, 1.0, 1.0)


METHOD = InstancesMethod()
