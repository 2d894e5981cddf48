"""Shapes that a user draws as prompts: boxes, lassos, and what they cover."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import PromptSet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import BoolArray, FloatArray

POSITIVE, NEGATIVE = "positive", "negative"
BOX = "rectangle"
# Shapes of napari that enclose an area; lines and paths do not.
CLOSED = ("polygon", "ellipse", BOX)


@dataclass(frozen=True, eq=False)
class Outline:
    """One closed shape on a plane.

    Attributes
    ----------
    corners : array (N, 2)
        As (row, column); those of the bounding box for an ellipse.
    kind : str
        ``"rectangle"``, ``"polygon"`` or ``"ellipse"``.
    sign : str
        Positive or negative.
    """

    corners: FloatArray
    kind: str
    sign: str

    @property
    def is_box(self) -> bool:
        """Whether it is a box around an object."""
        return self.kind == BOX and self.sign == POSITIVE

    @property
    def box(self) -> FloatArray:
        """Its bounding box (4,), from the first pixel to behind the last."""
        # A box drawn from pixel centre to pixel centre covers both pixels.
        found: FloatArray = np.concatenate([self.corners.min(0), self.corners.max(0)])
        return found + 0.5

    def same_as(self, other: Outline) -> bool:
        """Whether two outlines ask for the same."""
        alike = (self.kind, self.sign) == (other.kind, other.sign)
        return alike and np.array_equal(self.corners, other.corners)


def outlines_of(layer: Any, here: Any) -> list[Outline]:
    """Return the closed shapes of a napari Shapes layer that are on a plane.

    Parameters
    ----------
    layer : napari Shapes layer
        With a feature ``sign``.
    here : callable
        Takes the corners (N, D) of a shape, tells whether it is on the plane.
    """
    found = []
    signs = list(layer.features.get("sign", ()))
    for number, (corners, kind) in enumerate(
        zip(layer.data, layer.shape_type, strict=True)
    ):
        if kind not in CLOSED or not here(np.asarray(corners)):
            continue
        flat = np.asarray(corners, float)[:, -2:]
        sign = signs[number] if number < len(signs) else POSITIVE
        wide = np.ptp(flat, axis=0) >= 1
        if wide.all():
            found.append(
                Outline(flat, str(kind), NEGATIVE if sign == NEGATIVE else POSITIVE)
            )
    return found


def fill(outlines: Sequence[Outline], shape: tuple[int, int], sign: str) -> Any:
    """Return the pixels that the lassos of a sign cover; None if there are none.

    Parameters
    ----------
    outlines : sequence of Outline
        Of a plane; boxes around objects are not lassos.
    shape : (int, int)
        Of the plane.
    sign : str
        Which of them.

    Returns
    -------
    array (H, W) bool or None
    """
    chosen = [o for o in outlines if o.sign == sign and not o.is_box]
    if not chosen:
        return None
    covered = np.zeros(shape, bool)
    for outline in chosen:
        covered |= _cover(outline, shape)
    return covered


def _cover(outline: Outline, shape: tuple[int, int]) -> BoolArray:
    from skimage.draw import ellipse, polygon2mask

    if outline.kind != "ellipse":
        # Where a lasso crosses itself every other part is inside.
        found: BoolArray = polygon2mask(shape, outline.corners)
        return found
    low, high = outline.corners.min(0), outline.corners.max(0)
    middle, half = (low + high) / 2, (high - low) / 2
    found = np.zeros(shape, bool)
    found[ellipse(*middle, *half, shape=shape)] = True
    return found


@dataclass(frozen=True, eq=False)
class Drawn:
    """What is drawn on a plane: one step of undo.

    Attributes
    ----------
    prompts : PromptSet
        Points, boxes and scribbles.
    lassos : tuple of Outline
        All other closed shapes.
    """

    prompts: PromptSet = field(default_factory=PromptSet)
    lassos: tuple[Outline, ...] = ()

    def same_as(self, other: Drawn) -> bool:
        """Whether two ask for the same."""
        if len(self.lassos) != len(other.lassos):
            return False
        pairs = zip(self.lassos, other.lassos, strict=True)
        return same_prompts(self.prompts, other.prompts) and all(
            a.same_as(b) for a, b in pairs
        )


def same_prompts(one: PromptSet, other: PromptSet) -> bool:
    """Whether two sets of prompts on a plane ask for the same."""
    parts = ("points", "point_labels", "boxes", "scribbles")
    for name in parts:
        a, b = getattr(one, name), getattr(other, name)
        if (a is None) != (b is None) or (a is not None and not np.array_equal(a, b)):
            return False
    return True


def rectangle(box: Any) -> Any:
    """Return the corners (4, 2) of a box (4,)."""
    top, left, bottom, right = box
    return np.array([(top, left), (top, right), (bottom, right), (bottom, left)])
