"""SAM's mask decoder: a two-way transformer and dynamic mask heads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_fewshot.models.sam._adapters import Bottleneck
from napari_fewshot.models.sam._layers import Feedforward, LayerNorm2d, Mlp
from napari_fewshot.models.sam._prompts import DIM

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HEADS, DEPTH, HIDDEN = 8, 2, 2048


@dataclass(frozen=True, eq=False)
class Guidance:
    """What PerSAM adds to the decoder (Zhang et al., ICLR 2024).

    Attributes
    ----------
    bias : tensor (G G,), optional
        In [0, 1], added to the weights with which tokens attend to the image, which
        then go through another softmax: target-guided attention.
    target : tensor (256,), optional
        Added to the tokens before every block and before the last attention:
        target-semantic prompting.
    """

    bias: Tensor | None = None
    target: Tensor | None = None


@dataclass(frozen=True)
class DecoderConfig:
    """Make-up of the mask decoder.

    Attributes
    ----------
    masks : int
        Mask tokens: four, or one more than classes.
    early : int
        Channels of early features that HQ-SAM adds; 0 for other families.
    adapters : tuple of int
        Blocks of the transformer with bottlenecks (finetune-SAM).
    refined : bool
        Whether a second decoder follows (H-SAM).
    """

    masks: int = 4
    early: int = 0
    adapters: tuple[int, ...] = ()
    refined: bool = False


class Attention(nn.Module):
    """Attention whose inner width may be smaller."""

    def __init__(self, shrink: int = 1) -> None:
        super().__init__()
        inner = DIM // shrink
        self.q_proj = nn.Linear(DIM, inner)
        self.k_proj = nn.Linear(DIM, inner)
        self.v_proj = nn.Linear(DIM, inner)
        self.out_proj = nn.Linear(inner, DIM)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *more: Tensor) -> Tensor:
        """(B, n, 256), (B, m, 256) twice, to (B, n, 256).

        What is the same for all of a batch may be given once, with B = 1. A bias (m,)
        given besides is added to the weights before a second softmax.
        """
        count = max(len(q), len(k))
        parts = (self.q_proj(q), self.k_proj(k), self.v_proj(v))
        parts = tuple(p.expand(count, -1, -1) for p in parts)
        heads = [p.unflatten(-1, (HEADS, -1)).transpose(1, 2) for p in parts]
        if more:
            found = biased_attention(heads[0], heads[1], heads[2], more[0])
        else:
            found = F.scaled_dot_product_attention(*heads)
        out: Tensor = self.out_proj(found.transpose(1, 2).flatten(2))
        return out


def biased_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Attend with softmax(softmax(q k / sqrt(c)) + bias).

    Parameters
    ----------
    q, k, v : tensor (..., n, c), (..., m, c), (..., m, c)
        Per head.
    bias : tensor (m,)
        Of the keys.

    Returns
    -------
    tensor (..., n, c)
    """
    weights = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1)
    found: Tensor = (weights + bias).softmax(-1).to(v.dtype) @ v
    return found


