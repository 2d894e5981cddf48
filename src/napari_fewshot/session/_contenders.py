"""Concepts as candidates of a comparison: each with supports of its own."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from napari_fewshot.data import ClassTable, SupportSet
from napari_fewshot.io import is_concept, relabelled, stem_of
from napari_fewshot.methods import get_method, make_params
from napari_fewshot.session._comparison import Candidate, make_candidates
from napari_fewshot.session._concepts import as_concept, match_classes, weights_note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot.data import Concept

logger = logging.getLogger(__name__)


def make_contenders(
    choices: Sequence[Any],
    models: Sequence[str] | None = None,
    params: Mapping[str, Mapping[str, Any]] | None = None,
    names: Mapping[int, str] | None = None,
) -> tuple[Candidate, ...]:
    """Return the candidates that are meant, methods and concepts, in that order.

    Parameters
    ----------
    choices : sequence of str, (str, str), path or Concept
        Methods, pairs of method and model, and concepts or their files.
    models, params
        As for `make_candidates`; a concept has its own.
    names : dict of int to str, optional
        Classes that are known already: concepts are renumbered to fit them.

    Returns
    -------
    tuple of Candidate
        Those of concepts have a ``support``.

    Raises
    ------
    DataError
        If a concept file can't be used, or fewer than two are left.
    ModelError
        For an unknown method or model.
    TypeError, ValueError
        For unknown parameters or values outside their limits.
    """
    given = [item for item in choices if _is_concept(item)]
    plain = [item for item in choices if not _is_concept(item)]
    least = max(0, 2 - len(given))
    found = list(make_candidates(plain, models, params, least=least))
    table = ClassTable.from_names(dict(names or {}))
    for item in given:
        concept = as_concept(item)
        if concept is None:
            continue
        candidate = _candidate(concept, _unique(_called(item), found), table)
        table = table.merged(candidate.classes)
        found.append(candidate)
    return tuple(found)


def _is_concept(item: Any) -> bool:
    from napari_fewshot.data import Concept

    return isinstance(item, Concept) or is_concept(item)


def _candidate(concept: Concept, name: str, table: ClassTable) -> Candidate:
    values = match_classes(table, concept.classes)
    params = {
        key: {values.get(v, v): x for v, x in value.items()}
        if isinstance(value, Mapping)
        else value
        for key, value in concept.params.items()
    }
    make_params(get_method(concept.method).spec.params, params)
    note = weights_note(concept)
    if note:
        logger.warning(note)
    supports = SupportSet([relabelled(s, values) for s in concept.support])
    classes = {values[v]: n for v, n in concept.classes.items()}
    return Candidate(name, concept.method, concept.model, params, supports, classes)


def _called(item: Any) -> str:
    if isinstance(item, (str, os.PathLike)):
        return f"concept {stem_of(item)}"
    return "concept"


def _unique(name: str, found: Sequence[Candidate]) -> str:
    taken = {c.name for c in found}
    number, unique = 2, name
    while unique in taken:
        unique, number = f"{name} {number}", number + 1
    return unique


def supports_for(candidate: Candidate, every: Sequence[Candidate], own: Any) -> Any:
    """Return what a candidate learns from.

    Parameters
    ----------
    candidate : Candidate
        One of ``every``.
    every : sequence of Candidate
        Of the comparison.
    own : SupportSet
        Of the comparison; where it is empty, methods learn from the first concept.
    """
    if candidate.support is not None:
        return candidate.support
    if len(own):
        return own
    return next((c.support for c in every if c.support is not None), own)


def names_for(candidate: Candidate, every: Sequence[Candidate]) -> dict[int, str]:
    """Return the names of the classes of a candidate, or of the first concept."""
    if candidate.support is not None:
        return dict(candidate.classes)
    return next((dict(c.classes) for c in every if c.support is not None), {})
