"""Small trained parts that families add to the blocks of SAM."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Bottleneck(nn.Module):
    """Down to a quarter of the width and up again (finetune-SAM, Gu et al. 2024).

    Parameters
    ----------
    dim : int
        Width.
    skip : bool
        Whether the input is added.
    """

    def __init__(self, dim: int, *, skip: bool) -> None:
        super().__init__()
        self.skip = skip
        self.D_fc1 = nn.Linear(dim, dim // 4)
        self.D_fc2 = nn.Linear(dim // 4, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) to the same."""
        found: Tensor = self.D_fc2(F.gelu(self.D_fc1(x)))
        return x + found if self.skip else found


class ConvAdapter(nn.Module):
    """A gate on channels, then convolutions at half the size (SAM-Med2D, 2023).

    ``LayerNorm(x + relu(up(relu(down(g * x)))))`` with the gate
    ``g = sigmoid(W2 relu(W1 mean(x)))``.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.channel = nn.Sequential(
            nn.Linear(dim, dim // 4, bias=False),
            nn.ReLU(),
            nn.Linear(dim // 4, dim, bias=False),
            nn.Sigmoid(),
        )
        self.spatial = nn.Sequential(
            nn.Conv2d(dim, dim, 3, 2, 1, bias=False),
            nn.ReLU(),
            nn.ConvTranspose2d(dim, dim, 4, 2, 1, bias=False),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, dim) to the same; H and W are even."""
        gated = x * self.channel(x.mean((1, 2)))[:, None, None]
        added = self.spatial(gated.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        found: Tensor = self.norm(x + added)
        return found
