"""`Sample` and `Plane`: what a method sees, already normalised."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.data._ignored import IGNORED

if TYPE_CHECKING:
    from napari_fewshot._types import BoolArray, FloatArray, LabelArray
    from napari_fewshot.data._image import Image


@dataclass(frozen=True, eq=False)
class Plane:
    """One plane of a query.

    Attributes
    ----------
    image : array (H, W, C)
        float32 in [0, 1]; C is 1 for grey, 3 for colour, else the chosen channels.
    position : float, optional
        Where along z the plane lies, in [0, 1]; None without a z axis.
    pixel_size : (float, float), optional
        Size of a pixel along (y, x); None when unknown.
    frame : (float, float, float, float), optional
        Where it lies on a larger plane that it is a window of: minima, then maxima, as
        shares of its rows and columns; None if it is a whole plane.
    """

    image: FloatArray = field(repr=False)
    position: float | None = None
    pixel_size: tuple[float, float] | None = None
    frame: tuple[float, float, float, float] | None = field(default=None, kw_only=True)


@dataclass(frozen=True, eq=False)
class Sample(Plane):
    """One plane of a support: a `Plane` with its labels.

    Attributes
    ----------
    labels : array (H, W)
        int32, 0 is background.
    ignored : array (H, W) bool, optional
        Where nobody knows the labels: there they are guessed from the rest, for
        methods that need whole masks; others leave these pixels out, as all scores do.
    group : int
        Number of the support it came from: planes of one support are never on both
        sides of a cross-validation split when there are several supports.
    name : str
    """

    labels: LabelArray = field(repr=False, kw_only=True)
    ignored: BoolArray | None = field(default=None, repr=False, kw_only=True)
    group: int = 0
    name: str = ""

    @property
    def known_labels(self) -> LabelArray:
        """The labels, -1 where they are not known."""
        if self.ignored is None:
            return self.labels
        found = np.where(self.ignored, IGNORED, self.labels)
        return found.astype(np.int32)


def plane_of(image: Image, number: int) -> Plane:
    """Return a plane of an image as methods see it.

    Parameters
    ----------
    image : Image
        A plane or a stack.
    number : int
        Flat number of the plane.
    """
    return Plane(
        image.plane(number),
        image.relative_position(number),
        image.pixel_size,
        frame=image.frame(number),
    )
