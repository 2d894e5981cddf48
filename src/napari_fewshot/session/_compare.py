"""Comparing: the candidates of a comparison run one after the other.

`Comparing` is a part of `Session`; `compare` is the same in one call.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_fewshot.data import ClassTable, Hooks, Prediction, Progress
from napari_fewshot.errors import DataError, FewShotError
from napari_fewshot.inference import SegmentRequest
from napari_fewshot.io import open_image
from napari_fewshot.session._asked import normalise_prompts, paths_of, resolve_supports
from napari_fewshot.session._collect import Collector
from napari_fewshot.session._comparison import (
    Candidate,
    Comparison,
)
from napari_fewshot.session._concepts import as_concept, is_untouched
from napari_fewshot.session._contenders import (
    make_contenders,
    names_for,
    supports_for,
)
from napari_fewshot.session._edits import make_request, with_result
from napari_fewshot.session._jobs import (
    InlineExecutor,
    Job,
    get_executor,
)
from napari_fewshot.session._objects import paint_objects
from napari_fewshot.session._searching import Tasks
from napari_fewshot.session._state import SupportRow
from napari_fewshot.session._trials import Trial, Trials
from napari_fewshot.session._volumes import submit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from napari_fewshot.session._runner import Runner
    from napari_fewshot.session._state import Document

BUSY = "Something is running already. Cancel it first, or wait until it is done."
# A process is asked this often whether it is done.
POLL_SECONDS = 0.05


class Comparing(Tasks):
    """Compares methods and models on the query; `Session` builds on it."""

    compared = Signal(Comparison)

    _runner: Runner
    _executor: Any
    _wait_for: Callable[[Job], Any]
    _trials: Trials | None = None
    _comparison: Comparison | None = None

    @property
    def comparison(self) -> Comparison | None:
        """The last comparison, also while it runs; kept in memory only."""
        return self._comparison

    @property
    def comparing(self) -> tuple[int, int, str] | None:
        """Number of the candidate that runs, how many there are, and its name."""
        trials = self._trials
        if trials is None or trials.is_over or not self._runner.is_running:
            return None
        return trials.done, len(trials.candidates), trials.candidates[trials.done].name

    def compare(
        self,
        choices: Sequence[Any],
        planes: Sequence[int] | None = None,
        *,
        models: Sequence[str] | None = None,
        params: Mapping[str, Mapping[str, Any]] | None = None,
        wait: bool = True,
    ) -> Comparison | None:
        """Run several methods and models on the query, one after the other.

        The result stays as it is; `use` takes one of them over. `compared` tells after
        every candidate.

        Parameters
        ----------
        choices : sequence of str, (str, str), path or Concept
            Methods, pairs of method and model, or concepts (``.fewshot`` files), which
            bring supports of their own.
        planes : sequence of int, optional
            Only these planes; default those of `set_query`. Accepted ones are left out.
        models : sequence of str, optional
            Tries the methods that use a model with each of these.
        params : dict of str to dict, optional
            Parameters by method; default those that are set for the current method.
        wait : bool
            Return when all are done.

        Returns
        -------
        Comparison or None
            None unless ``wait``. A candidate that failed is in its ``errors``.

        Raises
        ------
        FewShotError
            If something is running, or (when waiting) what went wrong if all failed.
        """
        if self._runner.is_running:
            raise FewShotError(BUSY)
        document = self._history.current
        known = {document.method: document.params, **(params or {})}
        names = {} if is_untouched(document) else document.classes.names
        candidates = make_contenders(choices, models, known, names)
        requests = [
            make_request(_chosen(document, c, candidates), planes) for c in candidates
        ]
        trials = Trials(candidates, requests, document.accepted, self._executor.name)
        self._trials = trials
        self._comparison = trials.comparison()
        self._start_trial(trials)
        if not wait:
            return None
        for number in range(len(candidates)):
            job = trials.jobs.get(number)
            if job is None:
                break
            if not job.done:
                self._wait_for(job)
            # This starts the next one, unless that has happened.
            self._runner.deliver(job)
        return trials.expect_any()

    def use(self, name: str) -> Prediction:
        """Make a candidate of the comparison the result; one step of undo.

        Its method, model and parameters become those of the next runs; of a concept
        its supports, too, in place of those that are there. Planes that were accepted
        since stay as they are. `save_concept` then saves what was chosen.

        Parameters
        ----------
        name : str
            As in ``comparison.predictions``.

        Returns
        -------
        Prediction

        Raises
        ------
        FewShotError
            If something is running, nothing was compared, or the image is another one.
        """
        if self._runner.is_running:
            raise FewShotError(BUSY)
        found, document = self._comparison, self._history.current
        if found is None:
            raise DataError("Nothing was compared yet. Compare two methods first.")
        candidate = found.candidate(name)
        if name not in found.predictions:
            raise DataError(f"{name!r} has no labels: it failed, or was not run.")
        query = document.query
        if query is None or query.array is not found.query.array:
            raise DataError("The image is another one now. Compare again.")
        # Labels of a result are painted on: those of the comparison stay as they are.
        own = Collector(query)
        for plane in range(query.n_planes):
            key = query.label_key(plane)
            accepted = document.accepted.get(plane)
            theirs = found.predictions[name].labels[key]
            own.labels[key] = theirs if accepted is None else accepted
        prediction = replace(found.predictions[name], labels=own.labels)
        chosen = _chosen(document, candidate, found.candidates, self._keys)
        self._push(paint_objects(with_result(chosen, prediction)))
        return prediction

    def forget_comparison(self) -> None:
        """Free what the last comparison holds."""
        self._trials, self._comparison = None, None

    def _start_trial(self, trials: Trials) -> None:
        number, (request, trial) = trials.done, trials.next()
        # Without threads the job is over, and the next ones too, when `start` returns.
        trials.jobs[number] = self._runner.start(request, trial)

    def _on_trial(self, outcome: Any, trial: Trial) -> None:
        """Take what came of a candidate and start the next one."""
        trials = trial.trials
        trials.take(outcome, trial)
        self._comparison = trials.comparison()
        self.compared.emit(self._comparison)
        if trials.is_over:
            self._announce()
        else:
            self._start_trial(trials)

    def _announce(self) -> None:
        """Tell the views; `Session` knows how."""
        raise NotImplementedError


def _chosen(
    document: Document,
    candidate: Candidate,
    every: Sequence[Candidate],
    keys: Iterator[int] | None = None,
) -> Document:
    """Return a version with the method, model and parameters of a candidate.

    With its supports, too, if they are of a concept; keys are for their rows.
    """
    is_same = candidate.model == document.model
    own = document.support_set()
    supports = supports_for(candidate, every, own)
    if supports is not own:
        numbers = keys or itertools.count(1)
        rows = tuple(SupportRow(next(numbers), s) for s in supports)
        table = ClassTable() if is_untouched(document) else document.classes
        names = {**names_for(candidate, every), **table.names}
        classes = ClassTable.from_names(names, table.colours)
        document = replace(document, classes=classes).with_rows(rows)
    return replace(
        document,
        method=candidate.method,
        model=candidate.model,
        params=dict(candidate.params),
        checkpoint=document.checkpoint if is_same else None,
    )


def compare(
    query: Any,
    support: Any = None,
    methods: Sequence[Any] = ("auto", "template"),
    models: Sequence[str] | None = None,
    *,
    prompts: Any = None,
    planes: Sequence[int] | None = None,
    params: Mapping[str, Mapping[str, Any]] | None = None,
    scale: Any = None,
    axes: str | None = None,
    channels: Any = None,
    device: str = "auto",
    checkpoint: Any = None,
    executor: Any = "inline",
    hooks: Hooks | None = None,
) -> Comparison:
    """Segment a query in several ways and say where they differ.

    Parameters
    ----------
    query : array, path or layer
        What to segment.
    support : Support, SupportSet, (image, labels), a list of them, or a concept
        The annotated examples.
    methods : sequence of str, (str, str), path or Concept
        Methods, or pairs of method and model; see `list_methods`. Concepts
        (``.fewshot`` files) bring supports of their own; without ``support`` the
        methods learn from those of the first.
    models : sequence of str, optional
        Tries the methods that use a model with each of these; see `list_models`.
    prompts : PromptSet or dict of int to PromptSet, optional
        Points, boxes, scribbles or a first mask.
    planes : sequence of int, optional
        Only these planes; default all.
    params : dict of str to dict, optional
        Parameters by method: ``{"pixel": {"trees": 50}}``.
    scale, axes, channels, device, checkpoint, executor
        As for `segment`; the weights in ``checkpoint`` are for all models.
    hooks : Hooks, optional
        Progress over all candidates, and cancelling.

    Returns
    -------
    Comparison
        ``.predictions`` by name, ``.table``, ``.disagreement`` in [0, 1]. A candidate
        that failed is in ``.errors`` and the others go on.

    Raises
    ------
    SupportError, PromptError, DataError, ModelError, WeightsError, StorageError
        If nothing can be started or all failed; all are `FewShotError`.
    Cancelled
        If the hooks say so.
    TypeError, ValueError
        For unknown parameters or values outside their limits.
    """
    given = as_concept(support)
    supports = given.support if given is not None else resolve_supports(support)
    candidates = make_contenders(methods, models, params, supports.class_names)
    chosen, hooks = get_executor(executor), hooks or Hooks()
    image = open_image(query, axes=axes, scale=scale, channels=channels)
    base = SegmentRequest(
        query=image,
        support=supports,
        prompts=normalise_prompts(prompts),
        planes=None if planes is None else tuple(int(p) for p in planes),
        checkpoint=paths_of(checkpoint),
        device=device,
    )
    requests = [
        replace(
            base,
            method=c.method,
            model=c.model,
            params=c.params,
            support=supports_for(c, candidates, supports),
            classes={**names_for(c, candidates), **supports.class_names},
        )
        for c in candidates
    ]
    trials = Trials(candidates, requests, {}, chosen.name)
    while not trials.is_over:
        inner = _share(hooks, trials.done, candidates)
        request, trial = trials.next()
        trials.take(_run_one(request, trial, chosen, inner), trial)
    return trials.expect_any()


def _run_one(request: SegmentRequest, trial: Trial, executor: Any, hooks: Hooks) -> Any:
    """Run a request to its end; returns its outcome."""

    def report(progress: Progress) -> None:
        # What computes in this thread is stopped here: there is no job to cancel yet.
        if isinstance(executor, InlineExecutor):
            hooks.check()
        hooks.on_progress(progress)

    job = submit(
        executor,
        request,
        on_plane=trial.add,
        on_progress=report,
        on_done=lambda _: None,
    )
    try:
        while not job.wait(POLL_SECONDS):
            if hooks.is_cancelled():
                job.cancel()
    except KeyboardInterrupt:
        job.cancel()
        raise
    return job.outcome


def _share(hooks: Hooks, done: int, candidates: Sequence[Candidate]) -> Hooks:
    """Return hooks that squeeze a candidate's reports into its share of the bar."""
    steps = 100

    def forward(progress: Progress) -> None:
        part = progress.done / progress.total if progress.total else 0.0
        stage = f"{candidates[done].name}: {progress.stage}"
        at = int(steps * (done + min(1.0, part)))
        hooks.on_progress(Progress(stage, at, steps * len(candidates)))

    return Hooks(forward, hooks.is_cancelled, hooks.started)
