"""The loop of the worker: take a request, ask for planes, send results.

It opens no file of the user and keeps nothing but the last few fits. When the other
side is gone, so is the worker.
"""

from __future__ import annotations

import logging
import os
import time
import traceback
from multiprocessing.connection import Client
from typing import TYPE_CHECKING, Any

from napari_fewshot.data import Hooks, Progress
from napari_fewshot.errors import DataError
from napari_fewshot.inference import FitCache, PlaneResult, SegmentRequest, Summary, run
from napari_fewshot.session._jobs import outcome_of
from napari_fewshot.session._wire import (
    RequestHead,
    attach,
    get_array,
    put_result,
)
from napari_fewshot.worker._remote import remote_image, remote_supports

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from napari_fewshot._types import AnyArray

logger = logging.getLogger(__name__)
IDLE_SECONDS = 300.0
NICENESS = 8
# Progress is sent at most this often (seconds).
PROGRESS_EVERY = 0.05


def serve(address: str, key: bytes) -> None:
    """Connect to the client and serve until it leaves or nothing comes for a while.

    Parameters
    ----------
    address : str
        Of the client's listener.
    key : bytes
        Shared secret.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    idle = float(os.environ.get("NAPARI_FEWSHOT_IDLE_SECONDS", IDLE_SECONDS))
    cache = FitCache()
    with Client(address, authkey=key) as connection:
        connection.send("ready")
        try:
            while connection.poll(idle):
                kind, *payload = connection.recv()
                if kind == "exit":
                    return
                if kind == "run":
                    _Task(connection, payload[0]).run(cache)
        except (EOFError, ConnectionError):
            logger.info("the client is gone")


class _Task:
    """One request and its conversation with the client."""

    def __init__(self, connection: Connection[Any, Any], head: RequestHead) -> None:
        self._connection = connection
        self._head = head
        self._cancelled = False
        self._outbox = attach(head.outbox)
        self._inbox: Any = None
        self._last_progress = 0.0

    def run(self, cache: FitCache) -> None:
        """Run the request and send its outcome."""
        hooks = Hooks(self._progress, self._is_cancelled)
        try:
            outcome = outcome_of(
                lambda: run(self._request(), hooks, self._plane, cache)
            )
        finally:
            self._outbox.close()
            if self._inbox is not None:
                self._inbox.close()
        if isinstance(outcome, Summary):
            self._connection.send(("done", outcome))
        else:
            details = "".join(traceback.format_exception(outcome))
            name = type(outcome).__name__
            self._connection.send(("error", name, str(outcome), details))

    def _request(self) -> SegmentRequest:
        head = self._head
        return SegmentRequest(
            query=remote_image(head.query, lambda plane: self._need("query", 0, plane)),
            support=remote_supports(head.supports, self._need),
            **head.options,
        )

    def _need(self, source: str, number: int, plane: int) -> AnyArray:
        """Ask for a plane and return its pixels."""
        self._connection.send(("need", source, number, plane))
        answer = self._receive(("pixels", "unreadable"))
        if answer[0] == "unreadable":
            raise DataError(f"Plane {plane} can't be read: {answer[1]}")
        _, name, array = answer
        if self._inbox is None or self._inbox.name.lstrip("/") != name.lstrip("/"):
            if self._inbox is not None:
                self._inbox.close()
            self._inbox = attach(name)
        return get_array(self._inbox.buf, array)

    def _plane(self, result: PlaneResult) -> None:
        """Send a finished plane and wait until it was copied out."""
        self._connection.send(("plane", put_result(self._outbox.buf, result)))
        self._receive(("taken",))

    def _progress(self, progress: Progress) -> None:
        now = time.monotonic()
        is_last = progress.total > 0 and progress.done == progress.total
        if is_last or now - self._last_progress >= PROGRESS_EVERY:
            self._last_progress = now
            self._connection.send(("progress", progress))

    def _is_cancelled(self) -> bool:
        while not self._cancelled and self._connection.poll(0):
            self._note(self._connection.recv())
        return self._cancelled

    def _receive(self, kinds: tuple[str, ...]) -> Any:
        while True:
            message = self._connection.recv()
            if message[0] in kinds:
                return message
            self._note(message)

    def _note(self, message: tuple[Any, ...]) -> None:
        if message[0] == "cancel":
            self._cancelled = True
        else:
            logger.warning("unexpected message %r", message[0])
