"""Classes compete: for cells before the cut, for pixels after masks are drawn."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.ops.heatmaps import two_means

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import AnyArray, BoolArray, FloatArray
    from napari_fewshot.methods.text._heat import Heat

# Cosines are so narrow that logits are made of them with this factor: the inverse of
# the softmax's temperature (ClearCLIP, SCLIP).
SHARPNESS = 40.0
# The best so many of all cells say how sure a map is at its surest.
TOP = 0.01
LEAST_CELLS = 4
# Log-odds of a pixel that another class took.
LOST = -1.0
# A class that keeps less of its own mask than this may be dropped (BiomedParse).
KEEPS = 0.5


def margins(heat: Heat, rivals_of: Sequence[Sequence[int]] | None = None) -> FloatArray:
    """Return by how much each class beats its best rival, as log-odds (C, h, w).

    Rivals are all other classes, the background, and what the class is said not to be.
    The softmax over all of them is largest for the class exactly where its margin is
    above 0; the sigmoid of the margin is its share against the best rival alone.

    Words for the background fit some cells of everything. Where the whole plane fits
    the class better than nonsense, the background is therefore set back: see
    `handicap`. Other classes and negatives never are.

    Parameters
    ----------
    heat : Heat
        Of the kind ``"cosine"``, finite. Where neither a background nor another class
        is there to compete with, the level between the two groups of the map's own
        values is the rival (see `two_means`); a map that is the same everywhere then
        loses.
    rivals_of : sequence of sequence of int, optional
        Which other classes each class competes with (see `TextBank.rivals`); default
        all.

    Returns
    -------
    array (C, h, w) float32
    """
    maps = heat.maps
    found = np.empty(maps.shape, np.float32)
    for number, mine in enumerate(maps):
        if heat.background is not None:
            ground = SHARPNESS * (mine - heat.background)
            ground = ground - handicap(ground, beyond_nonsense(heat, number))
        else:
            level = two_means(mine)
            ground = SHARPNESS * (mine - (mine.max() if level is None else level))
        everyone = [i for i in range(len(maps)) if i != number]
        others = everyone if rivals_of is None else list(rivals_of[number])
        if others:
            best = maps[others].max(0)
            ground = np.minimum(ground, SHARPNESS * (mine - best))
        if heat.negative is not None:
            ground = np.minimum(ground, SHARPNESS * (mine - heat.negative[number]))
        found[number] = ground
    return found


def handicap(ground: FloatArray, far: float | None) -> float:
    """Return the log-odds against the background that count as even, at most 0.

    Midway between the level between the two groups of a map's values and its surest
    cells, but never further below 0 than the whole plane speaks for the phrase.

    Parameters
    ----------
    ground : array (h, w)
        Log-odds of a class against the background.
    far : float, optional
        From `beyond_nonsense`; the background is set back only if it is above 0.
    """
    level = two_means(ground)
    if far is None or far <= 0 or level is None:
        return 0.0
    return max(min(0.0, (level + surest(ground)) / 2), -far)


def beyond_nonsense(heat: Heat, number: int) -> float | None:
    """Return by how much a phrase fits the plane better than nonsense, in log-odds.

    Parameters
    ----------
    heat : Heat
        Of the plane.
    number : int
        Of the class.

    Returns
    -------
    float or None
        None where it isn't known.
    """
    if heat.fits is None or heat.baseline is None:
        return None
    found = SHARPNESS * (float(heat.fits[number]) - float(heat.baseline))
    return found if np.isfinite(found) else None


def surest(odds: FloatArray) -> float:
    """Return the mean of the best hundredth of log-odds (h, w)."""
    count = min(odds.size, max(LEAST_CELLS, round(TOP * odds.size)))
    return float(np.partition(odds.ravel(), -count)[-count:].mean())


@dataclass(eq=False)
class Settling:
    """Gives each pixel that several classes want to one of them.

    Classes are added one after the other; only the best is remembered per pixel.

    Attributes
    ----------
    shape : (int, int)
        Of the plane.
    """

    shape: tuple[int, int]
    _best: FloatArray = field(init=False, repr=False)
    _owner: AnyArray = field(init=False, repr=False)
    _areas: dict[int, int] = field(default_factory=dict, repr=False)
    _worth: dict[int, float] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Begin with no owner."""
        self._best = np.zeros(self.shape, np.float32)
        self._owner = np.full(self.shape, -1, np.int32)

    def add(self, value: int, odds: FloatArray, worth: float) -> None:
        """Let a class claim its pixels.

        Parameters
        ----------
        value : int
            The class.
        odds : array (H, W)
            Log-odds of its mask.
        worth : float
            Score of its masks, above 0; log-odds are multiplied with it.
        """
        claimed = odds > 0
        self._areas[value] = int(claimed.sum())
        self._worth[value] = worth
        better = claimed & (odds * worth > self._best)
        self._best[better] = odds[better] * worth
        self._owner[better] = value

    def settled(self, value: int, odds: FloatArray) -> FloatArray:
        """Return log-odds (H, W) of a class without the pixels that others took."""
        lost = (odds > 0) & (self._owner != value)
        if not lost.any():
            return odds
        found: FloatArray = np.where(lost, np.float32(LOST), odds)
        return found

    def crowded_out(self) -> set[int]:
        """Return classes that keep less than half of their mask (BiomedParse).

        The class of the highest worth is never among them.
        """
        kept = {v: int((self._owner == v).sum()) for v in self._areas}
        first = max(self._worth, key=lambda v: self._worth[v], default=-1)
        return {
            v
            for v, area in self._areas.items()
            if v != first and kept[v] < KEEPS * area
        }


def contrast(values: FloatArray, cover: FloatArray, ring: BoolArray) -> float:
    """Return how much higher a map is in a mask than round it, in [0, 1].

    Parameters
    ----------
    values : array (h, w)
        In [0, 1].
    cover : array (h, w)
        Share of each cell that the mask covers.
    ring : array (h, w) bool
        Cells round it; may be empty.
    """
    total = float(cover.sum())
    if total <= 0:
        return 0.0
    inside = float((values * cover).sum()) / total
    outside = float(values[ring].mean()) if ring.any() else 0.0
    return float(np.clip(inside - outside, 0, 1))
