"""`submit`: hands a request to an executor, in tiles where its planes are large.

Executors know nothing of tiles: they get a request whose planes are windows, and may
send them back in any order. They are put together here, on the executor's thread.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_fewshot.data import Hooks, Progress
from napari_fewshot.errors import Cancelled
from napari_fewshot.inference import Summary
from napari_fewshot.inference.tiles import (
    TiledRun,
    check_where,
    cut_supports,
    limited,
    plan_tiles,
)
from napari_fewshot.session._jobs import Job, outcome_of

if TYPE_CHECKING:
    from pathlib import Path

    from napari_fewshot.inference import OnPlane, PlaneResult, SegmentRequest
    from napari_fewshot.inference.tiles import TilePlan
    from napari_fewshot.session._jobs import Executor, OnDone, OnProgress, Outcome


def submit(
    executor: Executor,
    request: SegmentRequest,
    *,
    on_plane: OnPlane,
    on_progress: OnProgress,
    on_done: OnDone,
    folder: Path | None = None,
) -> Job:
    """Start a request and return its handle; see `Executor.submit`.

    Parameters
    ----------
    executor : Executor
        Who computes.
    request : SegmentRequest
        Large planes, regions and masks are dealt with here.
    on_plane : callable
        Receives a `PlaneResult` for every plane, or for parts of it (``region``): at
        first as soon as anything is known, then again when it is better known.
    on_progress, on_done : callable
        Receive progress and the outcome.
    folder : path, optional
        Keeps the tiles that are finished: the same request with the same folder goes on
        with those that are missing. It is removed when all is done.

    Raises
    ------
    DataError
        If the region or the mask does not fit the image.
    StorageError
        If the folder can't be written.
    """
    request = replace(request, support=cut_supports(request.support))
    plan = plan_tiles(request)
    if plan is None:
        if request.region is None and request.inside is None:
            return executor.submit(
                request, on_plane=on_plane, on_progress=on_progress, on_done=on_done
            )
        check_where(request)
        return executor.submit(
            replace(request, region=None, inside=None, first=None),
            on_plane=lambda result: on_plane(limited(request, result)),
            on_progress=on_progress,
            on_done=on_done,
        )
    tiling = _Tiling(plan, on_plane, on_progress, on_done, folder)
    return tiling.start(executor)


class TiledJob(Job):
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


class _Tiling:
    """One request on its way."""

    def __init__(
        self,
        plan: TilePlan,
        on_plane: OnPlane,
        on_progress: OnProgress,
        on_done: OnDone,
        folder: Path | None,
    ) -> None:
        self.job = TiledJob(on_done)
        self._plan = plan
        self._on_plane, self._on_progress = on_plane, on_progress
        self._run = TiledRun(plan, folder)
        self._trouble: Exception | None = None
        self._before = 0

    def start(self, executor: Executor) -> Job:
        for result in self._run.resume():
            self._on_plane(result)
        missing = self._run.missing
        self._before = len(self._plan.numbers) - len(missing)
        # With nothing left to do, one window is looked at again for the summary.
        wanted = missing or self._plan.numbers[-1:]
        inner = executor.submit(
            self._plan.tiled(wanted),
            on_plane=self._take,
            on_progress=self._report,
            on_done=self._finish,
        )
        self.job.follow(inner)
        return self.job

    def _take(self, result: PlaneResult) -> None:
        """Receive a window; what goes wrong here must not disturb the executor."""
        if self._trouble is not None:
            return
        try:
            for part in self._run.take(result):
                self._on_plane(part)
        except Exception as error:
            self._trouble = error
            if not self.job.is_followed:
                # Computed in this thread: the way out is the way back.
                raise
            self.job.cancel(urgent=False)

    def _report(self, progress: Progress) -> None:
        stage = re.sub(r"^Plane (\d+) of (\d+)", self._tile, progress.stage)
        self._on_progress(replace(progress, stage=stage))

    def _tile(self, found: re.Match[str]) -> str:
        done, total = (int(n) + self._before for n in found.groups())
        return f"Tile {done} of {total}"

    def _finish(self, outcome: Outcome) -> None:
        if self._trouble is not None or isinstance(outcome, Summary):
            outcome = outcome_of(lambda: self._finished(outcome))
        self.job.finish(outcome)

    def _finished(self, outcome: Outcome) -> Summary:
        if self._trouble is not None:
            raise self._trouble
        if not isinstance(outcome, Summary):
            raise Cancelled("Stopped as asked. What was finished is kept.")
        hooks = Hooks(self._on_progress, lambda: self.job.is_cancelled)
        hooks.report("Putting tiles together")
        for part in self._run.finish(outcome, hooks):
            self._on_plane(part)
        found = self._run.summary(outcome)
        self._run.parts.remove()
        return found
