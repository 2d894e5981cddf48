"""What crosses between the user's process and the workers of a cluster.

A request crosses once, without pixels that a worker can read by itself; a piece of it
is a few planes. Both are plain bytes or dataclasses, so that the scheduler need not
understand them.
"""

from __future__ import annotations

import copy
import hashlib
import io
import logging
import mmap
import pickle
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import Image, SupportSet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_fewshot._types import AnyArray
    from napari_fewshot.inference import PlaneResult, SegmentRequest, Summary

logger = logging.getLogger(__name__)
# A description of an image, or of how to open it, is never larger than this (bytes).
MAX_DESCRIPTION = 16 * 1024**2
# Arrays from this size on (bytes) are pixels, not a part of a description.
PIXELS_FROM = 64 * 1024
PROTOCOL = 5


class TooLarge(Exception):  # noqa: N818 - never seen by users
    """An image can't be described without its pixels."""


@dataclass(frozen=True)
class Piece:
    """Some planes of a request.

    Attributes
    ----------
    planes : tuple of int
        To be segmented, in this order.
    lead : int, optional
        Plane that is looked at first and not handed out: phrases are judged on it.
    pixels : dict of int to array
        Planes as stored, where a worker can't read them by itself.
    whole : bool
        Whether this is all there is, and its planes need one another.
    """

    planes: tuple[int, ...]
    lead: int | None = None
    pixels: Mapping[int, AnyArray] | None = field(default=None, repr=False)
    whole: bool = False


@dataclass(frozen=True)
class Shared:
    """What all pieces of a request have in common.

    Attributes
    ----------
    request : SegmentRequest
        Its query and supports are `Described` and are put together by the worker.
    query : bytes
        The query, pickled by `describe`.
    sends_pixels : bool
        Whether planes travel with the pieces.
    supports : tuple of DescribedSupport
    check : tuple of (int, str), optional
        A plane and its digest: what the worker opens must be the same image.
    weights : dict of str to dict
        Files and SHA-256 of the models that take part.
    checkpoints : dict of str to str
        The same for files of the user's own, by path.
    """

    request: SegmentRequest = field(repr=False)
    query: bytes = field(repr=False)
    supports: tuple[DescribedSupport, ...] = field(repr=False)
    check: tuple[int, str] | None = None
    weights: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    checkpoints: Mapping[str, str] = field(default_factory=dict)
    sends_pixels: bool = False


@dataclass(frozen=True)
class DescribedSupport:
    """A support without pixels, and the planes of it that teach."""

    description: bytes
    images: Mapping[int, AnyArray]
    labels: Mapping[int, AnyArray]


@dataclass(frozen=True)
class PlaneNote:
    """What a summary needs to know of a plane."""

    plane: int
    scores: Mapping[int, float]
    present: Mapping[int, bool]
    novelty: float
    digest: str

    @classmethod
    def of(cls, result: PlaneResult) -> PlaneNote:
        """Note what a result says, before its arrays go their way."""
        present = {v: bool((result.labels == v).any()) for v in result.scores}
        scores = dict(result.scores)
        return cls(result.plane, scores, present, result.novelty, result.digest)


@dataclass(frozen=True)
class PieceResult:
    """What came of a piece.

    Attributes
    ----------
    results : tuple of PlaneResult
        Labels in the smallest whole numbers that hold them.
    notes : tuple of PlaneNote
        One per result.
    summary : Summary, optional
        None if no plane could be done.
    failed : dict of int to str
        Planes that could not be done, and why.
    worker, host : str
        Who did it.
    seconds : float
        Time for the planes, without learning.
    """

    results: tuple[PlaneResult, ...]
    notes: tuple[PlaneNote, ...]
    summary: Summary | None
    failed: Mapping[int, str]
    worker: str
    host: str
    seconds: float


class PixelStub:
    """Shape and dtype of an array whose pixels stayed behind."""

    def __init__(self, shape: tuple[int, ...], dtype: str) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        self.ndim = len(shape)

    def __getitem__(self, key: Any) -> Any:
        raise TypeError("the pixels of this image travel plane by plane")


def open_mapped(
    path: str, dtype: str, shape: tuple[int, ...], offset: int, order: Any
) -> AnyArray:
    """Map a file into memory as the client did."""
    return np.memmap(
        path, dtype=np.dtype(dtype), mode="r", shape=shape, offset=offset, order=order
    )


