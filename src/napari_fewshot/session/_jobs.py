"""Executors: who computes a request, and the handle of a running one.

All callbacks may come from another thread than the one that submitted.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from napari_fewshot.data import Hooks, Progress
from napari_fewshot.errors import FewShotError, ModelError
from napari_fewshot.inference import FitCache, OnPlane, Summary, run

if TYPE_CHECKING:
    from napari_fewshot.inference import SegmentRequest

Outcome = Summary | FewShotError | TypeError | ValueError
OnProgress = Callable[[Progress], None]
OnDone = Callable[[Outcome], None]

logger = logging.getLogger(__name__)


class Job:
    """A submitted request.

    Attributes
    ----------
    outcome : Summary or error, optional
        What came out; None while it runs.
    is_urgent : bool
        Whether a cancel may stop the process that computes.
    """

    def __init__(self, on_done: OnDone) -> None:
        self.outcome: Outcome | None = None
        self._on_done = on_done
        self._cancelled = threading.Event()
        self.is_urgent = False
        self._finished = threading.Event()

    @property
    def done(self) -> bool:
        """Whether the outcome is there."""
        return self._finished.is_set()

    @property
    def is_cancelled(self) -> bool:
        """Whether the user asked to stop."""
        return self._cancelled.is_set()

    def cancel(self, *, urgent: bool = True) -> None:
        """Ask to stop; may be called at any time, from any thread.

        Parameters
        ----------
        urgent : bool
            A worker that does not answer soon is stopped; otherwise it is let reach
            the end of its step, so that what it has loaded is kept.
        """
        self.is_urgent = self.is_urgent or urgent
        self._cancelled.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is done; returns whether it is."""
        return self._finished.wait(timeout)

    def finish(self, outcome: Outcome) -> None:
        """Set the outcome and tell whoever waits; only the first call counts."""
        if not self.done:
            self.outcome = outcome
            try:
                self._on_done(outcome)
            finally:
                self._finished.set()


class Executor(Protocol):
    """Computes requests.

    Attributes
    ----------
    name : str
        For provenance.
    """

    name: str

    def submit(
        self,
        request: SegmentRequest,
        *,
        on_plane: OnPlane,
        on_progress: OnProgress,
        on_done: OnDone,
    ) -> Job:
        """Start a request and return its handle."""

    def close(self) -> None:
        """Stop what runs and free everything."""


@dataclass
class InlineExecutor:
    """Runs in the calling thread: `submit` returns when all is done."""

    name: str = "inline"

    def __post_init__(self) -> None:
        """Keep fits between requests."""
        self._cache = FitCache()

    def submit(
        self,
        request: SegmentRequest,
        *,
        on_plane: OnPlane,
        on_progress: OnProgress,
        on_done: OnDone,
    ) -> Job:
        """Run the request now."""
        job = Job(on_done)
        hooks = Hooks(on_progress, lambda: job.is_cancelled)
        job.finish(outcome_of(lambda: run(request, hooks, on_plane, self._cache)))
        return job

    def close(self) -> None:
        """Forget the fits."""
        self._cache.clear()


def outcome_of(work: Callable[[], Summary]) -> Outcome:
    """Call the work and turn anything it raises into an error for the user.

    This is a boundary: an unknown exception becomes a sentence here, and its traceback
    goes to the log.
    """
    try:
        return work()
    except (FewShotError, TypeError, ValueError) as error:
        if not isinstance(error, FewShotError):
            logger.info("refused", exc_info=True)
        return error
    except MemoryError:
        logger.exception("out of memory")
        return ModelError(
            "There is not enough memory for this image. Close other programs, use "
            "smaller images, or lower max_side."
        )
    except Exception as error:
        logger.exception("unexpected error")
        return ModelError(
            f"Something unexpected went wrong ({type(error).__name__}: {error}). Your "
            "data is untouched; the log has the details."
        )


_SHARED: dict[str, Executor] = {}


def get_executor(wanted: Any) -> Executor:
    """Return an executor by name, or the one that was given.

    Parameters
    ----------
    wanted : str, Executor, distributed.Client or cluster
        ``"inline"`` or ``"process"``; ``"tcp://host:8786"`` is the scheduler of a
        cluster. One of each is shared by the whole program. Also a client, or a cluster
        of dask-jobqueue, dask-cuda, dask-kubernetes: anything with
        ``scheduler_address``.

    Raises
    ------
    ModelError
        For an unknown name.
    """
    if not isinstance(wanted, str):
        is_cluster = hasattr(wanted, "scheduler_address") or hasattr(wanted, "scatter")
        return _on_cluster(wanted) if is_cluster else wanted
    if wanted in _SHARED:
        return _SHARED[wanted]
    if wanted == "inline":
        _SHARED[wanted] = InlineExecutor()
    elif wanted == "process":
        from napari_fewshot.session._process import ProcessExecutor

        _SHARED[wanted] = ProcessExecutor()
    elif "://" in wanted:
        _SHARED[wanted] = _on_cluster(wanted)
    else:
        raise ModelError(
            f"There is no executor {wanted!r}. Use 'inline', 'process', or the address "
            "of a cluster such as 'tcp://host:8786'."
        )
    return _SHARED[wanted]


# By identity; the object is kept beside, so that its number is not given anew.
_CLUSTERS: dict[int, tuple[Any, Executor]] = {}


def _on_cluster(where: Any) -> Executor:
    """Return the one executor for a scheduler address, client or cluster."""
    from napari_fewshot.session._dask import DaskExecutor

    if isinstance(where, str):
        return DaskExecutor(where)
    if id(where) not in _CLUSTERS:
        _CLUSTERS[id(where)] = where, DaskExecutor(where)
    return _CLUSTERS[id(where)][1]
