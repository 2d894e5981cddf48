"""`Propagation`: what is known of every object on every plane, and what depends on it.

Planes follow one another along z, or along t where there is no z; `stack_of` tells.

An object is tied together by its annotated planes: what was found between two of them
depends on these two alone. A correction therefore undoes no more than the planes up to
the annotated neighbours.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.data import plane_axes
from napari_fewshot.methods.projection import MODES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_fewshot._types import BoolArray, FloatArray, LabelArray
    from napari_fewshot.data import Image

AUTO, INTERPOLATE, MEMORY = "auto", "interpolate", "memory"
PROPAGATION_MODES = (AUTO, INTERPOLATE, MEMORY, *MODES)
# How a mask came about. The first two are the user's own and stay as they are.
PAINTED, PROMPTED = "painted", "prompted"
INTERPOLATED, CORRECTED = "interpolated", "corrected"
PROJECTED, REMEMBERED, ENDED = "projected", "remembered", "ended"
ANNOTATED = (PAINTED, PROMPTED)


def stack_of(query: Image, plane: int) -> range:
    """Return the planes along which the objects of a plane are followed.

    Along z; each time point is a stack of its own. Without z along t.

    Parameters
    ----------
    query : Image
        The volume, the time series, or a time series of volumes.
    plane : int
        Flat number of a plane.

    Returns
    -------
    range
        Flat numbers of the planes, this one among them, in order.
    """
    axes, lengths = plane_axes(query.axes), query.leading_shape
    z = axes.find("z")
    if z < 0 or lengths[z] == 1:
        return range(query.n_planes)
    step = int(np.prod(lengths[z + 1 :], dtype=int))
    block = step * lengths[z]
    first = plane // block * block + plane % step
    return range(first, first + block, step)


def plan(
    annotated: Iterable[int], stack: Sequence[int], changed: int
) -> tuple[int, ...]:
    """Return the planes of an object that a change on one plane makes stale.

    Parameters
    ----------
    annotated : iterable of int
        Its annotated planes after the change; with ``changed`` if that was annotated or
        corrected, without if its annotation was taken away. Those of other stacks do
        not matter.
    stack : sequence of int
        Planes that follow one another, ``changed`` among them; see `stack_of`.
    changed : int
        Where the change is.

    Returns
    -------
    tuple of int
        In order: all between the annotated planes before and after ``changed`` (or the
        ends of the stack) that are not annotated themselves.
    """
    planes = sorted(set(annotated) & set(stack))
    before, after = neighbours(planes, changed)
    return tuple(
        p
        for p in stack
        if (before is None or p > before)
        and (after is None or p < after)
        and (p != changed or p not in planes)
    )


def neighbours(annotated: Sequence[int], plane: int) -> tuple[int | None, int | None]:
    """Return the annotated planes next to a plane, None where there is none.

    Parameters
    ----------
    annotated : sequence of int
        In order.
    plane : int
        Not its own neighbour.
    """
    left, right = bisect_left(annotated, plane), bisect_right(annotated, plane)
    before = annotated[left - 1] if left else None
    after = annotated[right] if right < len(annotated) else None
    return before, after


@dataclass(frozen=True, eq=False)
class ObjectPlane:
    """An object on one plane.

    Attributes
    ----------
    source : str
        ``"painted"`` or ``"prompted"`` (annotated), ``"interpolated"``, ``"corrected"``
        (interpolated, then by the model), ``"projected"``, ``"remembered"`` (by the
        memory of the model), or ``"ended"``.
    score : float
        Expected quality in [0, 1]; NaN where there is nothing to judge.
    corner : (int, int)
        Row and column of the first pixel of its bounding box.
    mask : array (h, w) bool
        The object within its bounding box; empty where the object is not.
    why : str
        Why it ended here.
    """

    source: str
    score: float
    corner: tuple[int, int]
    mask: BoolArray = field(repr=False)
    why: str = ""

    @classmethod
    def of(
        cls, mask: BoolArray, source: str, score: float, why: str = ""
    ) -> ObjectPlane:
        """Cut a mask (H, W) to its bounding box."""
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        if not len(rows):
            return cls(source, score, (0, 0), np.zeros((0, 0), bool), why)
        part = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        corner = int(rows[0]), int(columns[0])
        return cls(source, score, corner, part.copy(), why)

    @property
    def is_annotated(self) -> bool:
        """Whether the user made it."""
        return self.source in ANNOTATED

    @property
    def is_present(self) -> bool:
        """Whether the object is on the plane."""
        return self.mask.size > 0

    @property
    def window(self) -> tuple[slice, slice]:
        """Its bounding box in the plane."""
        (top, left), (height, width) = self.corner, self.mask.shape
        return slice(top, top + height), slice(left, left + width)


@dataclass
class Propagation:
    """Objects over the planes of a stack; an object keeps its number for ever.

    Attributes
    ----------
    shape : (int, int)
        Rows and columns of a plane.
    stacks : tuple of range
        Planes that follow one another, stack by stack; objects do not pass from one
        stack to the next.
    objects : dict of int to dict of int to ObjectPlane
        What is known, per object and plane; missing planes are still to be done.
    """

    shape: tuple[int, int]
    stacks: tuple[range, ...]
    objects: dict[int, dict[int, ObjectPlane]] = field(default_factory=dict)

    @classmethod
    def of(cls, query: Image) -> Propagation:
        """Return a state for an image in which nothing is known yet."""
        every = (stack_of(query, plane) for plane in range(query.n_planes))
        return cls(query.plane_shape, tuple(dict.fromkeys(every)))

    @property
    def n_planes(self) -> int:
        """Planes of all stacks."""
        return sum(map(len, self.stacks))

    def stack(self, plane: int) -> range:
        """Return the planes that follow one another of which a plane is one."""
        return next(stack for stack in self.stacks if plane in stack)

    def annotate(
        self,
        value: int,
        plane: int,
        mask: BoolArray,
        source: str = PAINTED,
        score: float = 1.0,
    ) -> tuple[int, ...]:
        """Set what an object is on a plane, and forget what depended on it.

        Parameters
        ----------
        value, plane : int
            Object and plane.
        mask : array (H, W) bool
            Without any pixel: the object is not there.
        source : str
            ``"painted"`` or ``"prompted"``.
        score : float
            Expected quality.

        Returns
        -------
        tuple of int
            The planes of the object to do again.
        """
        self.objects.setdefault(value, {})
        self.put(value, plane, ObjectPlane.of(mask, source, score))
        return self._forget(value, plane)

    def release(self, value: int, plane: int) -> tuple[int, ...]:
        """Take an annotation away; return the planes of the object to do again."""
        self.objects[value].pop(plane, None)
        return self._forget(value, plane)

    def put(self, value: int, plane: int, found: ObjectPlane) -> None:
        """Keep what was found of an object on a plane."""
        self.objects[value][plane] = found

    def annotated(self, value: int, stack: range | None = None) -> list[int]:
        """Return the annotated planes of an object (of one stack only), in order."""
        known = self.objects.get(value, {})
        return sorted(
            p
            for p, found in known.items()
            if found.is_annotated and (stack is None or p in stack)
        )

    def is_present(self, value: int, plane: int) -> bool:
        """Whether an object is known to be on a plane."""
        found = self.objects[value].get(plane)
        return found is not None and found.is_present

    def mask(self, value: int, plane: int) -> BoolArray:
        """Return an object on a plane, (H, W) bool; it may overlap others."""
        mask = np.zeros(self.shape, bool)
        found = self.objects[value].get(plane)
        if found is not None:
            mask[found.window] = found.mask
        return mask

    def labels(self, plane: int) -> LabelArray:
        """Return the objects on a plane, (H, W) int32.

        Where they overlap, annotated ones come first, then the higher score.
        """
        here = [(v, k[plane]) for v, k in self.objects.items() if plane in k]
        here = [(v, found) for v, found in here if found.is_present]
        here.sort(key=lambda item: (item[1].is_annotated, item[1].score))
        labels = np.zeros(self.shape, np.int32)
        for value, found in here:
            labels[found.window][found.mask] = value
        return labels

    def scores(self, plane: int) -> dict[int, float]:
        """Return the expected quality of the objects on a plane."""
        here = {v: k[plane] for v, k in self.objects.items() if plane in k}
        return {v: f.score for v, f in here.items() if np.isfinite(f.score)}

    def _forget(self, value: int, changed: int) -> tuple[int, ...]:
        stale = plan(self.annotated(value), self.stack(changed), changed)
        for plane in stale:
            self.objects[value].pop(plane, None)
        return stale


@dataclass(frozen=True)
class Route:
    """Where an object on a plane comes from.

    Attributes
    ----------
    kind : str
        ``"between"`` two annotated planes, ``"forward"`` from the one before,
        ``"backward"`` from the one after, or ``"absent"``.
    before, after : int or None
        The annotated neighbours.
    """

    kind: str
    before: int | None
    after: int | None


def route_of(state: Propagation, value: int, plane: int, mode: str) -> Route:
    """Return where an object on a plane without annotation comes from.

    Parameters
    ----------
    state : Propagation
        With the annotated planes of the object.
    value, plane : int
        Object and plane.
    mode : str
        As in `PropagationRequest`.
    """
    before, after = neighbours(state.annotated(value, state.stack(plane)), plane)
    ends = [p for p in (before, after) if p is not None and state.is_present(value, p)]
    if not ends or (mode == INTERPOLATE and None in (before, after)):
        kind = "absent"
    elif mode == INTERPOLATE or (mode == AUTO and len(ends) == 2):
        kind = "between"
    else:
        nearest = min(ends, key=lambda p: abs(p - plane))
        kind = "forward" if nearest == before else "backward"
    return Route(kind, before, after)


@dataclass(frozen=True, eq=False)
class Planes:
    """Planes of a stack as a sequence that reads one at a time.

    Attributes
    ----------
    query : Image
        The stack.
    numbers : range
        Of the planes.
    """

    query: Image
    numbers: range

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> FloatArray:
        """Read a plane (H, W, C), float32 in [0, 1]."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.query.plane(self.numbers[index])
