"""What crosses between the user's process and the worker process.

Control messages are small tuples over an authenticated connection. Pixels go through
shared memory that the client creates and removes, so that nothing is left behind when
the worker is killed.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from multiprocessing import resource_tracker, shared_memory
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_fewshot._types import AnyArray
    from napari_fewshot.data import Lattice
    from napari_fewshot.inference import PlaneResult

# Most masks that a model offers for one prompt.
CANDIDATES = 4


@dataclass(frozen=True)
class ImageHead:
    """All of an `Image` but its pixels."""

    shape: tuple[int, ...]
    dtype: str
    axes: str
    channels: tuple[int, ...]
    scale: tuple[float, ...] | None
    name: str
    window: tuple[float, float]
    lattice: Lattice | None = None
    limits: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class SupportHead:
    """All of a `Support` but its pixels."""

    image: ImageHead
    label_values: tuple[int, ...]
    used_planes: tuple[int, ...]
    classes: Mapping[int, str] | None
    name: str


@dataclass(frozen=True)
class RequestHead:
    """A `SegmentRequest` without pixels, and the block for results."""

    query: ImageHead
    supports: tuple[SupportHead, ...]
    options: Mapping[str, Any]
    outbox: str
    outbox_bytes: int


@dataclass(frozen=True)
class ArrayHead:
    """Where in a shared block an array lies."""

    offset: int
    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        """Bytes it takes."""
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class PlaneHead:
    """A `PlaneResult` whose arrays lie in the outbox; rare evidence travels along."""

    plane: int
    scores: Mapping[int, float]
    labels: ArrayHead
    instances: ArrayHead | None = None
    probabilities: Mapping[int, ArrayHead] = field(default_factory=dict)
    candidates: Mapping[int, ArrayHead] = field(default_factory=dict)
    candidate_scores: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    novelty: float = 0.0
    evidence: Mapping[int, Any] = field(default_factory=dict)
    digest: str = ""
    follow: int = 0
    lessons: Any = None
    notes: tuple[str, ...] = ()


class Block:
    """A piece of shared memory that is owned, and removed, by the client."""

    def __init__(self, nbytes: int) -> None:
        self._memory = shared_memory.SharedMemory(create=True, size=max(1, nbytes))
        self.nbytes = nbytes

    @property
    def name(self) -> str:
        """Name under which the worker finds it."""
        return self._memory.name

    @property
    def buffer(self) -> Any:
        """The bytes."""
        return self._memory.buf

    def remove(self) -> None:
        """Free it; may be called twice."""
        self._memory.close()
        try:
            self._memory.unlink()
        except FileNotFoundError:
            return


def attach(name: str) -> shared_memory.SharedMemory:
    """Open a block of the other process without taking part in its removal."""
    if sys.version_info >= (3, 13):
        return shared_memory.SharedMemory(name=name, track=False)
    memory = shared_memory.SharedMemory(name=name)
    if sys.platform != "win32":
        # Before Python 3.13 opening registers the block for removal at exit, as if it
        # were ours.
        resource_tracker.unregister(memory._name, "shared_memory")  # type: ignore[attr-defined]
    return memory


def put_array(buffer: Any, offset: int, array: AnyArray) -> ArrayHead:
    """Copy an array into a block."""
    head = ArrayHead(offset, array.shape, array.dtype.str)
    view = np.ndarray(array.shape, array.dtype, buffer=buffer, offset=offset)
    view[...] = array
    del view
    return head


def get_array(buffer: Any, head: ArrayHead) -> AnyArray:
    """Copy an array out of a block."""
    view: AnyArray = np.ndarray(
        head.shape, np.dtype(head.dtype), buffer=buffer, offset=head.offset
    )
    return view.copy()


def result_bytes(plane_shape: tuple[int, int], n_classes: int) -> int:
    """Return the room that one plane's result needs.

    Labels and instances; per class a map and the masks on offer.
    """
    return int(np.prod(plane_shape)) * (4 + 4 + (2 + CANDIDATES) * n_classes) + 64


def put_result(buffer: Any, result: PlaneResult) -> PlaneHead:
    """Copy the arrays of a result into the outbox."""
    labels = put_array(buffer, 0, result.labels)
    offset = labels.nbytes
    instances = None
    if result.instances is not None:
        instances = put_array(buffer, offset, result.instances)
        offset += instances.nbytes
    maps = {}
    for value, probability in result.probabilities.items():
        maps[value] = put_array(buffer, offset, probability)
        offset += maps[value].nbytes
    offered = {}
    for value, masks in result.candidates.items():
        offered[value] = put_array(buffer, offset, masks[:CANDIDATES])
        offset += offered[value].nbytes
    return PlaneHead(
        result.plane,
        dict(result.scores),
        labels,
        instances,
        maps,
        offered,
        dict(result.candidate_scores),
        result.novelty,
        dict(result.evidence),
        result.digest,
        result.follow,
        result.lessons,
        result.notes,
    )


def get_result(buffer: Any, head: PlaneHead) -> PlaneResult:
    """Copy a result out of the outbox."""
    from napari_fewshot.inference import PlaneResult

    return PlaneResult(
        head.plane,
        get_array(buffer, head.labels),
        head.scores,
        None if head.instances is None else get_array(buffer, head.instances),
        {v: get_array(buffer, h) for v, h in head.probabilities.items()},
        {v: get_array(buffer, h) for v, h in head.candidates.items()},
        dict(head.candidate_scores),
        head.novelty,
        dict(head.evidence),
        digest=head.digest,
        follow=head.follow,
        lessons=head.lessons,
        notes=head.notes,
    )
