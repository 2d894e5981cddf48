"""`template`: find the support's object in the query and bend its mask to fit.

For aligned anatomy: each support looks for its own piece near where it came from
(normalised cross-correlation with a loose prior on the move), its mask is bent to the
query by optical flow, and the supports vote (multi-atlas fusion). The vote may settle
on the edges of the image by a random walker.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_fewshot.methods._base import MethodSpec, Reliability
from napari_fewshot.methods._params import CommonParams, param
from napari_fewshot.methods._validation import REGISTERED_DISCOUNT, leave_one_out
from napari_fewshot.ops import (
    Match,
    bend_mask,
    bounding_box,
    find_piece,
    resize_image,
    resize_labels,
    scaled_shape,
    walk_boundary,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import BoolArray, FloatArray
    from napari_fewshot.data import Hooks, Plane, Sample
    from napari_fewshot.methods._base import FittedMethod
    from napari_fewshot.models import Encoder

# Lengths below are for a working copy whose longest side has this many pixels.
WORKING_SIDE = 256
PIECE_MARGIN = 8
FLOW_MARGIN = 24
FLOW_SIDE = 96
WALKER_BAND = 6.0
# A class with more separate objects than this is a crowd: nothing to find by template.
MAX_OBJECTS = 8
# Only the best matching supports are bent; they vote by how well they match.
MAX_VOTERS = 5
VOTE_SHARPNESS = 10.0
# Supports further away along z than the second nearest hardly vote (share of depth).
MIN_DEPTH_REACH = 0.05
MIN_LEVEL = 0.15
# Below this correlation a match is chance.
MIN_SCORE = 0.2


@dataclass(frozen=True)
class TemplateParams(CommonParams):
    """Parameters of `template`."""

    reach: float = param(
        0.25,
        "How far an object may have moved, as a share of the frame; large values let "
        "it be anywhere.",
        low=0.01,
        high=10.0,
        step=0.05,
    )
    bend: bool = param(True, "Bend the mask to the image; off moves it as it is.")
    edges: Literal["none", "walker", "both"] = param(
        "both",
        "Let the outline settle on edges: by a random walker, or half-way (both).",
    )


@dataclass(frozen=True, eq=False)
class _Piece:
    """One class on one support, ready to be looked for."""

    image: FloatArray
    mask: BoolArray
    crop: FloatArray
    origin: tuple[int, int]
    depth: float | None


@dataclass
class TemplateFitted:
    """What `template` learnt: pieces per class, and scores that mean "absent"."""

    pieces: dict[int, list[_Piece]]
    floors: dict[int, float]
    params: TemplateParams
    depths: list[tuple[float, frozenset[int]]] = field(default_factory=list)
    choice: str = ""

    def predict(self, plane: Plane, hooks: Hooks) -> dict[int, FloatArray]:
        """Return a soft mask per class."""
        shape = (plane.image.shape[0], plane.image.shape[1])
        image = _working_copy(plane.image)
        maps = {}
        for value, pieces in self.pieces.items():
            hooks.check()
            soft = self._vote(image, pieces, self.floors[value], plane.position, hooks)
            presence = self._presence(value, plane.position)
            soft = soft if presence >= 0.5 else soft * presence
            maps[value] = resize_image(soft, shape)
        return maps

    def _vote(
        self,
        image: FloatArray,
        pieces: list[_Piece],
        floor: float,
        depth: float | None,
        hooks: Hooks,
    ) -> FloatArray:
        vote: FloatArray = np.zeros(image.shape, np.float32)
        if not pieces:
            return vote
        reach = self.params.reach * max(image.shape)
        matches = []
        for piece in pieces:
            hooks.check()
            matches.append(find_piece(image, piece.crop, piece.origin, reach))
        reach = self._depth_reach(depth)
        pairs = zip(matches, pieces, strict=True)
        weights = [_weight(m, p, depth, reach) for m, p in pairs]
        best = np.argsort(weights)[::-1][:MAX_VOTERS]
        for i in best:
            hooks.check()
            vote += weights[i] * self._move(image, pieces[i], matches[i])
        total = sum(weights[i] for i in best)
        area = sum(weights[i] * float(pieces[i].mask.mean()) for i in best) / total
        vote = self._settle(image, level_vote(vote / total, area))
        score = max(matches[i].score for i in best)
        # A match no better than chance keeps its shape but stays under one half.
        return vote if score >= floor else vote * (0.5 * max(score, 0.0) / floor)

    def _presence(self, value: int, depth: float | None) -> float:
        """Say from the nearest supports above and below whether a class is there."""
        if depth is None or not self.depths:
            return 1.0
        above = [d for d in self.depths if d[0] >= depth]
        below = [d for d in self.depths if d[0] < depth]
        near = [min(above, key=_depth_of)] if above else []
        near += [max(below, key=_depth_of)] if below else []
        shares = [1 / (abs(d - depth) + 1e-6) for d, _ in near]
        holds = [float(value in values) for _, values in near]
        return float(np.average(holds, weights=shares))

    def _depth_reach(self, depth: float | None) -> float:
        if depth is None or len(self.depths) < 2:
            return 1.0
        distances = sorted(abs(d - depth) for d, _ in self.depths)
        return max(MIN_DEPTH_REACH, distances[1])

    def _move(self, image: FloatArray, piece: _Piece, match: Match) -> FloatArray:
        side = FLOW_SIDE if self.params.bend else 0
        return bend_mask(
            image, piece.image, piece.mask, match, margin=FLOW_MARGIN, max_side=side
        )

    def _settle(self, image: FloatArray, vote: FloatArray) -> FloatArray:
        if self.params.edges == "none":
            return vote
        walked = walk_boundary(image, vote, WALKER_BAND)
        return walked if self.params.edges == "walker" else 0.5 * (vote + walked)


class TemplateMethod:
    """The method object."""

    spec = MethodSpec(
        name="template",
        summary="Finds each support's object near its old place and bends its mask.",
        params=TemplateParams,
        citation="Normalised cross-correlation (Lewis 1995), TV-L1 optical flow (Zach "
        "et al. 2007), weighted multi-atlas voting (Artaechevarria et al. 2009), "
        "random walker (Grady 2006)",
    )

    def fit(
        self,
        samples: Sequence[Sample],
        classes: Sequence[int],
        params: TemplateParams,
        encoder: Encoder | None,
        hooks: Hooks,
    ) -> TemplateFitted:
        """Cut the pieces; see `Method.fit`."""
        pieces: dict[int, list[_Piece]] = {value: [] for value in classes}
        for number, sample in enumerate(samples):
            hooks.report("Learning from the supports", number, len(samples))
            image = _working_copy(sample.image)
            labels = resize_labels(sample.labels, (image.shape[0], image.shape[1]))
            for value in classes:
                if (labels == value).any():
                    piece = _cut(image, labels == value, sample.position)
                    pieces[value].append(piece)
        crowds = {v for v, p in pieces.items() if p and _is_crowd(p)}
        kept = {v: [] if v in crowds else p for v, p in pieces.items()}
        depths = [
            (s.position, frozenset(np.unique(s.labels).tolist()))
            for s in samples
            if s.position is not None
        ]
        floors = dict.fromkeys(classes, MIN_SCORE)
        fitted = TemplateFitted(kept, floors, params, depths)
        negatives = [s for s in samples if not np.isin(s.labels, classes).any()]
        if negatives:
            fitted.floors = _floors(fitted, negatives, hooks)
        return fitted

    def fold_params(
        self, params: TemplateParams, fitted: FittedMethod
    ) -> TemplateParams:
        """Leave-one-out uses the same parameters: fitting is cheap."""
        return params

    def assess(
        self,
        samples: Sequence[Sample],
        classes: Sequence[int],
        params: TemplateParams,
        encoder: Encoder | None,
        hooks: Hooks,
        fitted: FittedMethod,
    ) -> Reliability:
        """Estimate the quality by leave-one-out; see `Method.assess`."""
        return leave_one_out(
            self,
            samples,
            classes,
            params,
            encoder,
            hooks,
            fitted,
            REGISTERED_DISCOUNT,
        )


METHOD = TemplateMethod()


def level_vote(vote: FloatArray, area: float) -> FloatArray:
    """Shift a vote so that what is above one half has the area of the voters' masks.

    Voters that disagree spread their mass until nothing reaches one half; the object
    is there all the same. The level is never lowered beyond `MIN_LEVEL`, never raised.

    Parameters
    ----------
    vote : array (H, W)
        Weighted mean of soft masks.
    area : float
        Share of the frame that the object should cover.
    """
    level = float(np.quantile(vote, 1.0 - min(area, 0.99)))
    level = min(0.5, max(MIN_LEVEL, level))
    odds = (
        vote * (1 - level) / np.maximum(vote * (1 - level) + (1 - vote) * level, 1e-9)
    )
    levelled: FloatArray = odds.astype(np.float32)
    return levelled


def _working_copy(image: FloatArray) -> FloatArray:
    """Grey copy at the working size (small planes are enlarged to it)."""
    factor = WORKING_SIDE / max(image.shape[:2])
    shape = scaled_shape((image.shape[0], image.shape[1]), factor)
    return resize_image(image.mean(axis=-1), shape)


def _cut(image: FloatArray, mask: BoolArray, depth: float | None) -> _Piece:
    top, bottom, left, right = bounding_box(mask, PIECE_MARGIN)
    return _Piece(image, mask, image[top:bottom, left:right], (top, left), depth)


def _is_crowd(pieces: list[_Piece]) -> bool:
    from scipy import ndimage

    return float(np.median([ndimage.label(p.mask)[1] for p in pieces])) > MAX_OBJECTS


def _depth_of(sample: tuple[float, frozenset[int]]) -> float:
    return sample[0]


def _weight(match: Match, piece: _Piece, depth: float | None, reach: float) -> float:
    weight = float(np.exp(VOTE_SHARPNESS * match.score))
    if depth is not None and piece.depth is not None:
        weight *= float(np.exp(-(((depth - piece.depth) / reach) ** 2) / 2))
    return max(weight, 1e-9)


def _floors(
    fitted: TemplateFitted, negatives: Sequence[Sample], hooks: Hooks
) -> dict[int, float]:
    """Half-way between what supports find in one another and in negative ones."""
    floors = {}
    blanks = [_working_copy(s.image) for s in negatives]
    for value, pieces in fitted.pieces.items():
        hooks.check()
        reach = fitted.params.reach * WORKING_SIDE
        wrong = [
            find_piece(b, p.crop, p.origin, reach).score for b in blanks for p in pieces
        ]
        right = [
            find_piece(b.image, a.crop, a.origin, reach).score
            for a in pieces
            for b in pieces
            if a is not b
        ]
        found = max(wrong, default=0.0)
        usual = float(np.median(right)) if right else 1.0
        floors[value] = max(MIN_SCORE, (found + usual) / 2 if usual > found else usual)
    return floors
