"""Several small perceptrons trained at once; their mean is steadier than any of them.

They are trained with torch and then are plain arrays, so that what was learnt is small
and safe to send to another process.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import Hooks

MEMBERS, WIDTH = 3, 32
BATCH, RATE, DECAY = 256, 4e-3, 0.05
# Features are left out this often, and jittered by this share of their spread.
DROP, NOISE = 0.3, 0.3


@dataclass(frozen=True, eq=False)
class Perceptrons:
    """Trained networks of the same shape.

    Attributes
    ----------
    layers : tuple of (array (M, F, G), array (M, 1, G))
        Weights and biases of M members.
    """

    layers: tuple[tuple[FloatArray, FloatArray], ...] = field(repr=False)

    def __call__(self, values: FloatArray) -> FloatArray:
        """Return the mean log-odds (N,) of rows (N, F)."""
        found = values[None]
        for number, (weight, bias) in enumerate(self.layers):
            found = found @ weight + bias
            if number + 1 < len(self.layers):
                found = np.maximum(found, 0)
        mean: FloatArray = found.mean(0)[:, 0]
        return mean


def fit_perceptrons(
    values: FloatArray,
    cover: FloatArray,
    weight: FloatArray,
    steps: int,
    seed: int,
    hooks: Hooks,
) -> Perceptrons:
    """Train on rows with soft targets.

    Parameters
    ----------
    values : array (N, F)
        Standardised features.
    cover : array (N,)
        Targets in [0, 1].
    weight : array (N,)
        How much each row counts.
    steps : int
        Of AdamW, with a rate that falls as a cosine.
    seed : int
        Makes the training repeatable.
    hooks : Hooks
        Asked before every step.
    """
    chance = torch.Generator().manual_seed(seed)
    x, y, w = (
        torch.from_numpy(np.ascontiguousarray(a, np.float32))
        for a in (values, cover, weight)
    )
    layers = _start((x.shape[1], WIDTH, WIDTH, 1), chance)
    every = [part.requires_grad_() for layer in layers for part in layer]
    optimiser = torch.optim.AdamW(every, RATE, weight_decay=DECAY)
    for step in range(steps):
        hooks.check()
        for group in optimiser.param_groups:
            group["lr"] = RATE * 0.5 * (1 + np.cos(np.pi * step / steps))
        at = torch.randint(len(x), (BATCH,), generator=chance)
        rows = x[at] + NOISE * torch.randn(BATCH, x.shape[1], generator=chance)
        kept = torch.rand(MEMBERS, 1, x.shape[1], generator=chance) > DROP
        logits = _forward(rows * kept / (1 - DROP), layers)
        loss = F.binary_cross_entropy_with_logits(
            logits, y[at].expand(MEMBERS, -1), w[at].expand(MEMBERS, -1)
        )
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(MEMBERS * loss)
        optimiser.step()
    return Perceptrons(
        tuple((a.detach().numpy(), b.detach().numpy()) for a, b in layers)
    )


def _start(
    sizes: tuple[int, ...], chance: torch.Generator
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Draw weights as He et al. 2015 do; biases are zero."""
    return [
        (
            torch.randn(MEMBERS, a, b, generator=chance) * (2 / a) ** 0.5,
            torch.zeros(MEMBERS, 1, b),
        )
        for a, b in pairwise(sizes)
    ]


def _forward(
    rows: torch.Tensor, layers: list[tuple[torch.Tensor, torch.Tensor]]
) -> torch.Tensor:
    found = rows
    for number, (weight, bias) in enumerate(layers):
        found = torch.baddbmm(bias, found, weight)
        if number + 1 < len(layers):
            found = F.relu(found)
    return found[..., 0]
