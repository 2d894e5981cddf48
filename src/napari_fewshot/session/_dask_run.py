"""One request on a cluster: pieces out, planes in, lost pieces out again."""

from __future__ import annotations

import logging
import queue
import time
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from napari_fewshot.data import Progress
from napari_fewshot.errors import (
    Cancelled,
    DataError,
    FewShotError,
    ModelError,
    WorkerError,
)
from napari_fewshot.inference import SegmentRequest, Summary, check_request
from napari_fewshot.inference._prompted import asks_nothing, with_model
from napari_fewshot.session._dask_delivery import Delivery
from napari_fewshot.session._dask_facts import (
    GPU,
    checkpoints_of,
    models_of,
    versions_here,
    with_text_model,
)
from napari_fewshot.session._dask_payload import (
    pickled,
    readable,
    shared_of,
    with_window,
)
from napari_fewshot.session._dask_plan import (
    SPLIT,
    Merger,
    Planner,
    leading_plane,
    plane_bytes,
    together,
    wanted_planes,
)
from napari_fewshot.session._dask_reach import CANCELLED, no_workers
from napari_fewshot.session._dask_remote import NotHere, hold, run_piece
from napari_fewshot.session._dask_wire import (
    Piece,
    PieceResult,
    content_key,
    describe,
)

if TYPE_CHECKING:
    from napari_fewshot.inference import OnPlane
    from napari_fewshot.session._dask_link import Link
    from napari_fewshot.session._jobs import Job, OnProgress

logger = logging.getLogger(__name__)
TICK_SECONDS = 0.05
# Pieces per worker that are under way: one is computed while the next one travels.
UNDER_WAY = 2
# How often a piece may be lost, beyond what the scheduler repeats by itself.
MAX_LOSSES = 3
# Seconds without a scheduler, or without any worker, until a run is given up.
GONE_SECONDS, WORKERLESS_SECONDS = 12.0, 60.0
FETCH_SECONDS = 60.0
# Results that wait for those before them; no more pieces go out meanwhile.
MOST_WAITING = 256 * 1024**2
# So many planes fail with nothing done before the rest is not tried.
HOPELESS = 8


@dataclass
class _UnderWay:
    future: Any
    planes: tuple[int, ...]


