"""H-SAM's second decoder: classes once more, guided by the first answer.

Cheng et al., Unleashing the Potential of SAM for Medical Adaptation via Hierarchical
Decoding, CVPR 2024. Attention between tokens and image is weighted with the first
decoder's probabilities; the answer is the mean of both.

The published code also computes an attention among mask tokens, which ends in a softmax
over a single channel: it always yields ones and doubles the map. That is what is done
here, without the attention.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_fewshot.models.sam._decoder import (
    DEPTH,
    HEADS,
    Attention,
    MaskDecoder,
    TwoWayBlock,
    TwoWayTransformer,
    square,
    upscaling,
)
from napari_fewshot.models.sam._layers import LayerNorm2d, Mlp
from napari_fewshot.models.sam._prompts import DIM

if TYPE_CHECKING:
    from collections.abc import Sequence


class GuidedAttention(Attention):
    """Attention of full width whose weights are multiplied with probabilities."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *more: Tensor) -> Tensor:
        """(B, n, 256), (B, m, 256) twice and (B, classes, cells) to (B, n, 256)."""
        parts = (self.q_proj(q), self.k_proj(k), self.v_proj(v))
        q, k, v = (p.unflatten(-1, (HEADS, -1)).transpose(1, 2) for p in parts)
        weights = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1)
        share = more[0][:, None]
        if weights.shape[-1] != share.shape[-1]:
            share = share.transpose(-2, -1)
        found = (weights * share) @ v
        out: Tensor = self.out_proj(found.transpose(1, 2).flatten(2))
        return out


class GuidedBlock(TwoWayBlock):
    """A block that reads the image where a class is probable."""

    def crossing(self) -> nn.Module:
        """Make an attention between tokens and image."""
        return GuidedAttention()


class RefineDecoder(nn.Module):
    """A map, its code and probabilities of classes to logits of 16 times its side.

    Parameters
    ----------
    classes : int
        Mask tokens.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.transformer2 = TwoWayTransformer(
            GuidedBlock(first=i == 0, image_first=True) for i in range(DEPTH)
        )
        self.mask_tokens = nn.Embedding(classes, DIM)
        self.output_upscaling = upscaling()
        self.skip_connect = nn.Sequential(
            nn.ConvTranspose2d(DIM // 4, DIM // 8, 2, 2),
            LayerNorm2d(DIM // 8),
            nn.GELU(),
            nn.ConvTranspose2d(DIM // 8, DIM // 16, 2, 2),
            LayerNorm2d(DIM // 16),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps2 = nn.ModuleList(
            Mlp(DIM, DIM, DIM // 16, 5) for _ in range(classes)
        )

    def forward(
        self, image: Tensor, code: Tensor, upscaled: Tensor, probability: Tensor
    ) -> Tensor:
        """Return logits (1, classes, 16 G, 16 G).

        Parameters
        ----------
        image, code : tensor (1, 256, G, G)
            The embedding with the dense prompt, and the code of places.
        upscaled : tensor (1, 32, 4 G, 4 G)
            The first decoder's map for masks.
        probability : tensor (1, classes, G, G)
            From the first decoder.
        """
        rows = tuple(image.shape[2:])
        flat = (2 * image).flatten(2).transpose(1, 2)
        places = code.flatten(2).transpose(1, 2)
        tokens = self.mask_tokens.weight[None]
        read, flat = self.transformer2(flat, places, tokens, probability.flatten(2))
        map_ = self.output_upscaling(flat.transpose(1, 2).unflatten(2, rows))
        map_ = self.skip_connect(torch.cat([map_, upscaled], 1))
        heads = [m(read[:, i]) for i, m in enumerate(self.output_hypernetworks_mlps2)]
        return torch.einsum("bmc,bchw->bmhw", torch.stack(heads, 1), map_)


def refined(
    first: MaskDecoder,
    second: RefineDecoder,
    embedding: Tensor,
    code: Tensor,
    tokens: Tensor,
    dense: Tensor,
    wanted: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Decode the classes of one image with both decoders.

    Returns
    -------
    logits : tensor (1, len(wanted), 16 G, 16 G)
    quality : tensor (1, len(wanted))
        Of the first decoder.
    """
    read, image = first.read(embedding, code, tokens, dense)
    upscaled = first.output_upscaling(square(image))
    rough = first.masks(read, upscaled, range(len(first.mask_tokens.weight)))
    small = F.interpolate(rough, scale_factor=0.25, mode="bilinear")
    fine = second(embedding + dense, code, upscaled, small.softmax(1))
    rough = F.interpolate(rough, fine.shape[2:], mode="bilinear", align_corners=False)
    return ((rough + fine) / 2)[:, list(wanted)], first.quality(read, wanted)
