"""`ObjectRow` and `Pending`: what was made click by click, and what is on its way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray, BoolArray
    from napari_fewshot.data import PromptSet

# Policies of committing: which pixels an object gets.
POLICIES = {
    "new": "Pixels that are empty or of its own class.",
    "overwrite": "All of its pixels, whatever they are.",
    "empty": "Only pixels that are empty.",
    "merge": "As a new object, joined with the one of its class that it touches.",
}


@dataclass(frozen=True, eq=False)
class ObjectRow:
    """One committed object.

    Attributes
    ----------
    key : int
        Stays the same while the object exists.
    value, plane : int
        Its class, and where it is.
    prompts : PromptSet
        What it was made with, in pixels of its plane.
    corner : (int, int)
        Row and column of the first pixel of its bounding box.
    mask : array (h, w) bool
        The object within its bounding box.
    before : array (h, w)
        Labels that were there before.
    number : int
        What it is called in a map of objects; objects on several planes that are one
        (a volume, a track) share it.
    origin : str
        ``"prompts"``, or ``"propagated"`` if it was carried here from other planes and
        nobody has corrected it.
    """

    key: int
    value: int
    plane: int
    prompts: PromptSet
    corner: tuple[int, int]
    mask: BoolArray = field(repr=False)
    before: AnyArray = field(repr=False)
    number: int = 0
    origin: str = "prompts"

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int(self.mask.sum())

    def whole(self, shape: tuple[int, int]) -> BoolArray:
        """Return its pixels in the plane, (H, W) bool."""
        mask = np.zeros(shape, bool)
        mask[self.window] = self.mask
        return mask

    @property
    def window(self) -> tuple[slice, slice]:
        """Its bounding box in the plane."""
        (top, left), (height, width) = self.corner, self.mask.shape
        return slice(top, top + height), slice(left, left + width)


@dataclass(frozen=True, eq=False)
class Pending:
    """Prompts that are not committed yet.

    Attributes
    ----------
    plane, value : int
        Where, and for which class.
    prompts : PromptSet
        In pixels of the plane.
    """

    plane: int
    value: int
    prompts: PromptSet
