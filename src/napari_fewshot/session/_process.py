"""`ProcessExecutor`: runs requests in a worker process of their own.

One thread per executor talks to the worker: it serves planes, forwards results and
watches for cancelling. It never touches the user's objects but to read planes.
"""

from __future__ import annotations

import atexit
import logging
import queue
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot import errors
from napari_fewshot.errors import (
    Cancelled,
    DataError,
    FewShotError,
    ModelError,
    WorkerError,
)
from napari_fewshot.session._jobs import Job, OnDone, OnProgress, outcome_of
from napari_fewshot.session._launch import WorkerProcess
from napari_fewshot.session._wire import (
    Block,
    ImageHead,
    RequestHead,
    SupportHead,
    get_result,
    put_array,
    result_bytes,
)

if TYPE_CHECKING:
    from napari_fewshot.data import Image
    from napari_fewshot.inference import OnPlane, SegmentRequest, Summary

logger = logging.getLogger(__name__)
POLL_SECONDS = 0.02
# How long a worker may take to notice that it should stop before it is killed.
PATIENCE_SECONDS = 0.5
CANCELLED = "Stopped as asked. What was finished is kept."
STOPPED = (
    "The segmentation process stopped (out of memory?) and was restarted. Your layers "
    "are untouched. Try fewer or smaller images."
)


@dataclass
class _Task:
    job: Job
    request: SegmentRequest
    on_plane: OnPlane
    on_progress: OnProgress
    blocks: dict[str, Block] = field(default_factory=dict)

    def block(self, role: str, nbytes: int) -> Block:
        """Return a block with room, a new one if the last is too small."""
        known = self.blocks.get(role)
        if known is None or known.nbytes < nbytes:
            if known is not None:
                known.remove()
            self.blocks[role] = known = Block(nbytes)
        return known

    def free(self) -> None:
        """Remove all blocks."""
        for block in self.blocks.values():
            block.remove()
        self.blocks.clear()


