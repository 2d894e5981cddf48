"""What edits do to a `Document`: pure functions, a new version each."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import Image, SparsePlanes, Support, fit_level
from napari_fewshot.errors import DataError
from napari_fewshot.inference import SegmentRequest
from napari_fewshot.session._state import Document, SupportRow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_fewshot._types import LabelArray
    from napari_fewshot.data import Prediction


def expect_query(document: Document) -> Image:
    """Return the query, or say that there is none."""
    if document.query is None:
        raise DataError("There is no image to segment yet. Choose one first.")
    return document.query


def find_row(document: Document, key: int) -> SupportRow:
    """Return a row by its key."""
    for row in document.rows:
        if row.key == key:
            return row
    raise DataError(f"There is no support {key}.")


def change_row(document: Document, key: int, **changes: Any) -> Document:
    """Return a version in which one row has changed."""
    find_row(document, key)
    return document.with_rows(
        tuple(replace(r, **changes) if r.key == key else r for r in document.rows)
    )


def accept_plane(
    document: Document, plane: int, labels: LabelArray, key: int
) -> Document:
    """Return a version in which a plane is accepted and has become a support."""
    rows = [r for r in document.rows if r.accepted_plane != plane]
    rows.append(SupportRow(key, _plane_support(document, plane, labels), False, plane))
    return replace(
        document.with_rows(tuple(rows)),
        accepted={**document.accepted, plane: labels},
        rejected=document.rejected - {plane},
    )


def reject_planes(document: Document, planes: Sequence[int]) -> Document:
    """Return a version in which planes are rejected and no longer supports."""
    return replace(
        document,
        rows=tuple(r for r in document.rows if r.accepted_plane not in planes),
        accepted={p: a for p, a in document.accepted.items() if p not in planes},
        rejected=document.rejected | set(planes),
    )


def with_result(document: Document, result: Prediction) -> Document:
    """Return a version that holds a result; rows carry its leave-one-out scores."""
    rows = tuple(
        replace(
            r,
            scores=scores_of(r, result.support_scores),
            redundant=is_redundant(r, result.support_scores, result.redundant),
        )
        for r in document.rows
    )
    classes = document.classes.merged({**result.classes, **document.classes.names})
    return replace(document, rows=rows, classes=classes, result=result)


def with_fitting_level(document: Document) -> Document:
    """Return a version whose query is at the level that its supports ask for.

    Only if the level was not chosen, and nothing is there yet that lies in its pixels:
    prompts, objects, or accepted planes.
    """
    query = document.query
    if query is None or query.levels is None or not query.levels.is_auto:
        return document
    if document.accepted or document.prompts or document.objects:
        return document
    fitting = fit_level(query, document.support_set())
    if fitting is query:
        return document
    planes = document.planes if fitting.n_planes == query.n_planes else None
    return replace(
        document, query=fitting, planes=planes, rejected=frozenset(), result=None
    )


def make_request(
    document: Document, planes: Sequence[int] | None, **where: Any
) -> SegmentRequest:
    """Freeze everything a run depends on; accepted planes are left out.

    ``where`` are ``region``, ``inside`` and ``first`` of the request.

    Raises
    ------
    DataError
        If there is nothing to segment.
    """
    query = expect_query(document)
    wanted = planes if planes is not None else document.planes
    chosen = range(query.n_planes) if wanted is None else wanted
    left = tuple(int(p) for p in chosen if p not in document.accepted)
    if document.accepted and not left:
        raise DataError(
            "Every chosen plane is accepted already. Reject one, or choose others."
        )
    return SegmentRequest(
        query=query,
        support=document.support_set(),
        prompts=document.prompts,
        text=document.text,
        reading=document.reading,
        method=document.method,
        model=document.model,
        params=document.params,
        planes=left if (document.accepted or wanted is not None) else None,
        classes=document.classes.names,
        device=document.device,
        checkpoint=document.checkpoint,
        **where,
    )


def belongs_to(row: SupportRow, name: str) -> bool:
    """Whether a sample is the support of a row, a plane or a part of it."""
    parts = (f"{row.name}, plane", f"{row.name} (")
    return name == row.name or name.startswith(parts)


def is_redundant(
    row: SupportRow,
    scores: Mapping[str, Mapping[int, float]],
    redundant: Sequence[str],
) -> bool:
    """Whether everything of a row teaches nothing new."""
    mine = [name for name in scores if belongs_to(row, name)]
    return bool(mine) and set(mine) <= set(redundant)


def scores_of(
    row: SupportRow, found: Mapping[str, Mapping[int, float]]
) -> Mapping[int, float]:
    """Lowest score per class over the planes of a support."""
    scores: dict[int, float] = {}
    for name, values in found.items():
        if belongs_to(row, name):
            for value, score in values.items():
                scores[value] = min(score, scores.get(value, 1.0))
    return scores


def _plane_support(document: Document, plane: int, labels: LabelArray) -> Support:
    query = expect_query(document)
    shape, n_leading = query.label_shape, len(query.leading_shape)
    where = f", plane {plane}" if query.n_planes > 1 else ""
    return Support(
        query.array,
        SparsePlanes(shape, n_leading, {plane: np.asarray(labels)}),
        classes=document.classes.names,
        scale=query.scale,
        unit=query.unit,
        axes=query.axes,
        channels=query.channels or None,
        name=f"{query.name}{where} (accepted)",
        planes=(plane,),
    )
