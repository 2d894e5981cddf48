"""Where a session runs: on this computer, or on a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_fewshot.errors import FewShotError
from napari_fewshot.session._jobs import get_executor

if TYPE_CHECKING:
    from napari_fewshot.session._jobs import Executor
    from napari_fewshot.session._runner import Runner


class Placing:
    """The part of a `Session` that chooses who computes."""

    _executor: Executor
    _runner: Runner

    @property
    def place(self) -> Executor:
        """Who computes the next run."""
        return self._executor

    def run_on(self, where: Any) -> None:
        """Choose who computes from the next run on; supports and results stay.

        Previews of clicks stay where they were: they have to be quick.

        Parameters
        ----------
        where : str, Executor, distributed.Client or cluster
            As ``executor`` of `Session`, for example ``"tcp://host:8786"``.

        Raises
        ------
        ModelError
            If there is no such executor.
        FewShotError
            While something runs.
        """
        executor = get_executor(where)
        if self._runner.is_running:
            raise FewShotError(
                "Something is running. Cancel it, or wait until it is done; then "
                "choose where to run."
            )
        self._executor = executor
        self._runner.use(executor)
