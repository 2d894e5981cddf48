"""Objects carried over the planes of a stack: what is to be done, what came out.

Pure functions of a `Document`. An object is annotated where it was clicked, drawn or
corrected; where it was carried to, it is not. After a correction only the planes
between the annotated neighbours are done again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import PromptSet
from napari_fewshot.errors import PromptError
from napari_fewshot.inference import plan, stack_of
from napari_fewshot.models import digest
from napari_fewshot.session._edits import expect_query
from napari_fewshot.session._objects import commit_object, remove_object

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_fewshot._types import BoolArray
    from napari_fewshot.inference import PlaneResult
    from napari_fewshot.session._object_rows import ObjectRow
    from napari_fewshot.session._state import Document

PROPAGATED = "propagated"
Annotated = dict[int, dict[int, "ObjectRow"]]


def annotated_objects(document: Document, value: int) -> Annotated:
    """Return the annotated planes of the objects of a class, by number and plane."""
    found: Annotated = {}
    for row in document.objects:
        if row.value == value and row.origin != PROPAGATED:
            found.setdefault(row.number, {})[row.plane] = row
    return found


def stale_planes(document: Document, value: int) -> dict[int, tuple[int, ...]]:
    """Return per object of a class the planes that must be done (again).

    Parameters
    ----------
    document : Document
        With a query of several planes.
    value : int
        The class.

    Raises
    ------
    PromptError
        If no object of the class was committed, or there is only one plane.
    """
    query = expect_query(document)
    if query.n_planes < 2:
        raise PromptError("The image has one plane only: there is nothing to follow.")
    objects = annotated_objects(document, value)
    if not objects:
        raise PromptError(
            "No object of this class was committed yet. Outline it on one plane or "
            "more, commit it, then follow it."
        )
    found = {}
    for number, rows in objects.items():
        before = document.spread.get(number)
        now = {plane: _name(row) for plane, row in rows.items()}
        if before is None:
            planes = {q for p in now for q in stack_of(query, p)} - set(now)
        else:
            changed = {p for p in {*before, *now} if before.get(p) != now.get(p)}
            planes = {
                q for p in changed for q in plan(now, stack_of(query, p), p)
            } - set(now)
        if planes:
            found[number] = tuple(sorted(planes))
    return found


def masks_of(
    document: Document, value: int, numbers: Sequence[int]
) -> dict[int, dict[int, BoolArray]]:
    """Return the annotated masks of objects, ``{number: {plane: (H, W) bool}}``."""
    shape = expect_query(document).plane_shape
    objects = annotated_objects(document, value)
    return {n: {p: r.whole(shape) for p, r in objects[n].items()} for n in numbers}


def with_spread(
    document: Document,
    value: int,
    results: Sequence[PlaneResult],
    stale: dict[int, tuple[int, ...]],
    next_key: Callable[[], int],
    *,
    is_complete: bool,
) -> Document:
    """Return a version in which objects are where they were carried to.

    Parameters
    ----------
    document : Document
        The version before.
    value : int
        Class of the objects.
    results : sequence of PlaneResult
        Labels are numbers of objects.
    stale : dict of int to tuple of int
        Planes that were asked for, per object.
    next_key : callable
        Returns keys for new rows.
    is_complete : bool
        Whether all planes were done; otherwise the rest stays to be done.
    """
    done = {result.plane: result.labels for result in results}
    asked = {(n, p) for n, planes in stale.items() for p in planes if p in done}
    own = False
    for row in document.objects:
        is_old = row.origin == PROPAGATED and row.value == value
        if is_old and (row.number, row.plane) in asked:
            document = remove_object(document, row.key, is_own=own)
            own = True
    for number, plane in sorted(asked):
        mask = done[plane] == number
        if not mask.any():
            continue
        try:
            document = commit_object(
                document,
                next_key(),
                mask,
                value,
                plane,
                PromptSet(boxes=[_box(mask)]),
                number=number,
                origin=PROPAGATED,
                is_own=own,
            )
        except PromptError:
            # Another class has all of its pixels.
            continue
        own = True
    if is_complete:
        objects = annotated_objects(document, value)
        names: dict[int, Any] = {
            n: {p: _name(row) for p, row in objects.get(n, {}).items()} for n in stale
        }
        document = replace(document, spread={**document.spread, **names})
    return document


def _name(row: ObjectRow) -> str:
    return f"{row.corner} {digest(np.ascontiguousarray(row.mask))}"


def _box(mask: BoolArray) -> list[int]:
    """Return the bounding box of a mask: minima, then maxima, exclusive."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1]