class TwoWayBlock(nn.Module):
    """Tokens read tokens, then the image; the image reads the tokens.

    Parameters
    ----------
    first : bool
        Whether it is the first block, where tokens carry no code of their places.
    adapted : bool
        Whether it has bottlenecks.
    image_first : bool
        Whether tokens read the image before they read each other (H-SAM).
    """

    def __init__(
        self, *, first: bool, adapted: bool = False, image_first: bool = False
    ) -> None:
        super().__init__()
        self.first, self.image_first = first, image_first
        self.self_attn = Attention()
        self.norm1 = nn.LayerNorm(DIM)
        self.cross_attn_token_to_image = self.crossing()
        self.norm2 = nn.LayerNorm(DIM)
        self.mlp = Feedforward(DIM, HIDDEN, nn.ReLU)
        self.norm3 = nn.LayerNorm(DIM)
        self.norm4 = nn.LayerNorm(DIM)
        self.cross_attn_image_to_token = self.crossing()
        self.Adapter: Bottleneck | None = None
        if adapted:
            self.Adapter = Bottleneck(DIM, skip=True)
            self.MLP_Adapter = Bottleneck(DIM, skip=False)

    def crossing(self) -> nn.Module:
        """Make an attention between tokens and image."""
        return Attention(2)

    def forward(
        self,
        tokens: Tensor,
        image: Tensor,
        token_code: Tensor,
        image_code: Tensor,
        *more: Tensor,
        toward: tuple[Tensor, ...] = (),
    ) -> tuple[Tensor, Tensor]:
        """(B, n, 256) and (B, m, 256), with codes of their places, to the same.

        What is given besides goes to the attention between tokens and image;
        ``toward`` only where tokens attend.
        """
        if not self.image_first:
            tokens = self._read_tokens(tokens, token_code)
        k = image + image_code
        read = self.cross_attn_token_to_image(
            tokens + token_code, k, image, *more, *toward
        )
        tokens = tokens + read
        if self.Adapter is not None:
            tokens = self.Adapter(tokens)
        tokens = self.norm2(tokens)
        if self.image_first:
            tokens = self._read_tokens(tokens, token_code)
        widened = self.mlp(tokens)
        if self.Adapter is not None:
            widened = widened + 0.5 * self.MLP_Adapter(tokens)
        tokens = self.norm3(tokens + widened)
        q = tokens + token_code
        image = image + self.cross_attn_image_to_token(k, q, tokens, *more)
        if self.Adapter is not None:
            image = self.Adapter(image)
        return tokens, self.norm4(image)

    def _read_tokens(self, tokens: Tensor, code: Tensor) -> Tensor:
        if self.first:
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            q = tokens + code
            tokens = tokens + self.self_attn(q, q, tokens)
        normed: Tensor = self.norm1(tokens)
        return normed


