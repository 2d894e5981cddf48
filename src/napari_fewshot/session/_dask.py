"""`DaskExecutor`: the same frozen requests, on the workers of a dask scheduler."""

from __future__ import annotations

import atexit
import logging
import threading
from typing import TYPE_CHECKING, Any

from napari_fewshot.errors import Cancelled
from napari_fewshot.session._dask_link import (
    FIRST_WORKER_SECONDS,
    ClusterCheck,
    Link,
    connect,
)
from napari_fewshot.session._dask_reach import (
    ANSWER_SECONDS,
    CANCELLED,
    CONNECT_SECONDS,
    within,
)
from napari_fewshot.session._jobs import Job, OnDone, OnProgress, outcome_of

if TYPE_CHECKING:
    from napari_fewshot.inference import OnPlane, SegmentRequest, Summary

logger = logging.getLogger(__name__)


class DaskExecutor:
    """Runs requests on an existing cluster; several at once if they are submitted.

    Planes go out in pieces of a few seconds, and come back as they are done. A worker
    that is lost costs only its pieces: others do them again.

    Parameters
    ----------
    where : str, distributed.Client or cluster
        ``"tcp://host:8786"``; a client; or anything with ``scheduler_address``, such as
        clusters of dask-jobqueue, dask-cuda and dask-kubernetes.
    """

    name = "dask"
    # Blocks of planes are made by themselves, wherever there is room.
    divides = True

    def __init__(self, where: Any) -> None:
        self._where = where
        self._link: Link | None = None
        self._found: ClusterCheck | None = None
        self._lock = threading.Lock()
        self._jobs: list[Job] = []
        atexit.register(self.close)

    @property
    def found(self) -> ClusterCheck | None:
        """What the last test of the connection found; None before the first."""
        return self._found

    def check(self) -> ClusterCheck:
        """Connect if that has not happened, and test whether everything fits.

        Raises
        ------
        ModelError
            If distributed is not installed here.
        WorkerError
            If the scheduler is not reachable, has no workers, or other versions are
            installed there; says what to do.
        """
        with self._lock:
            if self._link is None or self._link.is_lost:
                self._link = connect(self._where)
            link = self._link
        found = link.check()
        link.has_gpus = any(worker.gpus for worker in found.workers)
        self._found = found
        return found

    def submit(
        self,
        request: SegmentRequest,
        *,
        on_plane: OnPlane,
        on_progress: OnProgress,
        on_done: OnDone,
    ) -> Job:
        """Start a request and return at once."""
        job = Job(on_done)
        self._jobs = [j for j in self._jobs if not j.done] + [job]

        def body() -> None:
            outcome = outcome_of(lambda: self._run(request, job, on_plane, on_progress))
            self._let_go(job)
            job.finish(outcome)

        threading.Thread(
            target=body, name="napari-fewshot-cluster", daemon=True
        ).start()
        return job

    def close(self) -> None:
        """Cancel what runs and close the connection, if it was opened here."""
        for job in self._jobs:
            job.cancel()
        for job in self._jobs:
            job.wait(timeout=2.0)
        self._jobs = []
        with self._lock:
            link, self._link = self._link, None
        if link is not None:
            link.close()
        atexit.unregister(self.close)

    def _let_go(self, finished: Job) -> None:
        """Leave a cluster object when nothing runs: it may be closed at any time."""
        is_idle = all(job.done or job is finished for job in self._jobs)
        if isinstance(self._where, str) or not is_idle:
            return
        with self._lock:
            link, self._link = self._link, None
        if link is not None:
            link.close()

    def _run(
        self,
        request: SegmentRequest,
        job: Job,
        on_plane: OnPlane,
        on_progress: OnProgress,
    ) -> Summary:
        from napari_fewshot.data import Progress
        from napari_fewshot.session._dask_run import ClusterRun

        if self._link is None or not self._link.is_open:
            on_progress(Progress("Connecting to the cluster"))
            within(
                CONNECT_SECONDS + 2 * ANSWER_SECONDS + FIRST_WORKER_SECONDS,
                self.check,
                f"The cluster {self._where} does not answer. Check that its scheduler "
                "runs, or run on this computer.",
                lambda: job.is_cancelled,
            )
        link = self._link
        if job.is_cancelled or link is None:
            raise Cancelled(CANCELLED)
        return ClusterRun(link, request, job, on_plane, on_progress).run()
