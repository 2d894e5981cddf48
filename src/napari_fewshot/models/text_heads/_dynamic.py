"""A phrase writes the weights of three small layers (after MulModSeg).

The phrase, with the modality in it ("A CT of a liver"), and the pooled plane go through
a controller that puts out the 153 parameters of three 1 x 1 layers, 8 to 8 to 8 to 1;
these answer for every pixel (Li et al., WACV 2025). The published features are those of
a trained 3-D network, here of a frozen CLIP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_fewshot.models.text_heads._parts import PixelFeatures, ZeroShot, shrink

if TYPE_CHECKING:
    from napari_fewshot.models.text_heads._seen import Seen

WIDTH, WORDS, POOL_GROUPS = 8, 256, 16
FEATURES = 32
# Of the three layers: inputs and outputs.
LAYERS = ((WIDTH, WIDTH), (WIDTH, WIDTH), (WIDTH, 1))
PARAMETERS = sum(a * b + b for a, b in LAYERS)


class DynamicHead(nn.Module):
    """Phrases to logits by layers they write; see the module.

    Parameters
    ----------
    sizes : dict
        From `Seen.sizes`.
    """

    def __init__(self, sizes: dict[str, int]) -> None:
        super().__init__()
        self.pixels = PixelFeatures(sizes, FEATURES)
        self.before = nn.Sequential(
            nn.GroupNorm(4, FEATURES), nn.GELU(), nn.Conv2d(FEATURES, WIDTH, 1)
        )
        self.words = nn.Sequential(nn.Linear(sizes["words"], WORDS), nn.ReLU())
        self.enter = nn.Linear(sizes["width"], WORDS)
        self.pool = nn.Sequential(nn.GroupNorm(POOL_GROUPS, WORDS), nn.ReLU())
        self.after = nn.Linear(WORDS, WORDS)
        self.controller = nn.Linear(2 * WORDS, PARAMETERS)
        self.zero_shot = ZeroShot()
        shrink(self.controller)

    def forward(self, seen: Seen, words: Tensor) -> Tensor:
        """Return logits (N, C, S / 4, S / 4) of phrases (C, E)."""
        fine = self.before(self.pixels(seen))
        written = self.written(seen, words)
        logits = answered(fine, written)
        fits = self.zero_shot(seen, words)
        return logits + F.interpolate(fits, fine.shape[-2:], mode="bilinear")

    def written(self, seen: Seen, words: Tensor) -> Tensor:
        """Return the parameters that phrases write, (N, C, 153)."""
        deep = self.enter(seen.levels[-1][:, seen.prefix :]).transpose(1, 2)
        pooled = self.after(self.pool(deep).mean(2))
        said = self.words(words * words.shape[1] ** 0.5)
        both = torch.cat(
            [
                said[None].expand(len(seen), -1, -1),
                pooled[:, None].expand(-1, len(words), -1),
            ],
            2,
        )
        found: Tensor = self.controller(both)
        return found


def answered(fine: Tensor, written: Tensor) -> Tensor:
    """Apply written layers to features.

    Parameters
    ----------
    fine : tensor (N, 8, h, w)
        Features of pixels.
    written : tensor (N, C, 153)
        All weights of the three layers, then all biases, as in the paper.

    Returns
    -------
    tensor (N, C, h, w)
    """
    sizes = [a * b for a, b in LAYERS] + [b for _, b in LAYERS]
    parts = written.split(sizes, -1)
    found = fine.flatten(2)[:, None]
    for number, (a, b) in enumerate(LAYERS):
        weight = parts[number].unflatten(-1, (b, a))
        bias = parts[len(LAYERS) + number][..., None]
        found = weight @ found + bias
        found = F.relu(found) if number + 1 < len(LAYERS) else found
    logits: Tensor = found[:, :, 0].unflatten(-1, fine.shape[-2:])
    return logits
