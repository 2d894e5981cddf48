"""`Annotations`: the verbs for objects that are made click by click.

A part of `Session` of its own: nothing here runs anything.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import PromptSet
from napari_fewshot.errors import PromptError
from napari_fewshot.session._edits import expect_query
from napari_fewshot.session._object_rows import Pending
from napari_fewshot.session._objects import (
    commit_object,
    number_objects,
    remove_object,
)
from napari_fewshot.session._results import Results

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_fewshot._types import LabelArray
    from napari_fewshot.session._object_rows import ObjectRow
    from napari_fewshot.session._state import Document


class Annotations(Results):
    """Holds the objects of the document; `Session` builds on it."""

    def __init__(self, document: Document) -> None:
        super().__init__(document)
        self._drafts: dict[str, LabelArray] = {}

    def commit(
        self,
        mask: Any,
        value: int = 1,
        plane: int = 0,
        prompts: PromptSet | None = None,
        *,
        policy: str = "new",
        overwrite: bool = False,
        key: int | None = None,
    ) -> int:
        """Make an object part of the result.

        Parameters
        ----------
        mask : array (H, W) bool
            Its pixels.
        value, plane : int
            Its class, and the plane it is on.
        prompts : PromptSet, optional
            What it was made with, in pixels of the plane; kept to edit it again.
        policy : {"new", "overwrite", "empty", "merge"}
            Which pixels it gets: those that are empty or of its class, all, those that
            are empty; or it becomes a part of the object of its class that it touches.
        overwrite : bool
            The same as ``policy="overwrite"``.
        key : int, optional
            Of the object it takes the place of.

        Returns
        -------
        int
            Key of the object.

        Raises
        ------
        PromptError
            If nothing is left of it, or there is nothing to merge it with.
        DataError
            For an unknown policy.
        """
        chosen = np.asarray(mask) != 0
        given = PromptSet(mask=chosen) if prompts is None else prompts
        policy = "overwrite" if overwrite else policy
        own = next(self._keys) if key is None else key
        document = self._history.current
        found = commit_object(document, own, chosen, value, plane, given, policy=policy)
        self._push(found)
        # A merged object has the key of the one that was there.
        return found.objects[-1].key

    def commit_objects(
        self,
        masks: Iterable[Any],
        value: int = 1,
        plane: int | Sequence[int] = 0,
        prompts: Sequence[PromptSet] | None = None,
        *,
        policy: str = "new",
        numbers: Sequence[int] | None = None,
    ) -> list[int]:
        """Make many objects part of the result, as one step of undo.

        Parameters
        ----------
        masks : iterable of array (H, W) bool
            Their pixels; objects of which nothing is left are passed over.
        value : int
            Their class.
        plane : int or sequence of int
            Where they are.
        prompts : sequence of PromptSet, optional
            What they were made with.
        policy : str
            As for `commit`.
        numbers : sequence of int, optional
            Their numbers, for objects that are on several planes.

        Returns
        -------
        list of int
            Their keys.

        Raises
        ------
        PromptError
            If nothing is left of any of them.
        """
        document = self._history.current
        keys: list[int] = []
        trouble: PromptError | None = None
        for i, mask in enumerate(masks):
            chosen = np.asarray(mask) != 0
            given = PromptSet(mask=chosen) if prompts is None else prompts[i]
            where = plane if isinstance(plane, int) else plane[i]
            key = next(self._keys)
            try:
                document = commit_object(
                    document,
                    key,
                    chosen,
                    value,
                    where,
                    given,
                    policy=policy,
                    number=None if numbers is None else numbers[i],
                    is_own=bool(keys),
                )
            except PromptError as error:
                trouble = error
                continue
            keys.append(key)
        if not keys:
            raise trouble or PromptError("There is no object to commit.")
        self._push(document)
        return keys

    def remove_object(self, key: int) -> None:
        """Take an object out of the result; what it covered is there again."""
        self._push(remove_object(self._history.current, key))

    def restore_objects(self, rows: Iterable[ObjectRow]) -> None:
        """Bring objects of an earlier session back, with their prompts and numbers."""
        document = self._history.current
        for count, row in enumerate(rows):
            mask = row.whole(expect_query(document).plane_shape)
            document = commit_object(
                document,
                next(self._keys),
                mask,
                row.value,
                row.plane,
                row.prompts,
                policy="overwrite",
                number=row.number,
                origin=row.origin,
                is_own=count > 0,
            )
        self._push(document)

    def remember_prompts(
        self, prompts: PromptSet | None, value: int = 1, plane: int = 0
    ) -> None:
        """Keep prompts that are not committed yet, in case of a crash.

        Parameters
        ----------
        prompts : PromptSet, optional
            In pixels of the plane; None forgets them.
        value, plane : int
            For which class, and where.
        """
        empty = prompts is None or prompts.is_empty
        pending = None if empty or prompts is None else Pending(plane, value, prompts)
        document = self._history.current
        if pending is not None or document.pending is not None:
            self._history.amend(replace(document, pending=pending))
            self._autosave()

    def remember_draft(self, name: str, labels: Any) -> None:
        """Keep painting that is not accepted yet, in case of a crash."""
        self._drafts[name] = np.asarray(labels).astype(np.int32)
        self._autosave()

    @property
    def drafts(self) -> dict[str, LabelArray]:
        """Painting that was remembered, by layer name."""
        return dict(self._drafts)

    def _autosave(self) -> None:
        """Called when something changed that is no edit; `Session` saves."""

    def object_labels(self, plane: int | None = None) -> LabelArray:
        """Return the numbers of the committed objects.

        Parameters
        ----------
        plane : int, optional
            Of one plane only; default of all of the query.

        Returns
        -------
        array int32
            (H, W), or the query's shape without its channel axis.
        """
        document = self._history.current
        if plane is not None:
            return number_objects(document, plane)
        query = expect_query(document)
        found: LabelArray = np.zeros(query.label_shape, np.int32)
        for where in {row.plane for row in document.objects}:
            found[query.label_key(where)] = number_objects(document, where)
        return found
