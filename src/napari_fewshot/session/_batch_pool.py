"""Who works on a batch: this thread, or several that each wait for an executor."""

from __future__ import annotations

import logging
import queue
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

from napari_fewshot.errors import DataError, FewShotError
from napari_fewshot.session._jobs import get_executor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

logger = logging.getLogger(__name__)


class Pool:
    """Executors that are free.

    Parameters
    ----------
    wanted : str or Executor
        As for `segment`.
    workers : int
        How many images at once. On this computer each has a process of its own; a
        cluster, or an executor that was given, is shared.

    Raises
    ------
    DataError
        If there is to be none.
    """

    def __init__(self, wanted: Any, workers: int = 1) -> None:
        if workers < 1:
            raise DataError(f"workers={workers} is not a number of 1 and above.")
        self.workers = workers
        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._own: list[Any] = []
        for _ in range(workers):
            self._free.put(self._executor(wanted))

    def _executor(self, wanted: Any) -> Any:
        if self.workers > 1 and wanted in ("inline", "process"):
            from napari_fewshot.session._process import ProcessExecutor

            self._own.append(ProcessExecutor())
            return self._own[-1]
        return get_executor(wanted)

    def call(self, task: Callable[[Any, Any], Any], job: Any) -> Any:
        """Return what a task makes of a job, or the error that came of it."""
        executor = self._free.get()
        try:
            return task(job, executor)
        except (FewShotError, TypeError, ValueError) as error:
            return error
        except Exception as error:
            logger.exception("unexpected error")
            return DataError(
                f"Something unexpected went wrong ({type(error).__name__}: {error})."
            )
        finally:
            self._free.put(executor)

    def __enter__(self) -> Pool:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the processes that it started."""
        for executor in self._own:
            executor.close()


def work(
    pool: Pool,
    jobs: Iterable[Any],
    task: Callable[[Any, Any], Any],
    begin: Callable[[Any], None],
) -> Iterator[tuple[Any, Any]]:
    """Yield jobs with what came of them, as they are done.

    Parameters
    ----------
    pool : Pool
        Who works.
    jobs : iterable
        Taken as somebody is free.
    task : callable
        Receives a job and an executor.
    begin : callable
        Called with every job before it begins.
    """
    if pool.workers == 1:
        for job in jobs:
            begin(job)
            yield job, pool.call(task, job)
        return
    left = deque(jobs)
    running: dict[Future[Any], Any] = {}
    threads = ThreadPoolExecutor(pool.workers)
    try:
        while left or running:
            while left and len(running) < pool.workers:
                job = left.popleft()
                begin(job)
                running[threads.submit(pool.call, task, job)] = job
            ready, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in ready:
                job = running.pop(future)
                yield job, future.result()
    finally:
        # Stopped early: what runs is stopped where it is, and its outcome dropped.
        if running:
            pool.__exit__()
        threads.shutdown(cancel_futures=True)
