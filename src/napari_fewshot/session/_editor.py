"""`Editor`: the verbs that change the evidence, with undo.

A part of `Session` of its own: nothing here runs anything.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_fewshot.data import ClassTable, SparsePlanes, Support
from napari_fewshot.io import open_image, resolve_support
from napari_fewshot.methods import get_method, make_params
from napari_fewshot.models import get_model_spec
from napari_fewshot.session._asked import normalise_prompts
from napari_fewshot.session._edits import (
    change_row,
    find_row,
    with_fitting_level,
)
from napari_fewshot.session._history import History
from napari_fewshot.session._reading import changed_reading, normalise_text
from napari_fewshot.session._state import Document, SupportRow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Editor:
    """Holds the document and its history; `Session` builds on it.

    Parameters
    ----------
    document : Document
        The first version.
    """

    def __init__(self, document: Document) -> None:
        self._history = History(document)
        keys = [row.key for row in document.rows]
        keys += [row.key for row in document.objects]
        top = max(keys, default=0)
        self._keys = itertools.count(top + 1)

    def add_support(
        self, image: Any, labels: Any = None, *, negative: bool = False, **options: Any
    ) -> int:
        """Add an annotated example.

        Parameters
        ----------
        image, labels
            See `Support`; ``image`` may be a `Support` itself.
        negative : bool
            Nothing in the image belongs to any class; ``labels`` may be left out.
        **options
            Further arguments of `Support`, such as classes, scale, name or planes.

        Returns
        -------
        int
            Key of the new row, for `remove_support` and `mute_support`.
        """
        if negative:
            opened = open_image(
                image,
                axes=options.get("axes"),
                scale=options.get("scale"),
                channels=options.get("channels"),
            )
            labels = SparsePlanes(opened.label_shape, len(opened.leading_shape), {})
        support = (
            image if isinstance(image, Support) else Support(image, labels, **options)
        )
        support = resolve_support(support)
        key = next(self._keys)
        document = self._history.current
        self._push(document.with_rows((*document.rows, SupportRow(key, support))))
        return key

    def update_support(self, key: int, support: Support) -> None:
        """Exchange the image or labels of a row: the user painted further."""
        self._push(change_row(self._history.current, key, support=support, scores={}))

    def edit_supports(
        self, changed: Mapping[int, Support | None], added: Sequence[Support] = ()
    ) -> list[int]:
        """Exchange, remove (None) and add several rows in one step of undo.

        Returns
        -------
        list of int
            Keys of the added rows.
        """
        document = self._history.current
        rows = []
        for row in document.rows:
            support = changed.get(row.key, row.support)
            if support is row.support:
                rows.append(row)
            elif support is not None:
                rows.append(replace(row, support=support, scores={}))
        keys = [next(self._keys) for _ in added]
        rows += [SupportRow(k, s) for k, s in zip(keys, added, strict=True)]
        self._push(document.with_rows(tuple(rows)))
        return keys

    def remove_support(self, key: int) -> None:
        """Remove a row; undo brings it back."""
        document = self._history.current
        gone = find_row(document, key)
        self._push(replace(document, rows=tuple(r for r in document.rows if r != gone)))

    def mute_support(self, key: int, muted: bool = True) -> None:
        """Leave a row out of the next runs, or take it in again."""
        self._push(change_row(self._history.current, key, muted=muted))

    def set_classes(
        self, names: Mapping[int, str], colours: Mapping[int, str] | None = None
    ) -> None:
        """Name the classes: ``{value: name}`` and optional ``{value: "#rrggbb"}``."""
        document = self._history.current
        colours = {**document.classes.colours, **(colours or {})}
        self._push(replace(document, classes=ClassTable.from_names(names, colours)))

    def set_query(
        self, image: Any, *, planes: Sequence[int] | None = None, **options: Any
    ) -> None:
        """Choose what to segment.

        Parameters
        ----------
        image : array, path or layer
            The query.
        planes : sequence of int, optional
            Only these planes; default all.
        **options
            axes, scale, channels, name, and ``level`` of a multiscale image: a number,
            or ``"auto"`` for the one whose pixels are like those of the supports.
        """
        source = os.fspath(image) if isinstance(image, (str, os.PathLike)) else None
        query = open_image(image, **options)
        document = self._history.current
        is_same = document.query is not None and document.query.array is query.array
        fresh: dict[str, Any] = (
            {}
            if is_same
            else {
                "accepted": {},
                "rejected": frozenset(),
                "result": None,
                "objects": (),
            }
        )
        chosen = None if planes is None else tuple(int(p) for p in planes)
        self._push(
            replace(
                document,
                query=query,
                query_source=source,
                planes=chosen,
                **({} if is_same else fresh),
            )
        )

    def set_prompts(self, prompts: Any) -> None:
        """Set points, boxes, scribbles or masks per class (None clears them)."""
        self._push(replace(self._history.current, prompts=normalise_prompts(prompts)))

    def set_text(
        self,
        text: Any,
        *,
        method: str | None = None,
        model: str | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        share: str | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        """Set phrases per class (None clears them), and how they are read.

        Parameters
        ----------
        text : str, TextPrompt, or dict of int to these
            What to look for. Classes that are not in the table yet join it.
        method, model : str, optional
            Ones that read text; None keeps what is set.
        checkpoint : path, optional
            Weights of your own for the model; another model forgets it.
        share : str, optional
            What text counts beside supports; see `TextChoice`.
        params : dict, optional
            Parameters of the method that reads.
        """
        document, phrases = self._history.current, normalise_text(text)
        reading = changed_reading(
            document.reading, method, model, checkpoint, share, params
        )
        names = {v: t.name or str(v) for v, t in phrases.items()}
        classes = document.classes.merged(names)
        self._push(replace(document, text=phrases, reading=reading, classes=classes))

    def set_method(
        self,
        method: str | None = None,
        model: str | None = None,
        device: str | None = None,
        params: Mapping[str, Any] | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> None:
        """Choose how; None keeps what is set.

        Parameters
        ----------
        method, model : str, optional
            See `nf.list_methods` and `nf.list_models`.
        device : str, optional
            See `nf.load_model`.
        params : dict, optional
            Parameters of the method.
        checkpoint : path, optional
            Weights file of your own for the model; another model forgets it.
        """
        document = self._history.current
        if method is not None and get_method(method).spec.reads_text:
            self.set_text(document.text, method=method, model=model, params=params)
            return
        name = document.method if method is None else method
        values = document.params if params is None else params
        if params is None and name != document.method:
            values = {}
        make_params(get_method(name).spec.params, values)
        get_model_spec(model or document.model)
        file = document.checkpoint if model in (None, document.model) else None
        self._push(
            replace(
                document,
                method=name,
                model=model or document.model,
                device=device or document.device,
                checkpoint=file if checkpoint is None else os.fspath(checkpoint),
                params=dict(values),
            )
        )

    def undo(self) -> None:
        """Take back the last edit."""
        self._history.undo()
        self._changed()

    def redo(self) -> None:
        """Bring back the edit that was undone."""
        self._history.redo()
        self._changed()

    def _push(self, document: Document) -> None:
        self._history.push(with_fitting_level(document))
        self._changed()

    def _changed(self) -> None:
        """Called after every edit; `Session` tells its views and saves."""