class TwoWayTransformer(nn.Module):
    """Blocks, then one last look of the tokens at the image."""

    def __init__(self, blocks: Iterable[TwoWayBlock]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(blocks)
        self.final_attn_token_to_image = Attention(2)
        self.norm_final_attn = nn.LayerNorm(DIM)

    def forward(
        self,
        image: Tensor,
        code: Tensor,
        tokens: Tensor,
        *more: Tensor,
        guidance: Guidance | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(B, m, 256), its code, (B, n, 256) to tokens and image."""
        if guidance is not None:
            return self._guided(image, code, tokens, guidance)
        start = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, start, code, *more)
        return self._finish(tokens, image, start, code)

    def _guided(
        self, image: Tensor, code: Tensor, tokens: Tensor, guidance: Guidance
    ) -> tuple[Tensor, Tensor]:
        start = tokens
        toward = () if guidance.bias is None else (guidance.bias,)
        target = 0.0 if guidance.target is None else guidance.target
        for layer in self.layers:
            tokens, image = layer(tokens + target, image, start, code, toward=toward)
        return self._finish(tokens, image, start + target, code)

    def _finish(
        self, tokens: Tensor, image: Tensor, start: Tensor, code: Tensor
    ) -> tuple[Tensor, Tensor]:
        read = self.final_attn_token_to_image(tokens + start, image + code, image)
        return self.norm_final_attn(tokens + read), image


class MaskDecoder(nn.Module):
    """Prompts and an embedding to masks and their expected quality.

    Parameters
    ----------
    config : DecoderConfig
        Its make-up.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.transformer = TwoWayTransformer(
            TwoWayBlock(
                first=i == 0,
                adapted=i in config.adapters,
                image_first=config.refined,
            )
            for i in range(DEPTH)
        )
        self.iou_token = nn.Embedding(1, DIM)
        self.mask_tokens = nn.Embedding(config.masks, DIM)
        self.output_upscaling = upscaling()
        self.output_hypernetworks_mlps = nn.ModuleList(
            Mlp(DIM, DIM, DIM // 8, 3) for _ in range(config.masks)
        )
        self.iou_prediction_head = Mlp(DIM, DIM, config.masks, 3)

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
            Which of the masks: 0 for unambiguous prompts, 1 to 3 are candidates; or
            classes.
        early : tensor (1, C, G, G), optional
            Early features of the encoder, which only HQ-SAM reads.
        guidance : Guidance, optional
            Where to look and for what.

        Returns
        -------
        logits : tensor (B, len(wanted), 4 G, 4 G)
        quality : tensor (B, len(wanted))
            Predicted intersection over union.
        """
        read, image = self.read(embedding, code, tokens, dense, guidance)
        heads = self.heads(read, wanted)
        logits = upscaled_masks(self.output_upscaling, image, heads)
        return logits, self.quality(read, wanted)

    def read(
        self,
        embedding: Tensor,
        code: Tensor,
        tokens: Tensor,
        dense: Tensor,
        guidance: Guidance | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return output tokens (B, 1 + masks + .., 256) and the image (B, G G, 256)."""
        count = len(tokens)
        every = torch.cat([self.own().expand(count, -1, -1), tokens], 1)
        # Row by row in memory: norms over the channels are several times as fast.
        image = (embedding + dense).flatten(2).transpose(1, 2).contiguous()
        places = code.flatten(2).transpose(1, 2).contiguous()
        found: tuple[Tensor, Tensor]
        # The image is the same for all until the first block has changed it.
        found = self.transformer(image, places, every, guidance=guidance)
        return found

    def own(self) -> Tensor:
        """Return the decoder's own tokens: of quality, then of masks."""
        return torch.cat([self.iou_token.weight, self.mask_tokens.weight])

    def heads(self, read: Tensor, wanted: Sequence[int]) -> Tensor:
        """Return what the wanted masks are made with, (B, len(wanted), 32)."""
        heads = [self.output_hypernetworks_mlps[i](read[:, 1 + i]) for i in wanted]
        return torch.stack(heads, 1)

    def masks(self, read: Tensor, upscaled: Tensor, wanted: Sequence[int]) -> Tensor:
        """Return the wanted masks of a map (B, 32, 4 G, 4 G)."""
        found: Tensor = torch.einsum(
            "bmc,bchw->bmhw", self.heads(read, wanted), upscaled
        )
        return found

    def quality(self, read: Tensor, wanted: Sequence[int]) -> Tensor:
        """Return the predicted intersection over union, (B, len(wanted))."""
        found: Tensor = self.iou_prediction_head(read[:, 0])[:, list(wanted)]
        return found


def square(image: Tensor) -> Tensor:
    """Return tokens (B, G G, C) as a map (B, C, G, G)."""
    side = math.isqrt(image.shape[1])
    found: Tensor = image.transpose(1, 2).unflatten(2, (side, side))
    return found


def upscaled_masks(layers: nn.Module, image: Tensor, heads: Tensor) -> Tensor:
    """Enlarge the image and make masks of it, without a map of all channels.

    Convolutions whose kernel is as large as their stride are one linear layer per
    pixel; pixels stay in the order in which they come out, and only the masks are put
    in order.

    Parameters
    ----------
    layers : nn.Sequential
        From `upscaling`.
    image : tensor (B, G G, 256)
        Of the transformer.
    heads : tensor (B, M, 32)
        From `MaskDecoder.heads`.

    Returns
    -------
    tensor (B, M, 4 G, 4 G)
    """
    parts: Any = layers
    first, norm, _, second, _ = parts
    count, side = len(image), math.isqrt(image.shape[1])
    found = F.gelu(norm.last(_spread(first, image)))
    found = F.gelu(_spread(second, found)).reshape(count, -1, heads.shape[-1])
    masks = heads @ found.transpose(1, 2)
    masks = masks.view(count, heads.shape[1], side, side, 2, 2, 2, 2)
    masks = masks.permute(0, 1, 2, 4, 6, 3, 5, 7)
    return masks.reshape(count, heads.shape[1], 4 * side, 4 * side)


def _spread(layer: Any, x: Tensor) -> Tensor:
    """Apply a 2 x 2 transposed convolution to (..., C): to (4 ..., C')."""
    weight = layer.weight.permute(2, 3, 1, 0)
    found = F.linear(x, weight.flatten(0, 2), layer.bias.repeat(4))
    spread: Tensor = found.reshape(-1, weight.shape[2])
    return spread


def upscaling() -> nn.Sequential:
    """Make the layers from (B, 256, G, G) to (B, 32, 4 G, 4 G)."""
    return nn.Sequential(
        nn.ConvTranspose2d(DIM, DIM // 4, 2, 2),
        LayerNorm2d(DIM // 4),
        nn.GELU(),
        nn.ConvTranspose2d(DIM // 4, DIM // 8, 2, 2),
        nn.GELU(),
    )
