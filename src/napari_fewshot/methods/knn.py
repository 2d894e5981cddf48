"""`knn`: every cell asks the cells of the supports that are nearest to it.

Nothing is fitted: this is the plainest use of an embedding. Votes of the class and of
the rest are weighed so that the larger of the two does not win by number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.methods._base import MethodSpec
from napari_fewshot.methods._heads import HeadMethod, HeadParams, Rows
from napari_fewshot.methods._params import param
from napari_fewshot.methods.grid import thinned

if TYPE_CHECKING:
    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import Hooks

# Cells of the supports that are compared with.
MOST_KEPT = 1500
# A vote falls with the distance, measured in this share of the usual distance.
REACH = 0.3
BLOCK = 4096


@dataclass(frozen=True)
class KnnParams(HeadParams):
    """Parameters of `knn`."""

    neighbours: int = param(
        15,
        "How many similar places of the supports decide about a place.",
        low=1,
        high=500,
    )


@dataclass(frozen=True, eq=False)
class KnnHead:
    """Cells of the supports, (N, F), and how they vote inside and outside, (N, 2)."""

    rows: FloatArray
    votes: FloatArray
    neighbours: int

    def __call__(self, values: FloatArray) -> FloatArray:
        """Return log-odds (N,) of rows (N, F)."""
        found = np.empty(len(values), np.float32)
        for start in range(0, len(values), BLOCK):
            block = values[start : start + BLOCK]
            found[start : start + BLOCK] = self._ask(block)
        return found

    def _ask(self, values: FloatArray) -> FloatArray:
        squares = (self.rows**2).sum(1)
        apart = squares - 2 * (values @ self.rows.T) + (values**2).sum(1)[:, None]
        count = min(self.neighbours, len(self.rows))
        near = np.argpartition(apart, count - 1, axis=1)[:, :count]
        distance = np.maximum(np.take_along_axis(apart, near, 1), 0)
        nearest = distance.min(1, keepdims=True)
        usual = distance.mean(1, keepdims=True) + 1e-6
        weight = np.exp(-(distance - nearest) / (REACH * usual))
        votes = (weight[..., None] * self.votes[near]).sum(1)
        odds: FloatArray = np.log((votes[:, 0] + 0.02) / (votes[:, 1] + 0.02))
        return odds


class KnnMethod(HeadMethod):
    """The method object."""

    spec = MethodSpec(
        name="knn",
        summary="Looks up the most similar places of your supports for every place.",
        params=KnnParams,
        uses_model=True,
        citation="Nearest neighbours (Cover & Hart 1967)",
    )

    def fit_head(self, rows: Rows, params: Any, hooks: Hooks) -> KnnHead:
        """Keep a fair sample of the rows."""
        kept = thinned(np.arange(len(rows.values)), MOST_KEPT, params.seed)
        cover = rows.cover[kept]
        votes = np.stack([cover, 1 - cover], 1) * rows.weight[kept, None]
        return KnnHead(rows.values[kept], votes.astype(np.float32), params.neighbours)


METHOD = KnnMethod()
