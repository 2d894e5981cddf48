"""Attention that reads masks: which cells of the supports a cell is like."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_fewshot._types import FloatArray

TEMPERATURE = 0.07
# Queries are answered so many at a time: all likenesses at once take too much room.
BLOCK = 4096


def attend_to_mask(
    queries: FloatArray,
    keys: FloatArray,
    values: FloatArray,
    temperature: float = TEMPERATURE,
) -> FloatArray:
    """Return softmax(q k / t) v for every query: attention with the mask as the value.

    After DCAMA (Shi et al., ECCV 2022), whose projections are learnt; here features are
    of unit length and a temperature takes the place of sqrt(d).

    Parameters
    ----------
    queries : array (N, C)
        Of unit length.
    keys : array (K, C)
        Of unit length; K >= 1.
    values : array (K,)
        Share of the class in every key's cell.
    temperature : float
        Small: the nearest keys decide.

    Returns
    -------
    array (N,) float32
        Between the least and the largest value.
    """
    found = np.empty(len(queries), np.float32)
    for start in range(0, len(queries), BLOCK):
        scores = queries[start : start + BLOCK] @ keys.T / temperature
        weight = np.exp(scores - scores.max(1, keepdims=True))
        found[start : start + BLOCK] = weight @ values / weight.sum(1)
    return found
