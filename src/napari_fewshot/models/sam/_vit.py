"""SAM's image encoder: a plain vision transformer with windows (ViTDet).

Kirillov et al., Segment Anything, ICCV 2023; Li et al., ViTDet, ECCV 2022. Names of
parameters as in Meta's files. The same numbers as the reference, computed otherwise:

* attention is torch's fused kernel; the decomposed relative position goes in as a bias,
  for global attention a few rows of queries at a time, so that nothing of size
  tokens x tokens is held;
* padding at the rim of windows is never multiplied: what a linear layer makes of zeros
  is its bias.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_fewshot.models.sam._adapters import Bottleneck, ConvAdapter
from napari_fewshot.models.sam._attend import by_kernel, by_products
from napari_fewshot.models.sam._layers import Feedforward, LayerNorm2d, Packed, can_pack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PATCH = 16
OUT = 256
EPS = 1e-6


@dataclass(frozen=True)
class VitConfig:
    """Make-up of the encoder.

    Attributes
    ----------
    dim, depth, heads : int
        Width, number of blocks and of heads.
    global_blocks : tuple of int
        Which blocks attend to the whole image.
    side : int
        Side of the square input in pixels, a multiple of 16.
    window : int
        Side of the windows of the other blocks, in tokens.
    offsets : int
        Rows of the tables of relative positions of global blocks; 0: as the side wants.
    conv_adapters, bottlenecks : tuple of int
        Which blocks have the adapters of SAM-Med2D and of finetune-SAM.
    """

    dim: int = 768
    depth: int = 12
    heads: int = 12
    global_blocks: tuple[int, ...] = (2, 5, 8, 11)
    side: int = 1024
    window: int = 14
    offsets: int = 0
    conv_adapters: tuple[int, ...] = ()
    bottlenecks: tuple[int, ...] = ()

    @property
    def grid(self) -> int:
        """Tokens along a side."""
        return self.side // PATCH


class PatchEmbed(nn.Module):
    """Patches of 16 x 16 pixels to tokens."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, PATCH, PATCH)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) to (B, G, G, dim)."""
        tokens: Tensor = self.proj(x).permute(0, 2, 3, 1)
        return tokens


class Attention(nn.Module):
    """Attention within windows or over the whole grid, with relative positions."""

    def __init__(self, config: VitConfig, window: int) -> None:
        super().__init__()
        self.heads, self.window = config.heads, window
        head = config.dim // config.heads
        self.qkv = nn.Linear(config.dim, 3 * config.dim)
        self.proj = nn.Linear(config.dim, config.dim)
        rows = 2 * window - 1 if window else config.offsets or 2 * config.grid - 1
        self.rel_pos_h = nn.Parameter(torch.zeros(rows, head))
        self.rel_pos_w = nn.Parameter(torch.zeros(rows, head))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, dim) to the same."""
        qkv = self.qkv(x)
        rows, columns = x.shape[1:3]
        if self.window:
            # A padded token is zero before this layer, so its bias afterwards.
            windows = split_windows(qkv, self.window, self.qkv.bias)
            found = self._attend(windows)
            joined = join_windows(found, self.window, (rows, columns))
        else:
            joined = self._attend(qkv)
        out: Tensor = self.proj(joined)
        return out

    def _attend(self, qkv: Tensor) -> Tensor:
        """(N, H, W, 3 dim) to (N, H, W, dim), each of N by itself."""
        count, rows, columns, _ = qkv.shape
        split = qkv.view(count, rows * columns, 3, self.heads, -1)
        q, k, v = (t.contiguous() for t in split.permute(2, 0, 3, 1, 4))
        grid = q.unflatten(2, (rows, columns))
        along_h = offsets(self.rel_pos_h, rows).to(q.dtype)
        along_w = offsets(self.rel_pos_w, columns).to(q.dtype)
        # (N, heads, rows, columns, keys along one axis); the scale is not for them.
        by_h = torch.einsum("nhrcd,rkd->nhrck", grid, along_h)
        by_w = torch.einsum("nhrcd,ckd->nhrck", grid, along_w)
        # Products in bf16 are several times as fast as the fused kernel of processors.
        is_half = q.dtype == torch.bfloat16 and q.device.type == "cpu"
        attend = by_products if is_half else by_kernel
        found = attend(q, k, v, by_h, by_w)
        return found.transpose(1, 2).reshape(count, rows, columns, -1)


class Block(nn.Module):
    """Attention and a feed-forward part, each beside a skip.

    Parameters
    ----------
    config : VitConfig
        Of the encoder.
    number : int
        Of the block.
    """

    def __init__(self, config: VitConfig, number: int) -> None:
        super().__init__()
        window = 0 if number in config.global_blocks else config.window
        self.norm1 = nn.LayerNorm(config.dim, EPS)
        self.attn = Attention(config, window)
        self.norm2 = nn.LayerNorm(config.dim, EPS)
        self.mlp = Feedforward(config.dim, 4 * config.dim, nn.GELU)
        self.Adapter: ConvAdapter | None = None
        self.Space_Adapter: Bottleneck | None = None
        if number in config.conv_adapters:
            self.Adapter = ConvAdapter(config.dim)
        if number in config.bottlenecks:
            self.Space_Adapter = Bottleneck(config.dim, skip=True)
            self.MLP_Adapter = Bottleneck(config.dim, skip=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, dim) to the same."""
        found = self.attn(self.norm1(x))
        if self.Space_Adapter is not None:
            found = self.Space_Adapter(found)
        x = x + found
        normed = self.norm2(x)
        out: Tensor = x + self.mlp(normed)
        if self.Adapter is not None:
            out = out + self.Adapter(normed)
        if self.Space_Adapter is not None:
            out = out + 0.5 * self.MLP_Adapter(normed)
        return out


