"""`Sample` and `Plane`: what a method sees, already normalised."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_fewshot._types import FloatArray, LabelArray
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
    """

    image: FloatArray = field(repr=False)
    position: float | None = None
    pixel_size: tuple[float, float] | None = None


@dataclass(frozen=True, eq=False)
class Sample(Plane):
    """One plane of a support: a `Plane` with its labels.

    Attributes
    ----------
    labels : array (H, W)
        int32, 0 is background.
    group : int
        Number of the support it came from: planes of one support are never on both
        sides of a cross-validation split when there are several supports.
    name : str
    """

    labels: LabelArray = field(repr=False, kw_only=True)
    group: int = 0
    name: str = ""


def plane_of(image: Image, number: int) -> Plane:
    """Return a plane of an image as methods see it.

    Parameters
    ----------
    image : Image
        A plane or a stack.
    number : int
        Flat number of the plane.
    """
    return Plane(image.plane(number), image.relative_position(number), image.pixel_size)
