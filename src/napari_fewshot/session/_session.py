"""`Session`: the application. Each thing a user can do is one method.

A button, a command, a key and a line of a script are names for these methods. No Qt
and no napari here: views listen to the signals and call the verbs.
"""

from __future__ import annotations

import atexit
import weakref
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_fewshot.data import (
    Image,
    Prediction,
    Progress,
    PromptSet,
)
from napari_fewshot.errors import Cancelled, DataError, FewShotError, StorageError
from napari_fewshot.inference import PlaneResult, Summary
from napari_fewshot.methods import get_method
from napari_fewshot.models import get_model_spec
from napari_fewshot.session._api import (
    expect_summary,
)
from napari_fewshot.session._autosave import Autosaver
from napari_fewshot.session._collect import Collector
from napari_fewshot.session._editor import Editor
from napari_fewshot.session._edits import (
    accept_plane,
    make_request,
    reject_planes,
    with_result,
)
from napari_fewshot.session._jobs import Job, get_executor
from napari_fewshot.session._project import (
    ProjectInfo,
    find_recoverable,
    new_project,
    read_project,
    write_project,
)
from napari_fewshot.session._runner import Runner
from napari_fewshot.session._script import write_script
from napari_fewshot.session._state import Document, SessionState

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from napari_fewshot._types import LabelArray

BUSY = "A segmentation is already running. Cancel it first, or wait until it is done."


