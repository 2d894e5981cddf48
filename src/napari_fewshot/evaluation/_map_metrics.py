"""Whether a heat map points at the right place, whatever its scale.

All but `dice_at` depend on the order of the values only. Where values are equal, no
order among them is invented: they count by halves, shares, or together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.errors import DataError
from napari_fewshot.evaluation._protocol import binary_dice

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray, BoolArray


def area_under_roc(heat: AnyArray, mask: BoolArray) -> float:
    """Return the chance that a pixel inside is hotter than one outside.

    The area under the ROC curve by the rank sum (Hanley and McNeil, Radiology 143,
    1982); a tie counts half.

    Parameters
    ----------
    heat : array (H, W)
        Any scale.
    mask : array (H, W) bool
        The truth.

    Returns
    -------
    float
        NaN if the mask is empty or covers everything.
    """
    from scipy.stats import rankdata

    inside, values = _pixels(heat, mask)
    n, m = int(inside.sum()), int((~inside).sum())
    if n == 0 or m == 0:
        return float("nan")
    above = float(rankdata(values)[inside].sum()) - n * (n + 1) / 2
    return above / (n * m)


def pointing_game(heat: AnyArray, mask: BoolArray) -> float:
    """Return whether the hottest pixel lies inside.

    The pointing game (Zhang et al., IJCV 126, 2018) without its margin.

    Parameters
    ----------
    heat : array (H, W)
        Any scale.
    mask : array (H, W) bool
        The truth.

    Returns
    -------
    float
        1 or 0; if several pixels are the hottest, the share of them that is inside.
        NaN if the mask is empty.
    """
    inside, values = _pixels(heat, mask)
    if not inside.any():
        return float("nan")
    return float(inside[values == values.max()].mean())


def best_dice(heat: AnyArray, mask: BoolArray) -> tuple[float, float]:
    """Return the Dice of the best of all thresholds: what a perfect cut would give.

    Parameters
    ----------
    heat : array (H, W)
        Any scale.
    mask : array (H, W) bool
        The truth.

    Returns
    -------
    dice, level : float
        The mask of this Dice is ``heat >= level``. NaN for both if the mask is empty.
    """
    inside, values = _pixels(heat, mask)
    wanted = int(inside.sum())
    if wanted == 0:
        return float("nan"), float("nan")
    order = np.argsort(-values, kind="stable")
    hot = values[order]
    # Equal values are taken in together: a threshold can't tell them apart.
    last = np.append(hot[1:] != hot[:-1], True)
    hits, taken = np.cumsum(inside[order])[last], (np.flatnonzero(last) + 1)
    dices = 2 * hits / (taken + wanted)
    at = int(np.argmax(dices))
    return float(dices[at]), float(hot[last][at])


def dice_at(heat: AnyArray, mask: BoolArray, level: float) -> float:
    """Return the Dice of ``heat > level``; both empty is 1.

    Parameters
    ----------
    heat : array (H, W)
        Any scale.
    mask : array (H, W) bool
        The truth.
    level : float
        In the unit of the heat.
    """
    inside, values = _pixels(heat, mask)
    return binary_dice(values > level, inside)


def map_correlation(first: AnyArray, second: AnyArray) -> float:
    """Return how alike two heat maps are, as Pearson's correlation.

    Near 1 between the map of a phrase and that of nonsense: the phrase changes nothing.

    Parameters
    ----------
    first, second : array (H, W)
        Two maps of one plane.

    Returns
    -------
    float
        NaN if one of them is constant.
    """
    x = np.asarray(first, np.float64).ravel()
    y = np.asarray(second, np.float64).ravel()
    if x.shape != y.shape:
        raise DataError(
            f"Maps of {x.size} and {y.size} pixels can't be compared; both must show "
            "the same plane."
        )
    x, y = x - x.mean(), y - y.mean()
    length = float(np.sqrt((x @ x) * (y @ y)))
    return float(np.clip(x @ y / length, -1, 1)) if length > 0 else float("nan")


def _pixels(heat: AnyArray, mask: BoolArray) -> tuple[BoolArray, AnyArray]:
    """Return mask and heat, flat; refuse what can't be ordered."""
    values = np.asarray(heat, np.float64)
    inside = np.asarray(mask, bool)
    if values.shape != inside.shape:
        raise DataError(
            f"The heat map has shape {values.shape} but the mask has {inside.shape}."
        )
    if not np.isfinite(values).all():
        raise DataError("The heat map holds NaN or infinite values.")
    return inside.ravel(), values.ravel()
