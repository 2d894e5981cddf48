"""Requests that are carried out by another job, whose results are worked on first."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_fewshot.errors import Cancelled
from napari_fewshot.inference import Summary
from napari_fewshot.session._jobs import Job, outcome_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_fewshot.data import Progress
    from napari_fewshot.inference import OnPlane, PlaneResult, SegmentRequest
    from napari_fewshot.session._jobs import Executor, OnDone, OnProgress, Outcome


class FollowingJob(Job):
    """The handle of a request that is carried out by another job."""

    def __init__(self, on_done: OnDone) -> None:
        super().__init__(on_done)
        self._inner: Job | None = None

    def cancel(self, *, urgent: bool = True) -> None:
        """Ask to stop; see `Job.cancel`."""
        super().cancel(urgent=urgent)
        if self._inner is not None:
            self._inner.cancel(urgent=urgent)

    @property
    def is_followed(self) -> bool:
        """Whether the job that computes is known."""
        return self._inner is not None

    def follow(self, inner: Job) -> None:
        """Pass cancelling on to the job that computes, from now on."""
        self._inner = inner
        if self.is_cancelled:
            inner.cancel(urgent=self.is_urgent)


class Relay:
    """Stands between whoever asked and an executor; on the executor's threads.

    Parameters
    ----------
    on_plane, on_progress, on_done : callable
        Of whoever asked.
    """

    # How planes are named in reports of progress.
    unit = "Plane"

    def __init__(
        self, on_plane: OnPlane, on_progress: OnProgress, on_done: OnDone
    ) -> None:
        self.job = FollowingJob(on_done)
        self.on_plane, self.on_progress = on_plane, on_progress
        # How many were done before the executor began.
        self.before = 0
        self._trouble: Exception | None = None

    def taken(self, result: PlaneResult) -> Iterable[PlaneResult]:
        """Take what the executor sends; yields what is handed on because of it."""
        raise NotImplementedError

    def finished(self, summary: Summary) -> Summary:
        """Return the summary for whoever asked, when everything is in."""
        raise NotImplementedError

    def run(self, executor: Executor, request: SegmentRequest) -> Job:
        """Let an executor do a request; returns the handle of all."""
        inner = executor.submit(
            request,
            on_plane=self._take,
            on_progress=self._report,
            on_done=self._finish,
        )
        self.job.follow(inner)
        return self.job

    def _take(self, result: PlaneResult) -> None:
        """Receive a plane; what goes wrong here must not disturb the executor."""
        if self._trouble is not None:
            return
        try:
            for part in self.taken(result):
                self.on_plane(part)
        except Exception as error:
            self._trouble = error
            if not self.job.is_followed:
                # Computed in this thread: the way out is the way back.
                raise
            self.job.cancel(urgent=False)

    def _report(self, progress: Progress) -> None:
        stage = re.sub(r"^(Plane )?(\d+) of (\d+)", self._counted, progress.stage)
        self.on_progress(replace(progress, stage=stage))

    def _counted(self, found: re.Match[str]) -> str:
        done, total = (int(n) + self.before for n in found.groups()[1:])
        return f"{self.unit if found[1] else ''} {done} of {total}".lstrip()

    def _finish(self, outcome: Outcome) -> None:
        if self._trouble is not None or isinstance(outcome, Summary):
            outcome = outcome_of(lambda: self._finished(outcome))
        self.job.finish(outcome)

    def _finished(self, outcome: Outcome) -> Summary:
        if self._trouble is not None:
            raise self._trouble
        if not isinstance(outcome, Summary):
            raise Cancelled("Stopped as asked. What was finished is kept.")
        return self.finished(outcome)