class Session(Editor):
    """Supports, a query, a method and what came out, with undo and autosave.

    Parameters
    ----------
    model, method, device : str
        Defaults of the runs.
    executor : str or Executor
        ``"inline"`` or ``"process"``.
    autosave : bool
        Keep a project folder up to date after every edit.
    project : path, optional
        That folder; default a new one among the user's data.
    dispatch : callable, optional
        Called with a function to run it on the thread that owns the session; default
        runs it at once. A window passes a queued call.
    wait_for : callable, optional
        Called with a `Job` to wait for; default blocks. A window keeps its event loop
        alive meanwhile.
    """

    state_changed = Signal(SessionState)
    progressed = Signal(Progress)
    plane_finished = Signal(PlaneResult)
    predicted = Signal(Prediction)
    failed = Signal(Exception)

    def __init__(
        self,
        model: str = "auto",
        method: str = "auto",
        device: str = "auto",
        executor: Any = "inline",
        *,
        autosave: bool = True,
        project: str | os.PathLike[str] | None = None,
        dispatch: Callable[[Callable[[], None]], None] | None = None,
        wait_for: Callable[[Job], None] | None = None,
    ) -> None:
        get_method(method)
        get_model_spec(model)
        self._executor = get_executor(executor)
        super().__init__(Document(model=model, method=method, device=device))
        self._wait_for = wait_for or (lambda job: (job.wait(), None)[1])
        self._runner = Runner(
            self._executor,
            dispatch or (lambda call: call()),
            on_progress=self.progressed.emit,
            on_plane=self.plane_finished.emit,
            on_outcome=self._on_outcome,
            on_start=self._announce,
        )
        self._drafts: dict[str, LabelArray] = {}
        self._unsaved = False
        self._is_closed = False
        folder = Path(project) if project is not None else None
        self._project = new_project() if autosave and folder is None else folder
        self._autosaver = Autosaver(self._save_failed) if autosave else None
        if autosave:
            # A program that ends by itself did not crash: nothing is offered next time.
            atexit.register(_close_at_exit, weakref.ref(self))

    # -- looking ---------------------------------------------------------------------

    @property
    def state(self) -> SessionState:
        """A frozen snapshot of everything."""
        return SessionState(
            document=self._history.current,
            running=self.is_running,
            progress=self._runner.progress,
            can_undo=self._history.can_undo,
            can_redo=self._history.can_redo,
            project=self._project,
            unsaved=self._unsaved,
        )

    @property
    def is_running(self) -> bool:
        """Whether a segmentation is running."""
        return self._runner.is_running

    @property
    def prediction(self) -> Prediction | None:
        """The result that holds; undo brings the one before back."""
        return self._history.current.result

    @property
    def partial_labels(self) -> Any:
        """Labels of the running segmentation, filled plane by plane; None without."""
        return self._runner.labels

    # -- running ---------------------------------------------------------------------

    def segment(
        self,
        wait: bool = True,
        *,
        planes: Sequence[int] | None = None,
        live: bool = False,
    ) -> Prediction | None:
        """Segment the query.

        Parameters
        ----------
        wait : bool
            Return when it is done. Otherwise `predicted` or `failed` tell.
        planes : sequence of int, optional
            Only these planes; default those of `set_query`.
        live : bool
            Take the place of a running segmentation instead of being refused.

        Returns
        -------
        Prediction or None
            None unless ``wait``.

        Raises
        ------
        FewShotError
            If one is running already, or (when waiting) whatever went wrong.
        """
        if self.is_running and not live:
            raise FewShotError(BUSY)
        document = self._history.current
        request = make_request(document, planes)
        collector = Collector(request.query, kept=document.accepted)
        job = self._runner.start(request, collector)
        if not wait:
            return None
        if not job.done:
            self._wait_for(job)
        summary = expect_summary(job.outcome)
        # The queued delivery may still be on its way: make sure that it has happened.
        self._runner.deliver(job)
        return collector.prediction(summary, self._executor.name)

    def cancel(self) -> None:
        """Stop what is running; finished planes are kept in the result layer."""
        self._runner.cancel()

    def _on_outcome(self, outcome: Any, collector: Collector) -> None:
        if isinstance(outcome, Summary):
            found = collector.prediction(outcome, self._executor.name)
            document = with_result(self._history.current, found)
            self._push(document)
            self.predicted.emit(found)
            return
        self._announce()
        if not isinstance(outcome, Cancelled):
            self.failed.emit(outcome)

    # -- results ---------------------------------------------------------------------

    def accept(
        self, planes: Sequence[int] | None = None, labels: Any = None
    ) -> list[int]:
        """Accept planes of the result: they become supports and are not redone.

        Parameters
        ----------
        planes : sequence of int, optional
            Flat plane numbers; default every plane of the last prediction.
        labels : array, optional
            The labels as they are now, if they were edited since.

        Returns
        -------
        list of int
            Keys of the new support rows.
        """
        prediction, query = self._result()
        source = prediction.labels if labels is None else labels
        chosen = (
            self._predicted_planes() if planes is None else [int(p) for p in planes]
        )
        document = self._history.current
        keys = []
        for plane in chosen:
            found = np.asarray(source[query.label_key(plane)]).astype(np.int32)
            keys.append(next(self._keys))
            document = accept_plane(document, plane, found, keys[-1])
        self._push(document)
        return keys

    def reject(self, planes: Sequence[int] | int) -> None:
        """Reject planes: they are cleared and no longer supports."""
        prediction, query = self._result()
        chosen = [int(p) for p in np.atleast_1d(planes)]
        cleared = Collector(query)
        for plane in range(query.n_planes):
            if plane not in chosen:
                key = query.label_key(plane)
                cleared.labels[key] = prediction.labels[key]
        cleared_result = replace(prediction, labels=cleared.labels)
        document = reject_planes(self._history.current, chosen)
        self._push(replace(document, result=cleared_result))

    def refine(self, plane: int, value: int = 1) -> PromptSet:
        """Return the result of a plane as a mask prompt for tools that take one."""
        prediction, query = self._result()
        mask = np.asarray(prediction.labels[query.label_key(plane)]) == value
        return PromptSet(mask=mask)

    def worst_first(self) -> list[tuple[int, float]]:
        """Return ``(plane, expected Dice)`` of the last prediction, worst first."""
        prediction = self.prediction
        if prediction is None or not prediction.plane_scores:
            return []
        scores = np.stack(list(prediction.plane_scores.values()))
        found = [
            (plane, float(np.nanmin(scores[:, plane])))
            for plane in range(scores.shape[1])
            if not np.isnan(scores[:, plane]).all()
        ]
        return sorted(found, key=lambda item: item[1])

    def _predicted_planes(self) -> list[int]:
        return sorted(plane for plane, _ in self.worst_first())

    def _result(self) -> tuple[Prediction, Image]:
        query = self._history.current.query
        prediction = self.prediction
        if prediction is None or query is None:
            raise DataError("There is no result yet. Run a segmentation first.")
        return prediction, query

    # -- history and files -----------------------------------------------------------

    def remember_draft(self, name: str, labels: Any) -> None:
        """Keep painting that is not accepted yet, in case of a crash."""
        self._drafts[name] = np.asarray(labels).astype(np.int32)
        self._autosave()

    @property
    def drafts(self) -> dict[str, LabelArray]:
        """Painting that was remembered, by layer name."""
        return dict(self._drafts)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write a project folder and use it from now on.

        Raises
        ------
        StorageError
            If it can't be written.
        """
        folder = Path(path)
        write_project(folder, self._history.current, self._drafts, is_open=True)
        self._project, self._unsaved = folder, False
        self._announce()
        return folder

    @classmethod
    def load(cls, path: str | os.PathLike[str], **options: Any) -> Session:
        """Open a project folder.

        Parameters
        ----------
        path : path
            A ``.fewshot-project`` folder.
        **options
            Arguments of `Session`, such as ``executor``.

        Raises
        ------
        DataError
            If it is damaged or from a newer version.
        """
        document, drafts = read_project(Path(path))
        session = cls(project=path, **options)
        Editor.__init__(session, document)
        session._drafts = drafts
        return session

    @staticmethod
    def recoverable() -> list[ProjectInfo]:
        """Return the sessions that were not closed, newest first."""
        return find_recoverable()

    def script(self, kind: str = "python") -> str:
        """Return a program that repeats this session: ``"python"`` or ``"cli"``."""
        if self._project is None:
            raise StorageError("Save the session first: session.save(folder).")
        write_project(self._project, self._history.current, self._drafts, is_open=True)
        return write_script(kind, self._history.current, self._project)

    def flush(self) -> None:
        """Wait until the autosave has written everything."""
        if self._autosaver is not None:
            self._autosaver.flush()

    def close(self) -> None:
        """Stop what runs, finish saving, and mark the session as closed."""
        self._runner.abandon()
        if self._autosaver is not None and not self._is_closed:
            self._is_closed = True
            self._autosaver.flush()
            self._autosaver.close()
            if self._project is not None and self._project.exists():
                try:
                    write_project(
                        self._project,
                        self._history.current,
                        self._drafts,
                        is_open=False,
                    )
                except StorageError as error:
                    self._save_failed(error)

    def _changed(self) -> None:
        self._announce()
        self._autosave()

    def _announce(self) -> None:
        self.state_changed.emit(self.state)

    def _autosave(self) -> None:
        if self._autosaver is not None and self._project is not None:
            self._autosaver.save(
                self._project, self._history.current, dict(self._drafts)
            )
            self._unsaved = False

    def _save_failed(self, error: StorageError) -> None:
        def tell() -> None:
            self._unsaved = True
            self.failed.emit(error)

        self._runner.dispatch(tell)


def _close_at_exit(session: weakref.ref[Session]) -> None:
    found = session()
    if found is not None:
        found.close()
