"""What runs on a worker of a cluster: one piece of a request at a time.

A worker process keeps models, fits and the last requests between pieces. It stops at
the next plane when its task is cancelled, or when whoever asked is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import pickle
import socket
import threading
import time
import warnings
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from napari_fewshot.data import Hooks, Image
from napari_fewshot.errors import DataError, FewShotError, ModelError
from napari_fewshot.inference import FitCache, PlaneResult, SegmentRequest, run
from napari_fewshot.session._dask_delivery import compact
from napari_fewshot.session._dask_facts import check_weights
from napari_fewshot.session._dask_wire import (
    Piece,
    PieceResult,
    PlaneNote,
    Shared,
    restore_supports,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_fewshot._types import AnyArray
    from napari_fewshot.inference import Summary

MAX_REQUESTS = 2
# How often a piece that waits for its turn looks whether it is still wanted (seconds).
TURN_SECONDS = 0.1
# glibc's numbers for what `mallopt` sets, and what they are set to (bytes).
TRIM_THRESHOLD, MMAP_THRESHOLD = (-1, 256 * 1024**2), (-3, 32 * 1024**2)


class NotHere(Exception):  # noqa: N818 - answered by sending pixels
    """The worker can't open the image by itself, or opens another one."""


@dataclass(frozen=True)
class _Known:
    """A request put together, but for the query of a piece."""

    shared: Shared
    request: SegmentRequest
    query: Image


class Resident:
    """What a worker process keeps between pieces."""

    def __init__(self) -> None:
        self.cache = FitCache()
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._turn = threading.Lock()

    @contextlib.contextmanager
    def turn(self, hooks: Hooks) -> Iterator[None]:
        """Wait until no other piece is computed: models serve one at a time."""
        while not self._turn.acquire(timeout=TURN_SECONDS):
            hooks.check()
        try:
            yield
        finally:
            self._turn.release()

    def known(self, key: str, content: bytes) -> _Known:
        """Put a request together, or find it as it was put together before."""
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        shared: Shared = pickle.loads(content)
        check_weights(shared.weights, shared.checkpoints, _address())
        try:
            query: Image = pickle.loads(shared.query)
        except Exception as error:
            raise NotHere(f"{type(error).__name__}: {error}") from error
        if shared.check is not None:
            _expect_same(query, *shared.check)
        supports = restore_supports(shared.supports)
        found = _Known(shared, replace(shared.request, support=supports), query)
        self._known[key] = found
        while len(self._known) > MAX_REQUESTS:
            self._known.popitem(last=False)
        return found


_RESIDENT = Resident()


def hold(content: bytes) -> bytes:
    """Return what was given: a task whose result every worker can fetch."""
    return content


def run_piece(content: bytes, key: str, piece: Piece) -> PieceResult:
    """Segment the planes of a piece.

    Parameters
    ----------
    content : bytes
        A pickled `Shared`.
    key : str
        Its name: it is unpickled once per worker.
    piece : Piece
        Which planes.

    Returns
    -------
    PieceResult
        Planes that can't be read are told in ``failed``; the others are done.

    Raises
    ------
    NotHere
        If the worker can't open the image.
    FewShotError
        If the request as a whole can't be done here.
    """
    hooks = Hooks(is_cancelled=_unwanted())
    with _RESIDENT.turn(hooks):
        _use_threads()
        _reuse_memory()
        known = _RESIDENT.known(key, content)
        query = _serving(known.query, piece)
        return _Work(replace(known.request, query=query), piece, hooks).done()


