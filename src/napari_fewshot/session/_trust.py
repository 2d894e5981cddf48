"""`Trust`: what to expect before a run, and why it came out so after it.

A part of `Session`; how a task is run is its business.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_fewshot.errors import SupportError
from napari_fewshot.inference import SegmentRequest
from napari_fewshot.session._edits import expect_query, is_redundant, scores_of
from napari_fewshot.session._searching import Gathered, Tasks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_fewshot.inference import Evidence, PlaneResult, Summary
    from napari_fewshot.session._state import Document


@dataclass(frozen=True)
class Expectation:
    """What leaving the supports out in turn says about the next run.

    Attributes
    ----------
    scores : dict of int to float
        Expected Dice per class.
    intervals : dict of int to (float, float)
        80 % interval of it.
    support_scores : dict of str to dict of int to float
        Dice of every support when the others segmented it; empty for a single one,
        which was compared with altered copies of itself.
    redundant : tuple of str
        Supports that teach nothing new beside the others.
    choice : str
        What the method chose, in words.
    notes : tuple of str
        What was done to the supports, or could not be known.
    """

    scores: Mapping[int, float]
    intervals: Mapping[int, tuple[float, float]]
    support_scores: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    redundant: tuple[str, ...] = ()
    choice: str = ""
    notes: tuple[str, ...] = ()


class Trust(Tasks):
    """Says what to expect, and explains; `Session` builds on it."""

    checked = Signal(Expectation)
    explained = Signal(int, dict)

    _expectation: Expectation | None = None
    _expected_of: tuple[Any, ...] = ()

    @property
    def expectation(self) -> Expectation | None:
        """Of the last check; None once supports or method have changed."""
        if self._expected_of != _depends_on(self._history.current):
            return None
        return self._expectation

    def check_supports(self, *, wait: bool = True) -> Expectation | None:
        """Segment each support with what the others teach; nothing else is segmented.

        The rows of the supports then carry their scores; a run that follows learns
        nothing anew. No step of undo: nothing of the user's changes.

        Parameters
        ----------
        wait : bool
            Return when it is done; `checked` tells, too.

        Returns
        -------
        Expectation or None
            None unless ``wait``.

        Raises
        ------
        FewShotError
            If something is running, or (when waiting) whatever went wrong.
        """
        document = self._history.current
        request = _learning(document, "check")

        def finish(results: list[PlaneResult], summary: Summary | None) -> None:
            if summary is None:
                return
            found = expectation_of(summary)
            self._expectation = found
            now = self._history.current
            if _depends_on(now) == _depends_on(document):
                self._history.amend(with_expectation(now, found))
                self._expected_of = _depends_on(self._history.current)
            self.checked.emit(found)

        self._run_task(request, Gathered(finish), wait=wait)
        return self._expectation if wait else None

    def explain(
        self, plane: int = 0, *, wait: bool = True
    ) -> dict[int, Evidence] | None:
        """Return every intermediate of the method on a plane of the query.

        Parameters
        ----------
        plane : int
            Where.
        wait : bool
            Return when it is done; `explained` tells, too.

        Returns
        -------
        dict of int to Evidence, or None
            Per class; None unless ``wait``.

        Raises
        ------
        FewShotError
            If something is running, or (when waiting) whatever went wrong.
        """
        document = self._history.current
        expect_query(document)
        request = replace(_learning(document, "explain"), planes=(int(plane),))
        found: dict[int, Evidence] = {}

        def finish(results: list[PlaneResult], summary: Summary | None) -> None:
            if summary is not None and results:
                found.update(results[0].evidence)
                self.explained.emit(int(plane), dict(found))

        self._run_task(request, Gathered(finish), wait=wait)
        return found if wait else None


def expectation_of(summary: Summary) -> Expectation:
    """Return what a check found."""
    return Expectation(
        scores=dict(summary.scores),
        intervals=dict(summary.score_intervals),
        support_scores={k: dict(v) for k, v in summary.support_scores.items()},
        redundant=summary.redundant,
        choice=summary.choice,
        notes=tuple(summary.provenance.get("notes", ())),
    )


def with_expectation(document: Document, found: Expectation) -> Document:
    """Return a version whose rows carry what a check found."""
    rows = tuple(
        replace(
            row,
            scores=scores_of(row, found.support_scores),
            redundant=is_redundant(row, found.support_scores, found.redundant),
        )
        for row in document.rows
    )
    return replace(document, rows=rows)


def _learning(document: Document, task: str) -> SegmentRequest:
    supports = document.support_set()
    reads = task == "explain" and bool(document.text)
    if not len(supports) and not reads:
        raise SupportError(
            "There is no support yet. Annotate one plane and add it as a support."
        )
    return SegmentRequest(
        query=document.query or supports[0].source,
        support=supports,
        text=document.text,
        reading=document.reading,
        method=document.method,
        model=document.model,
        params=document.params,
        classes=document.classes.names,
        device=document.device,
        checkpoint=document.checkpoint,
        task=task,
    )


def _depends_on(document: Document) -> tuple[Any, ...]:
    """Return what an expectation depends on: the same objects, the same answer."""
    rows = tuple((row.key, id(row.support), row.muted) for row in document.rows)
    size = None if document.query is None else document.query.pixel_size
    how = (document.method, document.model, document.checkpoint)
    read = (repr(document.text), repr(document.reading)) if document.text else ()
    return (rows, size, how, read, repr(sorted(document.params.items(), key=str)))
