"""Where to draw the boundary of a map: where the expected Dice is greatest.

Of calibrated probabilities the mask with the greatest expected Dice is bounded at half
of that Dice, never above one half (Lipton, Elkan and Naryanaswamy, ECML 2014): what is
doubtful everywhere had better be drawn somewhat larger than what is certain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_fewshot._types import FloatArray

BINS = 256
# Of what promises less than this nothing is drawn larger: it is most likely absent.
LEAST = 0.3


def bolder(odds: FloatArray, belief: float) -> FloatArray:
    """Shift log-odds so that zero bounds the mask with the greatest expected Dice.

    A map in which nothing is found stays empty.

    Parameters
    ----------
    odds : array (H, W)
        Log-odds of a class.
    belief : float
        ``belief * odds`` are taken for calibrated log-odds; 0 leaves the map alone.

    Returns
    -------
    array (H, W)
        Nowhere smaller than ``odds``.
    """
    if belief <= 0 or not (odds >= 0).any():
        return odds
    counts, edges = np.histogram(odds, bins=BINS)
    chance = 1 / (1 + np.exp(-belief * (edges[1:] + edges[:-1]) / 2))
    found = np.cumsum((counts * chance)[::-1])
    best = float((2 * found / (np.cumsum(counts[::-1]) + found[-1])).max())
    if best < LEAST:
        return odds
    level = min(best / 2, 0.5)
    shifted: FloatArray = odds + np.float32(np.log((1 - level) / level) / belief)
    return shifted