class ProcessExecutor:
    """Runs one request at a time in a worker process.

    The process starts at the first request (or `prewarm`), is stopped when it does not
    answer a cancel within half a second, and ends by itself after some idle minutes.
    """

    name = "process"

    def __init__(self) -> None:
        self._tasks: queue.Queue[_Task | None] = queue.Queue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._worker: WorkerProcess | None = None
        self._current: _Task | None = None
        atexit.register(self.close)

    @property
    def pid(self) -> int | None:
        """Process number of the worker; None while there is none."""
        worker = self._worker
        return worker.pid if worker is not None and worker.is_alive else None

    def prewarm(self) -> None:
        """Start the worker in the background, so that the first request is quick."""
        self._ensure_thread()
        self._tasks.put(_Task(Job(lambda _: None), None, _ignore, _ignore))  # type: ignore[arg-type]

    def submit(
        self,
        request: SegmentRequest,
        *,
        on_plane: OnPlane,
        on_progress: OnProgress,
        on_done: OnDone,
    ) -> Job:
        """Queue a request and return at once."""
        self._ensure_thread()
        job = Job(on_done)
        self._tasks.put(_Task(job, request, on_plane, on_progress))
        return job

    def close(self) -> None:
        """Cancel what runs, stop the worker, free the memory."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is None:
            return
        current = self._current
        if current is not None:
            current.job.cancel()
        self._tasks.put(None)
        thread.join(timeout=5.0)
        if self._worker is not None:
            self._worker.kill()
        atexit.unregister(self.close)

    def _ensure_thread(self) -> None:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._tasks = queue.Queue()
                self._thread = threading.Thread(
                    target=self._serve, name="napari-fewshot-worker-client", daemon=True
                )
                self._thread.start()

    def _serve(self) -> None:
        """Body of the client thread: one task after the other."""
        tasks = self._tasks
        while (task := tasks.get()) is not None:
            self._current = task
            try:
                outcome = outcome_of(lambda: self._run(task))
            finally:
                task.free()
                self._current = None
            task.job.finish(outcome)
        if self._worker is not None:
            self._worker.stop()

    def _alive_worker(self) -> WorkerProcess:
        if self._worker is None or not self._worker.is_alive:
            self._worker = WorkerProcess()
            self._worker.start()
        return self._worker

    def _run(self, task: _Task) -> Summary:
        worker = self._alive_worker()
        if task.request is None:
            raise Cancelled("Only a start was asked for.")
        if task.job.is_cancelled:
            raise Cancelled("Stopped as asked, before it began.")
        head = _readable_head(task)
        try:
            worker.send(("run", head))
            return self._converse(task, worker)
        except (EOFError, OSError) as error:
            if isinstance(error, FewShotError):
                raise
            worker.kill()
            self._restart()
            if task.job.is_cancelled:
                raise Cancelled(
                    "Stopped as asked. What was finished is kept."
                ) from None
            logger.warning("the worker stopped: %r", error)
            raise WorkerError(STOPPED) from error

    def _converse(self, task: _Task, worker: WorkerProcess) -> Summary:
        """Answer the worker until it is done."""
        asked_to_stop: float | None = None
        while True:
            if task.job.is_cancelled and asked_to_stop is None:
                asked_to_stop = time.monotonic()
                worker.send(("cancel",))
            if not worker.poll(POLL_SECONDS):
                if (
                    asked_to_stop is not None
                    and task.job.is_urgent
                    and time.monotonic() - asked_to_stop > PATIENCE_SECONDS
                ):
                    worker.kill()
                    self._restart()
                    raise Cancelled(CANCELLED)
                continue
            kind, *payload = worker.receive()
            if kind == "done":
                return payload[0]  # type: ignore[no-any-return]
            if kind == "error":
                raise _as_error(*payload)
            self._answer(task, worker, kind, payload)

    def _answer(
        self, task: _Task, worker: WorkerProcess, kind: str, payload: list[Any]
    ) -> None:
        if kind == "progress":
            if not task.job.is_cancelled:
                task.on_progress(payload[0])
        elif kind == "plane":
            result = get_result(task.blocks["outbox"].buffer, payload[0])
            worker.send(("taken",))
            if not task.job.is_cancelled:
                task.on_plane(result)
        elif kind == "need":
            try:
                pixels = np.ascontiguousarray(_read(task.request, *payload))
            except Exception as error:  # noqa: BLE001 - the user's array may fail in any way
                worker.send(("unreadable", str(error)))
                return
            block = task.block("inbox", pixels.nbytes)
            worker.send(("pixels", block.name, put_array(block.buffer, 0, pixels)))

    def _restart(self) -> None:
        """Start another worker at once, so that the next request does not wait."""
        self._worker = WorkerProcess()
        self._worker.start(wait=False)


def _ignore(_: Any) -> None:
    """Do nothing."""


def _read(request: SegmentRequest, source: str, number: int, plane: int) -> Any:
    if source == "query":
        return request.query.raw_plane(plane)
    support = request.support[number]
    if source == "support":
        return support.source.raw_plane(plane)
    return support.label_plane(plane)


def _image_head(image: Image) -> ImageHead:
    return ImageHead(
        image.shape,
        np.dtype(image.array.dtype).str,
        image.axes,
        image.channels,
        image.scale,
        image.name,
        image.window,
        getattr(image, "lattice", None),
        getattr(image, "limits", ()),
    )


def _readable_head(task: _Task) -> RequestHead:
    """Describe a request; the user's arrays may fail to be read in any way."""
    try:
        return _request_head(task)
    except FewShotError:
        raise
    except Exception as error:
        raise DataError(
            f"The image can't be read ({error}). Check that its file or store is still "
            "there."
        ) from error


def _request_head(task: _Task) -> RequestHead:
    request = task.request
    # The checks of supports need no pixels: make them before the worker is troubled.
    told = request.prompts or request.text or request.task != "segment"
    if len(request.support) or not told:
        request.support.check()
    supports = tuple(
        SupportHead(
            _image_head(s.source), s.label_values, s.used_planes, s.classes, s.name
        )
        for s in request.support
    )
    classes = {*request.support.label_values, *request.prompts, *request.text}
    room = result_bytes(request.query.plane_shape, len(classes))
    block = task.block("outbox", room)
    return RequestHead(
        query=_image_head(request.query),
        supports=supports,
        options={
            "prompts": dict(request.prompts),
            "text": dict(request.text),
            "reading": request.reading,
            "method": request.method,
            "model": request.model,
            "params": dict(request.params),
            "planes": None if request.planes is None else tuple(request.planes),
            "keep_probabilities": request.keep_probabilities,
            "classes": dict(request.classes),
            "checkpoint": request.checkpoint,
            "device": request.device,
            "task": request.task,
            "options": dict(request.options),
        },
        outbox=block.name,
        outbox_bytes=room,
    )


def _as_error(kind: str, message: str, details: str) -> Exception:
    """Rebuild an error of the worker."""
    builtin = {"TypeError": TypeError, "ValueError": ValueError}
    cls: Any = getattr(errors, kind, None) or builtin.get(kind) or ModelError
    error: Exception = cls(message)
    if details:
        error.add_note(details)
    return error
