"""`alpnet`: many local prototypes of object and background.

Adaptive local prototype pooling (Ouyang et al., SSL-ALPNet, ECCV 2020): windows that
lie in the object, and windows that lie outside, are prototypes of their own beside the
mean of the object. The paper trains the encoder on superpixels; here it stays as it is,
and the boundary is calibrated on the supports. Prototypes of all supports are pooled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.methods._base import MethodSpec
from napari_fewshot.methods._params import param
from napari_fewshot.methods.grid import GridMethod, GridParams, Look, thinned
from napari_fewshot.methods.panet import (
    SCALE,
    background_prototype,
    class_prototype,
)
from napari_fewshot.ops import cosine_maps, grid_prototypes, softmax_weighted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import Hooks
    from napari_fewshot.methods.grid import GridPlane, GridSupport

# At most so many local prototypes of either side: more supports take no more time.
MOST = 512


@dataclass(frozen=True)
class AlpnetParams(GridParams):
    """Parameters of `alpnet`."""

    window: int = param(
        2,
        "Size of one local sample of object or background: small for fine parts, large "
        "for an even look.",
        low=1,
        high=16,
        unit="cells",
        advanced=True,
    )


class AlpnetMethod(GridMethod):
    """The method object."""

    spec = MethodSpec(
        name="alpnet",
        summary="Compares every place with many small samples of object and "
        "background.",
        params=AlpnetParams,
        uses_model=True,
        citation="SSL-ALPNet (Ouyang et al., ECCV 2020)",
    )

    def learn(
        self, supports: Sequence[GridSupport], value: int, params: Any, hooks: Hooks
    ) -> tuple[FloatArray, FloatArray]:
        """Pool the windows of all supports: of the class, and of the rest."""
        inside = [class_prototype(supports, value)[None]]
        outside = []
        for support in supports:
            hooks.check()
            cover, window = support.cover(value), params.window
            inside.append(grid_prototypes(support.features, cover, window))
            outside.append(grid_prototypes(support.features, 1 - cover, window))
        if not sum(map(len, outside)):
            outside.append(background_prototype(supports, value)[None])
        # The first row is the mean of the object: it always stays.
        mine = np.concatenate(
            [inside[0], thinned(np.concatenate(inside[1:]), MOST, params.seed)]
        )
        return mine, thinned(np.concatenate(outside), MOST, params.seed)

    def look(self, state: Any, query: GridPlane, params: Any, hooks: Hooks) -> Look:
        """Return the class's softmax-weighted similarity less that of the rest."""
        maps = []
        for prototypes in state:
            hooks.check()
            maps.append(softmax_weighted(SCALE * cosine_maps(query.unit, prototypes)))
        mine, rest = maps
        return Look(mine - rest, {"class": mine, "background": rest})


METHOD = AlpnetMethod()
