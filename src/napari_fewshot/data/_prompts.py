"""`PromptSet`: what the user points at.

Coordinates are (row, column), with z first in stacks, in data pixels of the query.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.errors import PromptError

if TYPE_CHECKING:
    from napari_fewshot._types import FloatArray


@dataclass(frozen=True, eq=False)
class PromptSet:
    """Prompts for one class on one query.

    Parameters
    ----------
    points : array (N, D), optional
        Float coordinates, D = 2 or 3.
    point_labels : array (N,), optional
        1 is positive, 0 negative; default all positive.
    boxes : array (N, 2 D), optional
        Minima then maxima, inclusive-exclusive.
    scribbles : array, optional
        Int array of the query's shape: 1 positive, -1 negative, 0 none.
    mask : array, optional
        Bool array of the query's shape: a first guess.
    candidate : int, optional
        Which mask is meant where a prompt is ambiguous and the model offers several,
        best first: 0 is the best. Default the best.

    Raises
    ------
    PromptError
        If a shape, a value or the combination can't be used.
    """

    points: Any = None
    point_labels: Any = None
    boxes: Any = None
    scribbles: Any = None
    mask: Any = None
    candidate: int | None = None

    def __post_init__(self) -> None:
        """Turn everything into arrays of a known dtype and check it."""
        points = _coordinates(self.points, "points", (2, 3))
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "point_labels", self._checked_point_labels(points))
        boxes = _coordinates(self.boxes, "boxes", (4, 6))
        half = 0 if boxes is None else boxes.shape[1] // 2
        if boxes is not None and (boxes[:, half:] <= boxes[:, :half]).any():
            raise PromptError(
                "A box needs maxima larger than its minima (y0 x0 y1 x1)."
            )
        object.__setattr__(self, "boxes", boxes)
        if self.scribbles is not None:
            scribbles = np.asarray(self.scribbles)
            if not np.isin(scribbles, (-1, 0, 1)).all():
                raise PromptError("Scribbles hold 1 (positive), -1 (negative) and 0.")
            object.__setattr__(self, "scribbles", scribbles.astype(np.int8))
        if self.mask is not None:
            object.__setattr__(self, "mask", np.asarray(self.mask) != 0)
        if self.candidate is not None and int(self.candidate) < 0:
            raise PromptError("candidate counts the masks on offer from 0.")

    def _checked_point_labels(self, points: Any) -> Any:
        if points is None:
            if self.point_labels is not None:
                raise PromptError("point_labels were given without points.")
            return None
        if self.point_labels is None:
            return np.ones(len(points), np.int8)
        labels = np.asarray(self.point_labels)
        if labels.shape != (len(points),) or not np.isin(labels, (0, 1)).all():
            raise PromptError(
                f"point_labels needs one number, 1 (positive) or 0 (negative), for "
                f"every point: there are {len(points)} points and {labels.size} labels."
            )
        return labels.astype(np.int8)

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all was given."""
        arrays = (self.points, self.boxes, self.scribbles, self.mask)
        return all(a is None or not np.any(np.ones_like(a)) for a in arrays)

    @property
    def is_negative(self) -> bool:
        """Whether something was given, but nothing that is wanted."""
        shown = [self.point_labels, self.scribbles]
        wanted = any(a is not None and (a == 1).any() for a in shown)
        wanted |= self.boxes is not None and len(self.boxes) > 0
        wanted |= self.mask is not None and bool(self.mask.any())
        return not wanted and not self.is_empty

    def planes(self, n_planes: int) -> tuple[int, ...]:
        """Return the numbers of the planes of a query that have prompts.

        Parameters
        ----------
        n_planes : int
            Planes of the query; 1 for an image without z.
        """
        return tuple(
            i for i in range(n_planes) if not self.on_plane(i, n_planes).is_empty
        )

    def on_plane(self, plane: int, n_planes: int) -> PlanePrompts:
        """Return what is asked for on one plane.

        Parameters
        ----------
        plane, n_planes : int
            Number of the plane, and of all planes of the query. Coordinates without z
            belong to an image with a single plane.
        """
        points, signs = self._points_on(plane, n_planes)
        scribbles, mask = (
            None if a is None else (a if a.ndim == 2 else a[plane])
            for a in (self.scribbles, self.mask)
        )
        return PlanePrompts(
            points[signs],
            points[~signs],
            self._boxes_on(plane, n_planes),
            scribbles,
            mask,
            tuple(signs.tolist()),
            self.candidate,
        )

    def _points_on(self, plane: int, n_planes: int) -> tuple[Any, Any]:
        """Return points (N, 2) on a plane, in their order, and which are positive."""
        if self.points is None:
            return np.zeros((0, 2)), np.zeros(0, bool)
        points, signs = self.points, self.point_labels == 1
        if points.shape[1] == 3:
            here = np.rint(points[:, 0]) == plane
            return points[here][:, 1:], signs[here]
        return (points, signs) if n_planes == 1 else (points[:0], signs[:0])

    def _boxes_on(self, plane: int, n_planes: int) -> Any:
        if self.boxes is None:
            return np.zeros((0, 4))
        if self.boxes.shape[1] == 6:
            inside = (self.boxes[:, 0] <= plane) & (plane < self.boxes[:, 3])
            return self.boxes[inside][:, [1, 2, 4, 5]]
        return self.boxes if n_planes == 1 else self.boxes[:0]


@dataclass(frozen=True, eq=False)
class PlanePrompts:
    """Prompts for one class on one plane, (row, column) in its pixels.

    Attributes
    ----------
    positive, negative : array (N, 2)
        Clicks.
    boxes : array (N, 4)
        Row and column of the first corner, then of the last, exclusive.
    scribbles : array (H, W), optional
        1 positive, -1 negative, 0 none.
    mask : array (H, W), optional
        A first guess, bool.
    order : tuple of bool, optional
        The clicks in their order, True for positive ones; default positive ones first.
    candidate : int, optional
        As in `PromptSet`.
    """

    positive: FloatArray = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    negative: FloatArray = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    boxes: FloatArray = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    scribbles: Any = None
    mask: Any = None
    order: tuple[bool, ...] = ()
    candidate: int | None = None

    @property
    def clicks(self) -> int:
        """How many clicks there are."""
        return len(self.positive) + len(self.negative)

    def after(self, clicks: int) -> PlanePrompts:
        """Return the prompts as they were after so many clicks.

        Boxes, scribbles and the first guess are there from the beginning.
        """
        default = (True,) * len(self.positive) + (False,) * len(self.negative)
        order = (self.order or default)[:clicks]
        shown = sum(order)
        return replace(
            self,
            positive=self.positive[:shown],
            negative=self.negative[: len(order) - shown],
            order=order,
        )

    @property
    def is_empty(self) -> bool:
        """Whether nothing asks for anything here."""
        counts = [len(a) for a in (self.positive, self.negative, self.boxes)]
        drawn = [a is not None and bool(np.any(a)) for a in (self.scribbles, self.mask)]
        return not any(counts) and not any(drawn)


def _coordinates(values: Any, what: str, widths: tuple[int, int]) -> Any:
    if values is None:
        return None
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        return None
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2 or array.shape[1] not in widths:
        raise PromptError(
            f"{what} must have shape (N, {widths[0]}) or (N, {widths[1]}); got "
            f"{array.shape}."
        )
    if not np.isfinite(array).all():
        raise PromptError(f"{what} hold NaN or infinite coordinates.")
    return array
