"""Concept files: `save_concept`, `load_concept`, and the verbs of a session."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_fewshot.data import Concept, Hooks
from napari_fewshot.inference import SegmentRequest, assess
from napari_fewshot.io import read_concept, write_concept
from napari_fewshot.methods import get_method, make_params
from napari_fewshot.models import get_model_spec
from napari_fewshot.session._asked import resolve_supports
from napari_fewshot.session._concepts import as_concept, concept_of, with_concept
from napari_fewshot.session._editor import Editor

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from pathlib import Path


def save_concept(
    path: str | os.PathLike[str],
    support: Any,
    *,
    method: str = "auto",
    model: str = "auto",
    params: Mapping[str, Any] | None = None,
    classes: Mapping[int, str] | None = None,
    colours: Mapping[int, str] | None = None,
    assess: bool = True,
    thumbnails: bool = True,
    author: str = "",
    licence: str = "",
    notes: str = "",
) -> Path:
    """Save annotated examples and how to learn from them as one file to share.

    Parameters
    ----------
    path : path
        ``.fewshot`` is added where it is missing.
    support : Support, SupportSet, (image, labels), a list of them, or a Concept
        Only the planes that teach are saved, at their dtype. A concept, such as
        ``comparison.concept(name)``, is saved as it is, with its method and scores.
    method, model : str
        See `list_methods` and `list_models`.
    params : dict, optional
        Parameters of the method.
    classes, colours : dict of int to str, optional
        Names and ``#rrggbb`` of the label values; default those of the supports.
    assess : bool
        Fit the method and keep the Dice to expect; takes as long as a first run.
    thumbnails : bool
        Add a small picture of every support.
    author, licence, notes : str
        Words for whoever opens it.

    Returns
    -------
    Path
        Of the file.

    Raises
    ------
    SupportError
        If nothing can be learnt from the supports.
    DataError, ModelError, WeightsError
        If an image, the method or its model can't be used.
    StorageError
        If the file can't be written.
    TypeError
        For an unknown parameter; the message names the nearest one.
    """
    if isinstance(support, Concept):
        words = {"author": author, "licence": licence, "notes": notes}
        said: dict[str, Any] = {key: text for key, text in words.items() if text}
        given = replace(support, **said)
        if assess and not given.scores:
            given = assessed(given)
        return write_concept(path, given, thumbnails=thumbnails)
    make_params(get_method(method).spec.params, params or {})
    get_model_spec(model)
    supports = resolve_supports(support).check()
    concept = Concept(
        support=supports,
        classes={**supports.class_names, **(classes or {})},
        colours=colours or {},
        method=method,
        model=model,
        params=params or {},
        author=author,
        licence=licence,
        notes=notes,
    )
    if assess:
        concept = assessed(concept)
    return write_concept(path, concept, thumbnails=thumbnails)


def assessed(concept: Concept) -> Concept:
    """Return a concept with the Dice that its supports let expect.

    Parameters
    ----------
    concept : Concept
        Its method is fitted here and now.
    """
    request = SegmentRequest(
        query=concept.support[0].source,
        support=concept.support,
        method=concept.method,
        model=concept.model,
        params=concept.params,
        classes=concept.classes,
    )
    found, provenance = assess(request, Hooks())
    return replace(
        concept,
        scores=found.scores,
        score_intervals=found.intervals,
        support_scores=found.support_scores,
        weights_sha256=provenance["weights_sha256"] or "",
        provenance=provenance,
    )


def load_concept(path: str | os.PathLike[str]) -> Concept:
    """Open a concept file.

    Parameters
    ----------
    path : path
        A ``.fewshot`` file.

    Returns
    -------
    Concept
        For ``nf.segment(query, support=concept)``; its ``.support`` is a `SupportSet`.

    Raises
    ------
    DataError
        If it is missing, damaged, not safe to open, or from a newer version.
    """
    return read_concept(path)


class ConceptFiles(Editor):
    """The verbs for concept files; `Session` builds on it."""

    def save_concept(
        self,
        path: str | os.PathLike[str],
        *,
        author: str = "",
        licence: str = "",
        notes: str = "",
        thumbnails: bool = True,
    ) -> Path:
        """Save supports, classes and method as one file to share.

        The Dice to expect is that of the last run, if it was made with these supports
        and this method.

        Parameters
        ----------
        path : path
            ``.fewshot`` is added where it is missing.
        author, licence, notes : str
            Words for whoever opens it.
        thumbnails : bool
            Add a small picture of every support.

        Returns
        -------
        Path
            Of the file.

        Raises
        ------
        SupportError
            If nothing can be learnt from the supports.
        StorageError
            If it can't be written.
        """
        document = self._history.current
        concept = concept_of(document, author, licence, notes)
        return write_concept(path, concept, thumbnails=thumbnails)

    def load_concept(self, concept: Concept | str | os.PathLike[str]) -> list[str]:
        """Add the supports and classes of a concept and take over its method.

        One step of undo. Classes of the same name become one.

        Parameters
        ----------
        concept : Concept or path
            A ``.fewshot`` file, or one that is open.

        Returns
        -------
        list of str
            What to know, one sentence each: numbers that changed, missing weights.

        Raises
        ------
        DataError
            If it is missing, damaged, not safe to open, or from a newer version.
        """
        found = as_concept(concept) or read_concept(concept)  # type: ignore[arg-type]
        document, notes = with_concept(self._history.current, found, self._keys)
        self._push(document)
        return notes
