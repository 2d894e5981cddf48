"""`Tasks`: the verbs that make many objects at once: find everything, propagate.

A part of `Session`; how a task is run is its business.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_fewshot.data import PromptSet, SupportSet
from napari_fewshot.errors import FewShotError
from napari_fewshot.inference import SegmentRequest
from napari_fewshot.session._annotations import Annotations
from napari_fewshot.session._edits import expect_query
from napari_fewshot.session._preview import model_is_promptable, single_plane
from napari_fewshot.session._spreading import masks_of, stale_planes, with_spread

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_fewshot.data import Image
    from napari_fewshot.inference import PlaneResult, Summary
    from napari_fewshot.session._state import Document


@dataclass
class Gathered:
    """The planes of a task as they come.

    Attributes
    ----------
    finish : callable
        Called with the planes and the summary, None if the task was stopped.
    results : list of PlaneResult
        What came so far.
    labels : None
        There is nothing to show before it is finished.
    """

    finish: Callable[[list[PlaneResult], Summary | None], None]
    results: list[PlaneResult] = field(default_factory=list)
    labels: None = None

    def add(self, result: PlaneResult) -> None:
        """Keep one plane."""
        self.results.append(result)


class Tasks(Annotations):
    """Makes many objects at once; `Session` builds on it."""

    def find_everything(
        self,
        plane: int = 0,
        value: int = 1,
        *,
        region: Any = None,
        policy: str = "empty",
        wait: bool = True,
        **params: Any,
    ) -> None:
        """Find all objects on a plane and commit them as one step of undo.

        Parameters
        ----------
        plane, value : int
            Where, and the class that they get.
        region : array (H, W), optional
            Not 0 where objects are wanted.
        policy : str
            As for `commit`.
        wait : bool
            Return when it is done.
        **params
            As for `nf.segment_everything`.

        Raises
        ------
        FewShotError
            If something is running, or (when waiting) whatever went wrong.
        """
        document = self._history.current
        query = single_plane(expect_query(document), plane)
        options = {"region": region, "params": params}

        def finish(results: list[PlaneResult], summary: Summary | None) -> None:
            if summary is None or not results:
                return
            found: Any = results[0].instances
            records = summary.provenance["objects"]
            if not records:
                raise FewShotError(
                    "No object was found. Lower the limits, or choose another model."
                )
            given = [PromptSet(points=[[r["point_y"], r["point_x"]]]) for r in records]
            masks = (found == record["id"] for record in records)
            self.commit_objects(masks, value, plane, given, policy=policy)

        request = _request(document, query, "everything", options)
        self._run_task(request, Gathered(finish), wait=wait)

    def propagate(
        self, value: int = 1, *, mode: str = "auto", wait: bool = True
    ) -> None:
        """Carry the committed objects of a class over the other planes.

        What was committed by hand stays as it is. After a correction only the planes
        that depend on it are done again. One step of undo.

        Parameters
        ----------
        value : int
            The class.
        mode : str
            As for `nf.propagate`.
        wait : bool
            Return when it is done.

        Raises
        ------
        FewShotError
            If something is running, nothing is to be done, or (when waiting) whatever
            went wrong.
        """
        document = self._history.current
        stale = stale_planes(document, value)
        if not stale:
            raise FewShotError(
                "Everything is up to date. Correct an object on a plane and commit it, "
                "then follow it again."
            )
        planes = sorted({p for wanted in stale.values() for p in wanted})
        options = {"masks": masks_of(document, value, list(stale)), "mode": mode}

        def finish(results: list[PlaneResult], summary: Summary | None) -> None:
            before = self._history.current
            done = summary is not None
            found = with_spread(
                before, value, results, stale, self._next_key, is_complete=done
            )
            if found is not before:
                self._push(found)

        query = expect_query(document)
        request = _request(document, query, "propagate", options, tuple(planes))
        self._run_task(request, Gathered(finish), wait=wait)

    def _next_key(self) -> int:
        return next(self._keys)

    def _run_task(
        self, request: SegmentRequest, gathered: Gathered, *, wait: bool
    ) -> None:
        """Run a task; `Session` knows how."""
        raise NotImplementedError


def _request(
    document: Document,
    query: Image,
    task: str,
    options: dict[str, Any],
    planes: tuple[int, ...] | None = None,
) -> SegmentRequest:
    answers = model_is_promptable(document)
    return SegmentRequest(
        query=query,
        support=SupportSet([]),
        model=document.model if answers else "auto",
        checkpoint=document.checkpoint if answers else None,
        device=document.device,
        planes=planes,
        task=task,
        options=options,
    )
