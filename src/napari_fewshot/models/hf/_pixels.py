"""Planes as SAM 2 and SAM 3 want them: squashed to a square, then standardised."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as resizing

from napari_fewshot.models._pixels import rgb_bytes
from napari_fewshot.models.sam._presets import DEVIATION, MEAN

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray

IMAGENET = (MEAN, DEVIATION)
HALF = ((127.5,) * 3, (127.5,) * 3)
# Mean and deviation of values 0 to 255, by family.
NORMS = {"sam2": IMAGENET, "medsam2": IMAGENET, "sam3": HALF}


def squashed(
    pixels: AnyArray, side: int, mean: tuple[float, ...], deviation: tuple[float, ...]
) -> Tensor:
    """Return what the encoder reads, (1, 3, side, side).

    Parameters
    ----------
    pixels : array (H, W) or (H, W, C)
        See `rgb_bytes`.
    side : int
        Of the square frame.
    mean, deviation : three floats
        Of values 0 to 255.
    """
    channels = torch.from_numpy(rgb_bytes(pixels)).permute(2, 0, 1).contiguous()
    # As transformers resizes: Pillow rounds otherwise when an image shrinks.
    x: Tensor = resizing.resize(channels, [side, side], antialias=True).float()
    x = (x - torch.tensor(mean)[:, None, None]) / torch.tensor(deviation)[:, None, None]
    return x[None]
