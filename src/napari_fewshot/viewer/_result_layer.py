"""The layer of a result: over its image at any level, with overviews if it is big."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import Continued, strips
from napari_fewshot.viewer._layers import placement

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_fewshot._types import AnyArray
    from napari_fewshot.inference import PlaneResult

# Planes of more pixels are shown as multiscale labels: what is far away is not read.
MAX_PLANE = 1 << 26
STEP = 8
COARSEST = 1024


class Overview:
    """Labels and small copies of them, which follow as planes and tiles come.

    Parameters
    ----------
    labels : array
        Of a large plane or a stack of them, most often on disk.
    """

    def __init__(self, labels: Any) -> None:
        self.labels = labels
        shape = tuple(int(n) for n in labels.shape)
        self.factors: list[int] = []
        self.copies: list[AnyArray] = []
        factor = STEP
        while max(shape[-2:]) * STEP > COARSEST * factor:
            small = (*shape[:-2], *(math.ceil(n / factor) for n in shape[-2:]))
            self.copies.append(np.zeros(small, np.int32))
            self.factors.append(factor)
            factor *= STEP

    @property
    def levels(self) -> list[Any]:
        """The labels and their copies, the finest first."""
        return [self.labels, *self.copies]

    def add(
        self, index: tuple[int, ...], corner: tuple[int, int], block: AnyArray
    ) -> None:
        """Copy the middles of pixels of a part of a plane.

        Parameters
        ----------
        index : tuple of int
            Of the plane along the leading axes.
        corner : (int, int)
            Row and column of the first pixel of the block.
        block : array (h, w)
            Labels.
        """
        for factor, copy in zip(self.factors, self.copies, strict=True):
            # Pixel i of the copy shows pixel factor * i + factor // 2.
            first = [math.ceil((c - factor // 2) / factor) for c in corner]
            inside = [
                f * factor + factor // 2 - c for f, c in zip(first, corner, strict=True)
            ]
            part = block[inside[0] :: factor, inside[1] :: factor]
            rows = slice(first[0], first[0] + part.shape[0])
            columns = slice(first[1], first[1] + part.shape[1])
            place: Any = (*index, rows, columns)
            copy[place] = part

    def begin_as(self, other: Overview) -> None:
        """Take over the copies of other labels, and read what is changed already."""
        if other.labels is not self.labels.base:
            self.fill()
            return
        self.copies = [copy.copy() for copy in other.copies]
        for key in self.labels.changed():
            *index, rows, columns = key
            at = tuple(part.start for part in index)
            block = self.labels[(*at, rows, columns)]
            self.add(at, (rows.start, columns.start), block)

    def fill(self) -> None:
        """Copy all that the labels hold, strip by strip."""
        for (*index, rows), block in strips(self.labels, MAX_PLANE // 4):
            self.add(tuple(index), (rows.start, 0), block)


class ResultLayer:
    """Makes the layer of a result and keeps it in step with its labels.

    Parameters
    ----------
    viewer : napari viewer
        Which shows it.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._overview: Overview | None = None

    def data_of(self, labels: Any, *, is_new: bool) -> Any:
        """Return what a layer shows: the labels, or levels of them if they are big.

        Parameters
        ----------
        labels : array
            Of a run.
        is_new : bool
            Nothing is in them yet; otherwise they are read once.
        """
        if labels.shape[-2] * labels.shape[-1] <= MAX_PLANE:
            self._overview = None
            return labels
        before = self._overview
        if before is not None and before.labels is labels:
            return before.levels
        self._overview = overview = Overview(labels)
        if isinstance(labels, Continued) and before is not None:
            # A part of what is shown is made anew; the rest need not be read.
            overview.begin_as(before)
        elif not is_new or isinstance(labels, Continued):
            overview.fill()
        return overview.levels

    def add(self, result: PlaneResult) -> None:
        """Take over a finished plane, or a part of one."""
        if self._overview is None:
            return
        labels, block = self._overview.labels, result.labels
        corner = (0, 0) if result.region is None else result.region[:2]
        leading = tuple(labels.shape[:-2])
        index = np.unravel_index(result.plane, leading) if leading else ()
        at = tuple(int(i) for i in index)
        if isinstance(labels, Continued):
            # Of the result only what was asked for has become a part of the labels.
            far = [c + n for c, n in zip(corner, block.shape, strict=True)]
            block = labels[(*at, slice(corner[0], far[0]), slice(corner[1], far[1]))]
        self._overview.add(at, corner, block)

    def shows(self, found: Any, labels: Any) -> bool:
        """Return whether a layer shows these labels already."""
        if found.multiscale:
            return self._overview is not None and self._overview.labels is labels
        return found.data is labels

    def make(self, layer: Any, labels: Any, *, is_new: bool, **options: Any) -> Any:
        """Add the layer of labels over an image layer, at its level.

        Parameters
        ----------
        layer : napari Image layer
            Below.
        labels : array
            Of the run.
        is_new : bool
            Nothing is in them yet.
        **options
            Of the Labels layer.
        """
        data = self.data_of(labels, is_new=is_new)
        place = placement(layer, labels.shape)
        is_multiscale = isinstance(data, list)
        return self._viewer.add_labels(
            data, multiscale=is_multiscale, **options, **place
        )

    def update(self, found: Any, layer: Any, labels: Any, *, is_new: bool) -> bool:
        """Show other labels in the layer; False if it has to be made anew for them.

        Parameters
        ----------
        found : napari Labels layer
            The layer.
        layer : napari Image layer
            Below.
        labels : array
            Of the run.
        is_new : bool
            Nothing is in them yet.
        """
        data = self.data_of(labels, is_new=is_new)
        if found.multiscale or isinstance(data, list):
            return False
        moved = tuple(found.data.shape) != tuple(labels.shape)
        found.data = data
        if moved:
            for name, value in placement(layer, labels.shape).items():
                setattr(found, name, value)
        return True
