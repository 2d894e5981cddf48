"""The connection to a scheduler: reachable, of the same versions, with workers."""

from __future__ import annotations

import logging
import time
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from napari_fewshot.errors import (
    FewShotError,
    ModelError,
    WeightsError,
    WorkerError,
)
from napari_fewshot.models import get_model_spec, how_to_get
from napari_fewshot.session._dask_facts import (
    Facts,
    check_weights,
    compare_versions,
    facts_of,
    facts_of_scheduler,
    versions_here,
    weights_here,
)
from napari_fewshot.session._dask_reach import (
    ANSWER_SECONDS,
    CONNECT_SECONDS,
    knock,
    no_workers,
    unlike,
    unreachable,
    within,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")
logger = logging.getLogger(__name__)
# How long to wait for a first worker (seconds).
FIRST_WORKER_SECONDS = 10.0
NEEDS_DISTRIBUTED = (
    "Running on a cluster needs the package distributed, which is not installed. Run: "
    'pip install "napari-fewshot[cluster]"'
)


@dataclass(frozen=True)
class ClusterCheck:
    """What a connection test found.

    Attributes
    ----------
    address : str
        Of the scheduler.
    dashboard : str
        Page on which dask shows what it does; "" if there is none.
    workers : tuple of Facts
    notes : tuple of str
        Differences that do not matter, most likely.
    """

    address: str
    dashboard: str
    workers: tuple[Facts, ...]
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """One line for the user."""
        hosts = {w.host for w in self.workers}
        gpus = sum(1 for w in self.workers if w.gpus)
        found = (
            f"{_count(len(self.workers), 'worker')} on {_count(len(hosts), 'computer')}"
        )
        return found + (f", {_count(gpus, 'graphics card')}" if gpus else "")


@dataclass
class Link:
    """An open connection.

    Attributes
    ----------
    client : distributed.Client
    is_own : bool
        Whether it was opened here, and is closed with this.
    may_wait : bool
        Whether workers may come late: clusters that grow when there is work.
    has_gpus : bool
        Whether there are workers with the resource tag ``GPU``.
    address : str
        Of the scheduler.
    """

    client: Any
    is_own: bool
    may_wait: bool = False
    has_gpus: bool = False
    notes: list[str] = field(default_factory=list)
    _counted: tuple[float, int] = (-1.0, 0)

    def __post_init__(self) -> None:
        """Note the address: a client that is closed has forgotten it."""
        self.address = str(self.client.scheduler.address)

    @property
    def is_open(self) -> bool:
        """Whether the scheduler is there."""
        return bool(self.client.status == "running")

    @property
    def is_lost(self) -> bool:
        """Whether it was closed for good."""
        return self.client.status in ("closed", "closing")

    def workers(self, *, gpu: bool = False) -> int:
        """Return how many workers there are now; asked at most once a second."""
        now = time.monotonic()
        if now - self._counted[0] < 1.0:
            return self._counted[1]
        try:
            info = self.client.sync(
                self.client.scheduler.identity, callback_timeout=ANSWER_SECONDS
            )
        except Exception:
            # It is told when the scheduler stays away.
            logger.info("the scheduler does not answer", exc_info=True)
            return self._counted[1]
        rows = info["workers"].values()
        count = sum(1 for w in rows if not gpu or w.get("resources", {}).get("GPU"))
        self._counted = now, count
        return count

    def each(self, call: Callable[..., T], *values: Any) -> dict[str, T]:
        """Call a function on every worker.

        Raises
        ------
        WorkerError
            If one can't.
        FewShotError
            If the function says so.
        """
        found: dict[str, T] = within(
            ANSWER_SECONDS,
            lambda: self.client.run(call, *values, on_error="return"),
            f"The workers of {self.address} do not answer. Restart them, or run on "
            "this computer.",
        )
        for address, answer in found.items():
            if isinstance(answer, FewShotError):
                raise answer
            if isinstance(answer, BaseException):
                raise WorkerError(unlike(f"The worker {address}", answer))
        return found

    def check(self) -> ClusterCheck:
        """Compare versions of the scheduler and all workers with ours.

        Raises
        ------
        WorkerError
            If there is no worker, or one does not fit; says what to run where.
        """
        mine = versions_here()
        try:
            head = within(
                ANSWER_SECONDS,
                lambda: self.client.run_on_scheduler(facts_of_scheduler),
                f"The scheduler {self.address} does not answer. Restart it.",
            )
        except FewShotError:
            raise
        except Exception as error:
            raise WorkerError(unlike("The scheduler", error)) from error
        notes = compare_versions(mine, head, "scheduler")
        found = self._first_workers()
        for facts in found.values():
            notes += compare_versions(mine, facts, "worker")
        self.notes = notes
        dashboard = str(self.client.dashboard_link or "")
        return ClusterCheck(
            self.address, dashboard, tuple(found.values()), tuple(notes)
        )

    def _first_workers(self) -> dict[str, Facts]:
        deadline = time.monotonic() + FIRST_WORKER_SECONDS
        while not (found := self.each(facts_of)):
            if self.may_wait:
                return found
            if time.monotonic() > deadline:
                raise WorkerError(no_workers(self.address))
            time.sleep(0.2)
        return found

    def expected_weights(
        self, names: tuple[str, ...], checkpoints: tuple[str, ...]
    ) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
        """Return the weights that all workers must have, and see that they do.

        Raises
        ------
        WeightsError
            If a worker has none or others; names it and the command to run there.
        """
        models, files = weights_here(names, checkpoints)
        if not names and not checkpoints:
            return models, files
        there = self.each(weights_here, names, checkpoints)
        for name, mine in models.items():
            others = [found[name] for found, _ in there.values() if found[name]]
            if not mine and there and not others:
                raise WeightsError(
                    f"No worker of {self.address} has the weights of {name}. On each "
                    f"of them: {how_to_get(get_model_spec(name))}"
                )
            models[name] = mine or (others[0] if others else {})
        for address in there:
            self._check_one(address, models, files)
        return models, files

    def _check_one(
        self,
        address: str,
        models: Mapping[str, Mapping[str, str]],
        files: Mapping[str, str],
    ) -> None:
        call = self.client.run
        within(
            ANSWER_SECONDS,
            lambda: call(check_weights, models, files, address, workers=[address]),
            f"The worker {address} does not answer. Restart it.",
        )

    def close(self) -> None:
        """Close it, if it was opened here."""
        if self.is_own:
            self.client.close(timeout=2)


def connect(where: Any) -> Link:
    """Connect to a scheduler.

    Parameters
    ----------
    where : str, distributed.Client or cluster
        ``"tcp://host:8786"``; a client; or anything with ``scheduler_address``, such as
        clusters of dask-jobqueue, dask-cuda and dask-kubernetes.

    Raises
    ------
    ModelError
        If distributed is not installed.
    WorkerError
        If nobody answers; says what to check.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise ModelError(NEEDS_DISTRIBUTED) from error
    if isinstance(where, Client):
        if where.asynchronous:
            raise ModelError(
                "This distributed.Client is asynchronous. Give one that was made "
                "without asynchronous=True, or its address."
            )
        return Link(where, is_own=False)
    address = where if isinstance(where, str) else str(where.scheduler_address)
    knock(address)
    target = where if hasattr(where, "scheduler_comm") else address

    def call() -> Any:
        with warnings.catch_warnings():
            # Versions are compared, and told, by ourselves.
            warnings.simplefilter("ignore")
            options = {"timeout": CONNECT_SECONDS, "set_as_default": False}
            return Client(target, name="napari-fewshot", **options)

    try:
        # A program of another kind may take the call and never answer.
        reason = "something else than a scheduler of dask is there"
        client = within(2 * CONNECT_SECONDS, call, unreachable(address, reason))
    except (OSError, ValueError, TypeError, ImportError) as error:
        raise WorkerError(unreachable(address, str(error))) from error
    return Link(client, is_own=True, may_wait=not isinstance(where, str))


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
