"""The small image encoder of MobileSAM, LiteMedSAM and micro-sam's vit_t: TinyViT.

Wu et al., TinyViT, ECCV 2022, as Zhang et al. (MobileSAM, 2023) changed it: the last
merging of patches does not shrink, so that the embedding has a 16th of the side of the
frame. LiteMedSAM's stem does not shrink either: a 4th. Names as in their files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_fewshot.models.sam._layers import LayerNorm2d
from napari_fewshot.models.sam._prompts import DIM
from napari_fewshot.models.sam._vit import join_windows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True)
class TinyConfig:
    """Make-up of the encoder.

    Attributes
    ----------
    dims, depths, heads, windows : tuple of int
        Of each stage; the first stage has neither heads nor windows (0).
    side : int
        Side of the square input in pixels.
    shrinks : bool
        Whether the stem shrinks by four.
    """

    dims: tuple[int, ...] = (64, 128, 160, 320)
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (0, 4, 5, 10)
    windows: tuple[int, ...] = (0, 7, 14, 7)
    side: int = 1024
    shrinks: bool = True

    @property
    def grid(self) -> int:
        """Side of the embedding."""
        stride = (4 if self.shrinks else 1) << (len(self.dims) - 2)
        return self.side // stride


class ConvNorm(nn.Module):
    """A convolution without bias and batch normalisation."""

    def __init__(
        self, channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.c = nn.Conv2d(
            channels, out, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, out, H / stride, W / stride)."""
        found: Tensor = self.bn(self.c(x))
        return found


class Stem(nn.Module):
    """Pixels to features."""

    def __init__(self, dim: int, *, shrinks: bool) -> None:
        super().__init__()
        kernel, stride = (3, 2) if shrinks else (1, 1)
        self.seq = nn.Sequential(
            ConvNorm(3, dim // 2, kernel, stride),
            nn.GELU(),
            ConvNorm(dim // 2, dim, kernel, stride),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) to (B, dim, S', S')."""
        found: Tensor = self.seq(x)
        return found


class MbConv(nn.Module):
    """An inverted bottleneck with a convolution of every channel by itself."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(dim, 4 * dim, 1)
        self.conv2 = ConvNorm(4 * dim, 4 * dim, 3, groups=4 * dim)
        self.conv3 = ConvNorm(4 * dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) to the same."""
        found = self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))
        return F.gelu(x + found)


class Merging(nn.Module):
    """To more channels, and half the side if it shrinks."""

    def __init__(self, dim: int, out: int, *, shrinks: bool) -> None:
        super().__init__()
        self.conv1 = ConvNorm(dim, out, 1)
        self.conv2 = ConvNorm(out, out, 3, 2 if shrinks else 1, groups=out)
        self.conv3 = ConvNorm(out, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) to (B, out, H', W')."""
        found: Tensor = self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))
        return found


class Attention(nn.Module):
    """Attention within windows with a bias for every distance along the axes."""

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window**2))

    def forward(self, x: Tensor) -> Tensor:
        """(N, window, window, dim) to the same."""
        x = self.norm(x.flatten(1, 2))
        parts = self.qkv(x).unflatten(-1, (self.heads, 3, -1)).unbind(3)
        q, k, v = (p.transpose(1, 2) for p in parts)
        place = torch.arange(self.window, device=x.device)
        away = (place[:, None] - place[None]).abs()
        # A bias for (rows apart, columns apart), whichever direction.
        pairs = away[:, None, :, None] * self.window + away[None, :, None, :]
        bias = self.attention_biases[:, pairs.flatten(2).flatten(0, 1)].to(q.dtype)
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        out: Tensor = self.proj(found.transpose(1, 2).flatten(2))
        return out.view(-1, self.window, self.window, out.shape[-1])


class Mlp(nn.Module):
    """Two linear layers after a normalisation."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) to the same."""
        found: Tensor = self.fc2(F.gelu(self.fc1(self.norm(x))))
        return found


class WindowBlock(nn.Module):
    """Attention in windows, a local convolution, a feed-forward part."""

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.attn = Attention(dim, heads, window)
        self.local_conv = ConvNorm(dim, dim, 3, groups=dim)
        self.mlp = Mlp(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) to the same."""
        x = x + self._attend(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = self.local_conv(x)
        out: Tensor = x + self.mlp(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return out

    def _attend(self, x: Tensor) -> Tensor:
        window = self.attn.window
        rows, columns = x.shape[1:3]
        # Unlike in SAM's encoder padded tokens are normalised, so they are not zero.
        padded = F.pad(x, (0, 0, 0, -columns % window, 0, -rows % window))
        cut = padded.unflatten(2, (-1, window)).unflatten(1, (-1, window))
        windows = cut.transpose(2, 3).flatten(0, 2)
        return join_windows(self.attn(windows), window, (rows, columns))


class Stage(nn.Module):
    """Blocks of one width, then the way to the next."""

    def __init__(self, config: TinyConfig, number: int) -> None:
        super().__init__()
        dim, last = config.dims[number], len(config.dims) - 1
        self.blocks = nn.ModuleList(
            WindowBlock(dim, config.heads[number], config.windows[number])
            if number
            else MbConv(dim)
            for _ in range(config.depths[number])
        )
        self.downsample: Merging | None = None
        if number < last:
            following = config.dims[number + 1]
            self.downsample = Merging(dim, following, shrinks=number + 1 < last)

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim, H, W) to (B, dim', H', W')."""
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class TinyVit(nn.Module):
    """The encoder.

    Parameters
    ----------
    config : TinyConfig
        Its make-up.
    """

    # HQ-SAM reads the features after the second stage.
    early = 1

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = Stem(config.dims[0], shrinks=config.shrinks)
        self.layers = nn.ModuleList(
            Stage(config, number) for number in range(len(config.dims))
        )
        self.neck = nn.Sequential(
            nn.Conv2d(config.dims[-1], DIM, 1, bias=False),
            LayerNorm2d(DIM),
            nn.Conv2d(DIM, DIM, 3, padding=1, bias=False),
            LayerNorm2d(DIM),
        )

    @property
    def side(self) -> int:
        """Side of the frame in pixels."""
        return self.config.side

    @property
    def grid(self) -> int:
        """Side of the embedding."""
        return self.config.grid

    def forward(
        self,
        x: Tensor,
        check: Callable[[int, int], None] | None = None,
        keep: Sequence[int] = (),
    ) -> Any:
        """Encode images.

        Parameters
        ----------
        x : tensor (B, 3, S, S)
            Standardised and padded.
        check : callable, optional
            Called with the number of the stage and of all stages; may raise.
        keep : sequence of int
            Stages whose features (B, H, W, dim) are returned too.

        Returns
        -------
        tensor (B, 256, G, G)
            If nothing is kept; else a pair of it and a list of the kept features.
        """
        kept: dict[int, Tensor] = {}
        x = self.patch_embed(x)
        for number, stage in enumerate(self.layers):
            if check is not None:
                check(number, len(self.layers))
            x = stage(x)
            if number in keep:
                kept[number] = x.permute(0, 2, 3, 1)
        found = self.neck(x)
        return (found, [kept[k] for k in keep]) if keep else found