class _Work:
    """One piece: all planes together, and one by one if that fails."""

    def __init__(self, request: SegmentRequest, piece: Piece, hooks: Hooks) -> None:
        self._request, self._piece, self._hooks = request, piece, hooks
        self._results: dict[int, PlaneResult] = {}
        self._notes: dict[int, PlaneNote] = {}
        self._failed: dict[int, str] = {}
        self._summary: Summary | None = None
        self._seconds = 0.0

    def done(self) -> PieceResult:
        """Do it."""
        planes = self._piece.planes
        error = self._try(planes)
        if error is not None:
            # A plane that can't be read must not take the others with it.
            left = [p for p in planes if p not in self._results]
            for plane in left:
                problem = error if len(planes) == 1 else self._try((plane,))
                if problem is not None:
                    self._failed[plane] = problem
        order = [p for p in planes if p in self._results]
        return PieceResult(
            tuple(self._results[p] for p in order),
            tuple(self._notes[p] for p in order),
            self._summary,
            self._failed,
            _address(),
            socket.gethostname(),
            self._seconds,
        )

    def _try(self, planes: tuple[int, ...]) -> str | None:
        """Run some planes; returns why not all of them could be done."""
        lead = self._piece.lead
        asked = planes if lead is None or lead in planes else (lead, *planes)
        request = self._request
        if not self._piece.whole:
            request = replace(request, planes=asked)
        start = time.perf_counter()
        try:
            found = run(request, self._hooks, self._take, _RESIDENT.cache)
        except DataError as error:
            if self._piece.whole:
                raise
            return str(error)
        except (FewShotError, MemoryError) as error:
            if isinstance(error, FewShotError):
                raise
            raise ModelError(
                f"There is not enough memory on the worker {_address()}. Give it more, "
                "start fewer workers per computer, or use smaller images."
            ) from error
        except Exception as error:  # noqa: BLE001 - told with the plane it is of
            return f"{type(error).__name__}: {error}"
        spent = dict(found.provenance.get("seconds", {}))
        self._seconds += spent.get("predict", time.perf_counter() - start)
        self._summary = self._summary or found
        return None

    def _take(self, result: PlaneResult) -> None:
        if result.plane in self._piece.planes:
            self._notes[result.plane] = PlaneNote.of(result)
            self._results[result.plane] = compact(result)


def _serving(query: Image, piece: Piece) -> Image:
    """Return the query of a piece: it reads a plane once, and says what went wrong."""
    image = replace(query)
    # What was worked out before counts for this copy, too.
    image.__dict__.update(vars(query))
    image.__dict__.pop("raw_plane", None)
    read = image.raw_plane
    last: dict[int, AnyArray] = {}

    def raw_plane(plane: int) -> AnyArray:
        if plane not in last:
            pixels = _read(read, plane, piece)
            last.clear()
            last[plane] = pixels
        return last[plane]

    image.__dict__["raw_plane"] = raw_plane
    return image


def _read(read: Any, plane: int, piece: Piece) -> AnyArray:
    if piece.pixels is not None and plane in piece.pixels:
        return piece.pixels[plane]
    import dask

    try:
        # A dask array is computed here and now, not as further tasks of the cluster.
        with dask.config.set(scheduler="synchronous"):
            found: AnyArray = read(plane)
            return found
    except (FewShotError, MemoryError):
        raise
    except Exception as error:
        raise DataError(
            f"Plane {plane} can't be read ({type(error).__name__}: {error})."
        ) from error


def _expect_same(query: Image, plane: int, digest: str) -> None:
    """Refuse an image that can't be read here, or that is another one."""
    served = _serving(query, Piece((plane,)))
    try:
        found = served.plane_digest(plane)
    except Exception as error:
        raise NotHere(str(error)) from error
    if found != digest:
        raise NotHere(f"plane {plane} holds other pixels")


def _unwanted() -> Any:
    """Return a function that says whether the task of this thread was cancelled."""
    from distributed import get_worker

    try:
        worker = get_worker()
        key = worker.get_current_task()
    except (ValueError, KeyError):
        return lambda: False
    task = worker.state.tasks.get(key)

    def is_unwanted() -> bool:
        # Whoever asked has cancelled it or is gone: nobody takes the result.
        return task is not None and task.state in ("cancelled", "resumed", "forgotten")

    return is_unwanted


def _use_threads() -> None:
    """Let the one piece that is computed use all threads of this worker.

    Workers under a nanny begin with one thread for torch.
    """
    from distributed import get_worker

    # Forests ask for processes of their own, and do well with threads.
    warnings.filterwarnings("ignore", message="Inside a Dask worker with daemon")
    try:
        worker = get_worker()
    except ValueError:
        return
    threads = int(worker.state.nthreads)
    if threads > 1 and worker.nanny is not None:
        import torch

        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


@functools.cache
def _reuse_memory() -> None:
    """Let freed arrays be used again before they go back to the system.

    Workers under a nanny return everything above 64 KiB at once; networks then wait
    for fresh pages most of the time (1.6 times slower in `benchmarks/cluster.py`).
    """
    # Other systems have no such function and no such setting.
    mallopt = (
        getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    )
    if mallopt is not None:
        for what, size in (TRIM_THRESHOLD, MMAP_THRESHOLD):
            mallopt(what, size)


def _address() -> str:
    from distributed import get_worker

    try:
        return str(get_worker().address)
    except ValueError:
        return socket.gethostname()
