"""Objects that were committed click by click: pure edits of a `Document`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import Prediction, PromptSet
from napari_fewshot.errors import DataError, PromptError
from napari_fewshot.session._edits import expect_query

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray, BoolArray
    from napari_fewshot.data import Image
    from napari_fewshot.session._state import Document


@dataclass(frozen=True, eq=False)
class ObjectRow:
    """One committed object.

    Attributes
    ----------
    key : int
        Stays the same while the object exists.
    value, plane : int
        Its class, and where it is.
    prompts : PromptSet
        What it was made with, in pixels of its plane.
    corner : (int, int)
        Row and column of the first pixel of its bounding box.
    mask : array (h, w) bool
        The object within its bounding box.
    before : array (h, w)
        Labels that were there before.
    """

    key: int
    value: int
    plane: int
    prompts: PromptSet
    corner: tuple[int, int]
    mask: BoolArray = field(repr=False)
    before: AnyArray = field(repr=False)

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int(self.mask.sum())

    @property
    def window(self) -> tuple[slice, slice]:
        """Its bounding box in the plane."""
        (top, left), (height, width) = self.corner, self.mask.shape
        return slice(top, top + height), slice(left, left + width)


def commit_object(
    document: Document,
    key: int,
    mask: BoolArray,
    value: int,
    plane: int,
    prompts: PromptSet,
    *,
    overwrite: bool = False,
) -> Document:
    """Return a version in which an object is part of the result.

    Parameters
    ----------
    document : Document
        The version before.
    key : int
        Of the object; an object that has it already is exchanged.
    mask : array (H, W) bool
        Its pixels.
    value, plane : int
        Class and plane.
    prompts : PromptSet
        What it was made with.
    overwrite : bool
        Take pixels that other classes have; otherwise they stay theirs.

    Raises
    ------
    PromptError
        If nothing is left of the object.
    """
    query = expect_query(document)
    if any(row.key == key for row in document.objects):
        document = remove_object(document, key)
    result = _own_result(document, query)
    at = query.label_key(plane)
    labels = np.array(result.labels[at])
    chosen = mask if overwrite else mask & ((labels == 0) | (labels == value))
    if not chosen.any():
        raise PromptError(
            "There is nothing to commit. Click on the object first"
            + (", or let it replace what is there." if mask.any() else ".")
        )
    rows, columns = np.flatnonzero(chosen.any(1)), np.flatnonzero(chosen.any(0))
    corner = int(rows[0]), int(columns[0])
    window = slice(corner[0], int(rows[-1]) + 1), slice(corner[1], int(columns[-1]) + 1)
    row = ObjectRow(
        key, value, plane, prompts, corner, chosen[window], labels[window].copy()
    )
    labels[chosen] = value
    result.labels[at] = labels
    names = {value: document.classes.names.get(value, f"class {value}")}
    classes = document.classes.merged(names)
    return replace(
        document,
        classes=classes,
        result=replace(result, classes={**result.classes, **classes.names}),
        objects=(*document.objects, row),
    )


def remove_object(document: Document, key: int) -> Document:
    """Return a version without an object; what it covered is there again."""
    query = expect_query(document)
    found = [row for row in document.objects if row.key == key]
    if not found:
        raise DataError(f"There is no object {key}.")
    row = found[0]
    result = _own_result(document, query)
    at = query.label_key(row.plane)
    labels = np.array(result.labels[at])
    part = labels[row.window]
    # Only pixels that are still the object's are given back.
    mine = row.mask & (part == row.value)
    part[mine] = row.before[mine]
    result.labels[at] = labels
    rest = tuple(r for r in document.objects if r.key != key)
    return replace(document, result=result, objects=rest)


def paint_objects(document: Document) -> Document:
    """Return a version whose new result holds the committed objects again.

    The result is not shared with any other version yet and is written in place.
    """
    result, query = document.result, document.query
    if result is None or query is None or not document.objects:
        return document
    rows = []
    for row in document.objects:
        at = query.label_key(row.plane)
        labels = np.array(result.labels[at])
        part = labels[row.window]
        rows.append(replace(row, before=part.copy()))
        part[row.mask] = row.value
        result.labels[at] = labels
    return replace(document, objects=tuple(rows))


def _own_result(document: Document, query: Image) -> Prediction:
    """Return a result whose labels may be written: versions share arrays."""
    if document.result is None:
        return Prediction(labels=np.zeros(query.label_shape, np.int32))
    labels: Any = document.result.labels
    if isinstance(labels, np.ndarray):
        return replace(document.result, labels=labels.copy())
    # A store on disk is written in place; the object remembers what it covered.
    return document.result
