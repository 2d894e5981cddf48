"""Where a similarity becomes a yes: learnt from supports that were left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.methods._validation import dice
from napari_fewshot.ops import resize_image, smooth

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import BoolArray, FloatArray
    from napari_fewshot.methods.grid._tokens import GridPlane, GridSupport

QUANTILES = np.concatenate([np.linspace(0.02, 0.9, 45), np.linspace(0.9, 0.998, 30)])
SLOPES = np.geomspace(0.25, 32.0, 22)
# A prior of position is as wide as this share of the longer side of the grid.
REACH = 0.08
# It changes log-odds by at most this much, and takes more away than it adds.
MOST_AGAINST, MOST_FOR = 5.0, 1.5
# Log-odds are held within this.
SURE = 12.0


@dataclass(frozen=True)
class Boundary:
    """Log-odds of the class are ``slope * (raw - level)``.

    Attributes
    ----------
    level : float
        Raw value that is as likely inside as outside.
    slope : float
        How fast certainty grows with distance from it.
    """

    level: float = 0.0
    slope: float = 1.0

    def __call__(self, raw: FloatArray) -> FloatArray:
        """Return log-odds (h, w) of raw values (h, w)."""
        odds: FloatArray = np.clip(self.slope * (raw - self.level), -SURE, SURE).astype(
            np.float32
        )
        return odds


def fit_boundary(raws: Sequence[FloatArray], covers: Sequence[FloatArray]) -> Boundary:
    """Choose the level of the best mean Dice, then the slope of the least log loss.

    Parameters
    ----------
    raws : sequence of array (h, w)
        Similarity, or whatever a method finds, on planes with known truth.
    covers : sequence of array (h, w)
        Share of every cell that the class covers.

    Returns
    -------
    Boundary
    """
    values = np.concatenate([r.ravel() for r in raws]).astype(np.float64)
    truth = [c >= 0.5 for c in covers]
    levels = np.unique(np.quantile(values, QUANTILES))
    curve = np.array([_mean_dice(raws, truth, level) for level in levels])
    # Neighbouring levels are averaged: a lone peak is an accident of few supports.
    steady = np.convolve(np.pad(curve, 1, mode="edge"), np.ones(3) / 3, "valid")
    level = float(np.median(levels[steady >= steady.max() - 1e-9]))
    spread = float(values.std()) or 1.0
    share = np.concatenate([c.ravel() for c in covers]).astype(np.float64)
    far = (values - level) / spread
    # Inside and outside count alike: the slope is about the boundary, not the size.
    weight = np.where(share >= 0.5, 0.5 / max((share >= 0.5).sum(), 1), 0.0)
    weight += np.where(share < 0.5, 0.5 / max((share < 0.5).sum(), 1), 0.0)
    losses = [
        float(
            (
                weight * (np.logaddexp(0, np.clip(s * far, -60, 60)) - share * s * far)
            ).sum()
        )
        for s in SLOPES
    ]
    return Boundary(level, float(SLOPES[int(np.argmin(losses))]) / spread)


def position_prior(
    supports: Sequence[GridSupport], value: int, query: GridPlane
) -> FloatArray:
    """Return what the places of the class on the supports say about a query.

    Parameters
    ----------
    supports : sequence of GridSupport
        Those near the query along z count most, where z is known.
    value : int
        The class.
    query : GridPlane
        Any size: places are shares of the plane.

    Returns
    -------
    array (h, w)
        To be added to log-odds.
    """
    total, weights = np.zeros(query.grid, np.float64), 0.0
    for support in supports:
        weight = _nearness(support.plane.position, query.plane.position)
        total += weight * resize_image(support.cover(value), query.grid)
        weights += weight
    wide = smooth(
        (total / max(weights, 1e-9)).astype(np.float32), REACH * max(query.grid)
    )
    usual = float(wide.max()) + 1e-6
    odds: FloatArray = np.clip(
        np.log((wide + 1e-4 * usual) / (0.3 * usual)), -MOST_AGAINST, MOST_FOR
    ).astype(np.float32)
    return odds


def sized(odds: FloatArray, share: float) -> FloatArray:
    """Shift log-odds (h, w) so that the class covers a given share of the plane.

    Parameters
    ----------
    odds : array (h, w)
        Log-odds.
    share : float
        In (0, 1).
    """
    level = np.quantile(odds, 1.0 - share)
    moved: FloatArray = (odds - level).astype(np.float32)
    return moved


def top_of(odds: FloatArray) -> float:
    """Return how sure a map is where it is surest: the mean of its best hundredth."""
    count = max(4, odds.size // 100)
    return float(np.partition(odds.ravel(), -count)[-count:].mean())


def _nearness(one: float | None, other: float | None) -> float:
    if one is None or other is None:
        return 1.0
    return float(np.exp(-(((one - other) / 0.1) ** 2) / 2)) + 1e-3


def _mean_dice(
    raws: Sequence[FloatArray], truth: Sequence[BoolArray], level: float
) -> float:
    """Mean Dice; planes without the class count only if it was found in them."""
    pairs = [(r >= level, t) for r, t in zip(raws, truth, strict=True)]
    found = [dice(m, t) for m, t in pairs if m.any() or t.any()]
    return float(np.mean(found)) if found else 1.0
