"""Labels as a list of objects, and a list of objects as labels."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.errors import DataError
from napari_fewshot.io._endings import Opened

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from napari_fewshot._types import AnyArray, BoolArray
    from napari_fewshot.io._written import Written

KEY = "napari_fewshot"
# A file of outlines that is larger is no file of outlines.
MAX_BYTES = 4 * 1024**3
# Labels that are made anew from outlines have at most this many pixels.
MAX_PIXELS = 1 << 34


@dataclass(frozen=True, eq=False)
class Piece:
    """One object on one plane.

    Attributes
    ----------
    plane : int
        Flat number of the plane.
    value : int
        Its class.
    number : int, optional
        Of the object; None where objects are not numbered.
    row, column : int
        Of the upper left corner of the mask.
    mask : array (H, W) bool
        As small as the object.
    """

    plane: int
    value: int
    number: int | None
    row: int
    column: int
    mask: BoolArray


def pieces_of(given: Written) -> Iterator[Piece]:
    """Yield every object: numbered ones, else the 4-connected parts of every class."""
    for plane, (index, labels) in enumerate(given.planes()):
        if given.instances is None:
            yield from _parts(plane, labels)
        else:
            numbers = np.asarray(given.instances[(*index, slice(None), slice(None))])
            yield from _numbered(plane, labels, numbers)


def _parts(plane: int, labels: AnyArray) -> Iterator[Piece]:
    from scipy import ndimage

    for value in _values(labels):
        parts, _ = ndimage.label(labels == value)
        for number, where in enumerate(ndimage.find_objects(parts), start=1):
            mask = parts[where] == number
            yield Piece(plane, value, None, where[0].start, where[1].start, mask)


def _numbered(plane: int, labels: AnyArray, numbers: AnyArray) -> Iterator[Piece]:
    from scipy import ndimage

    found, dense = np.unique(numbers, return_inverse=True)
    # `find_objects` makes a list as long as the largest number.
    dense = dense.reshape(numbers.shape) + (found[0] != 0)
    found = found[found != 0]
    for at, where in enumerate(ndimage.find_objects(dense.astype(np.int32))):
        if where is None or at >= len(found):
            continue
        mask = dense[where] == at + 1
        held = labels[where][mask]
        held = held[held > 0]
        value = int(np.bincount(held).argmax()) if held.size else 1
        top, left = where[0].start, where[1].start
        yield Piece(plane, value, int(found[at]), top, left, mask)


def _values(labels: AnyArray) -> list[int]:
    return [int(v) for v in np.unique(labels) if v > 0]


def class_name(classes: Mapping[int, str], value: int) -> str:
    """Return the name of a class."""
    return classes.get(value) or f"class {value}"


def facts_of(given: Written) -> dict[str, Any]:
    """Return what makes the labels from their outlines again, JSON-able."""
    return {
        "shape": list(given.shape),
        "axes": given.axes,
        "scale": None if given.scale is None else list(given.scale),
        "unit": given.unit,
        "classes": {str(v): n for v, n in given.classes.items()},
    }


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises
    ------
    DataError
        If it is none, or too large.
    """
    size = path.stat().st_size
    if size == 0 or size > MAX_BYTES:
        raise DataError(
            f"{path.name} holds {size} bytes; a file of outlines is neither empty nor "
            f"above {MAX_BYTES // 1024**3} GB. Copy the file again."
        )
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path.name} is no JSON that can be read ({error}). Copy the file again."
        ) from error


def labels_from(
    pieces: Sequence[Piece],
    shape: tuple[int, ...],
    facts: Mapping[str, Any],
    classes: Mapping[int, str],
    colours: Mapping[int, str] | None = None,
) -> Opened:
    """Return labels that hold pieces; where they overlap the later one wins.

    Parameters
    ----------
    pieces : sequence of Piece
        Whose masks lie inside the shape.
    shape : tuple of int
        Of the labels.
    facts : mapping
        What `facts_of` wrote; empty for files of others.
    classes, colours : mapping of int to str
        Names and colours of the label values.
    """
    check_shape(shape)
    top = max((p.value for p in pieces), default=0)
    labels = np.zeros(shape, np.uint8 if top <= 255 else np.int32)
    is_numbered = any(p.number is not None for p in pieces)
    instances = np.zeros(shape, np.int32) if is_numbered else None
    for piece in pieces:
        index: Any = np.unravel_index(piece.plane, shape[:-2]) if shape[:-2] else ()
        height, width = piece.mask.shape
        rows = slice(piece.row, piece.row + height)
        columns = slice(piece.column, piece.column + width)
        part: Any = (*index, rows, columns)
        labels[part][piece.mask] = piece.value
        if instances is not None:
            instances[part][piece.mask] = piece.number or 0
    scale, axes = facts.get("scale"), facts.get("axes")
    return Opened(
        labels,
        axes if isinstance(axes, str) else None,
        tuple(float(s) for s in scale) if scale else None,
        str(facts.get("unit", "")),
        classes=dict(classes),
        colours=dict(colours or {}),
        instances=instances,
    )


def check_shape(shape: tuple[int, ...]) -> None:
    """Refuse labels that no memory holds."""
    if np.prod(shape, dtype=np.float64) > MAX_PIXELS:
        raise DataError(
            f"The outlines lie in labels of shape {shape}, which is too large. Give "
            "the image that they belong to."
        )


def facts_in(content: Any) -> dict[str, Any]:
    """Return what our own files say of the labels; empty for files of others."""
    facts = content.get(KEY) if isinstance(content, dict) else None
    return facts if isinstance(facts, dict) and "shape" in facts else {}


def table_in(facts: Mapping[str, Any]) -> dict[int, str]:
    """Return the class table of `facts_in`."""
    return {int(v): str(n) for v, n in dict(facts.get("classes", {})).items()}
