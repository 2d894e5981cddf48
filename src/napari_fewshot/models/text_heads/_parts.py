"""Parts that several heads share."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from napari_fewshot.models.text_heads._seen import Seen

GROUPS = 4
# Cosines of a CLIP are narrow; and what a new layer says at first counts so much.
GAIN, FIRST = 10.0, 0.1


class PixelFeatures(nn.Module):
    """Pixels at a quarter of the tower's resolution: its patches, and edges beside.

    The published heads stand on a U-Net of their own; here a few convolutions on the
    pixels draw the outlines of what the frozen patches recognise.

    Parameters
    ----------
    sizes : dict
        From `Seen.sizes`.
    channels : int
        Of the result; a multiple of 4.
    """

    def __init__(self, sizes: dict[str, int], channels: int) -> None:
        super().__init__()
        deep = sizes["words"] + sizes["levels"] * sizes["width"]
        self.norms = nn.ModuleList(
            nn.LayerNorm(sizes["width"]) for _ in range(sizes["levels"])
        )
        self.enter = nn.Conv2d(deep, channels, 1)
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels, 3, 2, 1),
            nn.GroupNorm(GROUPS, channels),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, 2, 1),
            nn.GroupNorm(GROUPS, channels),
            nn.GELU(),
        )
        self.merge = nn.Sequential(
            nn.Conv2d(2 * channels, channels, 3, padding=1),
            nn.GroupNorm(GROUPS, channels),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def deep(self, seen: Seen) -> Tensor:
        """Return all that the tower says of every patch, (N, F, g, g')."""
        maps = [
            norm(level[:, seen.prefix :]).transpose(1, 2).unflatten(2, seen.grid)
            for norm, level in zip(self.norms, seen.levels, strict=True)
        ]
        return torch.cat([seen.cells * seen.cells.shape[1] ** 0.5, *maps], 1)

    def forward(self, seen: Seen) -> Tensor:
        """Return features (N, channels, S / 4, S / 4)."""
        fine = self.stem(seen.pixels)
        wide = F.interpolate(
            F.gelu(self.enter(self.deep(seen))), fine.shape[-2:], mode="bilinear"
        )
        return cast("Tensor", self.merge(torch.cat([fine, wide], 1)))


class ZeroShot(nn.Module):
    """How well every patch fits a phrase by itself, weighed by learnt numbers.

    It is what a head starts from, and what carries it where a phrase is new.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(GAIN))

    def forward(self, seen: Seen, words: Tensor) -> Tensor:
        """Return cosines (N, C, g, g) of phrases (C, E) above their mean, scaled."""
        cosine = torch.einsum("nehw,ce->nchw", seen.cells, F.normalize(words, dim=-1))
        middle = cosine.mean((2, 3), keepdim=True)
        return self.gain * (cosine - middle)


def shrink(layer: nn.Module) -> None:
    """Let a layer say little at first, so that a head begins at the zero-shot map."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(FIRST)


def centred(words: Tensor, centre: Tensor) -> Tensor:
    """Return phrases (C, E) without what all have in common, of length one."""
    return F.normalize(words - centre, dim=-1)


def places(grid: tuple[int, int], channels: int) -> Tensor:
    """Return sines and cosines of places, (rows * columns, channels).

    Half of the channels tell the row, half the column (Vaswani et al., 2017).

    Parameters
    ----------
    grid : (int, int)
        Rows and columns.
    channels : int
        A multiple of 4.
    """
    count = channels // 4
    rates = torch.exp(-math.log(100.0) * torch.arange(count) / max(count - 1, 1))
    codes = []
    for length in grid:
        turns = torch.linspace(0, 2 * math.pi, length)[:, None] * rates
        codes.append(torch.cat([turns.sin(), turns.cos()], 1))
    rows = codes[0][:, None].expand(-1, grid[1], -1)
    columns = codes[1][None].expand(grid[0], -1, -1)
    return torch.cat([rows, columns], 2).flatten(0, 1)


def perceptron(*sizes: int) -> nn.Sequential:
    """Make linear layers of these sizes with GELU between them."""
    layers: list[nn.Module] = []
    for number, (a, b) in enumerate(pairwise(sizes)):
        layers += ([nn.GELU()] if number else []) + [nn.Linear(a, b)]
    return nn.Sequential(*layers)
