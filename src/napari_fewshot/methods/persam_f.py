"""`persam-f`: as `persam`, with the size of the mask learnt on the supports.

PerSAM-F (Zhang et al., ICLR 2024): a click is ambiguous, SAM answers with a part, an
object and a group. Two weights that mix the three are fitted on the support by Dice and
focal loss (weights w1, w2 and 1 - w1 - w2, one third each at the start); then two
passes with the box of the mask. There is no point outside.

This form differs as `persam` does; the weights are fitted by a simplex search, which
for two numbers needs no gradient, on up to two supports instead of one. The published
code is under the MIT licence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.methods._fusion import sigmoid
from napari_fewshot.methods.grid import fit_boundary, parts_of
from napari_fewshot.methods.grid._cascade import Drawn, joined_masks, refine
from napari_fewshot.methods.grid._reference import Reference
from napari_fewshot.methods.persam import PersamMethod, PersamParams, point_ask
from napari_fewshot.ops import fit_factor, mask_to_grid, resize_image, scaled_shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import Hooks
    from napari_fewshot.methods.grid import (
        Decoder,
        GridPlane,
        GridSupport,
        Look,
        Segment,
    )

# What the weights are fitted to: so many supports, objects each, and pixels a side.
MOST_SUPPORTS, MOST_OBJECTS, FIT_SIDE = 2, 3, 64
ALPHA, GAMMA = 0.25, 2.0


@dataclass(frozen=True)
class PersamFParams(PersamParams):
    """Parameters of `persam-f`."""


@dataclass(frozen=True, eq=False)
class Weighted(Reference):
    """A reference with the weights of the candidates; () before they are fitted."""

    weights: tuple[float, ...] = ()


class PersamFMethod(PersamMethod):
    """The method object."""

    spec = replace(
        PersamMethod.spec,
        name="persam-f",
        summary="As persam, and learns from the supports how large a mask to take.",
        params=PersamFParams,
        citation="PerSAM-F (Zhang et al., ICLR 2024)",
    )

    def learn(
        self, supports: Sequence[GridSupport], value: int, params: Any, hooks: Hooks
    ) -> Weighted:
        """Pool the mean look of the class and of the rest."""
        found = super().learn(supports, value, params, hooks)
        return Weighted(
            found.inside, found.outside, found.mine, found.rest, found.objects
        )

    def tune(
        self,
        state: Any,
        supports: Sequence[GridSupport],
        value: int,
        decoder: Decoder,
        params: Any,
        hooks: Hooks,
    ) -> Weighted:
        """Fit the weights of the candidates on the supports."""
        masks: list[FloatArray] = []
        truths: list[FloatArray] = []
        holders = [s for s in supports if s.holds(value)][:MOST_SUPPORTS]
        for support in holders:
            cover = support.cover(value)
            raw = self.look(state, support, params, hooks).raw
            odds = fit_boundary([raw], [cover])(raw)
            parts = parts_of(cover - 0.499)[:MOST_OBJECTS]
            asks = [point_ask(part, raw, None, support) for part in parts]
            logits, _ = decoder.decode(support, odds, asks, hooks, several=True)
            shape = scaled_shape(support.shape, fit_factor(support.shape, FIT_SIDE))
            truth = mask_to_grid(support.sample.labels == value, shape)
            for part, candidates in zip(parts, logits, strict=True):
                full = decoder.restore(support, candidates)
                masks.append(np.stack([resize_image(m, shape) for m in full]))
                truths.append(
                    truth * (resize_image(part.astype(np.float32), shape) > 0)
                )
        found: Weighted = replace(state, weights=fit_weights(masks, truths))
        return found

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
        """Mix the candidates for every part, then refine with boxes."""
        parts = parts_of(odds)
        asks = [point_ask(part, look.raw, None, query) for part in parts]
        logits, scores = decoder.decode(query, odds, asks, hooks, several=True)
        weights = np.array(state.weights, np.float32)
        mixed = np.einsum("m,bmrc->brc", weights, logits)
        covers = decoder.to_grid(query, mixed)
        drawn = [
            Drawn(m, c, float(s @ weights), a)
            for m, c, s, a in zip(mixed, covers, scores, asks, strict=True)
        ]
        drawn = refine(drawn, parts, odds, query, decoder, hooks, (True, True))
        return joined_masks(drawn, odds, query, decoder, params.edges)


def fit_weights(
    masks: Sequence[FloatArray], truths: Sequence[FloatArray]
) -> tuple[float, ...]:
    """Choose weights of candidate masks that sum to one by Dice and focal loss.

    Parameters
    ----------
    masks : sequence of array (M, r, c)
        Logits of the candidates for one object each.
    truths : sequence of array (r, c)
        Share of every pixel that belongs to the object.

    Returns
    -------
    tuple of float
        M weights.
    """
    from scipy.optimize import minimize

    count = len(masks[0])
    if count == 1:
        return (1.0,)

    def loss(free: FloatArray) -> float:
        weights = np.append(free, 1 - free.sum())
        parts = [
            _loss(np.tensordot(weights, m, 1), t)
            for m, t in zip(masks, truths, strict=True)
        ]
        return float(np.mean(parts))

    start = np.full(count - 1, 1 / count)
    found = minimize(
        loss, start, method="Nelder-Mead", options={"maxfev": 60, "xatol": 1e-2}
    )
    free = found.x if found.fun < loss(start) else start
    return tuple(float(w) for w in np.append(free, 1 - free.sum()))


def _loss(logits: FloatArray, truth: FloatArray) -> float:
    """Dice loss plus focal loss of one mask."""
    chance = np.clip(sigmoid(logits), 1e-6, 1 - 1e-6)
    overlap = (2 * (chance * truth).sum() + 1) / (chance.sum() + truth.sum() + 1)
    focal = -ALPHA * truth * (1 - chance) ** GAMMA * np.log(chance)
    focal -= (1 - ALPHA) * (1 - truth) * chance**GAMMA * np.log(1 - chance)
    return float(1 - overlap + focal.mean())


METHOD = PersamFMethod()
