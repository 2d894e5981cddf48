"""HQ-SAM's mask decoder: fine masks from early features of the encoder.

Ke et al., Segment Anything in High Quality, NeurIPS 2023. One more output token meets
the map of SAM, to which the embedding and the features after the encoder's first block
that sees the whole image are added; its mask is added to SAM's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from napari_fewshot.models.sam._decoder import (
    DecoderConfig,
    Guidance,
    MaskDecoder,
    square,
)
from napari_fewshot.models.sam._layers import LayerNorm2d, Mlp
from napari_fewshot.models.sam._prompts import DIM

if TYPE_CHECKING:
    from collections.abc import Sequence


class HqMaskDecoder(MaskDecoder):
    """SAM's decoder with the fine token.

    The published code returns one mask, the best of three; here each of the three
    candidates is refined, so that the best of them is that one.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__(config)
        self.hf_token = nn.Embedding(1, DIM)
        self.hf_mlp = Mlp(DIM, DIM, DIM // 8, 3)
        self.compress_vit_feat = _enlarge(config.early, DIM)
        self.embedding_encoder = _enlarge(DIM, DIM // 4)
        self.embedding_maskfeature = nn.Sequential(
            nn.Conv2d(DIM // 8, DIM // 4, 3, padding=1),
            LayerNorm2d(DIM // 4),
            nn.GELU(),
            nn.Conv2d(DIM // 4, DIM // 8, 3, padding=1),
        )

    def own(self) -> Tensor:
        """Return the decoder's own tokens; the last one is for fine masks."""
        return torch.cat([super().own(), self.hf_token.weight])

    def forward(
        self,
        embedding: Tensor,
        code: Tensor,
        tokens: Tensor,
        dense: Tensor,
        wanted: Sequence[int],
        early: Tensor | None = None,
        guidance: Guidance | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Decode the masks of B objects, see `MaskDecoder.forward`."""
        read, image = self.read(embedding, code, tokens, dense, guidance)
        upscaled = self.output_upscaling(square(image))
        fine = self.embedding_encoder(embedding) + self.compress_vit_feat(early)
        fine = fine + self.embedding_maskfeature(upscaled)
        head = self.hf_mlp(read[:, 1 + len(self.mask_tokens.weight)])
        added = torch.einsum("bc,bchw->bhw", head, fine)[:, None]
        return self.masks(read, upscaled, wanted) + added, self.quality(read, wanted)


def _enlarge(channels: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(channels, hidden, 2, 2),
        LayerNorm2d(hidden),
        nn.GELU(),
        nn.ConvTranspose2d(hidden, DIM // 8, 2, 2),
    )
