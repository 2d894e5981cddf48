"""From a plane to the square frame that SAM sees, and back.

Coordinates come as (y, x) in pixels of the plane, as everywhere in napari, and leave as
(x, y) in pixels of the frame: this is the only place where they are turned round.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from napari_fewshot.errors import PromptError
from napari_fewshot.models._pixels import rgb_bytes
from napari_fewshot.models.sam._presets import DEVIATION, MEAN, Preset

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray

RESAMPLING = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
MOST_POINTS = 10_000


@dataclass(frozen=True)
class Frame:
    """How one plane lies in the frame.

    Attributes
    ----------
    shape : (int, int)
        Rows and columns of the plane.
    side : int
        Side of the frame in pixels.
    preset : Preset
        How it is fitted.
    """

    shape: tuple[int, int]
    side: int
    preset: Preset

    @property
    def inner(self) -> tuple[int, int]:
        """Rows and columns of the frame that show the plane."""
        if not self.preset.enlarge and max(self.shape) < self.side:
            return self.shape
        if self.preset.fit == "squash":
            return self.side, self.side
        factor = self.side / max(self.shape)
        rows, columns = (max(1, int(n * factor + 0.5)) for n in self.shape)
        return rows, columns

    @property
    def valid(self) -> tuple[float, float]:
        """Share of the rows and columns that show the plane."""
        return self.inner[0] / self.side, self.inner[1] / self.side

    def image(self, pixels: AnyArray) -> Tensor:
        """Return what the encoder reads, (1, 3, side, side).

        Parameters
        ----------
        pixels : array (H, W) or (H, W, C)
            See `rgb_bytes`.
        """
        rows, columns = self.inner
        levels = rgb_bytes(pixels)
        if self.preset.grey:
            grey = Image.fromarray(levels).convert("L")
            levels = np.repeat(np.array(grey)[..., None], 3, axis=-1)
        if self.preset.stretch == "before":
            x = 255 * _stretched(_channels(levels))
            x = _resized(x, self.inner, self.preset.interpolation)
        elif self.preset.interpolation in RESAMPLING:
            method = RESAMPLING[self.preset.interpolation]
            copy = Image.fromarray(levels).resize((columns, rows), method)
            x = _channels(np.array(copy))
        else:
            x = _resized(_channels(levels), self.inner, self.preset.interpolation)
        if self.preset.imagenet:
            mean, deviation = (
                torch.tensor(t)[:, None, None] for t in (MEAN, DEVIATION)
            )
            x = (x - mean) / deviation
        else:
            x = _stretched(x) if self.preset.stretch == "after" else x / 255
        return F.pad(x, (0, self.side - columns, 0, self.side - rows))[None]

    def points(self, points: Any, labels: Any) -> tuple[Tensor, Tensor]:
        """Return points (B, N, 2) as x, y of the frame and labels (B, N)."""
        yx = _numbers(points, 2, "Points are (row, column) each.")
        many = np.ndim(points) == 3
        rows = len(points) if many else 1
        signs = np.ones(len(yx)) if labels is None else np.asarray(labels).reshape(-1)
        if len(signs) != len(yx):
            raise PromptError(
                f"There are {len(yx)} points and {len(signs)} labels; give one label, "
                "1 or 0, for every point."
            )
        if not np.isin(signs, (0, 1)).all():
            raise PromptError("Labels of points are 1 (inside) or 0 (outside).")
        if len(yx) > MOST_POINTS * rows:
            raise PromptError(
                f"{len(yx)} points are too many for one object; give at most "
                f"{MOST_POINTS}, or a mask."
            )
        self._check(yx, "point")
        kinds = torch.from_numpy(signs.astype(np.int64)).reshape(rows, -1)
        return self._turned(yx).reshape(rows, -1, 2), kinds

    def boxes(self, boxes: Any) -> Tensor:
        """Return boxes (B, 4) as x0, y0, x1, y1 of the frame."""
        form = "A box is (y0, x0, y1, x1)."
        corners = _numbers(boxes, 4, form).reshape(-1, 2, 2)
        self._check(corners.reshape(-1, 2), "corner of a box", margin=1.0)
        if (corners[:, 1] <= corners[:, 0]).any():
            raise PromptError(
                "A box is empty: give it as (y0, x0, y1, x1) with y0 < y1 and x0 < x1."
            )
        return self._turned(corners.reshape(-1, 2)).reshape(-1, 4)

    def _turned(self, yx: AnyArray) -> Tensor:
        scale = np.array(self.inner) / np.array(self.shape)
        return torch.from_numpy((yx * scale)[:, ::-1].astype(np.float32))

    def _check(self, yx: AnyArray, what: str, margin: float = 0.5) -> None:
        if not np.isfinite(yx).all():
            raise PromptError(f"A {what} is not a number.")
        size = np.array(self.shape)
        # A pixel reaches half a pixel around its coordinate.
        outside = (yx < -margin) | (yx > size - 1 + margin)
        if outside.any():
            place = tuple(float(v) for v in yx[outside.any(1)][0].round(1))
            raise PromptError(
                f"A {what} at (y, x) = {place} is outside the image of {self.shape[0]} "
                f"x {self.shape[1]} pixels. Move or remove it."
            )

    def restore(self, logits: Tensor) -> Tensor:
        """Return low-resolution logits (N, M, h, w) at the size of the plane."""
        frame = (self.side, self.side)
        if self.inner != frame or self.preset.fit == "pad" or self.preset.through_frame:
            logits = self._enlarged(logits)
        if tuple(logits.shape[2:]) == self.shape:
            return logits
        return F.interpolate(logits, self.shape, mode="bilinear", align_corners=False)

    def _enlarged(self, logits: Tensor) -> Tensor:
        """Return logits at the size of the frame, where that shows the plane."""
        times, rest = divmod(self.side, logits.shape[-1])
        rows, columns = self.inner
        size = (self.side, self.side)
        if not rest and logits.shape[-2] == logits.shape[-1]:
            # Cells behind the plane and its neighbour add nothing to it.
            cells = [min(-(-n // times) + 1, logits.shape[-1]) for n in self.inner]
            logits = logits[..., : cells[0], : cells[1]]
            size = (cells[0] * times, cells[1] * times)
        found = F.interpolate(logits, size, mode="bilinear", align_corners=False)
        return found[..., :rows, :columns]


def _channels(levels: AnyArray) -> Tensor:
    """Return (H, W, 3) bytes as (3, H, W) float32."""
    return torch.from_numpy(levels.astype(np.float32)).permute(2, 0, 1)


def _stretched(x: Tensor) -> Tensor:
    """Return values stretched to [0, 1]."""
    low, high = x.min(), x.max()
    return (x - low) / (high - low).clamp_min(1e-8)


def _resized(x: Tensor, shape: tuple[int, int], how: str) -> Tensor:
    """Return (3, H, W) at another shape."""
    if how == "nearest":
        return F.interpolate(x[None], shape, mode="nearest")[0]
    if how == "area" and shape[0] <= x.shape[1] and shape[1] <= x.shape[2]:
        rows, columns = (
            _shares(n, old) for n, old in zip(shape, x.shape[1:], strict=True)
        )
        return (rows @ x @ columns.T).round()
    return F.interpolate(x[None], shape, mode="bilinear", align_corners=False)[0]


def _shares(count: int, old: int) -> Tensor:
    """Return which share every old pixel has in every one of fewer, (count, old)."""
    width = old / count
    begin = torch.arange(count, dtype=torch.float64)[:, None] * width
    place = torch.arange(old, dtype=torch.float64)[None]
    covered = torch.minimum(begin + width, place + 1) - torch.maximum(begin, place)
    return (covered.clamp_min(0) / width).float()


def _numbers(given: Any, width: int, form: str) -> AnyArray:
    """Return (N, width) float64."""
    try:
        found = np.asarray(given, np.float64)
    except (TypeError, ValueError) as error:
        raise PromptError(f"{form} These are no numbers: {given!r}.") from error
    if found.size and found.shape[-1] != width:
        raise PromptError(f"{form} The shape of these is {found.shape}.")
    return found.reshape(-1, width)
