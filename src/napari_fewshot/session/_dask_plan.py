"""Which planes go into a piece, and what a summary of all pieces says."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_fewshot.data import WindowedImage
from napari_fewshot.errors import PromptError, WorkerError
from napari_fewshot.inference._checks import is_constant
from napari_fewshot.inference._prompted import prompted_planes
from napari_fewshot.inference._reading import leading_method
from napari_fewshot.methods import block_size
from napari_fewshot.session._retelling import retold

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_fewshot.inference import SegmentRequest, Summary
    from napari_fewshot.session._dask_wire import PieceResult, PlaneNote

# A piece takes about so long (seconds), so that little is lost with a worker and what
# is found is seen soon; and there are at least so many pieces per worker.
PIECE_SECONDS, PIECES_PER_WORKER = 4.0, 4
# Pixels that travel with a piece, and results that travel back, are kept below this.
PIECE_BYTES = 64 * 1024**2
LABEL_BYTES = 4
# Tasks whose planes do not need one another.
SPLIT = ("segment", "encode")


def wanted_planes(request: SegmentRequest) -> tuple[int, ...]:
    """Return the planes of a request; without supports only those with prompts.

    Raises
    ------
    PromptError
        If there are prompts on none of them.
    """
    every = range(request.query.n_planes)
    wanted = tuple(every if request.planes is None else request.planes)
    alone = not len(request.support) and not request.text
    if request.task != "segment" or not request.prompts or not alone:
        return wanted
    prompted = prompted_planes(request.prompts, request.query.n_planes)
    found = tuple(p for p in wanted if p in prompted)
    if not found:
        raise PromptError(
            "There are prompts on none of the chosen planes. Click on one of them, "
            "choose others, or add a support."
        )
    return found


def leading_plane(request: SegmentRequest, planes: Sequence[int]) -> int | None:
    """Return the plane that phrases alone are judged on; None where supports tell.

    It is the first one that is not blank, as in an undivided run.
    """
    alone = request.reading.share == "alone" or not len(request.support)
    if not request.text or not alone or not planes:
        return None
    for plane in planes:
        try:
            if not is_constant(request.query, plane):
                return plane
        except Exception:  # noqa: BLE001 - whoever segments it says what is wrong
            return plane
    return planes[0]


def together(request: SegmentRequest, count: int) -> int:
    """Return how many planes must be in one piece: 1, a block, or all of them.

    Planes that help one another (``neighbours``) come in the blocks of an undivided
    run; what follows objects through the planes is not divided at all.
    """
    if request.task not in SPLIT:
        return max(1, count)
    if request.task == "encode":
        return 1
    _, params = leading_method(request)
    if getattr(params, "through", "planes") == "anchors":
        return max(1, count)
    helps = getattr(params, "neighbours", False) is True
    # Who judges masks needs leave-one-out.
    if (
        not helps
        or not params.leave_one_out
        or isinstance(request.query, WindowedImage)
    ):
        return 1
    classes = {*request.support.label_values, *request.prompts, *request.text}
    return block_size(request.query.plane_shape, len(classes))


class Planner:
    """Cuts planes into pieces while they are worked on.

    Parameters
    ----------
    planes : sequence of int
        To be done, in this order.
    block : int
        See `together`. From 2 on, where a piece begins does not depend on time or
        workers, and nor does what comes out.
    plane_bytes : int
        Of pixels and results.
    """

    def __init__(self, planes: Sequence[int], block: int, plane_bytes: int) -> None:
        self._planes, self._block = tuple(planes), max(1, block)
        self._most = max(1, PIECE_BYTES // max(1, plane_bytes))
        self._next = 0
        self._again: list[tuple[int, ...]] = []
        self._seconds: float | None = None

    @property
    def is_exhausted(self) -> bool:
        """Whether all planes are given out."""
        return self._next >= len(self._planes) and not self._again

    @property
    def may_halve(self) -> bool:
        """Whether pieces may be cut anywhere."""
        return self._block == 1

    @property
    def seconds_per_plane(self) -> float | None:
        """How long a plane takes a worker, as far as it is known."""
        return self._seconds

    def note(self, planes: int, seconds: float) -> None:
        """Learn from a finished piece how long planes take."""
        if not planes:
            return
        one = seconds / planes
        self._seconds = one if self._seconds is None else (self._seconds + one) / 2

    def give_back(self, planes: tuple[int, ...], *, halved: bool = False) -> None:
        """Take planes back: their piece was lost.

        Parameters
        ----------
        planes : tuple of int
            Of the piece.
        halved : bool
            Give them out again in two pieces: they may be too much for a worker.
        """
        middle = len(planes) // 2
        parts = [planes[:middle], planes[middle:]] if halved and middle else [planes]
        self._again = parts + self._again

    def next(self, workers: int) -> tuple[int, ...]:
        """Return the planes of the next piece; empty when all are given out."""
        if self._again:
            return self._again.pop(0)
        left = len(self._planes) - self._next
        size = self._block if self._block > 1 else self._size(left, max(1, workers))
        # A plane left alone would have no neighbours.
        if self._block > 1 and left - size == 1:
            size += 1
        piece = self._planes[self._next : self._next + size]
        self._next += len(piece)
        return piece

    def _size(self, left: int, workers: int) -> int:
        if self._seconds is None:
            return 1
        by_time = int(PIECE_SECONDS / max(self._seconds, 1e-3))
        fair = math.ceil(left / (workers * PIECES_PER_WORKER))
        return max(1, min(by_time, fair, self._most))


def plane_bytes(request: SegmentRequest, *, with_pixels: bool) -> int:
    """Return what a plane of a request takes on its way, there and back."""
    query = request.query
    rows, columns = query.plane_shape
    item = int(getattr(query.array.dtype, "itemsize", 8)) * query.n_channels
    keeps = request.keep_probabilities or query.n_planes == 1
    classes = len({*request.support.label_values, *request.prompts, *request.text})
    back = LABEL_BYTES + (2 * classes if keeps else 0)
    return rows * columns * (back + (item if with_pixels else 0))


class Merger:
    """Puts the summaries of pieces together, as an undivided run would tell it.

    Parameters
    ----------
    request : SegmentRequest
        The undivided one.
    planes : sequence of int
        Of all pieces, in the order of an undivided run.
    """

    def __init__(self, request: SegmentRequest, planes: Sequence[int]) -> None:
        self._request, self._planes = request, tuple(planes)
        self._notes: dict[int, PlaneNote] = {}
        self._first: tuple[int, Summary] | None = None
        self._told: list[str] = []
        self._fit = 0.0
        self.hosts: dict[str, str] = {}
        self.busy: dict[str, float] = {}

    def add(self, found: PieceResult) -> None:
        """Take in a finished piece."""
        self._notes.update({n.plane: n for n in found.notes})
        self.hosts[found.worker] = found.host
        spent_there = self.busy.get(found.worker, 0.0) + found.seconds
        self.busy[found.worker] = round(spent_there, 4)
        summary = found.summary
        if summary is None:
            return
        record = summary.provenance
        self._told += [n for n in record.get("notes", ()) if n not in self._told]
        spent = dict(record.get("seconds", {}))
        self._fit = max(self._fit, sum(v for k, v in spent.items() if k != "predict"))
        at = self._place(found)
        if self._first is None or at < self._first[0]:
            self._first = at, summary

    def summary(self, seconds: float, cluster: Mapping[str, Any]) -> Summary:
        """Return the summary of everything.

        Parameters
        ----------
        seconds : float
            What it took the user.
        cluster : mapping
            For provenance: who computed.

        Raises
        ------
        WorkerError
            If no piece was finished.
        """
        if self._first is None:
            raise WorkerError("The workers sent nothing back. Please run it again.")
        first = self._first[1]
        record = {**first.provenance, "cluster": dict(cluster)}
        if self._request.task != "segment" or "seconds" not in record:
            return replace(first, provenance=record)
        found = retold(first, self._request, self._planes, self._notes)
        record["inputs"] = found.provenance["inputs"]
        fit = min(self._fit, seconds)
        shares = {k: v for k, v in record["seconds"].items() if k != "predict"}
        record["seconds"] = {**shares, "predict": round(seconds - fit, 4)}
        record["notes"] = list(self._told)
        return replace(found, provenance=record)

    def _place(self, found: PieceResult) -> int:
        if not found.notes:
            return len(self._planes)
        return self._planes.index(found.notes[0].plane)
