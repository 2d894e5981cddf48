"""`med-persam`: the mask of a support is moved and bent onto the query, and prompts.

Med-PerSAM (Yoon et al., arXiv 2411.16123): in medical images all looks alike, and where
an organ lies says more than similarity of features. The mask of the support is warped
onto the query and makes the prompts; the answer of SAM corrects the warp, and SAM is
asked again.

This form differs: the paper fits a small warping network to the support; here each
support is found in the query by normalised cross-correlation and bent by optical flow,
and the best matching supports vote. In the second round the supports' masks are
registered to the decoder's mask. Where no support is found well, the similarity of
embeddings counts instead. No code of the authors was found.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.methods._base import MethodSpec
from napari_fewshot.methods._params import param
from napari_fewshot.methods._validation import REGISTERED_DISCOUNT, dice
from napari_fewshot.methods.grid import (
    Ask,
    Boundary,
    GridMethod,
    GridParams,
    Look,
    fit_boundary,
    parts_of,
)
from napari_fewshot.methods.grid._cascade import CROWD, draw, joined_masks
from napari_fewshot.methods.grid._reference import Reference, reference_of
from napari_fewshot.ops import (
    Match,
    bend_mask,
    bounding_box,
    cosine_maps,
    find_piece,
    fit_factor,
    interior_distance,
    resize_image,
    resize_labels,
    scaled_shape,
    spread_cells,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import BoolArray, FloatArray
    from napari_fewshot.data import Hooks
    from napari_fewshot.methods.grid import Decoder, GridPlane, GridSupport, Segment

# Registration works on a copy of at most this size; lengths below are in its pixels.
SIDE = 144
PIECE_MARGIN, FLOW_MARGIN, FLOW_SIDE = 6, 14, 64
# Supports that are looked for, and those of them that are bent and vote.
MOST_PIECES, VOTERS = 8, 3
SHARPNESS = 10.0
# A correlation at the first is chance; at the second nothing but the place counts.
CHANCE, SURE = 0.2, 0.8
# Dice of supports moved onto each other: nothing is aligned, all is.
ALIGNED = (0.3, 0.6)
MOST_CHECKED, SHIFT = 3, 3
POINTS = 4
# Log-odds of what a registered mask holds.
CERTAIN = 4.0


@dataclass(frozen=True)
class MedPersamParams(GridParams):
    """Parameters of `med-persam`."""

    reach: float = param(
        0.25,
        "How far an object may have moved, as a share of the frame; large values let "
        "it be anywhere.",
        low=0.01,
        high=10.0,
        step=0.05,
    )


@dataclass(frozen=True, eq=False)
class Piece:
    """A support at the size of the registration.

    Attributes
    ----------
    grey : array (H, W)
    mask : array (H, W) bool
        Not empty.
    """

    grey: FloatArray = field(repr=False)
    mask: BoolArray = field(repr=False)


@dataclass(frozen=True, eq=False)
class Atlas:
    """What is learnt of a class.

    Attributes
    ----------
    reference : Reference
        Its look.
    boundary : Boundary
        From similarity to log-odds, on the supports themselves.
    pieces : tuple of Piece
        Supports to register.
    aligned : float
        How well supports find each other, in [0, 1]; see `aligned`.
    """

    reference: Reference
    boundary: Boundary
    pieces: tuple[Piece, ...]
    aligned: float


class MedPersamMethod(GridMethod):
    """The method object."""

    spec = MethodSpec(
        name="med-persam",
        summary="Moves and bends the supports' masks onto the image; for anatomy.",
        params=MedPersamParams,
        uses_model=True,
        citation="Med-PerSAM (Yoon et al., 2024)",
    )
    makes_prompts = True
    copy_discount = REGISTERED_DISCOUNT

    def learn(
        self, supports: Sequence[GridSupport], value: int, params: Any, hooks: Hooks
    ) -> Atlas:
        """Keep small copies of supports with the class, evenly drawn if many."""
        holders = [s for s in supports if s.holds(value)]
        at = np.linspace(0, len(holders) - 1, min(len(holders), MOST_PIECES))
        pieces = []
        for support in [holders[round(i)] for i in at]:
            hooks.check()
            grey = _small(support)
            mask = support.sample.labels == value
            small = resize_labels(mask.astype(np.int32), grey.shape) > 0
            if not small.any():
                small = resize_image(support.cover(value), grey.shape) >= 0.5
            if small.any():
                pieces.append(Piece(grey, small))
        reference = reference_of(supports, value, params.seed)
        means = np.stack([reference.mine, reference.rest])
        both = [cosine_maps(s.features, means) for s in supports]
        boundary = fit_boundary(
            [mine - rest for mine, rest in both], [s.cover(value) for s in supports]
        )
        likely = aligned(pieces, params.reach, hooks)
        return Atlas(reference, boundary, tuple(pieces), likely)

    def look(self, state: Any, query: GridPlane, params: Any, hooks: Hooks) -> Look:
        """Return the vote of the registered masks, mixed with similarity."""
        known = state.reference
        mine, rest = cosine_maps(query.features, np.stack([known.mine, known.rest]))
        likely = np.clip(state.boundary(mine - rest) / CERTAIN, -1, 1)
        vote, score = register(state.pieces, _small(query), params.reach, hooks)
        there = resize_image(vote, query.grid)
        trust = state.aligned * _trust(score)
        raw = trust * (2 * there - 1) + (1 - trust) * likely
        return Look(raw.astype(np.float32), {"class": mine, "registered": there})

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
        """Prompt with the warped mask; register to the answer and prompt again."""
        regions = parts_of(odds)
        asks = [_ask(r, query, params.seed) for r in regions]
        if len(regions) > CROWD:
            drawn = draw(asks, regions, odds, query, decoder, hooks)
            return joined_masks(drawn, odds, query, decoder, params.edges)
        guess = odds
        for last in (False, True):
            mask = decoder.as_mask(query, guess)
            asks = [replace(_ask(r, query, params.seed), mask=mask) for r in regions]
            drawn = draw(asks, regions, odds, query, decoder, hooks, several=last)
            if not last and state.pieces:
                guess = self._again(state, drawn, odds, query, params, hooks)
                if not (guess > 0).any():
                    guess = odds
                regions = parts_of(guess)
        return joined_masks(drawn, odds, query, decoder, params.edges)

    def _again(
        self,
        state: Atlas,
        drawn: Sequence[Any],
        odds: FloatArray,
        query: GridPlane,
        params: Any,
        hooks: Hooks,
    ) -> FloatArray:
        """Register the supports' masks to the decoder's; return log-odds (h, w)."""
        cover = np.max([d.cover for d in drawn], 0)
        shape = _small(query).shape
        shapes = [Piece(p.mask.astype(np.float32), p.mask) for p in state.pieces]
        vote, score = register(shapes, resize_image(cover, shape), params.reach, hooks)
        trust = state.aligned * _trust(score)
        there = CERTAIN * (2 * resize_image(vote, query.grid) - 1)
        found: FloatArray = (0.5 * (trust * there + (2 - trust) * odds)).astype(
            np.float32
        )
        return found


def register(
    pieces: Sequence[Piece],
    image: FloatArray,
    reach: float,
    hooks: Hooks,
    flow_side: int = FLOW_SIDE,
) -> tuple[FloatArray, float]:
    """Find pieces in an image, bend the masks of the best and let them vote.

    Parameters
    ----------
    pieces : sequence of Piece
        Supports.
    image : array (H, W)
        The query.
    reach : float
        How far a piece may have moved, as a share of the longer side.
    hooks : Hooks
        For cancelling.
    flow_side : int
        Masks are bent on a copy of this size; 0 only moves them.

    Returns
    -------
    vote : array (H, W)
        In [0, 1].
    score : float
        Correlation of the best match.
    """
    found = []
    for piece in pieces:
        hooks.check()
        top, bottom, left, right = bounding_box(piece.mask, PIECE_MARGIN)
        start = tuple(
            round(edge * ours / theirs)
            for edge, ours, theirs in zip(
                (top, left), image.shape, piece.grey.shape, strict=True
            )
        )
        crop = piece.grey[top:bottom, left:right]
        match = find_piece(image, crop, (start[0], start[1]), reach * max(image.shape))
        moved = Match(
            match.dy + start[0] - top, match.dx + start[1] - left, match.score
        )
        found.append((moved, piece))
    found.sort(key=lambda pair: -pair[0].score)
    vote, total = np.zeros(image.shape, np.float32), 0.0
    for match, piece in found[:VOTERS]:
        hooks.check()
        weight = float(np.exp(SHARPNESS * (match.score - found[0][0].score)))
        vote += weight * bend_mask(
            image,
            piece.grey,
            piece.mask,
            match,
            margin=FLOW_MARGIN,
            max_side=flow_side,
        )
        total += weight
    return vote / max(total, 1e-9), found[0][0].score if found else 0.0


def aligned(pieces: Sequence[Piece], reach: float, hooks: Hooks) -> float:
    """Say how well supports find each other's masks by moving them, in [0, 1].

    Parameters
    ----------
    pieces : sequence of Piece
        Supports; a single one is compared with itself moved a little: thin and small
        things can't be registered.
    reach, hooks
        As for `register`.
    """
    if not pieces:
        return 0.0
    found = []
    if len(pieces) == 1:
        mask = pieces[0].mask
        found.append(dice(mask[SHIFT:, SHIFT:], mask[:-SHIFT, :-SHIFT]))
    else:
        for number, piece in enumerate(pieces[:MOST_CHECKED]):
            others = [p for i, p in enumerate(pieces) if i != number][:MOST_CHECKED]
            vote, _ = register(others, piece.grey, reach, hooks, flow_side=0)
            found.append(dice(vote >= 0.5, piece.mask))
    low, high = ALIGNED
    return float(np.clip((np.mean(found) - low) / (high - low), 0, 1))


def _trust(score: float) -> float:
    return float(np.clip((score - CHANCE) / (SURE - CHANCE), 0, 1))


def _ask(region: BoolArray, query: GridPlane, seed: int) -> Ask:
    """Return the innermost cell of a region and a few spread over it."""
    depth = interior_distance(region)
    inner = np.array(np.unravel_index(int(depth.argmax()), depth.shape))
    deep = np.argwhere(depth >= 0.5 * depth.max())
    cells = np.concatenate([inner[None], spread_cells(deep, POINTS - 1, seed)])
    cells = np.unique(cells, axis=0)
    return Ask(query.to_pixels(cells), np.ones(len(cells), np.int8))


def _small(plane: GridPlane) -> FloatArray:
    """Return the plane in grey at the size of the registration."""
    grey = plane.plane.image.mean(-1).astype(np.float32)
    return resize_image(grey, scaled_shape(plane.shape, fit_factor(plane.shape, SIDE)))


METHOD = MedPersamMethod()
