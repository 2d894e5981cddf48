"""A small decoder over several scales of frozen features, fitted on a few masks.

After DINO-AugSeg (arXiv 2601.08078): the deeper scale asks, the finer one answers by
cross-attention, and convolutions merge both; wavelet coefficients of the features are
left out at random in training. Scales are pooled copies of one grid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_fewshot.ops import masked_bands

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import Hooks

SCALES, WIDTH, HEADS = 3, 24, 4
BATCH, RATE, DECAY = 2, 4e-3, 1e-3
# Features are augmented this often; so many coefficients are left out then.
OFTEN, DROP = 0.7, 0.3
# Training ends when the smoothed loss has not fallen by this much for so many steps.
PATIENCE, LEAST_GAIN, MEMORY = 25, 5e-3, 0.9
# Keys and values are pooled to at most this many cells a side.
MOST_KEYS = 16


class PyramidDecoder(nn.Module):
    """Features of a grid to logits of one class.

    Parameters
    ----------
    channels : int
        Of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter = nn.ModuleList(nn.Conv2d(channels, WIDTH, 1) for _ in range(SCALES))
        self.ask = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(SCALES - 1))
        self.answer = nn.ModuleList(
            nn.Linear(WIDTH + 2, 2 * WIDTH) for _ in range(SCALES - 1)
        )
        self.merge = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(2 * WIDTH, WIDTH, 3, padding=1),
                nn.GroupNorm(4, WIDTH),
                nn.ReLU(),
                nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
                nn.ReLU(),
            )
            for _ in range(SCALES - 1)
        )
        self.out = nn.Conv2d(WIDTH, 1, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (B, 1, h, w) of features (B, C, h, w)."""
        scales = [features]
        for _ in range(SCALES - 1):
            scales.append(F.avg_pool2d(scales[-1], 2, ceil_mode=True))
        entered = [e(s) for e, s in zip(self.enter, scales, strict=True)]
        found = F.relu(entered[-1])
        for level in reversed(range(SCALES - 1)):
            skip = F.relu(entered[level])
            deep = F.interpolate(found, skip.shape[-2:], mode="bilinear")
            attended = self._attend(level, deep, skip)
            found = self.merge[level](torch.cat([skip, attended], 1))
        return cast("Tensor", self.out(found))

    def _attend(self, level: int, deep: Tensor, skip: Tensor) -> Tensor:
        """Let the deeper scale look up the finer one; keys know where they are."""
        size = min(MOST_KEYS, skip.shape[-2]), min(MOST_KEYS, skip.shape[-1])
        pooled = F.adaptive_avg_pool2d(skip, size)
        place = torch.stack(
            torch.meshgrid(*(torch.linspace(-1, 1, n) for n in size), indexing="ij")
        ).expand(len(skip), -1, -1, -1)
        keys = torch.cat([pooled, place.to(skip)], 1).flatten(2).transpose(1, 2)
        query = self.ask[level](deep.flatten(2).transpose(1, 2))
        key, value = self.answer[level](keys).chunk(2, -1)
        parts = [
            t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in (query, key, value)
        ]
        read = F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
        return deep + read.transpose(1, 2).reshape(deep.shape)


def fit_pyramid(
    features: Sequence[FloatArray],
    covers: Sequence[FloatArray],
    steps: int,
    seed: int,
    hooks: Hooks,
) -> PyramidDecoder:
    """Fit a decoder by half cross-entropy and half soft Dice.

    Parameters
    ----------
    features : sequence of array (C, h, w)
        Standardised, of the supports; sizes may differ.
    covers : sequence of array (h, w)
        Share of every cell that the class covers.
    steps : int
        At most; it ends earlier when the loss stays.
    seed : int
        Makes the fit repeatable.
    hooks : Hooks
        Asked before every step; gets progress.

    Returns
    -------
    PyramidDecoder
        On the CPU, ready for use.
    """
    random = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder = PyramidDecoder(len(features[0]))
    optimiser = torch.optim.AdamW(decoder.parameters(), RATE, weight_decay=DECAY)
    smooth, best, since = 0.0, np.inf, 0
    for step in range(steps):
        hooks.report("Training the decoder", step, steps)
        for group in optimiser.param_groups:
            group["lr"] = RATE * 0.5 * (1 + np.cos(np.pi * step / steps))
        chosen = random.choice(len(features), min(BATCH, len(features)), replace=False)
        losses = [
            _loss(decoder, features[i], covers[i], random) for i in chosen.tolist()
        ]
        loss = torch.stack(losses).mean()
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimiser.step()
        smooth = MEMORY * smooth + (1 - MEMORY) * float(loss.detach())
        seen = smooth / (1 - MEMORY ** (step + 1))
        since = 0 if seen < best - LEAST_GAIN else since + 1
        best = min(best, seen)
        if since >= PATIENCE:
            break
    return decoder.eval()


@torch.no_grad()
def decode_pyramid(decoder: PyramidDecoder, features: FloatArray) -> FloatArray:
    """Return logits (h, w) of standardised features (C, h, w)."""
    logits: FloatArray = decoder(torch.from_numpy(features)[None])[0, 0].numpy()
    return logits


def _loss(
    decoder: PyramidDecoder,
    features: FloatArray,
    cover: FloatArray,
    random: np.random.Generator,
) -> Tensor:
    if random.random() < OFTEN:
        features = masked_bands(features, DROP, random)
    logits = decoder(torch.from_numpy(np.ascontiguousarray(features))[None])[0, 0]
    target = torch.from_numpy(cover.astype(np.float32))
    entropy = F.binary_cross_entropy_with_logits(logits, target)
    chance = torch.sigmoid(logits)
    dice = 1 - (2 * (chance * target).sum() + 1) / (chance.sum() + target.sum() + 1)
    return 0.5 * entropy + 0.5 * dice
