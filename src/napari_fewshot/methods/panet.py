"""`panet`: one mean embedding of the class against one of the background.

Masked average pooling and cosine similarity at the fixed scale of 20 (Wang et al.,
PANet, ICCV 2019). The paper trains the encoder by episodes, aligned both ways; here it
stays as it is, and the boundary is calibrated on the supports.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.methods._base import MethodSpec
from napari_fewshot.methods.grid import GridMethod, GridParams, Look
from napari_fewshot.ops import cosine_maps, masked_average

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import Hooks
    from napari_fewshot.methods.grid import GridPlane, GridSupport

SCALE = 20.0


@dataclass(frozen=True)
class PanetParams(GridParams):
    """Parameters of `panet`."""


class PanetMethod(GridMethod):
    """The method object."""

    spec = MethodSpec(
        name="panet",
        summary="Compares every place with the mean look of object and background.",
        params=PanetParams,
        uses_model=True,
        citation="PANet (Wang et al., ICCV 2019)",
    )

    def learn(
        self, supports: Sequence[GridSupport], value: int, params: Any, hooks: Hooks
    ) -> FloatArray:
        """Pool one prototype of the class and one of the rest, (2, C)."""
        return np.stack(
            [class_prototype(supports, value), background_prototype(supports, value)]
        )

    def look(self, state: Any, query: GridPlane, params: Any, hooks: Hooks) -> Look:
        """Return by how much a cell is more like the class than like the rest."""
        mine, rest = cosine_maps(query.features, state)
        return Look(SCALE * (mine - rest), {"class": mine, "background": rest})


def class_prototype(supports: Sequence[GridSupport], value: int) -> FloatArray:
    """Return the mean look (C,) of a class; every support that shows it counts alike.

    Parameters
    ----------
    supports : sequence of GridSupport
        At least one holds the class.
    value : int
        The class.
    """
    holding = [s for s in supports if s.holds(value)]
    pooled = [masked_average(s.features, s.cover(value)) for s in holding]
    mean: FloatArray = np.mean(pooled, 0)
    return mean


def background_prototype(supports: Sequence[GridSupport], value: int) -> FloatArray:
    """Return the mean look (C,) of the rest; zeros if the class covers everything."""
    pooled = [
        masked_average(s.features, 1 - s.cover(value))
        for s in supports
        if s.cover(value).min() < 1
    ]
    if not pooled:
        return np.zeros(len(supports[0].features), np.float32)
    mean: FloatArray = np.mean(pooled, 0)
    return mean


METHOD = PanetMethod()
