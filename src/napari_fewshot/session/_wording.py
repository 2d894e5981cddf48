"""`Wording`: what a model makes of the phrases, before anything is segmented.

A part of `Session`; how a task is run is its business.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_fewshot.data import SupportSet
from napari_fewshot.errors import PromptError
from napari_fewshot.inference import SegmentRequest
from napari_fewshot.session._edits import expect_query
from napari_fewshot.session._searching import Gathered
from napari_fewshot.session._trust import Trust

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_fewshot.inference import Evidence, PlaneResult, Summary
    from napari_fewshot.session._state import Document


@dataclass(frozen=True)
class Understanding:
    """Whether a model understands one phrase; see `nf.check_text`.

    Attributes
    ----------
    value : int
        The class.
    phrase : str
    nonsense_r, empty_r, other_r, gap : float
        nan where not known.
    verdict : str
        ``"understood"``, ``"not understood"`` or ``"unsure"``.
    """

    value: int
    phrase: str
    nonsense_r: float
    empty_r: float
    other_r: float
    gap: float
    verdict: str


class Wording(Trust):
    """Shows where phrases fit, and says whether they are understood."""

    shown_where = Signal(int, dict)
    understood = Signal(int, tuple)

    def where(
        self, plane: int = 0, *, wait: bool = True
    ) -> Mapping[int, Evidence] | None:
        """Return heat maps of the phrases on a plane of the query.

        Parameters
        ----------
        plane : int
            Where.
        wait : bool
            Return when it is done; `shown_where` tells, too.

        Returns
        -------
        dict of int to Evidence, or None
            Per class: ``.maps["heat map"]``; None unless ``wait``.

        Raises
        ------
        PromptError
            If there is no phrase.
        FewShotError
            If something is running, or (when waiting) whatever went wrong.
        """
        found: dict[int, Evidence] = {}

        def finish(results: list[PlaneResult], summary: Summary | None) -> None:
            if summary is not None and results:
                found.update(results[0].evidence)
                self.shown_where.emit(int(plane), dict(found))

        request = _reading(self._history.current, "where", plane)
        self._run_task(request, Gathered(finish), wait=wait)
        return found if wait else None

    def check_text(
        self, plane: int = 0, *, wait: bool = True
    ) -> tuple[Understanding, ...] | None:
        """Say whether the model understands the phrases on a plane of the query.

        Parameters
        ----------
        plane : int
            Where.
        wait : bool
            Return when it is done; `understood` tells, too.

        Returns
        -------
        tuple of Understanding, or None
            One per class; None unless ``wait``.

        Raises
        ------
        PromptError
            If there is no phrase.
        FewShotError
            If something is running, or (when waiting) whatever went wrong.
        """
        found: list[Understanding] = []

        def finish(results: list[PlaneResult], summary: Summary | None) -> None:
            if summary is not None:
                rows: list[Any] = summary.provenance["sensitivity"]
                found.extend(Understanding(*row) for row in rows)
                self.understood.emit(int(plane), tuple(found))

        request = _reading(self._history.current, "check-text", plane)
        self._run_task(request, Gathered(finish), wait=wait)
        return tuple(found) if wait else None


def _reading(document: Document, task: str, plane: int) -> SegmentRequest:
    if not document.text:
        raise PromptError(
            "There is no phrase. Type what to look for; in scripts: "
            'session.set_text("what to look for").'
        )
    return SegmentRequest(
        query=expect_query(document),
        support=SupportSet(()),
        text=document.text,
        reading=replace(document.reading, share="learnt"),
        planes=(int(plane),),
        classes=document.classes.names,
        device=document.device,
        task=task,
    )
