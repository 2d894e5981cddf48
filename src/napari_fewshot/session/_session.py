"""`Session`: the application. Each thing a user can do is one method.

A button, a command, a key and a line of a script are names for these methods. No Qt
and no napari here: views listen to the signals and call the verbs.
"""

from __future__ import annotations

import atexit
import os
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_fewshot.data import Prediction, Progress, PromptSet
from napari_fewshot.errors import Cancelled, FewShotError, StorageError
from napari_fewshot.inference import PlaneResult, Summary
from napari_fewshot.methods import get_method
from napari_fewshot.models import get_model_spec
from napari_fewshot.session._api import expect_summary
from napari_fewshot.session._autosave import Autosaver
from napari_fewshot.session._compare import Comparing
from napari_fewshot.session._concept_files import ConceptFiles
from napari_fewshot.session._continuing import collector_of
from napari_fewshot.session._editor import Editor
from napari_fewshot.session._edits import make_request, with_result
from napari_fewshot.session._jobs import Job, get_executor
from napari_fewshot.session._objects import paint_objects
from napari_fewshot.session._partial import prediction_of
from napari_fewshot.session._placing import Placing
from napari_fewshot.session._preview import Preview, Previewer
from napari_fewshot.session._project import (
    ProjectInfo,
    find_recoverable,
    new_project,
    read_project,
    write_project,
)
from napari_fewshot.session._runner import Runner
from napari_fewshot.session._script import write_script
from napari_fewshot.session._searching import Gathered
from napari_fewshot.session._state import Document, SessionState
from napari_fewshot.session._trials import Trial
from napari_fewshot.session._wording import Wording

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_fewshot.inference import SegmentRequest

BUSY = "A segmentation is already running. Cancel it first, or wait until it is done."


class Session(Comparing, Wording, ConceptFiles, Placing):
    """Supports, a query, a method and what came out, with undo and autosave.

    Parameters
    ----------
    model, method, device : str
        Defaults of the runs.
    checkpoint : path, optional
        Weights file of your own for the model.
    executor : str or Executor
        ``"inline"``, ``"process"``, or a cluster: see `run_on`.
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
    previewed = Signal(Preview)
    preview_progressed = Signal(Progress)
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
        checkpoint: str | os.PathLike[str] | None = None,
        dispatch: Callable[[Callable[[], None]], None] | None = None,
        wait_for: Callable[[Job], None] | None = None,
    ) -> None:
        get_method(method)
        get_model_spec(model)
        self._executor = get_executor(executor)
        weights = None if checkpoint is None else os.fspath(checkpoint)
        super().__init__(
            Document(model=model, method=method, device=device, checkpoint=weights)
        )
        self._wait_for = wait_for or (lambda job: (job.wait(), None)[1])
        dispatch = dispatch or (lambda call: call())
        self._runner = Runner(
            self._executor,
            dispatch,
            on_progress=self.progressed.emit,
            on_plane=self.plane_finished.emit,
            on_outcome=self._on_outcome,
            on_start=self._announce,
        )
        self._previewer = Previewer(
            self._executor,
            dispatch,
            on_preview=self.previewed.emit,
            on_error=self.failed.emit,
            on_progress=self.preview_progressed.emit,
        )
        self._unsaved = self._is_closed = False
        self._asked: SegmentRequest | None = None
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
        **where: Any,
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
        **where
            ``region``, ``inside`` as for `segment`, but what was found outside of the
            region before stays; ``first``: where to begin (y, x).

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
        request = make_request(document, planes, **where)
        collector = collector_of(document, request)
        self._asked = request
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

    def preview(
        self,
        prompts: PromptSet,
        value: int = 1,
        plane: int = 0,
        *,
        supports: bool = True,
    ) -> None:
        """Ask what prompts select; `previewed` tells. The latest request wins.

        Parameters
        ----------
        prompts : PromptSet
            In pixels of the plane, without z.
        value : int
            The class; its supports help.
        plane : int
            Plane of the query.
        supports : bool
            Whether the supports of the class help.

        Raises
        ------
        DataError
            If there is nothing to segment.
        """
        document = self._history.current
        if not supports:
            document = document.with_rows(())
        self._previewer.ask(document, plane, value, prompts)

    def warm(self, plane: int = 0) -> None:
        """Let the model read a plane before the first prompt, if that takes long.

        Parameters
        ----------
        plane : int
            Plane of the query.

        Raises
        ------
        DataError
            If there is nothing to segment.
        """
        self._previewer.warm(self._history.current, plane)

    def forget_preview(self) -> None:
        """Drop previews that are on their way."""
        self._previewer.forget()

    def _run_task(
        self, request: SegmentRequest, gathered: Gathered, *, wait: bool
    ) -> None:
        if self.is_running:
            raise FewShotError(BUSY)
        job = self._runner.start(request, gathered)
        if wait:
            if not job.done:
                self._wait_for(job)
            self._runner.deliver(job)
            expect_summary(job.outcome)

    def _on_outcome(self, outcome: Any, collector: Any) -> None:
        if isinstance(collector, Trial):
            self._on_trial(outcome, collector)
            return
        if isinstance(collector, Gathered):
            self._on_task_done(outcome, collector)
            return
        # What was found before a stop is kept; undo takes it back.
        found = prediction_of(outcome, self._asked, collector, self._executor.name)
        if found is not None:
            document = with_result(self._history.current, found)
            self._push(paint_objects(document))
        if isinstance(outcome, Summary):
            self.predicted.emit(found)
            return
        self._announce()
        if not isinstance(outcome, Cancelled):
            self.failed.emit(outcome)

    def _on_task_done(self, outcome: Any, gathered: Gathered) -> None:
        """Take over what a task found; what was done before a stop is kept."""
        try:
            summary = outcome if isinstance(outcome, Summary) else None
            gathered.finish(gathered.results, summary)
        except FewShotError as error:
            outcome = error
        self._announce()
        if not isinstance(outcome, (Summary, Cancelled)):
            self.failed.emit(outcome)

    # -- history and files -----------------------------------------------------------

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
        self._previewer.forget()
        if self._autosaver is not None and not self._is_closed:
            self._is_closed = True
            self._autosaver.flush()
            self._autosaver.close()
            if self._project is not None and self._project.exists():
                document = self._history.current
                try:
                    write_project(self._project, document, self._drafts, is_open=False)
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
