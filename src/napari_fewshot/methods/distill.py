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
from napari_fewshot.methods._heads import (
    FineMethod,
    HeadParams,
    Scale,
    coarse,
    described,
    scale_of,
    spread_over,
)
from napari_fewshot.methods._params import param
from napari_fewshot.methods.grid import Look
from napari_fewshot.ops import attend_to_mask, resize_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import Hooks
    from napari_fewshot.methods.grid import GridPlane, GridSupport

MOST_SUPPORTS = 16
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


@dataclass(frozen=True, eq=False)
class _State:
    student: Any
    scale: Scale


class DistillMethod(FineMethod):
    """The method object."""

    spec = MethodSpec(
        name="distill",
        summary="Learns from your supports once and then needs none of them.",
        params=DistillParams,
        uses_model=True,
        citation="DistillFSS (arXiv 2512.05613); DCAMA (Shi et al., ECCV 2022)",
    )

    def learn(
        self, supports: Sequence[GridSupport], value: int, params: Any, hooks: Hooks
    ) -> _State:
        """Teach a student; it keeps no feature of the supports."""
        from napari_fewshot.models.heads import fit_student

        shown = spread_over(supports, value, MOST_SUPPORTS)
        taught = []
        for number in range(len(shown)):
            hooks.report("Asking the teacher", number, len(shown))
            taught.append(coarse(_teach(shown, number, value, params.seed)[None])[0])
        maps = [coarse(described(s)) for s in shown]
        scale = scale_of(maps)
        student = fit_student(
            [scale(m) for m in maps],
            taught,
            [coarse(s.cover(value)[None])[0] for s in shown],
            params.steps,
            params.seed,
            hooks,
        )
        return _State(student, scale)

    def look(self, state: Any, query: GridPlane, params: Any, hooks: Hooks) -> Look:
        """Return the student's log-odds."""
        from napari_fewshot.models.heads import ask_student

        hooks.check()
        found = ask_student(state.student, state.scale(coarse(described(query))))
        return Look(resize_image(found, query.grid))


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
