"""Concepts in and out of a session: pure functions on documents and requests."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import ClassTable, Concept
from napari_fewshot.errors import ModelError
from napari_fewshot.io import (
    installed_model,
    is_concept,
    read_concept,
    relabelled,
)
from napari_fewshot.methods import get_method, make_params
from napari_fewshot.models import get_model_spec, how_to_get
from napari_fewshot.session._edits import scores_of
from napari_fewshot.session._state import Document, SupportRow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_fewshot.data import Prediction, Support

logger = logging.getLogger(__name__)


def as_concept(support: Any) -> Concept | None:
    """Return the concept that was given as a support, read if it is a file."""
    if isinstance(support, Concept):
        return support
    return read_concept(support) if is_concept(support) else None


def fill_in(
    concept: Concept,
    method: str | None,
    model: str | None,
    params: Mapping[str, Any],
) -> tuple[str, str, dict[str, Any]]:
    """Return method, model and parameters: what was given, or else the concept's.

    Parameters
    ----------
    concept : Concept
        Its parameters count only for its own method.
    method, model : str, optional
        None is not given.
    params : mapping
        Those that were given.
    """
    name = concept.method if method is None else method
    values = concept.params if name == concept.method else {}
    note = weights_note(concept) if model is None else ""
    if note:
        logger.warning(note)
    return name, model or concept.model, {**values, **params}


def taught_by(
    support: Any,
    method: str | None,
    model: str | None,
    params: Mapping[str, Any],
) -> tuple[Any, str, str, dict[str, Any]]:
    """Return supports, method, model and parameters; a concept fills in what is open.

    Parameters
    ----------
    support : Support, SupportSet, (image, labels), a list of them, or a concept
        Supports are returned as they are.
    method, model, params
        As for `fill_in`; what nobody names is ``"auto"``.
    """
    concept = as_concept(support)
    if concept is None:
        return support, method or "auto", model or "auto", dict(params)
    name, weights, values = fill_in(concept, method, model, params)
    return concept.support, name or "auto", weights or "auto", values


def weights_note(concept: Concept) -> str:
    """Return what to know of the weights here; "" if they are those of the concept.

    Raises
    ------
    ModelError
        If this version does not know the model.
    """
    spec = get_model_spec(concept.model)
    record = installed_model(spec.name) if spec.needs_download else None
    if spec.needs_download and record is None:
        return f"{spec.name} is not installed. {how_to_get(spec)}"
    here = [f.sha256 for f in record.files.values()] if record else [spec.sha256]
    if spec.base or len(here) > 1:
        # The model names one digest of all its files, which is long in coming.
        return ""
    if concept.weights_sha256 and concept.weights_sha256 not in here:
        return (
            f"The weights of {spec.name} here are not those that the concept was "
            f"made with ({concept.weights_sha256[:12]}...); results may differ."
        )
    return ""


def mean_scores(
    support_scores: Mapping[str, Mapping[int, float]],
) -> dict[int, float]:
    """Return the mean leave-one-out Dice of every class over its supports."""
    values: dict[int, list[float]] = {}
    for scores in support_scores.values():
        for value, score in scores.items():
            values.setdefault(value, []).append(score)
    return {v: float(np.mean(s)) for v, s in sorted(values.items())}


def concept_of(document: Document, author: str, licence: str, notes: str) -> Concept:
    """Return what a session would share.

    Parameters
    ----------
    document : Document
        Its muted supports are left out; its scores count if they are of a run with
        these supports and this method.
    author, licence, notes : str
        Words for whoever opens it.
    """
    result = document.result
    is_scored = result is not None and _is_of(result, document)
    scores = result.support_scores if result is not None and is_scored else {}
    provenance = result.provenance if result is not None and is_scored else {}
    return Concept(
        support=document.support_set(),
        classes=document.classes.names,
        colours=document.classes.colours,
        method=document.method,
        model=document.model,
        params=document.params,
        weights_sha256=provenance.get("weights_sha256") or "",
        scores=mean_scores(scores),
        support_scores=scores,
        provenance=provenance,
        author=author,
        licence=licence,
        notes=notes,
    )


def _is_of(result: Prediction, document: Document) -> bool:
    """Whether a result was made with the supports and the method of a document."""
    record = result.provenance
    given = [
        {"name": s.name, "planes": [int(p) for p in s.used_planes]}
        for s in document.support_set()
    ]
    return (
        record.get("inputs", {}).get("supports") == given
        and record.get("method") == document.method
    )


def fingerprint(support: Support) -> str:
    """Tell supports apart by the pixels and labels of the planes that they teach."""
    found = hashlib.blake2b(digest_size=16)
    for plane in support.used_planes:
        found.update(support.source.plane_digest(plane).encode())
        found.update(np.ascontiguousarray(support.label_plane(plane)).tobytes())
    return found.hexdigest()


def with_concept(
    document: Document, concept: Concept, keys: Iterator[int]
) -> tuple[Document, list[str]]:
    """Return a version that has learnt a concept, and what its user should know.

    Classes of the same name become one; a number that is taken by another class is
    exchanged for a free one. Supports are added; method and parameters are taken over.

    Parameters
    ----------
    document : Document
        As it was.
    concept : Concept
        What to add.
    keys : iterator of int
        For the new rows.

    Returns
    -------
    document : Document
    notes : list of str
        One sentence each.
    """
    table = ClassTable() if is_untouched(document) else document.classes
    values = match_classes(table, concept.classes)
    names = {values[v]: n for v, n in concept.classes.items()}
    colours = {values[v]: c for v, c in concept.colours.items() if v in values}
    scores = {} if document.rows else concept.support_scores
    rows = list(document.rows)
    known = {fingerprint(row.support) for row in rows}
    for support in concept.support:
        if fingerprint(relabelled(support, values)) in known:
            continue
        row = SupportRow(next(keys), relabelled(support, values))
        renumbered = {values[v]: s for v, s in scores_of(row, scores).items()}
        rows.append(replace(row, scores=renumbered))
    classes = ClassTable.from_names(
        {**names, **table.names}, {**colours, **table.colours}
    )
    count = len(rows) - len(document.rows)
    notes = [f"{count} support{'' if count == 1 else 's'} added."]
    if count < len(concept.support):
        notes.append(f"{len(concept.support) - count} were here already.")
    notes += [
        f"Class {concept.classes[old]!r} has number {new} here ({old} in the file)."
        for old, new in values.items()
        if old != new
    ]
    found, told = _with_method(replace(document, classes=classes), concept, values)
    return found.with_rows(tuple(rows)), notes + told


def match_classes(table: ClassTable, names: Mapping[int, str]) -> dict[int, int]:
    """Return the number in a table for every class of a concept.

    Parameters
    ----------
    table : ClassTable
        The classes that are there.
    names : mapping of int to str
        Those that come.

    Returns
    -------
    dict of int to int
        The number of the class of that name, or else its own number if that is free,
        or else the first free one.
    """
    known = {name: value for value, name in table.names.items()}
    found = {v: known[n] for v, n in names.items() if n in known}
    taken = {*table.names, *found.values()}
    for value in sorted(names):
        if value not in found:
            is_free = value not in taken
            new = value if is_free else _first_free(taken | set(names))
            found[value] = new
            taken.add(new)
    return dict(sorted(found.items()))


def _first_free(taken: set[int]) -> int:
    return next(v for v in range(1, len(taken) + 2) if v not in taken)


def is_untouched(document: Document) -> bool:
    """Whether the class table holds only placeholders that nothing uses."""
    used = document.rows or document.objects or document.accepted or document.result
    default = all(c.name == f"class {c.value}" for c in document.classes)
    return default and not used and not document.prompts


def _with_method(
    document: Document, concept: Concept, values: Mapping[int, int]
) -> tuple[Document, list[str]]:
    """Take over method, model and parameters as far as this version knows them."""
    notes = []
    try:
        note = weights_note(concept)
        checkpoint = document.checkpoint if concept.model == document.model else None
        document = replace(document, model=concept.model, checkpoint=checkpoint)
        notes += [note] if note else []
    except ModelError as error:
        notes.append(f"{error} {document.model} is used instead; or update.")
    params = {
        name: {values.get(v, v): x for v, x in value.items()}
        if isinstance(value, Mapping)
        else value
        for name, value in concept.params.items()
    }
    try:
        make_params(get_method(concept.method).spec.params, params)
        document = replace(document, method=concept.method, params=params)
    except (ModelError, TypeError, ValueError) as error:
        notes.append(f"{error} {document.method} is used instead; or update.")
    return document, notes
