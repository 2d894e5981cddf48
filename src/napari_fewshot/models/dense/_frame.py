"""From a plane to what an encoder reads: fitted, standardised, whole patches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_fewshot.data import as_plane

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray

# Cells along the longest side.
CELLS = 48
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# Radford et al., Learning transferable visual models from natural language, 2021.
OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


@dataclass(frozen=True)
class Preset:
    """How a family wants its images, and which of its features are taken.

    Attributes
    ----------
    step : int
        Pixels per cell, along both axes.
    mean, deviation : three floats
        Of values in [0, 1].
    normed : bool
        Whether features are taken after the last norm, or before.
    offset : float
        Cells added to the size when a learnt position embedding is resized.
    smooth : bool
        Whether a learnt position embedding is smoothed when it shrinks.
    """

    step: int
    mean: tuple[float, ...] = IMAGENET[0]
    deviation: tuple[float, ...] = IMAGENET[1]
    normed: bool = True
    offset: float = 0.0
    smooth: bool = True


@dataclass(frozen=True)
class Fitting:
    """How one plane is fitted: longest side to ``side``, its shape kept.

    Attributes
    ----------
    shape : (int, int)
        Rows and columns of the plane.
    side : int
        Pixels of the longest side.
    step : int
        Pixels per cell.
    """

    shape: tuple[int, int]
    side: int
    step: int

    @property
    def inner(self) -> tuple[int, int]:
        """Rows and columns of pixels that show the plane."""
        factor = self.side / max(self.shape)
        rows, columns = (max(1, int(n * factor + 0.5)) for n in self.shape)
        return rows, columns

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of cells, the last ones filled up."""
        rows, columns = (-(-n // self.step) for n in self.inner)
        return rows, columns

    @property
    def valid(self) -> tuple[float, float]:
        """Share of the rows and columns of cells that show the plane."""
        rows, columns = (
            n / (cells * self.step)
            for n, cells in zip(self.inner, self.grid, strict=True)
        )
        return rows, columns


def prepared(pixels: AnyArray, fitting: Fitting, preset: Preset) -> Tensor:
    """Return what an encoder reads, (1, 3, H, W), H and W whole cells.

    The rim is repeated to fill the last cells: an edge would show in the features.

    Parameters
    ----------
    pixels : array (H, W) or (H, W, C)
        uint8 is divided by 255, floats in [0, 1] are taken as they are, other numbers
        are windowed by their percentiles. One or two channels: the first is grey; of
        more than three the first three count.
    fitting : Fitting
        Of this plane.
    preset : Preset
        Of the family.
    """
    x = torch.from_numpy(_levels(pixels)).permute(2, 0, 1)[None]
    if x.shape[-2:] != fitting.inner:
        x = F.interpolate(x, fitting.inner, mode="bicubic", antialias=True).clamp(0, 1)
    mean, deviation = (
        torch.tensor(three)[:, None, None] for three in (preset.mean, preset.deviation)
    )
    rows, columns = (
        cells * preset.step - n
        for cells, n in zip(fitting.grid, fitting.inner, strict=True)
    )
    return F.pad((x - mean) / deviation, (0, columns, 0, rows), mode="replicate")


def _levels(pixels: AnyArray) -> AnyArray:
    """Return (H, W, 3) float32 in [0, 1]; what is not a number is black."""
    if pixels.dtype == np.uint8:
        values = pixels.astype(np.float32) / 255
        levels = values[..., None] if values.ndim == 2 else values
    else:
        levels = np.nan_to_num(as_plane(pixels), nan=0.0)
    if levels.shape[-1] < 3:
        levels = np.repeat(levels[..., :1], 3, axis=-1)
    return np.ascontiguousarray(levels[..., :3])
