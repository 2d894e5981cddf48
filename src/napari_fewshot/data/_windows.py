"""`WindowedImage`: the windows of large planes, seen as planes of their own.

Whoever segments planes can so segment parts of planes, without knowing of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.data._image import Image
from napari_fewshot.data._prompts import PlanePrompts, PromptSet

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray
    from napari_fewshot.data._lattice import Lattice, Region

# Where a window lies in its plane, as shares of rows and columns: minima, maxima.
Frame = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class WindowedImage(Image):
    """An image whose planes are windows: number ``plane * lattice.count + window``.

    Build one with `WindowedImage.over`. Array, axes and scale are those of the image
    below; what is asked of a plane is answered for a window.

    Attributes
    ----------
    base : Image
        Whose planes are cut.
    lattice : Lattice
        Where.
    limits : tuple of (float, float)
        Intensity window per plane of the base, or a single one for all of them, so that
        the windows of a plane do not differ in contrast.
    """

    base: Image = field(kw_only=True)
    lattice: Lattice = field(kw_only=True)
    limits: tuple[tuple[float, float], ...] = field(kw_only=True)

    @classmethod
    def over(cls, base: Image, lattice: Lattice) -> WindowedImage:
        """Cut the planes of an image.

        Parameters
        ----------
        base : Image
            Whose planes.
        lattice : Lattice
            Of its planes' shape.

        Raises
        ------
        DataError
            If the image can't be read.
        """
        shared = base.n_planes == 1 or "z" in base.axes
        limits = (
            (base.window,)
            if shared
            else tuple(base.window_of(plane) for plane in range(base.n_planes))
        )
        facts = {f.name: getattr(base, f.name) for f in fields(Image)}
        return cls(**facts, base=base, lattice=lattice, limits=limits)

    @property
    def plane_shape(self) -> tuple[int, int]:
        """Rows and columns of a window."""
        return self.lattice.size

    @property
    def leading_shape(self) -> tuple[int, ...]:
        """All windows of all planes, in one row."""
        return (self.base.n_planes * self.lattice.count,)

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Shape of labels of all windows."""
        return (*self.leading_shape, *self.plane_shape)

    @property
    def label_axes(self) -> str:
        """Axes of labels of all windows."""
        return "zyx"

    def split(self, plane: int) -> tuple[int, int]:
        """Return the plane of the base, and the number of the window on it."""
        return divmod(plane, self.lattice.count)

    def raw_plane(self, plane: int) -> AnyArray:
        """Read one window as stored; the last one is kept."""
        kept = self.__dict__.get("kept")
        if kept is None or kept[0] != plane:
            kept = plane, self.read(plane)
            self.__dict__["kept"] = kept
        return kept[1]

    def read(self, plane: int) -> AnyArray:
        """Read one window from the image below."""
        number, window = self.split(plane)
        top, left, bottom, right = self.lattice.window(window)
        return self.base.raw_window(number, slice(top, bottom), slice(left, right))

    def window_of(
        self, plane: int, pixels: AnyArray | None = None
    ) -> tuple[float, float]:
        """Return the intensity window of the plane that a window is of."""
        return (
            self.limits[self.split(plane)[0]] if len(self.limits) > 1 else self.window
        )

    @property
    def window(self) -> tuple[float, float]:
        """Low and high intensity of all planes, or of the first one of a series."""
        return self.limits[0]

    def relative_position(self, plane: int) -> float | None:
        """Return where along z the plane of a window lies."""
        return self.base.relative_position(self.split(plane)[0])

    def frame(self, plane: int) -> Frame:
        """Return where on its plane a window lies."""
        top, left, bottom, right = self.lattice.window(self.split(plane)[1])
        rows, columns = self.lattice.shape
        return top / rows, left / columns, bottom / rows, right / columns


@dataclass(frozen=True, eq=False)
class WindowedPrompts(PromptSet):
    """Prompts on planes, seen from windows of these planes.

    Attributes
    ----------
    given : PromptSet
        In pixels of the planes.
    lattice : Lattice
        Of the windows.
    n_base : int
        Planes of the image below.
    """

    given: PromptSet = field(kw_only=True)
    lattice: Lattice = field(kw_only=True)
    n_base: int = field(kw_only=True)

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all was given."""
        return self.given.is_empty

    @property
    def is_negative(self) -> bool:
        """Whether something was given, but nothing that is wanted."""
        return self.given.is_negative

    def on_plane(self, plane: int, n_planes: int) -> PlanePrompts:
        """Return what is asked for in one window."""
        base, window = divmod(plane, self.lattice.count)
        whole = self.given.on_plane(base, self.n_base)
        return cut_prompts(whole, self.lattice.window(window))


def cut_prompts(whole: PlanePrompts, region: Region) -> PlanePrompts:
    """Return the prompts of a plane that lie in a region, in its own pixels.

    Boxes are cut to the region; of one that shows nowhere in it nothing is left.
    """
    corner, far = np.array(region[:2], float), np.array(region[2:], float)
    order = whole.order or (True,) * len(whole.positive) + (False,) * len(
        whole.negative
    )
    positive, negative = (
        _within(whole.positive, region),
        _within(whole.negative, region),
    )
    signs, kept = np.array(order, bool), np.zeros(len(order), bool)
    kept[signs], kept[~signs] = positive, negative
    boxes: AnyArray = np.zeros((0, 4))
    if len(whole.boxes):
        low = np.maximum(whole.boxes[:, :2], corner) - corner
        high = np.minimum(whole.boxes[:, 2:], far) - corner
        boxes = np.concatenate([low, high], 1)[(high > low).all(1)]
    part = np.s_[region[0] : region[2], region[1] : region[3]]
    return replace(
        whole,
        positive=whole.positive[positive] - corner,
        negative=whole.negative[negative] - corner,
        boxes=boxes,
        scribbles=None if whole.scribbles is None else whole.scribbles[part],
        mask=None if whole.mask is None else whole.mask[part],
        order=tuple(signs[kept].tolist()),
    )


def _within(points: AnyArray, region: Region) -> AnyArray:
    """Whether points lie on the pixels of a region."""
    if not len(points):
        return np.zeros(0, bool)
    low, high = np.array(region[:2]) - 0.5, np.array(region[2:]) - 0.5
    return np.asarray(((points >= low) & (points < high)).all(axis=1))
