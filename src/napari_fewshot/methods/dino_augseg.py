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
from napari_fewshot.ops import resize_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot.data import Hooks
    from napari_fewshot.methods.grid import GridPlane, GridSupport

# Supports that a decoder is fitted on; more are drawn from.
MOST_SUPPORTS = 16


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


@dataclass(frozen=True, eq=False)
class _State:
    decoder: Any
    scale: Scale


class AugsegMethod(FineMethod):
    """The method object."""

    spec = MethodSpec(
        name="dino-augseg",
        summary="Trains a small decoder on your supports; best with five or more.",
        params=AugsegParams,
        uses_model=True,
        citation="DINO-AugSeg (arXiv 2601.08078)",
    )

    def learn(
        self, supports: Sequence[GridSupport], value: int, params: Any, hooks: Hooks
    ) -> _State:
        """Fit a decoder."""
        from napari_fewshot.models.heads import fit_pyramid

        shown = spread_over(supports, value, MOST_SUPPORTS)
        maps = [coarse(described(s)) for s in shown]
        scale = scale_of(maps)
        decoder = fit_pyramid(
            [scale(m) for m in maps],
            [coarse(s.cover(value)[None])[0] for s in shown],
            params.steps,
            params.seed,
            hooks,
        )
        return _State(decoder, scale)

    def look(self, state: Any, query: GridPlane, params: Any, hooks: Hooks) -> Look:
        """Return the log-odds of every cell."""
        from napari_fewshot.models.heads import decode_pyramid

        hooks.check()
        found = decode_pyramid(state.decoder, state.scale(coarse(described(query))))
        return Look(resize_image(found, query.grid))


METHOD = AugsegMethod()
