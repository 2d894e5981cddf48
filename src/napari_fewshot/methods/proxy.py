"""`proxy`: patches gather where another encoder, that knows edges, sees alike.

ProxyCLIP (Lan et al., ECCV 2024): likeness of the cells of a second encoder takes the
place of attention in the last block of the image tower; the map has the finer grid of
that encoder. Likeness below 1.2 times its mean counts nothing, the rest is sharpened
threefold; residual and perceptron are left out.

This form differs: the second encoder is DINO where one is installed, else the bundled
network, so that nothing need be fetched; a cell always attends to itself, which keeps
planes without contrast from having no attention at all.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_fewshot.methods._base import MethodSpec
from napari_fewshot.methods._params import param
from napari_fewshot.methods.text._attention import proxied
from napari_fewshot.methods.text._dense import DenseMethod
from napari_fewshot.methods.text._params import TextParams
from napari_fewshot.methods.text._windows import resized
from napari_fewshot.models import installed_models, load_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_fewshot._types import FloatArray

BUNDLED = "incontext/small"
# In the order of preference of `auto`.
PREFERRED = (
    "dinov2/vitb14_reg4",
    "dinov2/vitb14",
    "dinov2/vits14_reg4",
    "dinov2/vits14",
    "dinov3/vitb16",
    "dinov3/vits16",
)
# Cells along a side that are compared with each other: memory grows with the 4th power.
MOST_CELLS = 64


@dataclass(frozen=True)
class ProxyParams(TextParams):
    """Parameters of `proxy`."""

    encoder: Literal[
        "auto",
        "incontext/small",
        "dinov2/vits14",
        "dinov2/vits14_reg4",
        "dinov2/vitb14",
        "dinov2/vitb14_reg4",
        "dinov3/vits16",
        "dinov3/vitb16",
    ] = param(
        "auto",
        "Who says which places are alike: DINO if it is installed (auto), else the "
        "bundled network.",
    )
    beta: float = param(
        1.2,
        "Places count as alike above this many times the mean likeness.",
        low=0.0,
        high=5.0,
        step=0.1,
        advanced=True,
    )
    gamma: float = param(
        3.0,
        "How much more those count that are more alike.",
        low=0.1,
        high=50.0,
        step=0.5,
        advanced=True,
    )


class ProxyMethod(DenseMethod):
    """The method object."""

    spec = MethodSpec(
        name="proxy",
        summary="Finds the phrase in regions that a second encoder sees as one.",
        params=ProxyParams,
        reads_text=True,
        citation="ProxyCLIP (Lan et al., ECCV 2024)",
    )
    fine = 2

    def what(self, params: Any) -> str:
        """Return the second encoder and its numbers."""
        return f"proxy {encoder_name(params.encoder)} {params.beta} {params.gamma}"

    def cells(
        self, model: Any, tokens: Tensor, images: Sequence[FloatArray], params: Any
    ) -> tuple[Tensor, tuple[int, int], Tensor]:
        """Mix values by likeness of the other encoder; see `DenseMethod.cells`."""
        import torch

        tower = model.tower
        helper = _helper(encoder_name(params.encoder), str(model.device))
        maps = [features_of(helper, image) for image in images]
        # Windows of a plane differ by a pixel, and so may their grids.
        shape = (int(maps[0].shape[1]), int(maps[0].shape[2]))
        made = [
            proxied(
                tower,
                tokens[n : n + 1],
                torch.as_tensor(resized(found, shape), device=tokens.device),
                params.beta,
                params.gamma,
            )
            for n, found in enumerate(maps)
        ]
        own = tower.run(tokens, tower.depth - 1, tower.depth)
        return tower.project(torch.cat(made)), shape, own


def encoder_name(wanted: str) -> str:
    """Return who says what is alike: the wanted encoder, or the best one present.

    Parameters
    ----------
    wanted : str
        ``"auto"`` or a name of `load_model`.
    """
    if wanted != "auto":
        return wanted
    here = installed_models()
    return next((name for name in PREFERRED if name in here), BUNDLED)


def features_of(helper: Any, image: FloatArray) -> FloatArray:
    """Return features (C, h, w) of a plane, on a grid that is not too fine.

    Parameters
    ----------
    helper : Encoder
        Any model with ``encode``.
    image : array (H, W, C)
        The plane.
    """
    cells = np.nan_to_num(helper.encode(image).cells)
    shape = (min(cells.shape[1], MOST_CELLS), min(cells.shape[2], MOST_CELLS))
    return resized(np.ascontiguousarray(cells, np.float32), shape)


@functools.lru_cache(maxsize=1)
def _helper(name: str, device: str) -> Any:
    return load_model(name, device=device)


METHOD = ProxyMethod()
