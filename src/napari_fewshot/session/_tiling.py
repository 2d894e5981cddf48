"""`submit`: hands a request to an executor, in tiles where its planes are large.

Executors know nothing of tiles: they get a request whose planes are windows, and may
send them back in any order. They are put together here, on the executor's thread.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_fewshot.data import Hooks
from napari_fewshot.inference.tiles import (
    TiledRun,
    check_where,
    cut_supports,
    limited,
    plan_tiles,
)
from napari_fewshot.session import _resuming as resuming
from napari_fewshot.session._following import Relay

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_fewshot.inference import (
        OnPlane,
        PlaneResult,
        SegmentRequest,
        Summary,
    )
    from napari_fewshot.inference.tiles import TilePlan
    from napari_fewshot.session._jobs import Executor, Job, OnDone, OnProgress


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
        Keeps the tiles, or the planes of a stack, that are finished: the same request
        with the same folder goes on with those that are missing. Whoever gave it
        removes it when the result is where it belongs.

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
            return resuming.submit(
                executor,
                request,
                on_plane=on_plane,
                on_progress=on_progress,
                on_done=on_done,
                folder=folder,
            )
        check_where(request)
        return resuming.submit(
            executor,
            replace(request, region=None, inside=None, first=None),
            on_plane=lambda result: on_plane(limited(request, result)),
            on_progress=on_progress,
            on_done=on_done,
            folder=folder,
        )
    tiling = _Tiling(plan, on_plane, on_progress, on_done, folder)
    return tiling.start(executor)


class _Tiling(Relay):
    """One request on its way."""

    unit = "Tile"

    def __init__(
        self,
        plan: TilePlan,
        on_plane: OnPlane,
        on_progress: OnProgress,
        on_done: OnDone,
        folder: Path | None,
    ) -> None:
        super().__init__(on_plane, on_progress, on_done)
        self._plan = plan
        self._run = TiledRun(plan, folder)

    def start(self, executor: Executor) -> Job:
        """Hand out what is there, and let an executor make what is missing."""
        for result in self._run.resume():
            self.on_plane(result)
        missing = self._run.missing
        self.before = len(self._plan.numbers) - len(missing)
        # With nothing left to do, one window is looked at again for the summary.
        wanted = missing or self._plan.numbers[-1:]
        return self.run(executor, self._plan.tiled(wanted))

    def taken(self, result: PlaneResult) -> Iterator[PlaneResult]:
        """Take a window; yields what can be shown because of it."""
        return self._run.take(result)

    def finished(self, summary: Summary) -> Summary:
        """Put tiles together."""
        hooks = Hooks(self.on_progress, lambda: self.job.is_cancelled)
        hooks.report("Putting tiles together")
        for part in self._run.finish(summary, hooks):
            self.on_plane(part)
        return self._run.summary(summary)
