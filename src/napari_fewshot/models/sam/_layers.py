"""Small layers that the parts of SAM share; names of parameters as in Meta's files."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LayerNorm2d(nn.Module):
    """Layer normalisation over the channels of (B, C, H, W)."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise every pixel."""
        # Channels last is what the fused kernel of torch wants.
        return self.last(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def last(self, x: Tensor) -> Tensor:
        """Normalise (..., C)."""
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)


class Packed(nn.Module):
    """A linear layer whose weights lie in memory as a processor wants them.

    Parameters
    ----------
    layer : nn.Linear or Packed
        Is not changed.
    dtype : torch.dtype
        Of weights and result.
    """

    def __init__(self, layer: nn.Linear | Packed, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        held: Tensor = (
            layer.packed.to_dense() if isinstance(layer, Packed) else layer.weight
        )
        # No buffers: this layout is neither saved nor moved.
        self.packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(held.to(dtype))
        self.bias: Tensor = layer.bias.detach().to(dtype)

    def forward(self, x: Tensor, after: str = "none") -> Tensor:
        """(..., C) to (..., C'), then ``"none"`` or ``"gelu"``."""
        found: Tensor = torch.ops.mkldnn._linear_pointwise(
            x.to(self.dtype), self.packed, self.bias, after, [], "none"
        )
        return found


def can_pack(dtype: torch.dtype) -> bool:
    """Whether this torch and this processor have `Packed` for a precision."""
    try:
        layer = Packed(nn.Linear(16, 16), dtype)
        with torch.inference_mode():
            layer(torch.zeros(4, 16), "gelu")
    except (AttributeError, RuntimeError):
        return False
    return True


class Feedforward(nn.Module):
    """Two linear layers with an activation between them."""

    def __init__(self, dim: int, hidden: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.lin1 = nn.Linear(dim, hidden)
        self.lin2 = nn.Linear(hidden, dim)
        self.act = activation()

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) to (..., dim)."""
        if isinstance(self.lin1, Packed) and isinstance(self.act, nn.GELU):
            out: Tensor = self.lin2(self.lin1(x, "gelu"))
            return out
        out = self.lin2(self.act(self.lin1(x)))
        return out


class Mlp(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, dim: int, hidden: int, out: int, depth: int) -> None:
        super().__init__()
        sizes = [dim, *[hidden] * (depth - 1), out]
        self.layers = nn.ModuleList(
            nn.Linear(a, b) for a, b in itertools.pairwise(sizes)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) to (..., out)."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        out: Tensor = self.layers[-1](x)
        return out
