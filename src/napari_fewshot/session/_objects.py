"""Objects that were committed click by click: pure edits of a `Document`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import Prediction, PromptSet
from napari_fewshot.errors import DataError, PromptError
from napari_fewshot.session._edits import expect_query
from napari_fewshot.session._object_rows import POLICIES, ObjectRow

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray, BoolArray, LabelArray
    from napari_fewshot.data import Image
    from napari_fewshot.session._state import Document


def commit_object(
    document: Document,
    key: int,
    mask: BoolArray,
    value: int,
    plane: int,
    prompts: PromptSet,
    *,
    policy: str = "new",
    number: int | None = None,
    origin: str = "prompts",
    is_own: bool = False,
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
    policy : {"new", "overwrite", "empty", "merge"}
        Which pixels it gets; see `POLICIES`.
    number : int, optional
        Its number; default the one it had, or the next.
    origin : str
        As in `ObjectRow`.
    is_own : bool
        Whether the labels of this version are not shared with another yet; they are
        then written in place.

    Raises
    ------
    PromptError
        If nothing is left of the object, or there is nothing to merge it with.
    DataError
        For an unknown policy.
    """
    if policy not in POLICIES:
        raise DataError(
            f"There is no policy {policy!r}; use {', '.join(map(repr, POLICIES))}."
        )
    query = expect_query(document)
    if policy == "merge":
        row = _touched(document, mask, value, plane, key)
        mask, key, number = row.whole(query.plane_shape) | mask, row.key, row.number
        prompts = PromptSet(mask=mask)
    known = [row for row in document.objects if row.key == key]
    if known:
        number = known[0].number if number is None else number
        document = remove_object(document, key, is_own=is_own)
        is_own = True
    if number is None:
        number = max((row.number for row in document.objects), default=0) + 1
    result = _own_result(document, query, is_own=is_own)
    at = query.label_key(plane)
    labels = np.array(result.labels[at])
    chosen = mask & _free(labels, value, policy)
    if not chosen.any():
        raise PromptError(
            "There is nothing to commit. Click on the object first"
            + (", or let it replace what is there." if mask.any() else ".")
        )
    rows, columns = np.flatnonzero(chosen.any(1)), np.flatnonzero(chosen.any(0))
    corner = int(rows[0]), int(columns[0])
    window = slice(corner[0], int(rows[-1]) + 1), slice(corner[1], int(columns[-1]) + 1)
    before = labels[window].copy()
    row = ObjectRow(
        key, value, plane, prompts, corner, chosen[window], before, number, origin
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


def _free(labels: AnyArray, value: int, policy: str) -> BoolArray:
    """Pixels that an object may take."""
    if policy == "overwrite":
        return np.ones(labels.shape, bool)
    free: BoolArray = labels == 0
    return free if policy == "empty" else free | (labels == value)


def _touched(
    document: Document, mask: BoolArray, value: int, plane: int, key: int
) -> ObjectRow:
    """Return the object of a class that a mask covers or touches most."""
    from scipy import ndimage

    near = ndimage.binary_dilation(mask)
    best, found = 0, None
    for row in document.objects:
        if (row.value, row.plane) == (value, plane) and row.key != key:
            shared = int((near[row.window] & row.mask).sum())
            if shared > best:
                best, found = shared, row
    if found is None:
        raise PromptError(
            "It touches no object of this class that it could be merged with. Commit "
            "it as a new object."
        )
    return found


def number_objects(document: Document, plane: int) -> LabelArray:
    """Return the numbers of the committed objects on a plane.

    Parameters
    ----------
    document : Document
        With a query.
    plane : int
        Flat plane number.

    Returns
    -------
    array (H, W) int32
        0 where there is none; of two that overlap the later one shows.
    """
    query = expect_query(document)
    found = np.zeros(query.plane_shape, np.int32)
    if document.result is None:
        return found
    labels = np.asarray(document.result.labels[query.label_key(plane)])
    for row in document.objects:
        if row.plane == plane:
            # What another class took since is no longer the object's.
            mine = row.mask & (labels[row.window] == row.value)
            found[row.window][mine] = row.number
    return found


def remove_object(document: Document, key: int, *, is_own: bool = False) -> Document:
    """Return a version without an object; what it covered is there again.

    Parameters
    ----------
    document : Document
        The version before.
    key : int
        Of the object.
    is_own : bool
        As for `commit_object`.

    Raises
    ------
    DataError
        If there is no such object.
    """
    query = expect_query(document)
    found = [row for row in document.objects if row.key == key]
    if not found:
        raise DataError(f"There is no object {key}.")
    row = found[0]
    result = _own_result(document, query, is_own=is_own)
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


def _own_result(document: Document, query: Image, *, is_own: bool) -> Prediction:
    """Return a result whose labels may be written: versions share arrays."""
    if document.result is None:
        return Prediction(labels=np.zeros(query.label_shape, np.int32))
    labels: Any = document.result.labels
    if isinstance(labels, np.ndarray) and not is_own:
        return replace(document.result, labels=labels.copy())
    # A store on disk is written in place; the object remembers what it covered.
    return document.result
