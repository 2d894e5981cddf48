"""Whether somebody answers, without hanging, and what to do if nobody does."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from napari_fewshot.errors import Cancelled, WorkerError
from napari_fewshot.session._dask_facts import versions_here

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
# Seconds: to find the scheduler; for an answer of all workers, which may have to import
# everything first.
CONNECT_SECONDS, ANSWER_SECONDS = 8.0, 120.0
POLL_SECONDS = 0.05
CANCELLED = "Stopped as asked. What was finished is kept."


def knock(address: str) -> None:
    """See whether somebody listens at a TCP address, without waiting for long.

    Raises
    ------
    WorkerError
        If not; says what to check.
    """
    parts = urlsplit(address)
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if parts.scheme in ("inproc", "ucx"):
        return
    if not host or not port:
        raise WorkerError(
            f"{address!r} is no address of a scheduler. It looks like "
            "tcp://host:8786; the scheduler prints it when it starts."
        )
    try:
        with socket.create_connection((host, port), timeout=CONNECT_SECONDS):
            return
    except socket.gaierror as error:
        raise WorkerError(
            f"There is no computer named {host!r} in this network. Check the address "
            f"{address}."
        ) from error
    except OSError as error:
        raise WorkerError(unreachable(address, error.strerror or str(error))) from error


def within(
    seconds: float,
    call: Callable[[], T],
    message: str,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> T:
    """Call something that may hang, and give up after a while.

    Parameters
    ----------
    seconds : float
        How long to wait.
    call : callable
        Called in a thread of its own.
    message : str
        Of the error if it takes too long.
    is_cancelled : callable
        Asked meanwhile.

    Raises
    ------
    WorkerError
        If it takes too long.
    Cancelled
        If ``is_cancelled`` says so.
    """
    outcome: list[Any] = []
    done = threading.Event()

    def body() -> None:
        try:
            outcome.append((True, call()))
        except BaseException as error:  # noqa: BLE001 - raised in the calling thread
            outcome.append((False, error))
        done.set()

    threading.Thread(target=body, name="napari-fewshot-ask", daemon=True).start()
    deadline = time.monotonic() + seconds
    while not done.wait(POLL_SECONDS):
        if is_cancelled():
            raise Cancelled(CANCELLED)
        if time.monotonic() > deadline:
            raise WorkerError(message)
    is_good, value = outcome[0]
    if not is_good:
        raise value
    return value  # type: ignore[no-any-return]


def no_workers(address: str) -> str:
    """Return what to do about a scheduler without workers."""
    return (
        f"The cluster {address} has no workers. Start one on a computer that has "
        f"napari-fewshot: dask worker {address} --nthreads 1"
    )


def unreachable(address: str, reason: str) -> str:
    """Return what to check where no scheduler answers."""
    return (
        f"No scheduler answers at {address} ({reason}). Check that it runs (dask "
        "scheduler), that the address is the one it prints, and that no firewall is in "
        "between."
    )


def unlike(who: str, error: BaseException) -> str:
    """Return what to do about a worker or scheduler that can't run our code."""
    is_missing = "attribute" in str(error) and "<module" in str(error)
    if is_missing or isinstance(error, ImportError):
        return (
            f"{who} has no napari-fewshot, or another version ({error}). Install the "
            "same version there as here: pip install "
            f'"napari-fewshot[cluster]=={versions_here()["napari-fewshot"]}"'
        )
    return (
        f"{who} does not answer as expected ({type(error).__name__}: {error}). Install "
        "the same versions of Python, dask and napari-fewshot there as here."
    )
