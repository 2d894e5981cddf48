"""SAM's prompt encoder: points, boxes and earlier masks to tokens and maps."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from napari_fewshot.models.sam._layers import LayerNorm2d

DIM = 256
# Labels of points besides 0 (negative) and 1 (positive): no point at all.
NOTHING = -1


class Fourier(nn.Module):
    """Positions to random Fourier features (Tancik et al., NeurIPS 2020)."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self) -> None:
        super().__init__()
        matrix = torch.zeros(2, DIM // 2)
        self.register_buffer("positional_encoding_gaussian_matrix", matrix)

    def forward(self, places: Tensor) -> Tensor:
        """(..., 2) as x and y in [0, 1] to (..., 256)."""
        matrix = self.positional_encoding_gaussian_matrix
        turns = 2 * math.pi * ((2 * places - 1) @ matrix)
        return torch.cat([turns.sin(), turns.cos()], -1)

    def grid(self, side: int) -> Tensor:
        """Return the code of every cell of a square grid, (1, 256, side, side)."""
        device = self.positional_encoding_gaussian_matrix.device
        middle = (torch.arange(side, device=device) + 0.5) / side
        y, x = torch.meshgrid(middle, middle, indexing="ij")
        return self.forward(torch.stack([x, y], -1)).permute(2, 0, 1)[None]


class PromptEncoder(nn.Module):
    """Prompts to what the decoder reads.

    Parameters
    ----------
    side : int
        Side of the square frame in pixels.
    grid : int
        Side of the embedding.
    """

    def __init__(self, side: int, grid: int) -> None:
        super().__init__()
        self.side, self.grid = side, grid
        self.pe_layer = Fourier()
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, DIM) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, DIM)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, 4, 2, 2),
            LayerNorm2d(4),
            nn.GELU(),
            nn.Conv2d(4, 16, 2, 2),
            LayerNorm2d(16),
            nn.GELU(),
            nn.Conv2d(16, DIM, 1),
        )
        self.no_mask_embed = nn.Embedding(1, DIM)

    def forward(
        self,
        points: Tensor | None,
        labels: Tensor | None,
        boxes: Tensor | None,
        mask: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Encode the prompts of B objects.

        Parameters
        ----------
        points : tensor (B, N, 2), optional
            As x and y in pixels of the frame; a pixel's centre is a whole number.
        labels : tensor (B, N), optional
            1 positive, 0 negative, -1 no point.
        boxes : tensor (B, 4), optional
            x0, y0, x1, y1 in pixels of the frame.
        mask : tensor (B, 1, M, M), optional
            Earlier low-resolution logits.

        Returns
        -------
        tokens : tensor (B, n, 256)
        dense : tensor (B or 1, 256, G, G)
        """
        count = max(1 if t is None else len(t) for t in (points, boxes, mask))
        tokens = [self.no_mask_embed.weight.new_zeros((count, 0, DIM))]
        if points is not None and labels is not None:
            tokens.append(self._points(points, labels, alone=boxes is None))
        if boxes is not None:
            tokens.append(self._boxes(boxes))
        if mask is not None:
            dense = self.mask_downscaling(mask)
        else:
            dense = self.no_mask_embed.weight.view(1, DIM, 1, 1)
            dense = dense.expand(1, DIM, self.grid, self.grid)
        return torch.cat(tokens, 1), dense

    def _points(self, points: Tensor, labels: Tensor, *, alone: bool) -> Tensor:
        if alone:
            # Without a box the network expects one more token: no point.
            points = torch.cat([points, points.new_full((len(points), 1, 2), -0.5)], 1)
            nothing = labels.new_full((len(labels), 1), NOTHING)
            labels = torch.cat([labels, nothing], 1)
        found = self.pe_layer((points + 0.5) / self.side)
        found = torch.where((labels == NOTHING)[..., None], 0.0, found)
        none = self.not_a_point_embed.weight
        for label, learnt in ((NOTHING, none), (0, self._kind(0)), (1, self._kind(1))):
            found = found + (labels == label)[..., None] * learnt
        return found

    def _boxes(self, boxes: Tensor) -> Tensor:
        corners: Tensor = self.pe_layer((boxes.view(-1, 2, 2) + 0.5) / self.side)
        return corners + torch.cat([self._kind(2), self._kind(3)])

    def _kind(self, number: int) -> Tensor:
        """What tells negative (0), positive (1) points and corners of boxes (2, 3)."""
        found: Tensor = self.point_embeddings.get_parameter(f"{number}.weight")
        return found
