"""Finished planes on their way to the user, in order where order matters."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray
    from napari_fewshot.inference import OnPlane, PlaneResult
    from napari_fewshot.session._dask_wire import PieceResult


@dataclass
class Delivery:
    """Hands planes out: objects are numbered over the planes, so these keep order."""

    planes: tuple[int, ...]
    on_plane: OnPlane
    waiting: dict[int, PlaneResult] = field(default_factory=dict)
    gone: set[int] = field(default_factory=set)
    keeps_order: bool = False
    _next: int = 0

    @property
    def waiting_bytes(self) -> int:
        """What waits for planes before it."""
        return sum(result_bytes(r) for r in self.waiting.values())

    def take(self, found: PieceResult) -> None:
        """Take in a piece and hand out what can be."""
        self.gone.update(found.failed)
        for result in found.results:
            self.keeps_order = self.keeps_order or result.instances is not None
            self.waiting[result.plane] = result
        self.hand_out()

    def hand_out(self, *, everything: bool = False) -> None:
        """Hand out what need not wait any longer."""
        if everything or not self.keeps_order:
            for plane in [p for p in self.planes if p in self.waiting]:
                self._give(plane)
            return
        while self._next < len(self.planes):
            plane = self.planes[self._next]
            if plane in self.waiting:
                self._give(plane)
            elif plane not in self.gone:
                return
            self._next += 1

    def _give(self, plane: int) -> None:
        self.gone.add(plane)
        self.on_plane(restored(self.waiting.pop(plane)))


def compact(result: PlaneResult) -> PlaneResult:
    """Return a result whose labels take less room on their way."""
    labels = _smallest(result.labels)
    objects = None if result.instances is None else _smallest(result.instances)
    return replace(result, labels=labels, instances=objects)


def restored(result: PlaneResult) -> PlaneResult:
    """Undo `compact`."""
    objects = result.instances
    return replace(
        result,
        labels=result.labels.astype(np.int32),
        instances=None if objects is None else objects.astype(np.int32),
    )


def result_bytes(result: PlaneResult) -> int:
    """Bytes that a waiting result takes."""
    arrays: list[Any] = [result.labels, result.instances]
    arrays += [*result.probabilities.values(), *result.candidates.values()]
    return sum(int(a.nbytes) for a in arrays if a is not None)


def _smallest(labels: AnyArray) -> AnyArray:
    top, low = int(labels.max(initial=0)), int(labels.min(initial=0))
    if low < 0 or top > np.iinfo(np.uint16).max:
        return labels
    return labels.astype(np.uint8 if top <= np.iinfo(np.uint8).max else np.uint16)
