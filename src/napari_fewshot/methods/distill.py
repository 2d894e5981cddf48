"""`distill`: a student that answers as the supports would, and needs none of them.

The teacher reads the masks of the supports by attention over similar cells (the mask is
the value, Shi et al. 2022); the student, a few convolutions per class, is taught by
leaving each support out in turn. The published system (DistillFSS) distils a trained
network with attention at three layers; here teacher and student stand on one grid of
frozen features, nothing is trained but the student, and it is fitted in seconds. By
the paper's own table its gain is the cost of a query, not quality. Published code: MIT.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.methods._base import MethodSpec
from napari_fewshot.methods._heads import HeadParams, NetMethod, coarse
from napari_fewshot.methods._params import param
from napari_fewshot.ops import attend_to_mask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import Hooks
    from napari_fewshot.methods.grid import GridSupport

# Cells of all other supports that the teacher reads.
MOST_KEYS = 2000


@dataclass(frozen=True)
class DistillParams(HeadParams):
    """Parameters of `distill`."""

    steps: int = param(
        120,
        "Steps of the teaching: more fits the supports better and takes longer.",
        low=1,
        high=10000,
        step=50,
    )


class DistillMethod(NetMethod):
    """The method object."""

    spec = MethodSpec(
        name="distill",
        summary="Learns from your supports once and then needs none of them.",
        params=DistillParams,
        uses_model=True,
        citation="DistillFSS (arXiv 2512.05613); DCAMA (Shi et al., ECCV 2022)",
    )

    def fit_net(
        self,
        supports: Sequence[GridSupport],
        value: int,
        maps: list[FloatArray],
        covers: list[FloatArray],
        params: Any,
        hooks: Hooks,
    ) -> Any:
        """Teach a student; it keeps no feature of the supports."""
        from napari_fewshot.models.heads import fit_student

        taught = []
        for number in range(len(supports)):
            hooks.report("Asking the teacher", number, len(supports))
            said = _teach(supports, number, value, params.seed)
            taught.append(coarse(said[None])[0])
        return fit_student(maps, taught, covers, params.steps, params.seed, hooks)

    def ask_net(self, net: Any, maps: FloatArray) -> FloatArray:
        """Return the student's log-odds."""
        from napari_fewshot.models.heads import ask_student

        return ask_student(net, maps)


METHOD = DistillMethod()


def _teach(
    supports: Sequence[GridSupport], number: int, value: int, seed: int
) -> FloatArray:
    """Return what the other supports say of one, (h, w); a lone one asks itself."""
    query = supports[number]
    others = [s for i, s in enumerate(supports) if i != number] or [query]
    random = np.random.default_rng(seed + number)
    each = max(16, MOST_KEYS // len(others))
    keys, values = [], []
    for other in others:
        cells = other.unit.reshape(len(other.unit), -1)
        at = np.sort(random.permutation(cells.shape[1])[:each])
        keys.append(cells[:, at].T)
        values.append(other.cover(value).ravel()[at])
    cells = query.unit.reshape(len(query.unit), -1).T
    found = attend_to_mask(cells, np.concatenate(keys), np.concatenate(values))
    return found.reshape(query.grid)
