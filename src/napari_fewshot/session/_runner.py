"""`Runner`: one run at a time, delivered on the owner's thread, stale ones dropped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from napari_fewshot.data import Progress
from napari_fewshot.inference import Summary
from napari_fewshot.session._api import LOCAL
from napari_fewshot.session._estimate import note_speed
from napari_fewshot.session._volumes import submit

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_fewshot.inference import PlaneResult, SegmentRequest
    from napari_fewshot.session._collect import Collector
    from napari_fewshot.session._jobs import Executor, Job
    from napari_fewshot.session._searching import Gathered
    from napari_fewshot.session._trials import Trial

Gathering: TypeAlias = "Collector | Gathered | Trial"


class Runner:
    """Starts runs and delivers what they send.

    Parameters
    ----------
    executor : Executor
        Who computes.
    dispatch : callable
        Runs a function on the thread of the owner.
    on_progress, on_plane : callable
        Receive what the current run sends.
    on_outcome : callable
        Receives the outcome and the collector of the current run, once.
    on_start : callable
        Called when a run has begun.
    """

    def __init__(
        self,
        executor: Executor,
        dispatch: Callable[[Callable[[], None]], None],
        *,
        on_progress: Callable[[Progress], None],
        on_plane: Callable[[PlaneResult], None],
        on_outcome: Callable[[Any, Any], None],
        on_start: Callable[[], None],
    ) -> None:
        self.dispatch = dispatch
        self.progress: Progress | None = None
        self._executor = executor
        self._on_progress = on_progress
        self._on_plane = on_plane
        self._on_outcome = on_outcome
        self._on_start = on_start
        self._generation = 0
        self._collector: Gathering | None = None
        self._job: Job | None = None

    @property
    def is_running(self) -> bool:
        """Whether a run is on."""
        return self._collector is not None

    @property
    def labels(self) -> Any:
        """Labels of the current run, as far as they are known; None without a run."""
        return None if self._collector is None else self._collector.labels

    def start(self, request: SegmentRequest, collector: Gathering) -> Job:
        """Start a run; a run that is on is cancelled and its results are dropped."""
        if self._job is not None:
            self._job.cancel()
        self._generation += 1
        generation = self._generation
        self._collector, self._job = collector, None
        self.progress = Progress("Starting")
        self._on_start()

        def on_plane(result: PlaneResult) -> None:
            # Gathered on the executor's thread: the owner's must stay free.
            collector.add(result)
            self.dispatch(lambda: self._plane(generation, result))

        is_timed = request.task == "segment" and self._executor.name in LOCAL

        def on_done(outcome: Any) -> None:
            if isinstance(outcome, Summary) and is_timed:
                note_speed(request, outcome.provenance)
            self.dispatch(lambda: self._done(generation, outcome))

        job = submit(
            self._executor,
            request,
            on_plane=on_plane,
            on_progress=lambda p: self.dispatch(lambda: self._report(generation, p)),
            on_done=on_done,
        )
        if self.is_running and generation == self._generation:
            self._job = job
        return job

    def use(self, executor: Executor) -> None:
        """Let another executor compute from the next run on."""
        self._executor = executor

    def cancel(self) -> None:
        """Ask the current run to stop."""
        if self._job is not None:
            self._job.cancel()

    def abandon(self) -> None:
        """Stop the current run and drop whatever still comes of it."""
        self.cancel()
        self._generation += 1
        self._collector, self._job, self.progress = None, None, None

    def deliver(self, job: Job) -> None:
        """Deliver the outcome of a finished job now, unless that has happened."""
        if job is self._job:
            self._done(self._generation, job.outcome)

    def _report(self, generation: int, progress: Progress) -> None:
        if generation == self._generation and self.is_running:
            self.progress = progress
            self._on_progress(progress)

    def _plane(self, generation: int, result: PlaneResult) -> None:
        if generation == self._generation and self.is_running:
            self._on_plane(result)

    def _done(self, generation: int, outcome: Any) -> None:
        if generation != self._generation or self._collector is None:
            return
        collector = self._collector
        self._collector, self._job, self.progress = None, None, None
        self._on_outcome(outcome, collector)
