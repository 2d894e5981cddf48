"""Stacks that go on where they were interrupted, whoever computes them.

Finished planes are kept in a folder beside the result. The same request with the same
folder asks an executor for the planes that are missing, and hands out all of them in
the order of an undivided run. What comes of that is the same, bit for bit.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import WindowedImage
from napari_fewshot.errors import StorageError
from napari_fewshot.inference import PlaneResult
from napari_fewshot.inference._planes import LESSONS
from napari_fewshot.inference._reading import leading_method
from napari_fewshot.inference.tiles import Parts, stack_key
from napari_fewshot.methods import Lesson
from napari_fewshot.session._dask_delivery import compact, restored
from napari_fewshot.session._dask_plan import (
    Planner,
    leading_plane,
    together,
    wanted_planes,
)
from napari_fewshot.session._dask_wire import PlaneNote
from napari_fewshot.session._following import Relay
from napari_fewshot.session._retelling import retold

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from napari_fewshot._types import AnyArray
    from napari_fewshot.inference import OnPlane, SegmentRequest, Summary
    from napari_fewshot.session._jobs import Executor, Job, OnDone, OnProgress

logger = logging.getLogger(__name__)
PLANE = "p"


def submit(
    executor: Executor,
    request: SegmentRequest,
    *,
    on_plane: OnPlane,
    on_progress: OnProgress,
    on_done: OnDone,
    folder: Path | None = None,
) -> Job:
    """Start a request whose planes are taken whole; see `Executor.submit`.

    Parameters
    ----------
    executor : Executor
        Who computes.
    request : SegmentRequest
        Without region and mask.
    on_plane, on_progress, on_done : callable
        As for `Executor.submit`.
    folder : path, optional
        Keeps the planes of a stack that are finished; whoever gave it removes it.

    Raises
    ------
    StorageError
        If the folder can't be written.
    """
    plan = None if folder is None else plan_stack(request, executor)
    if plan is None or folder is None:
        return executor.submit(
            request, on_plane=on_plane, on_progress=on_progress, on_done=on_done
        )
    return _Resuming(plan, folder, on_plane, on_progress, on_done).start(executor)


@dataclass(frozen=True)
class StackPlan:
    """How a stack goes on when it was interrupted.

    Attributes
    ----------
    request : SegmentRequest
        As it was made.
    planes : tuple of int
        All that are wanted, in order.
    pieces : tuple of tuple of int
        Planes that can only be made together; empty where they follow one another.
    lead : int, optional
        Plane that phrases alone are judged on: it is looked at by every run.
    key : str
        What results depend on, beside the pixels of their own plane.
    """

    request: SegmentRequest
    planes: tuple[int, ...]
    pieces: tuple[tuple[int, ...], ...]
    lead: int | None
    key: str


def plan_stack(request: SegmentRequest, executor: Executor) -> StackPlan | None:
    """Return how a request goes on when interrupted; None if it has to begin again.

    Parameters
    ----------
    request : SegmentRequest
        What to do.
    executor : Executor
        One that ``divides`` stacks makes every block of planes by itself; others make
        one after the other, each with what the blocks before it teach.
    """
    if request.task != "segment" or isinstance(request.query, WindowedImage):
        return None
    try:
        return _planned(request, divides=getattr(executor, "divides", False))
    except Exception:
        # An unknown method, a file that can't be read: whoever runs it says so.
        logger.info("nothing is kept", exc_info=True)
        return None


def _planned(request: SegmentRequest, *, divides: bool) -> StackPlan | None:
    planes = tuple(int(p) for p in wanted_planes(request))
    _, params = leading_method(request)
    count = request.query.n_planes
    is_odd = len(set(planes)) < len(planes) or any(not 0 <= p < count for p in planes)
    # What follows objects through the stack is of one piece.
    follows = getattr(params, "through", "planes") == "anchors"
    if is_odd or follows or len(planes) < 2:
        return None
    pieces: tuple[tuple[int, ...], ...] = tuple((p,) for p in planes)
    block = together(request, len(planes))
    if block > 1:
        pieces = tuple(_pieces(planes, block)) if divides else ()
    lead = leading_plane(request, planes)
    key = stack_key(request, "stack", pieces or planes)
    return StackPlan(request, planes, pieces, lead, key)


def _pieces(planes: tuple[int, ...], block: int) -> Iterator[tuple[int, ...]]:
    planner = Planner(planes, block, 0)
    while not planner.is_exhausted:
        yield planner.next(1)


class _Journal:
    """Finished planes in a folder; each is a file that is whole or not there."""

    def __init__(self, plan: StackPlan, folder: Path) -> None:
        self._parts = Parts(folder, plan.key)
        self._query = plan.request.query
        self.trouble = ""

    def facts(self) -> dict[int, dict[str, Any]]:
        """Return what is known of every plane that is there and still the same."""
        found = {}
        for plane, _ in self._parts.numbers(PLANE):
            arrays = self._parts.get(PLANE, plane, 0)
            if arrays is None:
                continue
            try:
                fact = _fact_in(arrays)
                if fact["digest"] == self._query.plane_digest(plane):
                    found[plane] = fact
            except Exception:
                logger.info("plane %s is not taken over", plane, exc_info=True)
        return found

    def put(self, result: PlaneResult) -> None:
        """Keep a plane; a run does not fail because it could not be resumed."""
        if self.trouble:
            return
        try:
            self._parts.put(PLANE, result.plane, 0, **_arrays_of(result))
        except StorageError as error:
            logger.warning("finished planes are not kept", exc_info=True)
            self.trouble = str(error)

    def get(self, plane: int) -> PlaneResult | None:
        """Return a plane as it was handed out; None if it is not there any more."""
        arrays = self._parts.get(PLANE, plane, 0)
        return None if arrays is None else _result_of(plane, arrays)


class _Resuming(Relay):
    """One stack on its way."""

    def __init__(
        self,
        plan: StackPlan,
        folder: Path,
        on_plane: OnPlane,
        on_progress: OnProgress,
        on_done: OnDone,
    ) -> None:
        super().__init__(on_plane, on_progress, on_done)
        self._plan = plan
        self._journal = _Journal(plan, folder)
        self._notes: dict[int, PlaneNote] = {}
        self._told: list[str] = []
        # Kept planes that were not handed out yet, and those that are to be made.
        self._kept: list[int] = []
        self._missing: tuple[int, ...] = ()
        self._left: set[int] = set()
        self._place = {p: i for i, p in enumerate(plan.planes)}

    def start(self, executor: Executor) -> Job:
        """Let an executor make what is missing."""
        plan, facts = self._plan, self._journal.facts()
        self._missing, lessons = missing_planes(plan, facts)
        self._left = set(self._missing)
        self._kept = [p for p in plan.planes if p not in self._left]
        self.before = len(self._kept)
        for plane in self._kept:
            self._notes[plane] = _note_of(plane, facts[plane])
            self._hear(facts[plane]["notes"])
        if not self._kept:
            return self.run(executor, plan.request)
        # With nothing left to do, one plane is looked at again for the summary.
        asked = self._missing or plan.planes[-1:]
        if plan.lead is not None and plan.lead not in asked:
            asked = (plan.lead, *asked)
        options = dict(plan.request.options)
        if lessons is not None:
            options[LESSONS] = lessons
        return self.run(executor, replace(plan.request, planes=asked, options=options))

    def taken(self, result: PlaneResult) -> Iterator[PlaneResult]:
        """Keep a plane, and hand it out behind those before it."""
        plane = result.plane
        if plane not in self._left:
            return
        self._left.discard(plane)
        self._journal.put(result)
        self._notes[plane] = PlaneNote.of(result)
        self._hear(result.notes)
        yield from self._before(self._place[plane])
        yield result

    def finished(self, summary: Summary) -> Summary:
        """Hand out what is kept, and tell of all planes."""
        for result in self._before(len(self._plan.planes)):
            self.on_plane(result)
        record = dict(summary.provenance)
        notes = [*record.get("notes", ())]
        if self._journal.trouble:
            notes.append(self._journal.trouble)
        if not self.before:
            return replace(summary, provenance={**record, "notes": notes})
        found = retold(summary, self._plan.request, self._plan.planes, self._notes)
        notes += [n for n in self._told if n not in notes]
        record = {**found.provenance, "notes": notes, "resumed_planes": self.before}
        return replace(found, provenance=record)

    def _before(self, place: int) -> Iterator[PlaneResult]:
        """Yield kept planes whose turn has come."""
        while self._kept and self._place[self._kept[0]] < place:
            found = self._journal.get(self._kept.pop(0))
            if found is None:
                raise StorageError(
                    "A plane that was kept is not there any more. Please run it again."
                )
            yield found

    def _hear(self, notes: Any) -> None:
        self._told += [str(n) for n in notes if n not in self._told]


def missing_planes(
    plan: StackPlan, facts: Mapping[int, Mapping[str, Any]]
) -> tuple[tuple[int, ...], tuple[Lesson, ...] | None]:
    """Return planes to be made, and what those before them teach; None for nothing.

    Parameters
    ----------
    plan : StackPlan
        The stack.
    facts : dict of int to dict
        Of planes that are there.
    """
    if not plan.pieces and any(f["lessons"] is not None for f in facts.values()):
        # Blocks follow one another: on behind the last of those that are whole.
        good, lessons = 0, None
        for at, plane in enumerate(plan.planes, start=1):
            if plane not in facts:
                break
            if facts[plane]["lessons"] is not None:
                good, lessons = at, facts[plane]["lessons"]
        return plan.planes[good:], lessons
    if not plan.pieces and any(f["follow"] for f in facts.values()):
        return plan.planes, None
    pieces = plan.pieces or [(p,) for p in plan.planes]
    left = (piece for piece in pieces if any(p not in facts for p in piece))
    return tuple(p for piece in left for p in piece), None


# -- planes as arrays ------------------------------------------------------------------


def _arrays_of(result: PlaneResult) -> dict[str, AnyArray]:
    """Return a plane as arrays; what is no array is JSON in bytes."""
    small = compact(result)
    note = PlaneNote.of(result)
    lessons = result.lessons
    fact = {
        "scores": _listed(result.scores),
        "present": _listed(note.present),
        "novelty": float(result.novelty),
        "digest": result.digest,
        "follow": result.follow,
        "notes": list(result.notes),
        "candidate_scores": _listed(result.candidate_scores),
        "lessons": None
        if lessons is None
        else [[n.value, n.plane, n.score, n.shape, n.mask.hex()] for n in lessons],
    }
    found: dict[str, AnyArray] = {
        "fact": np.frombuffer(json.dumps(fact).encode(), np.uint8),
        "labels": small.labels,
    }
    if small.instances is not None:
        found["instances"] = small.instances
    found.update({f"map {v}": a for v, a in result.probabilities.items()})
    found.update({f"candidates {v}": a for v, a in result.candidates.items()})
    return found


def _result_of(plane: int, arrays: Mapping[str, AnyArray]) -> PlaneResult:
    """Undo `_arrays_of`; lessons are not for whoever asked."""
    fact = _fact_in(arrays)

    def some(what: str) -> dict[int, AnyArray]:
        begin = f"{what} "
        return {
            int(name.removeprefix(begin)): array
            for name, array in arrays.items()
            if name.startswith(begin)
        }

    scores = {v: tuple(s) for v, s in fact["candidate_scores"].items()}
    return restored(
        PlaneResult(
            plane,
            arrays["labels"],
            fact["scores"],
            arrays.get("instances"),
            some("map"),
            some("candidates"),
            scores,
            fact["novelty"],
            digest=fact["digest"],
            notes=tuple(fact["notes"]),
        )
    )


def _fact_in(arrays: Mapping[str, AnyArray]) -> dict[str, Any]:
    fact: dict[str, Any] = json.loads(arrays["fact"].tobytes())
    for name in ("scores", "present", "candidate_scores"):
        fact[name] = {int(v): x for v, x in fact[name]}
    if fact["lessons"] is not None:
        fact["lessons"] = tuple(
            Lesson(value, at, score, tuple(shape), bytes.fromhex(mask))
            for value, at, score, shape, mask in fact["lessons"]
        )
    return fact


def _note_of(plane: int, fact: Mapping[str, Any]) -> PlaneNote:
    return PlaneNote(
        plane, fact["scores"], fact["present"], fact["novelty"], fact["digest"]
    )


def _listed(values: Mapping[int, Any]) -> list[list[Any]]:
    """Return a table of numbers as JSON keeps it: exactly, and in order."""
    return [[int(v), _plain(x)] for v, x in values.items()]


def _plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [float(x) for x in value]
    return bool(value) if isinstance(value, (bool, np.bool_)) else float(value)
