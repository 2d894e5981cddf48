"""`adnet`: how far every place is from the mean look of the object.

Anomaly detection (Hansen et al., ADNet, Medical Image Analysis 2022): one prototype of
the class, none of the background, which is too varied for one, and a threshold on the
similarity. The paper learns the threshold with the encoder on supervoxels; here the
encoder stays as it is and the threshold is found on supports that are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_fewshot.methods._base import MethodSpec
from napari_fewshot.methods.grid import GridMethod, GridParams, Look
from napari_fewshot.methods.panet import SCALE, class_prototype
from napari_fewshot.ops import cosine_maps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import Hooks
    from napari_fewshot.methods.grid import GridPlane, GridSupport


@dataclass(frozen=True)
class AdnetParams(GridParams):
    """Parameters of `adnet`."""


class AdnetMethod(GridMethod):
    """The method object."""

    spec = MethodSpec(
        name="adnet",
        summary="Finds what is like the object, whatever the background looks like.",
        params=AdnetParams,
        uses_model=True,
        citation="ADNet (Hansen et al., Medical Image Analysis 2022)",
    )

    def learn(
        self, supports: Sequence[GridSupport], value: int, params: Any, hooks: Hooks
    ) -> FloatArray:
        """Pool the one prototype, (1, C)."""
        return class_prototype(supports, value)[None]

    def look(self, state: Any, query: GridPlane, params: Any, hooks: Hooks) -> Look:
        """Return the similarity to the prototype."""
        return Look(SCALE * cosine_maps(query.features, state)[0])


METHOD = AdnetMethod()
