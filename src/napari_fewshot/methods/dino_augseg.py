"""`dino-augseg`: a small decoder over several scales, fitted on the supports.

The paper fits a U-Net with cross-attention on the pyramid of a frozen DINOv3 ConvNeXt
for hours on a GPU (2000 epochs). Here the scales are pooled copies of whichever grid of
features there is, the decoder has some thousand weights, positions are two channels of
the keys in place of rotary ones, and it is fitted in seconds. Random masking of wavelet
coefficients and the loss are the paper's. Its code names a licence in its README only;
this is an implementation of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_fewshot.methods._base import MethodSpec
from napari_fewshot.methods._heads import HeadParams, NetMethod
from napari_fewshot.methods._params import param

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import Hooks
    from napari_fewshot.methods.grid import GridSupport


@dataclass(frozen=True)
class AugsegParams(HeadParams):
    """Parameters of `dino-augseg`."""

    steps: int = param(
        100,
        "Steps of the training at most: more fits the supports better, and takes "
        "longer.",
        low=1,
        high=10000,
        step=50,
    )


class AugsegMethod(NetMethod):
    """The method object."""

    spec = MethodSpec(
        name="dino-augseg",
        summary="Trains a small decoder on your supports; best with five or more.",
        params=AugsegParams,
        uses_model=True,
        citation="DINO-AugSeg (arXiv 2601.08078)",
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
        """Fit a decoder."""
        from napari_fewshot.models.heads import fit_pyramid

        return fit_pyramid(maps, covers, params.steps, params.seed, hooks)

    def ask_net(self, net: Any, maps: FloatArray) -> FloatArray:
        """Return the log-odds of the decoder."""
        from napari_fewshot.models.heads import decode_pyramid

        return decode_pyramid(net, maps)


METHOD = AugsegMethod()