class ClusterRun:
    """One request on its way.

    Parameters
    ----------
    link : Link
        An open connection whose versions were compared.
    request : SegmentRequest
        What to do.
    job : Job
        Says when to stop.
    on_plane, on_progress : callable
        Receive planes and reports.
    """

    def __init__(
        self,
        link: Link,
        request: SegmentRequest,
        job: Job,
        on_plane: OnPlane,
        on_progress: OnProgress,
    ) -> None:
        self._link, self._job = link, job
        self._request = with_text_model(with_model(request))
        self._on_progress = on_progress
        self._events: queue.Queue[str] = queue.Queue()
        self._under_way: dict[str, _UnderWay] = {}
        self._losses: dict[tuple[int, ...], int] = {}
        self._failed: dict[int, str] = {}
        self._done = 0
        self._notes: list[str] = []
        self._held: Any = None
        self._name = uuid.uuid4().hex[:12]
        self._count = 0
        self._begun = self._seen = self._reached = time.monotonic()
        self._on_plane = on_plane

    def run(self) -> Summary:
        """Do it; returns when all planes are in.

        Raises
        ------
        FewShotError
            What went wrong; planes that were done have been handed out.
        """
        self._say("Checking the images")
        request = self._request = with_window(self._request)
        check_request(request, needs_evidence=not asks_nothing(request))
        planes = wanted_planes(request)
        block = together(request, len(planes))
        self._whole = request.task not in SPLIT or block >= len(planes) > 1
        self._delivery = Delivery(planes, self._on_plane)
        self._merger = Merger(request, planes)
        self._lead = self._leading_plane(planes)
        self._say("Sending the supports to the cluster")
        self._prepare(planes)
        size = plane_bytes(request, with_pixels=self._shared.sends_pixels)
        self._planner = Planner(planes, block, size)
        self._say("Learning on the workers")
        try:
            self._loop(len(planes))
        finally:
            self._stop()
        self._delivery.hand_out(everything=True)
        return self._outcome(len(planes))

    def _leading_plane(self, planes: tuple[int, ...]) -> int | None:
        """Return the plane that phrases alone are judged on."""
        return None if self._whole else leading_plane(self._request, planes)

    def _prepare(self, planes: tuple[int, ...]) -> None:
        """Describe the request, and give it to the cluster."""
        request = self._request
        names, given = models_of(request), checkpoints_of(request)
        weights, files = self._link.expected_weights(names, given)
        self._shared = shared_of(request, planes, weights, files)
        self._hold()

    def _hold(self) -> None:
        """Give the request to the cluster; workers fetch it once each."""
        content = pickled(self._shared)
        self._key = content_key(content)
        self._held = self._submit(hold, content, key=f"napari-fewshot-hold-{self._key}")

    def _submit(self, call: Any, *values: Any, **options: Any) -> Any:
        import dask

        quiet = {"distributed.admin.large-graph-warning-threshold": "1 TiB"}
        with dask.config.set(quiet):
            return self._link.client.submit(call, *values, pure=False, **options)

    # -- the loop --------------------------------------------------------------------

    def _loop(self, total: int) -> None:
        while self._under_way or not self._planner.is_exhausted:
            if self._job.is_cancelled:
                raise Cancelled(CANCELLED)
            self._expect_scheduler()
            workers = self._link.workers(gpu=self._wants_gpu())
            self._expect_workers(workers)
            self._send_more(workers)
            try:
                key = self._events.get(timeout=TICK_SECONDS)
            except queue.Empty:
                continue
            if key in self._under_way:
                self._settle(self._under_way.pop(key), total, workers)

    def _send_more(self, workers: int) -> None:
        most = max(1, workers) * UNDER_WAY
        while (
            len(self._under_way) < most
            and not self._planner.is_exhausted
            and self._delivery.waiting_bytes < MOST_WAITING
            and self._link.is_open
        ):
            planes = self._planner.next(workers)
            self._send(planes)

    def _send(self, planes: tuple[int, ...]) -> None:
        pixels = None
        if self._shared.sends_pixels:
            asked = planes if self._lead is None else {self._lead, *planes}
            pixels = readable(self._request.query, asked)
        self._count += 1
        key = f"napari-fewshot-{self._name}-{self._count}"
        piece = Piece(planes, self._lead, pixels, self._whole)
        options: dict[str, Any] = {"key": key}
        if self._wants_gpu():
            options["resources"] = {GPU: 1}
        future = self._submit(run_piece, self._held, self._key, piece, **options)
        self._under_way[key] = _UnderWay(future, planes)
        events = self._events
        future.add_done_callback(lambda done: events.put(str(done.key)))

    def _settle(self, one: _UnderWay, total: int, workers: int) -> None:
        """Take what came of a piece."""
        status = one.future.status
        if status == "finished":
            try:
                found = one.future.result(timeout=FETCH_SECONDS)
            except Exception as error:  # noqa: BLE001 - its worker died with the result
                logger.info("a finished piece was lost: %r", error)
                self._lose(one, repr(error))
                return
            self._finish(one, found, total, workers)
        elif status == "error":
            self._on_error(one, one.future.exception())
        else:
            self._held_again()
            self._lose(one, "the scheduler forgot it")

    def _finish(
        self, one: _UnderWay, found: PieceResult, total: int, workers: int
    ) -> None:
        one.future.release()
        self._merger.add(found)
        self._failed.update(found.failed)
        self._done += len(one.planes)
        self._planner.note(len(one.planes), found.seconds)
        self._delivery.take(found)
        hopeless = len(self._failed) >= min(HOPELESS, total)
        if hopeless and len(self._failed) == self._done:
            raise DataError(next(iter(self._failed.values())))
        self._report(total, workers)

    def _on_error(self, one: _UnderWay, error: Any) -> None:
        from distributed import KilledWorker

        if isinstance(error, NotHere):
            self._send_pixels_from_now_on(error)
            self._planner.give_back(one.planes)
        elif isinstance(error, KilledWorker):
            self._lose(one, "workers died again and again", killed=True)
        elif isinstance(error, FewShotError):
            raise error
        else:
            logger.error("a piece failed", exc_info=error)
            raise ModelError(
                f"A worker failed in an unexpected way ({type(error).__name__}: "
                f"{error}). Are the same versions installed everywhere? See: "
                f"napari-fewshot cluster check {self._link.address}"
            ) from error

    def _send_pixels_from_now_on(self, error: Exception) -> None:
        if self._shared.sends_pixels:
            return
        logger.info("the workers can't open the image: %s", error)
        self._notes.append(
            "The workers could not open the image by themselves, so its pixels were "
            f"sent to them ({error})."
        )
        query = describe(self._request.query, with_pixels=True)
        self._shared = replace(self._shared, query=query, check=None, sends_pixels=True)
        self._hold()

    def _lose(self, one: _UnderWay, why: str, *, killed: bool = False) -> None:
        """Send a lost piece again, or give it up."""
        losses = self._losses.get(one.planes, 0) + 1
        self._losses[one.planes] = losses
        logger.info("planes %s were lost (%s)", one.planes, why)
        halved = killed and self._planner.may_halve and len(one.planes) > 1
        # The scheduler has repeated what killed workers several times by itself.
        if halved or (losses <= MAX_LOSSES and not killed):
            self._planner.give_back(one.planes, halved=halved)
            return
        raise WorkerError(
            "Workers stopped again and again while they segmented "
            f"{_planes(one.planes)} (out of memory?). Give them more memory, start "
            "fewer per computer, or use smaller images. What was finished is kept."
        )

    def _held_again(self) -> None:
        if self._held is not None and self._held.status in ("cancelled", "lost"):
            self._hold()

    def _expect_scheduler(self) -> None:
        now = time.monotonic()
        if self._link.is_open:
            self._reached = now
        elif self._link.is_lost or now - self._reached > GONE_SECONDS:
            raise WorkerError(
                f"The scheduler {self._link.address} is gone. The planes that were "
                "finished are kept; start it again, or run on this computer."
            )

    def _expect_workers(self, workers: int) -> None:
        now = time.monotonic()
        if workers:
            self._seen = now
            return
        if now - self._seen > 1.0:
            self._say("Waiting for a worker of the cluster")
        if not self._link.may_wait and now - self._seen > WORKERLESS_SECONDS:
            raise WorkerError(no_workers(self._link.address))

    def _wants_gpu(self) -> bool:
        wanted = self._request.device
        return self._link.has_gpus and (wanted == "auto" or wanted.startswith("cuda"))

    # -- the end ---------------------------------------------------------------------

    def _stop(self) -> None:
        """Let go of everything that is under way."""
        futures = [one.future for one in self._under_way.values()]
        if self._held is not None:
            futures.append(self._held)
        self._under_way.clear()
        try:
            if futures and self._link.is_open:
                self._link.client.cancel(futures, asynchronous=False)
        except Exception:
            logger.info("nothing could be cancelled", exc_info=True)

    def _outcome(self, total: int) -> Summary:
        if self._failed:
            shown = [f"plane {p} ({why})" for p, why in sorted(self._failed.items())]
            more = f", and {len(shown) - 3} more" if len(shown) > 3 else ""
            raise DataError(
                f"{len(shown)} of {total} planes could not be segmented: "
                f"{'; '.join(shown[:3])}{more}. The others are done and kept."
            )
        hosts = self._merger.hosts
        record = {
            "scheduler": self._link.address,
            "workers": sorted(hosts),
            "busy_seconds": dict(self._merger.busy),
            "hosts": sorted(set(hosts.values())),
            "versions": versions_here(),
            "notes": [*self._link.notes, *self._notes],
        }
        self._on_progress(Progress("Done", total, total, 0.0))
        return self._merger.summary(time.monotonic() - self._begun, record)

    def _report(self, total: int, workers: int) -> None:
        if self._job.is_cancelled:
            return
        left, one = None, self._planner.seconds_per_plane
        if one is not None:
            left = one * (total - self._done) / max(1, workers)
        stage = f"{self._done} of {total} planes, {_workers(workers)}"
        self._on_progress(Progress(stage, self._done, total, left))

    def _say(self, stage: str) -> None:
        if not self._job.is_cancelled:
            self._on_progress(Progress(stage))


def _planes(planes: tuple[int, ...]) -> str:
    if len(planes) == 1:
        return f"plane {planes[0]}"
    return f"planes {planes[0]} to {planes[-1]}"


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"
