"""`Ask` and `Decoder`: prompts for one mask, and who answers them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_fewshot.data import PlanePrompts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import AnyArray, FloatArray
    from napari_fewshot.data import Hooks
    from napari_fewshot.methods.grid._tokens import GridPlane


@dataclass(frozen=True, eq=False)
class Ask:
    """Prompts for one mask, in pixels of the plane, (row, column).

    Attributes
    ----------
    points : array (N, 2)
    labels : array (N,)
        1 inside, 0 outside.
    box : array (4,), optional
        Minima, then maxima, inclusive-exclusive.
    mask : array (r, c), optional
        Earlier logits of the same decoder, or from `Decoder.as_mask`.
    """

    points: FloatArray = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    labels: AnyArray = field(default_factory=lambda: np.zeros(0, np.int8))
    box: FloatArray | None = None
    mask: FloatArray | None = field(default=None, repr=False)

    @property
    def positive(self) -> FloatArray:
        """Points inside, (N, 2)."""
        found: FloatArray = self.points[np.asarray(self.labels) == 1]
        return found

    @property
    def negative(self) -> FloatArray:
        """Points outside, (N, 2)."""
        found: FloatArray = self.points[np.asarray(self.labels) == 0]
        return found

    def as_prompts(self) -> PlanePrompts:
        """Return it as prompts of a plane, without the mask."""
        boxes = np.zeros((0, 4)) if self.box is None else np.asarray(self.box)[None]
        return PlanePrompts(
            self.positive.astype(np.float32),
            self.negative.astype(np.float32),
            boxes.astype(np.float32),
        )


class Decoder(Protocol):
    """Turns prompts into mask logits.

    Attributes
    ----------
    name : str
        For the provenance, such as ``"sam/vit_b"`` or ``"similarity map"``.
    """

    @property
    def name(self) -> str:
        """See above."""

    def decode(
        self,
        query: GridPlane,
        odds: FloatArray,
        asks: Sequence[Ask],
        hooks: Hooks,
        *,
        several: bool = False,
        **guidance: Any,
    ) -> tuple[FloatArray, FloatArray]:
        """Return masks for each of several sets of prompts.

        Parameters
        ----------
        query : GridPlane
            Where.
        odds : array (h, w)
            Calibrated log-odds of the class on the grid.
        asks : sequence of Ask
            One mask each.
        hooks : Hooks
            For cancelling.
        several : bool
            Three candidates each, if the decoder has them.
        **guidance
            What only SAM understands (PerSAM's attention bias); others ignore it.

        Returns
        -------
        logits : array (B, M, r, c)
            In the decoder's own resolution; above 0 is inside.
        scores : array (B, M)
            Predicted intersection over union, or how stable the mask is.
        """

    def as_mask(self, query: GridPlane, odds: FloatArray) -> FloatArray:
        """Return log-odds on the grid (h, w) as a mask prompt for this decoder."""

    def to_grid(self, query: GridPlane, logits: FloatArray) -> FloatArray:
        """Return the cover of cells (M, h, w) in [0, 1] by masks (M, r, c)."""

    def restore(self, query: GridPlane, logits: FloatArray) -> FloatArray:
        """Return logits (M, r, c) at the size of the plane, (M, H, W)."""