class ImageEncoderVit(nn.Module):
    """The encoder.

    Parameters
    ----------
    config : VitConfig
        Its make-up.
    """

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.config = config
        self.packed: torch.dtype | None = None
        self.patch_embed = PatchEmbed(config.dim)
        grid = (1, config.grid, config.grid, config.dim)
        self.pos_embed = nn.Parameter(torch.zeros(grid))
        self.blocks = nn.ModuleList(
            Block(config, number) for number in range(config.depth)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(config.dim, OUT, 1, bias=False),
            LayerNorm2d(OUT),
            nn.Conv2d(OUT, OUT, 3, padding=1, bias=False),
            LayerNorm2d(OUT),
        )

    @property
    def side(self) -> int:
        """Side of the frame in pixels."""
        return self.config.side

    @property
    def grid(self) -> int:
        """Side of the embedding."""
        return self.config.grid

    @property
    def early(self) -> int:
        """Which block's tokens HQ-SAM reads besides: the first that sees everything."""
        return self.config.global_blocks[0]

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
            Called with the number of the block and of all blocks; may raise.
        keep : sequence of int
            Blocks whose tokens (B, G, G, dim) are returned too.

        Returns
        -------
        tensor (B, 256, G, G)
            If nothing is kept; else a pair of it and a list of the kept tokens.
        """
        kept: dict[int, Tensor] = {}
        tokens = self.prefix(x, 0)
        found = self._run(tokens, 0, self.config.depth, check, keep, kept)
        found = self.neck(found.permute(0, 3, 1, 2))
        return (found, [kept[k] for k in keep]) if keep else found

    def pack(self, dtype: torch.dtype) -> None:
        """Get ready to compute on a processor only: a tenth faster, never trained.

        Parameters
        ----------
        dtype : torch.dtype
            In which linear layers will compute.
        """
        if self.packed == dtype or not can_pack(dtype):
            return
        self.packed = dtype
        for block in self.blocks:
            for module, name in (
                (block.attn, "qkv"),
                (block.attn, "proj"),
                (block.mlp, "lin1"),
                (block.mlp, "lin2"),
            ):
                layer = getattr(module, name)
                if isinstance(layer, Packed) or type(layer) is nn.Linear:
                    setattr(module, name, Packed(layer, dtype))

    def prefix(self, x: Tensor, k: int) -> Tensor:
        """Return the tokens before block ``k``, (B, G, G, dim), of (B, 3, S, S).

        They depend on no weights from block ``k`` on, so they can be kept while these
        are trained.
        """
        return self._run(self.patch_embed(x) + self.pos_embed, 0, k)

    def suffix(self, tokens: Tensor, k: int) -> Tensor:
        """Return the embedding (B, 256, G, G) of what `prefix` returned for ``k``."""
        found = self._run(tokens, k, self.config.depth)
        embedding: Tensor = self.neck(found.permute(0, 3, 1, 2))
        return embedding

    def _run(
        self,
        tokens: Tensor,
        begin: int,
        end: int,
        check: Callable[[int, int], None] | None = None,
        keep: Sequence[int] = (),
        kept: dict[int, Tensor] | None = None,
    ) -> Tensor:
        for number in range(begin, end):
            if check is not None:
                check(number, self.config.depth)
            tokens = self.blocks[number](tokens)
            if number in keep and kept is not None:
                kept[number] = tokens
        return tokens


def offsets(table: Tensor, side: int) -> Tensor:
    """Return what every query-key offset along an axis adds, (side, side, C).

    Parameters
    ----------
    table : tensor (2 G - 1, C)
        Learnt for G positions; stretched if the axis has another length.
    side : int
        Positions along the axis.
    """
    wanted = 2 * side - 1
    if table.shape[0] != wanted:
        stretched = F.interpolate(table.T[None], wanted, mode="linear")
        table = stretched[0].T
    places = torch.arange(side, device=table.device)
    return table[places[:, None] - places[None] + side - 1]


def split_windows(x: Tensor, side: int, fill: Tensor) -> Tensor:
    """(B, H, W, C) to (B n, side, side, C); beyond the rim there is ``fill`` (C,)."""
    count, rows, columns, channels = x.shape
    tall, wide = -(-rows // side) * side, -(-columns // side) * side
    if (tall, wide) != (rows, columns):
        padded = fill.to(x.dtype).expand(count, tall, wide, channels).contiguous()
        padded[:, :rows, :columns] = x
        x = padded
    cut = x.view(count, tall // side, side, wide // side, side, channels)
    return cut.transpose(2, 3).reshape(-1, side, side, channels)


def join_windows(windows: Tensor, side: int, shape: tuple[int, int]) -> Tensor:
    """Undo `split_windows` to (B, H, W, C)."""
    rows, columns = shape
    down, across = -(-rows // side), -(-columns // side)
    x = windows.view(-1, down, across, side, side, windows.shape[-1])
    x = x.transpose(2, 3).reshape(-1, down * side, across * side, windows.shape[-1])
    # In one piece: linear layers are far slower on a part of a larger array.
    return x[:, :rows, :columns].contiguous()
