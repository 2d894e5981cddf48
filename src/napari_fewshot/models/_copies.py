"""The network's copies of planes: their size, channels, and the tiles of large ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from napari_fewshot._types import BoolArray
    from napari_fewshot.models._network import Features

MULTIPLE = 16
# Larger copies are read in tiles of this side, which begin at most so far apart.
TILE, STEP = 288, 224

Window = tuple[slice, slice]


def working_shape(shape: tuple[int, int], side: int) -> tuple[int, int]:
    """Return the network's (rows, columns) for a plane: multiples of 16."""
    factor = side / max(shape)
    rows, columns = (
        max(2 * MULTIPLE, round(n * factor / MULTIPLE) * MULTIPLE) for n in shape
    )
    return rows, columns


def network_shape(features: Features) -> tuple[int, int]:
    """Return rows and columns of the image that was encoded."""
    rows, columns = features.maps[0].shape[-2:]
    return 2 * int(rows), 2 * int(columns)


def tile_windows(shape: tuple[int, int]) -> list[Window]:
    """Return overlapping windows of at most `TILE` that cover a copy, evenly spread."""
    spans = []
    for length in shape:
        extent = min(TILE, length)
        count = -(-(length - extent) // STEP) + 1
        room = length - extent
        starts = [round(i * room / max(count - 1, 1)) for i in range(count)]
        spans.append([slice(s, s + extent) for s in starts])
    return [(rows, columns) for rows in spans[0] for columns in spans[1]]


def resample(x: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """Resize (B, C, H, W), bilinear, averaging when it gets smaller."""
    if tuple(x.shape[-2:]) == tuple(shape):
        return x
    return F.interpolate(
        x, size=shape, mode="bilinear", align_corners=False, antialias=True
    )


def cover(
    mask: BoolArray, shape: tuple[int, int], device: torch.device
) -> torch.Tensor:
    """Return how much of every pixel of a copy a mask (H, W) covers, (1, 1, h, w)."""
    whole = torch.from_numpy(mask.astype(np.float32))[None, None]
    return resample(whole.to(device), shape).clamp(0, 1)


def three_channels(image: torch.Tensor) -> torch.Tensor:
    """(H, W, C) to (3, H, W): grey is repeated, two channels get their mean."""
    x = image.permute(2, 0, 1).float()
    if x.shape[0] == 1:
        return x.expand(3, -1, -1)
    if x.shape[0] == 2:
        return torch.cat([x, x.mean(0, keepdim=True)])
    return x[:3]
