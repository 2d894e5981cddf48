"""SAM's mask decoder: a two-way transformer and dynamic mask heads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_fewshot.models.sam._layers import Feedforward, LayerNorm2d, Mlp
from napari_fewshot.models.sam._prompts import DIM

if TYPE_CHECKING:
    from collections.abc import Sequence

HEADS, DEPTH, HIDDEN = 8, 2, 2048
MASKS = 4


class Attention(nn.Module):
    """Attention whose inner width may be smaller."""

    def __init__(self, shrink: int = 1) -> None:
        super().__init__()
        inner = DIM // shrink
        self.q_proj = nn.Linear(DIM, inner)
        self.k_proj = nn.Linear(DIM, inner)
        self.v_proj = nn.Linear(DIM, inner)
        self.out_proj = nn.Linear(inner, DIM)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, n, 256), (B, m, 256) twice, to (B, n, 256)."""
        parts = (self.q_proj(q), self.k_proj(k), self.v_proj(v))
        heads = [p.unflatten(-1, (HEADS, -1)).transpose(1, 2) for p in parts]
        found = F.scaled_dot_product_attention(*heads)
        out: Tensor = self.out_proj(found.transpose(1, 2).flatten(2))
        return out


class TwoWayBlock(nn.Module):
    """Tokens read tokens, then the image; the image reads the tokens."""

    def __init__(self, *, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = Attention()
        self.norm1 = nn.LayerNorm(DIM)
        self.cross_attn_token_to_image = Attention(2)
        self.norm2 = nn.LayerNorm(DIM)
        self.mlp = Feedforward(DIM, HIDDEN, nn.ReLU)
        self.norm3 = nn.LayerNorm(DIM)
        self.norm4 = nn.LayerNorm(DIM)
        self.cross_attn_image_to_token = Attention(2)

    def forward(
        self, tokens: Tensor, image: Tensor, token_code: Tensor, image_code: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(B, n, 256) and (B, m, 256), with codes of their places, to the same."""
        if self.first:
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            q = tokens + token_code
            tokens = tokens + self.self_attn(q, q, tokens)
        tokens = self.norm1(tokens)
        k = image + image_code
        read = self.cross_attn_token_to_image(tokens + token_code, k, image)
        tokens = self.norm2(tokens + read)
        tokens = self.norm3(tokens + self.mlp(tokens))
        q = tokens + token_code
        image = self.norm4(image + self.cross_attn_image_to_token(k, q, tokens))
        return tokens, image


class TwoWayTransformer(nn.Module):
    """Blocks, then one last look of the tokens at the image."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwoWayBlock(first=i == 0) for i in range(DEPTH))
        self.final_attn_token_to_image = Attention(2)
        self.norm_final_attn = nn.LayerNorm(DIM)

    def forward(
        self, image: Tensor, code: Tensor, tokens: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(B, m, 256), its code, (B, n, 256) to tokens and image."""
        start = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, start, code)
        read = self.final_attn_token_to_image(tokens + start, image + code, image)
        return self.norm_final_attn(tokens + read), image


class MaskDecoder(nn.Module):
    """Prompts and an embedding to masks and their expected quality."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = TwoWayTransformer()
        self.iou_token = nn.Embedding(1, DIM)
        self.mask_tokens = nn.Embedding(MASKS, DIM)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(DIM, DIM // 4, 2, 2),
            LayerNorm2d(DIM // 4),
            nn.GELU(),
            nn.ConvTranspose2d(DIM // 4, DIM // 8, 2, 2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            Mlp(DIM, DIM, DIM // 8, 3) for _ in range(MASKS)
        )
        self.iou_prediction_head = Mlp(DIM, DIM, MASKS, 3)

    def forward(
        self,
        embedding: Tensor,
        code: Tensor,
        tokens: Tensor,
        dense: Tensor,
        wanted: Sequence[int],
    ) -> tuple[Tensor, Tensor]:
        """Decode the masks of B objects on one image.

        Parameters
        ----------
        embedding : tensor (1, 256, G, G)
            Of the image.
        code : tensor (1, 256, G, G)
            Of the places on the grid.
        tokens : tensor (B, n, 256)
            Sparse prompts.
        dense : tensor (B or 1, 256, G, G)
            Dense prompts.
        wanted : sequence of int
            Which of the four masks: 0 for unambiguous prompts, 1 to 3 are candidates.

        Returns
        -------
        logits : tensor (B, len(wanted), 4 G, 4 G)
        quality : tensor (B, len(wanted))
            Predicted intersection over union.
        """
        count = len(tokens)
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        every = torch.cat([own.expand(count, -1, -1), tokens], 1)
        image = (embedding + dense).flatten(2).transpose(1, 2).expand(count, -1, -1)
        places = code.flatten(2).transpose(1, 2)
        read, image = self.transformer(image, places, every)
        map_ = image.transpose(1, 2).unflatten(2, tuple(embedding.shape[2:]))
        upscaled = self.output_upscaling(map_)
        heads = [self.output_hypernetworks_mlps[i](read[:, 1 + i]) for i in wanted]
        logits = torch.einsum("bmc,bchw->bmhw", torch.stack(heads, 1), upscaled)
        quality = self.iou_prediction_head(read[:, 0])[:, list(wanted)]
        return logits, quality
