"""Volumes above executors: one request becomes several, and what came is put together.

Executors see requests for planes only, wherever they compute; so does whoever cuts
large planes into tiles.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_fewshot.data import Hooks, Progress
from napari_fewshot.errors import Cancelled, FewShotError, StorageError
from napari_fewshot.inference import Summary
from napari_fewshot.inference.volumes import (
    VOLUME_PARAMS,
    VolumeFinisher,
    VolumePlan,
    plan_volume,
)
from napari_fewshot.io import cache_folder
from napari_fewshot.session import _tiling as tiling
from napari_fewshot.session._jobs import Job, outcome_of

if TYPE_CHECKING:
    from pathlib import Path

    from napari_fewshot.inference import OnPlane, PlaneResult, SegmentRequest
    from napari_fewshot.session._jobs import Executor, OnDone, OnProgress, Outcome

STAGES = {"planes": "", "y": "Cuts along y: ", "x": "Cuts along x: "}
# Drawing the labels of all planes counts as this share of the progress bar.
FINISH_SHARE = 0.1
STEPS = 1000


def submit(
    executor: Executor,
    request: SegmentRequest,
    *,
    on_plane: OnPlane,
    on_progress: OnProgress,
    on_done: OnDone,
    folder: Path | None = None,
) -> Job:
    """Start a request; one for a volume becomes requests for planes.

    What the planes themselves say is sent as soon as it is there; where views are fused
    or objects judged in space, planes come again at the end, and those count.

    Parameters
    ----------
    executor : Executor
        Who computes.
    request : SegmentRequest
        Any; without parameters of volumes it is passed on as it is.
    on_plane, on_progress, on_done : callable
        As for `Executor.submit`.
    folder : path, optional
        Keeps what is finished, see `_tiling.submit`; views of a volume have a folder
        in it each.
    """
    plan: list[VolumePlan | None] = []

    def look() -> Any:
        plan.append(plan_volume(request))

    # Reading a volume, or making sense of its supports, may fail in any way.
    trouble = outcome_of(look)
    if not plan:
        job = Job(on_done)
        job.finish(trouble)
        return job
    if plan[0] is None:
        return tiling.submit(
            executor,
            _without(request),
            on_plane=on_plane,
            on_progress=on_progress,
            on_done=on_done,
            folder=folder,
        )
    run = _VolumeRun(executor, plan[0], on_plane, on_progress, on_done, folder)
    run.start()
    return run.job


def _without(request: SegmentRequest) -> SegmentRequest:
    """Return a request without parameters of volumes: they have their usual values."""
    if request.task != "segment" or not set(request.params) & set(VOLUME_PARAMS):
        return request
    params = {k: v for k, v in request.params.items() if k not in VOLUME_PARAMS}
    return replace(request, params=params)


class _VolumeJob(Job):
    """A job that passes a wish to stop on to the part that runs."""

    current: Job | None = None

    def cancel(self, *, urgent: bool = True) -> None:
        """Ask to stop; see `Job.cancel`."""
        super().cancel(urgent=urgent)
        if self.current is not None:
            self.current.cancel(urgent=urgent)


class _VolumeRun:
    """Starts one part after the other, then finishes; on the executor's threads."""

    def __init__(
        self,
        executor: Executor,
        plan: VolumePlan,
        on_plane: OnPlane,
        on_progress: OnProgress,
        on_done: OnDone,
        kept: Path | None = None,
    ) -> None:
        self.job = _VolumeJob(on_done)
        self._kept = kept
        self._executor, self._plan = executor, plan
        self._on_plane, self._on_progress = on_plane, on_progress
        self._summaries: list[Summary] = []
        self._folder, self._done = "", 0
        self._finisher: VolumeFinisher | None = None
        self._trouble: Exception | None = None
        # Parts count by the pixels that they look at.
        self._sizes = [
            float(p.request.query.n_planes * _area(p.request.query.plane_shape))
            for p in plan.parts
        ]

    def start(self) -> None:
        """Start the first part."""
        if self._plan.finishes:
            try:
                place = cache_folder() / "volumes"
                place.mkdir(parents=True, exist_ok=True)
                self._folder = tempfile.mkdtemp(prefix="run-", dir=place)
            except OSError as error:
                self._end(
                    StorageError(
                        "There is no place to work on the volume "
                        f"({error.strerror or error}). Free some space, or set "
                        "NAPARI_FEWSHOT_HOME to another folder."
                    )
                )
                return
            self._finisher = VolumeFinisher(self._plan, self._folder)
        self._next()

    def _next(self) -> None:
        number = len(self._summaries)
        part = self._plan.parts[number]
        try:
            job = tiling.submit(
                self._executor,
                part.request,
                on_plane=lambda result: self._plane(number, result),
                on_progress=lambda progress: self._report(number, progress),
                on_done=self._part_done,
                folder=None if self._kept is None else self._kept / part.name,
            )
        except FewShotError as error:
            self._end(error)
            return
        if not job.done and len(self._summaries) == number:
            self.job.current = job
            if self.job.is_cancelled:
                job.cancel(urgent=self.job.is_urgent)

    def _plane(self, number: int, result: PlaneResult) -> None:
        if self._finisher is not None and self._trouble is None:
            try:
                self._finisher.add(number, result)
            except Exception as error:
                self._trouble = error
                if self.job.current is None:
                    # Computed in this thread: the way out is the way back.
                    raise
                self.job.current.cancel(urgent=False)
        if self._trouble is not None:
            return
        if self._plan.parts[number].cutting is not None:
            return
        if self._finisher is not None:
            # Objects are numbered at the end; maps are those of all views.
            result = replace(result, instances=None, probabilities={})
        self._on_plane(result)

    def _report(self, number: int, progress: Progress) -> None:
        part = self._plan.parts[number]
        stage = f"{STAGES[part.name]}{progress.stage}"
        share = progress.done / progress.total if progress.total else 0.0
        before = sum(self._sizes[:number]) + share * self._sizes[number]
        whole = 1 - FINISH_SHARE * (self._finisher is not None)
        # Parts of a run count their own steps from 0; the bar does not go back.
        self._done = max(self._done, int(STEPS * whole * before / sum(self._sizes)))
        left = progress.seconds_left if number + 1 == len(self._sizes) else None
        self._on_progress(Progress(stage, self._done, STEPS, left))

    def _part_done(self, outcome: Outcome) -> None:
        if self._trouble is not None:
            trouble = self._trouble

            def again() -> Summary:
                raise trouble

            self._end(outcome_of(again))
            return
        if not isinstance(outcome, Summary):
            self._end(outcome)
            return
        self._summaries.append(outcome)
        if self.job.is_cancelled:
            self._end(Cancelled("Stopped as asked. What was finished is kept."))
        elif len(self._summaries) < len(self._plan.parts):
            self._next()
        else:
            self._end(outcome_of(self._finish))

    def _finish(self) -> Summary:
        summary = self._summaries[0]
        if self._finisher is not None:

            def report(progress: Progress) -> None:
                share = progress.done / progress.total if progress.total else 0.0
                done = int(STEPS * (1 - FINISH_SHARE * (1 - share)))
                self._done = max(self._done, done)
                self._on_progress(Progress(progress.stage, self._done, STEPS))

            hooks = Hooks(report, lambda: self.job.is_cancelled)
            summary = self._finisher.finish(self._summaries, hooks, self._on_plane)
        notes = [*summary.provenance.get("notes", ()), *self._plan.notes]
        more = {n: getattr(self._plan.params, n) for n in VOLUME_PARAMS}
        params = {**summary.provenance.get("params", {}), **more}
        provenance = {**summary.provenance, "params": params, "notes": notes}
        return replace(summary, provenance=provenance)

    def _end(self, outcome: Any) -> None:
        if self._finisher is not None:
            self._finisher.close()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
        self.job.finish(outcome)


def _area(shape: tuple[int, int]) -> int:
    return shape[0] * shape[1]
