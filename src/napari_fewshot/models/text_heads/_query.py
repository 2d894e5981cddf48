"""A query per phrase looks at the plane, then at every pixel (after SAT, Medal S).

SAT (Zhao et al., npj Digital Medicine 2025) turns a phrase into a query that reads the
image by cross-attention alone, so that phrases do not disturb one another, and whose
product with the features of a pixel is its logit. Medal S (arXiv 2511.13001) lets masks
that are there already take part: each is spread over the pixels as the query it belongs
to. Here both stand on a frozen CLIP instead of a trained 3-D U-Net.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_fewshot.models.text_heads._parts import (
    PixelFeatures,
    ZeroShot,
    perceptron,
    places,
)

if TYPE_CHECKING:
    from napari_fewshot.models.text_heads._seen import Seen

WIDTH, LAYERS, HEADS, MASK = 96, 2, 4, 32
# Patches a side that are hidden or shown together where a mask is given.
BLOCK = 8


class Reading(nn.Module):
    """A layer of cross-attention and a perceptron, with norms before both."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.LayerNorm(WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.between = nn.LayerNorm(WIDTH)
        self.feed = perceptron(WIDTH, 2 * WIDTH, WIDTH)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Return queries (N, C, W) after reading memory (N, M, W)."""
        read, _ = self.attention(self.before(queries), keys, values, need_weights=False)
        queries = queries + read
        return cast("Tensor", queries + self.feed(self.between(queries)))


class QueryHead(nn.Module):
    """Phrases to logits by queries; see the module.

    Parameters
    ----------
    sizes : dict
        From `Seen.sizes`.
    """

    def __init__(self, sizes: dict[str, int]) -> None:
        super().__init__()
        self.pixels = PixelFeatures(sizes, MASK)
        deep = sizes["words"] + sizes["levels"] * sizes["width"]
        self.memory = nn.Sequential(nn.Linear(deep, WIDTH), nn.LayerNorm(WIDTH))
        self.ask = perceptron(sizes["words"], WIDTH, WIDTH)
        self.layers = nn.ModuleList(Reading() for _ in range(LAYERS))
        self.mask = nn.Sequential(nn.LayerNorm(WIDTH), perceptron(WIDTH, WIDTH, MASK))
        self.fuse = nn.Sequential(
            nn.Conv2d(2 * MASK, MASK, 3, padding=1),
            nn.InstanceNorm2d(MASK),
            nn.LeakyReLU(0.01),
            nn.Conv2d(MASK, MASK, 1),
        )
        self.zero_shot = ZeroShot()
        self.bias = nn.Parameter(torch.tensor(-1.0))

    def forward(
        self, seen: Seen, words: Tensor, coarse: Tensor | None = None
    ) -> Tensor:
        """Return logits of every phrase.

        Parameters
        ----------
        seen : Seen
            N planes.
        words : tensor (C, E)
            A phrase each, of length one.
        coarse : tensor (N, C, h, w), optional
            Masks in [0, 1] that are there already, one per phrase; zeros where nothing
            is known.

        Returns
        -------
        tensor (N, C, S / 4, S / 4)
        """
        fine = self.pixels(seen)
        queries = self.queries(seen, words)
        known = torch.zeros_like(fine)
        if coarse is not None:
            masks = F.interpolate(coarse, fine.shape[-2:], mode="bilinear")
            known = torch.einsum("nchw,ncm->nmhw", masks, queries)
        fine = fine + self.fuse(torch.cat([fine, known], 1))
        logits = torch.einsum("nmhw,ncm->nchw", fine, queries) / MASK**0.5
        fits = F.interpolate(
            self.zero_shot(seen, words), fine.shape[-2:], mode="bilinear"
        )
        found: Tensor = logits + self.bias + fits
        return found

    def queries(self, seen: Seen, words: Tensor) -> Tensor:
        """Return what pixels are multiplied with, (N, C, MASK)."""
        deep = self.pixels.deep(seen).flatten(2).transpose(1, 2)
        values = self.memory(deep)
        keys = values + places(seen.grid, WIDTH).to(values)
        found = self.ask(words * words.shape[1] ** 0.5)
        found = found.expand(len(seen), -1, -1)
        for layer in self.layers:
            found = layer(found, keys, values)
        return cast("Tensor", self.mask(found))


def complementary(
    shape: tuple[int, int], block: int, generator: torch.Generator
) -> Tensor:
    """Draw which half of the blocks of a plane is shown, (h, w) of 0 and 1.

    Parameters
    ----------
    shape : (int, int)
        Of the masks.
    block : int
        Side of a block.
    generator : Generator
        Makes the draw repeatable.
    """
    rows, columns = (-(-n // block) for n in shape)
    order = torch.randperm(rows * columns, generator=generator)
    shown = (order < (rows * columns + 1) // 2).float().view(1, 1, rows, columns)
    large = F.interpolate(shown, scale_factor=block, mode="nearest")[0, 0]
    return large[: shape[0], : shape[1]]


@torch.no_grad()
def cross_predicted(
    head: QueryHead, seen: Seen, words: Tensor, coarse: Tensor, seed: int = 0
) -> Tensor:
    """Correct masks that are there already without copying them.

    The head is shown one half of the masks, in random blocks, then the other half; each
    pixel is taken from the pass that did not show it (Medal S).

    Parameters
    ----------
    head : QueryHead
        Trained.
    seen, words
        As for `QueryHead.forward`.
    coarse : tensor (N, C, h, w)
        Masks in [0, 1].
    seed : int
        Of the blocks.
    """
    shape = int(seen.pixels.shape[2]) // 4, int(seen.pixels.shape[3]) // 4
    masks = F.interpolate(coarse, shape, mode="bilinear")
    shown = complementary(shape, BLOCK, torch.Generator().manual_seed(seed)).to(masks)
    first = head(seen, words, masks * shown)
    second = head(seen, words, masks * (1 - shown))
    shown = F.interpolate(shown[None, None], first.shape[-2:], mode="nearest")
    return torch.where(shown > 0, second, first)