def describe(item: Any, *, with_pixels: bool) -> bytes:
    """Pickle an image or support without copying its pixels.

    Parameters
    ----------
    item : Image or Support
        Arrays in files (zarr, memory-mapped, pages of TIFF) are described by how they
        are opened.
    with_pixels : bool
        Whether large arrays in memory are replaced by `PixelStub`, because their
        planes travel by themselves.

    Raises
    ------
    TooLarge
        If there are pixels in memory and they may not be replaced.
    """
    import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, found: Any) -> Any:
            if _is_array(found):
                short = _shortened(found, with_pixels=with_pixels)
                if short is not None:
                    return short
            return super().reducer_override(found)

    if "kept" in vars(item):
        # A window that was read last.
        item = copy.copy(item)
        del item.__dict__["kept"]
    sink = _Limited(MAX_DESCRIPTION)
    try:
        Pickler(sink, protocol=PROTOCOL).dump(item)
    except TooLarge:
        raise
    except Exception as error:
        # Open files, locks, sockets: only its pixels can travel.
        if with_pixels:
            raise
        raise TooLarge from error
    return sink.getvalue()


def describe_supports(supports: SupportSet) -> tuple[DescribedSupport, ...]:
    """Read the planes that teach, and describe the rest."""
    found = []
    for support in supports:
        # Worked out here once, where all planes can be read.
        _ = support.label_values, support.used_planes, support.source.window
        images = {p: support.source.raw_plane(p) for p in support.used_planes}
        labels = {p: support.label_plane(p) for p in support.used_planes}
        plain = describe(support, with_pixels=True)
        found.append(DescribedSupport(plain, images, labels))
    return tuple(found)


def restore_supports(described: Sequence[DescribedSupport]) -> SupportSet:
    """Return supports whose planes are at hand."""
    supports = []
    for one in described:
        support = pickle.loads(one.description)
        support.source.__dict__["raw_plane"] = one.images.__getitem__
        support.__dict__["label_plane"] = one.labels.__getitem__
        supports.append(support)
    return SupportSet(supports)


def without_pixels(request: SegmentRequest) -> SegmentRequest:
    """Return a request that holds neither query nor supports."""
    nothing = Image.from_array(np.zeros((4, 4), np.uint8))
    return replace(request, query=nothing, support=SupportSet(()))


def content_key(content: bytes) -> str:
    """Return a short name of some bytes."""
    return hashlib.blake2b(content, digest_size=12).hexdigest()


def _is_array(item: Any) -> bool:
    if isinstance(item, (type, np.generic, Image, PixelStub)):
        return False
    # Asked of the class: an object may compute an answer, or not like the question.
    kind = type(item)
    if not hasattr(kind, "__getitem__"):
        return False
    return hasattr(item, "shape") and hasattr(item, "dtype")


def _shortened(array: Any, *, with_pixels: bool) -> Any:
    """Return how an array is put together again without its pixels; None: as it is."""
    if with_pixels:
        if isinstance(array, np.ndarray) and _size(array) < PIXELS_FROM:
            return None
        shape = tuple(int(n) for n in array.shape)
        return PixelStub, (shape, np.dtype(array.dtype).str)
    if _is_mapped(array):
        return open_mapped, _mapping(array)
    if _size(array) >= PIXELS_FROM and _is_in_memory(array):
        raise TooLarge
    return None


def _size(array: Any) -> int:
    try:
        count = int(np.prod(array.shape, dtype=float))
        return count * int(np.dtype(array.dtype).itemsize)
    except TypeError:
        return 0


def _is_mapped(array: Any) -> bool:
    # A view of a mapped array does not know where in the file it begins.
    return (
        isinstance(array, np.memmap)
        and isinstance(array.base, mmap.mmap)
        and bool(array.filename)
    )


def _mapping(array: Any) -> tuple[Any, ...]:
    order = "C" if array.flags.c_contiguous else "F"
    return str(array.filename), array.dtype.str, array.shape, array.offset, order


def _is_in_memory(array: Any) -> bool:
    """Whether pickling would copy pixels: numpy, and zarr stores in memory."""
    store = getattr(getattr(array, "store", None), "__class__", None)
    return isinstance(array, np.ndarray) or "Memory" in getattr(store, "__name__", "")


class _Limited(io.BytesIO):
    """A file in memory that refuses to grow too large."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def write(self, content: Any) -> int:
        if self.tell() + len(content) > self._most:
            raise TooLarge
        return super().write(content)
