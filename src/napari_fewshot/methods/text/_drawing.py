"""Masks of one class from the parts of its heat map."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.methods._fusion import sigmoid
from napari_fewshot.methods.grid import MapDecoder, agreeing, at_edges, upsampled
from napari_fewshot.methods.text._asks import asks_for, mask_of
from napari_fewshot.methods.text._competition import contrast
from napari_fewshot.methods.text._rescore import can_look, judge_mask
from napari_fewshot.ops import resize_image
from napari_fewshot.ops.heatmaps import EIGHT, keep_largest, largest_parts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import BoolArray, FloatArray, LabelArray
    from napari_fewshot.data import Hooks
    from napari_fewshot.methods.grid import Ask, Decoder, GridPlane
    from napari_fewshot.methods.text._asks import Drawing
    from napari_fewshot.methods.text._base import TextFitted

# Log-odds of decoders are held within this; those of a part that is given up.
CERTAIN, GIVEN_UP = 6.0, 1.0
MOST_CANDIDATES = 8
# With more parts each is decoded once.
CROWD = 12
# Logits so far above and below the boundary tell how stable a mask is (SAM).
OFFSET = 1.0
EDGES = "guided"
# A score of 0 would say that nothing is known of a mask.
LEAST_SCORE = 1e-3


@dataclass(eq=False)
class Drawn:
    """Masks of one class.

    Attributes
    ----------
    odds : array (H, W)
        Log-odds.
    asks : list of Ask
        What the decoder was given.
    masks : list of (float, array (H, W) bool)
        Single masks with scores, at most `MOST_CANDIDATES`.
    scores : list of float
        Of all masks.
    objects : array (H, W) int32, optional
        Numbers of single objects.
    """

    odds: FloatArray = field(repr=False)
    asks: list[Ask] = field(default_factory=list)
    masks: list[tuple[float, BoolArray]] = field(default_factory=list, repr=False)
    scores: list[float] = field(default_factory=list)
    objects: LabelArray | None = field(default=None, repr=False)

    @property
    def worth(self) -> float:
        """Mean score, above 0."""
        return max(LEAST_SCORE, float(np.mean(self.scores)) if self.scores else 0.0)

    def remember(self, score: float, mask: BoolArray) -> None:
        """Keep a mask with its score."""
        self.scores.append(score)
        if len(self.masks) < MOST_CANDIDATES:
            self.masks.append((score, mask))


@dataclass(frozen=True, eq=False)
class Piece:
    """A part of the map, and the mask that a decoder drew for it.

    Attributes
    ----------
    part : array (h, w) bool
    cover : array (h, w)
        Share of each cell that the mask covers; the part itself without a decoder.
    logits : array (r, c), optional
        Of the decoder; None where the map itself is the mask.
    quality : float
        Root of predicted overlap times stability.
    """

    part: BoolArray = field(repr=False)
    cover: FloatArray = field(repr=False)
    logits: FloatArray | None = field(repr=False)
    quality: float


def draw_parts(
    number: int, odds: FloatArray, query: GridPlane, fitted: TextFitted, hooks: Hooks
) -> Drawn:
    """Draw the masks of a class.

    Parameters
    ----------
    number : int
        Of the class in the bank.
    odds : array (h, w)
        Log-odds after the cut; some are positive.
    query : GridPlane
        On the grid of the map.
    fitted : TextFitted
        With parameters, words, model and decoder.
    hooks : Hooks
        For cancelling.
    """
    params, drawing = fitted.params, fitted.method.drawing(fitted.params)
    parts = largest_parts(odds > 0, params.parts)
    rest = np.array(odds)
    if params.parts:
        _give_up(rest, (odds > 0) & ~np.any(parts, axis=0))
    if drawing.joined:
        parts = [np.any(parts, axis=0)]
    asks: list[Ask] = []
    if isinstance(fitted.decoder, MapDecoder):
        pieces = [_of_map(part, odds) for part in parts]
    else:
        asks = asks_for(
            parts, odds, query, fitted.decoder, params.prompts, drawing, params.seed
        )
        pieces = _decoded(parts, asks, odds, query, fitted.decoder, drawing, hooks)
    drawn = Drawn(np.zeros(0, np.float32), asks)
    looks = params.rescore and can_look(fitted.model)
    found: list[FloatArray] = []
    certain = sigmoid(odds)
    for piece in pieces:
        hooks.check()
        full = _restored(piece, query, fitted.decoder, drawing)
        mask = _at_plane(piece.part, query) if full is None else full > 0
        score = piece.quality * contrast(certain, piece.cover, ring_of(piece.cover))
        if looks and mask.any():
            share, wins = judge_mask(
                query.plane.image, mask, fitted.bank, number, fitted.model
            )
            score *= share
            if not wins:
                _give_up(rest, piece.part)
                continue
        if full is not None:
            found.append(full)
            _give_up(rest, piece.part)
        drawn.remember(score, mask)
    drawn.odds = _joined(rest, found, query, fitted, drawing)
    return drawn


def _joined(
    rest: FloatArray,
    found: Sequence[FloatArray],
    query: GridPlane,
    fitted: TextFitted,
    drawing: Drawing,
) -> FloatArray:
    """Return log-odds (H, W): masks of the decoder, and the map where there are none.

    With `Drawing.as_is` the map draws nothing, and the largest parts of what the
    decoder drew are kept (MedCLIP-SAM).
    """
    if drawing.as_is and not isinstance(fitted.decoder, MapDecoder):
        _give_up(rest, rest > 0)
    total = upsampled(rest, query, EDGES)
    for mask in found:
        total = np.maximum(total, mask)
    if drawing.as_is and fitted.params.parts:
        lost = (total > 0) & ~keep_largest(total > 0, fitted.params.parts)
        _give_up(total, lost)
    return total.astype(np.float32)


def _decoded(
    parts: Sequence[BoolArray],
    asks: Sequence[Ask],
    odds: FloatArray,
    query: GridPlane,
    decoder: Decoder,
    drawing: Drawing,
    hooks: Hooks,
) -> list[Piece]:
    """Let a decoder draw each part; of its candidates the one that agrees best."""
    several = not drawing.as_is
    logits, scores = decoder.decode(query, odds, asks, hooks, several=several)
    if several and len(asks) <= CROWD and asks[0].mask is None:
        # Once more with the map as a mask prompt: what agrees better is taken.
        guided = [
            replace(ask, mask=mask_of(part, odds, query, decoder))
            for ask, part in zip(asks, parts, strict=True)
        ]
        more = decoder.decode(query, odds, guided, hooks, several=True)
        logits = np.concatenate([logits, more[0]], 1)
        scores = np.concatenate([scores, more[1]], 1)
    pieces = []
    for part, masks, quality in zip(parts, logits, scores, strict=True):
        covers = decoder.to_grid(query, masks)
        best = 0 if drawing.as_is else agreeing(part, covers, quality)
        if best is None:
            pieces.append(_of_map(part, odds))
            continue
        worth = np.sqrt(np.clip(quality[best], 0, 1) * stability(masks[best]))
        pieces.append(Piece(part, covers[best], masks[best], float(worth)))
    return pieces


def stability(logits: FloatArray) -> float:
    """Return the overlap of the masks at two levels of logits (r, c), as SAM does."""
    wide = int((logits > -OFFSET).sum())
    return int((logits > OFFSET).sum()) / wide if wide else 0.0


def ring_of(cover: FloatArray) -> BoolArray:
    """Return the cells (h, w) right round a mask, as wide as half its radius."""
    from scipy import ndimage

    inside = cover >= 0.5
    if not inside.any():
        inside = cover > 0
    width = max(1, round(0.5 * float(np.sqrt(inside.sum() / np.pi))))
    wide: Any = ndimage.binary_dilation(inside, EIGHT, iterations=width)
    found: BoolArray = wide & ~inside
    return found


def _of_map(part: BoolArray, odds: FloatArray) -> Piece:
    """Return a part as its own mask; how much of it is sure takes stability's place."""
    sure = float((odds[part] > OFFSET).mean())
    return Piece(part, part.astype(np.float32), None, float(np.sqrt(sure)))


def _restored(
    piece: Piece, query: GridPlane, decoder: Decoder, drawing: Drawing
) -> FloatArray | None:
    """Return log-odds (H, W) of what a decoder drew, on the edges of the image."""
    if piece.logits is None:
        return None
    full: FloatArray = np.clip(
        decoder.restore(query, piece.logits[None])[0], -CERTAIN, CERTAIN
    )
    if drawing.as_is:
        return full
    return at_edges(full, query, max(query.shape) / max(piece.logits.shape))


def _at_plane(part: BoolArray, query: GridPlane) -> BoolArray:
    found: BoolArray = resize_image(part.astype(np.float32), query.shape) >= 0.5
    return found


def _give_up(odds: FloatArray, where: BoolArray) -> None:
    """Turn log-odds negative in place."""
    odds[where] = -np.abs(odds[where]) - GIVEN_UP
