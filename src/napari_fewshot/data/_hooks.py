"""`Hooks`: how long work reports progress and is asked to stop."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from napari_fewshot.errors import Cancelled

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Progress:
    """One progress report.

    Attributes
    ----------
    stage : str
        What is being done, in words for the user ("Learning from 3 supports").
    done, total : int
        Steps of this job (over all stages); ``total`` 0 means unknown.
    seconds_left : float, optional
        Estimate; None until there is something to estimate from.
    """

    stage: str
    done: int = 0
    total: int = 0
    seconds_left: float | None = None


def _ignore(_: Progress) -> None:
    """Do nothing with a report."""


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Hooks:
    """Callbacks of a running job. The default ones do nothing.

    Attributes
    ----------
    on_progress : callable
        Called with a `Progress`.
    is_cancelled : callable
        Asked between units of work.
    """

    on_progress: Callable[[Progress], None] = _ignore
    is_cancelled: Callable[[], bool] = _never
    started: float = field(default_factory=time.perf_counter)

    def check(self) -> None:
        """Raise `Cancelled` if the user asked to stop."""
        if self.is_cancelled():
            raise Cancelled("Stopped as asked. What was finished before is kept.")

    def report(
        self,
        stage: str,
        done: int = 0,
        total: int = 0,
        seconds_left: float | None = None,
    ) -> None:
        """Send a report, after a chance to stop."""
        self.check()
        self.on_progress(Progress(stage, done, total, seconds_left))
