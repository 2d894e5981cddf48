"""`mlp`: small networks on cells, trained on the supports in a second or two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_fewshot.methods._base import MethodSpec
from napari_fewshot.methods._heads import Head, HeadMethod, HeadParams, Rows
from napari_fewshot.methods._params import param

if TYPE_CHECKING:
    from napari_fewshot.data import Hooks


@dataclass(frozen=True)
class MlpParams(HeadParams):
    """Parameters of `mlp`."""

    steps: int = param(
        200,
        "Steps of the training: more fits the supports better and takes longer.",
        low=1,
        high=10000,
        step=100,
    )


class MlpMethod(HeadMethod):
    """The method object."""

    spec = MethodSpec(
        name="mlp",
        summary="Trains small networks on your supports to tell object and background.",
        params=MlpParams,
        uses_model=True,
        citation="Multi-layer perceptron with dropout (Srivastava et al., JMLR 2014)",
    )

    def fit_head(self, rows: Rows, params: Any, hooks: Hooks) -> Head:
        """Train a few networks and keep them all."""
        from napari_fewshot.models.heads import fit_perceptrons

        return fit_perceptrons(
            rows.values, rows.cover, rows.weight, params.steps, params.seed, hooks
        )


METHOD = MlpMethod()
