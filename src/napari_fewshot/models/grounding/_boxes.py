"""Detectors of phrases: boxes, which of them are kept, and windows of large planes."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torchvision.ops import nms

from napari_fewshot.errors import PromptError
from napari_fewshot.models.grounding._reader import Reader
from napari_fewshot.models.grounding._windows import is_large, windows_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_fewshot._types import AnyArray, FloatArray
    from napari_fewshot.models.grounding._reader import Check

# A box that ends so close to the edge of a window (share of it) may have been cut.
EDGE = 0.01


@dataclass(frozen=True, eq=False)
class Detections:
    """Boxes that were found on a plane, best first.

    Attributes
    ----------
    boxes : array (M, 4) float32
        (y0, x0, y1, x1) in pixels: the plane reaches from 0 to its number of rows and
        columns.
    scores : array (M,) float32
        In [0, 1].
    phrases : array (M,) int
        Number of the phrase that fits the box best.
    """

    boxes: FloatArray = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    scores: FloatArray = field(default_factory=lambda: np.zeros(0, np.float32))
    phrases: AnyArray = field(default_factory=lambda: np.zeros(0, int))

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.scores)

    def __getitem__(self, which: Any) -> Detections:
        """Return some of them."""
        return Detections(self.boxes[which], self.scores[which], self.phrases[which])


class BoxModel(Reader):
    """A detector; it says in `_found` what it sees on one plane.

    Attributes
    ----------
    threshold : float
        Least score of a box, as its publishers use it.
    """

    threshold: ClassVar[float]

    @torch.inference_mode()
    def detect(
        self,
        image: Any,
        phrases: Sequence[str],
        threshold: float | None = None,
        *,
        overlap: float = 0.5,
        largest: float = 0.8,
        windows: str = "off",
        check: Check | None = None,
        **more: float,
    ) -> Detections:
        """Find what phrases name; every box belongs to the phrase that fits it best.

        Parameters
        ----------
        image : array (H, W) or (H, W, C)
            uint8, floats in [0, 1], or numbers that are windowed.
        phrases : sequence of str
            What to look for, all at once.
        threshold : float, optional
            Least score; default the publishers' one.
        overlap : float
            Of boxes that overlap more (intersection over union) the best one is kept.
        largest : float
            Boxes over more than this share of the plane are dropped: on grey images
            detectors like to return the whole plane.
        windows : str
            ``"on"``, ``"off"``, or ``"auto"``, on for planes twice as large as what
            is read: overlapping windows are searched as well.
        check : callable, optional
            Called with the number of the block and of all blocks; may raise to cancel.
        **more
            Thresholds of the model's own.

        Returns
        -------
        Detections

        Raises
        ------
        PromptError
            If there is no phrase, or one holds no words.
        DataError
            If it is no plane.
        """
        rgb = self._plane(image)
        words = self._words(phrases)
        level = self.threshold if threshold is None else float(threshold)
        if not 0 <= level <= 1:
            raise PromptError(f"The least score is between 0 and 1, not {threshold}.")
        shape = (int(rgb.shape[0]), int(rgb.shape[1]))
        parts = [self._found(rgb, words, level, check, **more)]
        if windows == "on" or (windows == "auto" and is_large(shape, self.size)):
            for window in windows_of(shape, self.size):
                y0, x0, y1, x1 = window
                seen = self._found(rgb[y0:y1, x0:x1], words, level, check, **more)
                parts.append(_unmoved(seen, window, shape))
        names = ("boxes", "scores", "phrases")
        every = Detections(
            *(np.concatenate([getattr(p, n) for p in parts]) for n in names)
        )
        return kept_boxes(every, shape, overlap, largest)

    @abstractmethod
    def _found(
        self,
        rgb: AnyArray,
        words: Sequence[str],
        threshold: float,
        check: Check | None,
        **more: float,
    ) -> Detections:
        """Return all boxes of a plane above the threshold, overlapping or not."""


def kept_boxes(
    found: Detections, shape: tuple[int, int], overlap: float, largest: float
) -> Detections:
    """Return boxes cut to the plane, without doubles and those as large as the plane.

    Parameters
    ----------
    found : Detections
        In any order.
    shape : (int, int)
        Rows and columns of the plane.
    overlap, largest : float
        See `BoxModel.detect`.

    Returns
    -------
    Detections
        Best first.
    """
    limits = np.array([*shape, *shape], np.float32)
    boxes = np.clip(found.boxes, 0, limits)
    sides = boxes[:, 2:] - boxes[:, :2]
    area = sides.prod(1)
    fits = (sides > 0).all(1) & (area <= largest * shape[0] * shape[1])
    cut = Detections(boxes, found.scores, found.phrases)[fits]
    kept = nms(torch.from_numpy(cut.boxes), torch.from_numpy(cut.scores), overlap)
    return cut[kept.numpy()]


def corners(boxes: Tensor, height: float, width: float) -> FloatArray:
    """Return boxes as (y0, x0, y1, x1) in pixels.

    Parameters
    ----------
    boxes : tensor (M, 4)
        Centre x, centre y, width and height, in [0, 1].
    height, width : float
        What 1 is in pixels.
    """
    x, y, w, h = boxes.float().cpu().unbind(-1)
    ends = torch.stack([y - h / 2, x - w / 2, y + h / 2, x + w / 2], -1)
    scale = torch.tensor([height, width, height, width])
    found: FloatArray = (ends * scale).numpy()
    return found


def _unmoved(
    found: Detections, window: tuple[int, ...], shape: tuple[int, int]
) -> Detections:
    """Bring boxes of a window to the plane, without those that its edges cut.

    What an inner edge cuts lies whole in a neighbour, since windows overlap by half.
    """
    origin, end = np.array(window[:2]), np.array(window[2:])
    slack = EDGE * (end - origin)
    low = (found.boxes[:, :2] <= slack) & (origin > 0)
    high = (found.boxes[:, 2:] >= end - origin - slack) & (end < np.array(shape))
    whole = ~(low | high).any(1)
    moved = (found.boxes + np.tile(origin, 2)).astype(np.float32)
    return Detections(moved, found.scores, found.phrases)[whole]
