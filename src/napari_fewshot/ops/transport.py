"""How far one set of cells is from another: the earth mover's distance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray, FloatArray

PARCELS = 96


def earth_movers_distance(
    cost: FloatArray,
    source: FloatArray | None = None,
    target: FloatArray | None = None,
    parcels: int = PARCELS,
) -> float:
    """Return the least mean cost of moving one distribution onto another.

    Both are cut into parcels of equal weight; the best pairing of parcels is the
    optimal transport, exactly so where all weights are whole numbers of parcels.

    Parameters
    ----------
    cost : array (N, M)
        Of moving a unit from a source to a target, for example 1 minus the cosine.
    source : array (N,), optional
        Weights, at least 0, not all 0; default equal.
    target : array (M,), optional
        The same.
    parcels : int
        More are more exact; time grows with the cube.

    Returns
    -------
    float
        The 1-Wasserstein distance for this cost.

    Raises
    ------
    ValueError
        If a set is empty or has no weight.
    """
    from scipy.optimize import linear_sum_assignment

    rows = parcelled(np.ones(len(cost)) if source is None else source, parcels)
    columns = parcelled(np.ones(cost.shape[1]) if target is None else target, parcels)
    spread = np.asarray(cost, np.float64)[rows][:, columns]
    return float(spread[linear_sum_assignment(spread)].mean())


def parcelled(weights: AnyArray, parcels: int) -> AnyArray:
    """Return the owners of parcels of equal weight, (parcels,) int, in order.

    Parameters
    ----------
    weights : array (N,)
        At least 0, not all 0.
    parcels : int
        The middle of every parcel says whose it is.

    Raises
    ------
    ValueError
        If there is no weight.
    """
    total = np.cumsum(np.asarray(weights, np.float64))
    if not len(total) or total[-1] <= 0:
        raise ValueError("Nothing can be moved from or to a set without weight.")
    middles = (np.arange(parcels) + 0.5) / parcels * total[-1]
    owners: AnyArray = np.searchsorted(total, middles, side="right")
    return owners


def token_distance(one: FloatArray, other: FloatArray) -> float:
    """Return the earth mover's distance of two sets of unit vectors, in [0, 1].

    The cost of a pair is (1 - cosine) / 2 as in Matcher (Liu et al., ICLR 2024); every
    vector of a set has the same weight.

    Parameters
    ----------
    one, other : array (N, C), (M, C)
        Of length one each; neither may be empty.
    """
    cost: FloatArray = ((1 - one @ other.T) / 2).astype(np.float32)
    return earth_movers_distance(cost)
