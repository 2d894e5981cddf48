"""COCO: images, categories, and an annotation per object, as run lengths.

A mask is written as uncompressed run lengths, ``{"size": [H, W], "counts": [...]}``:
the lengths of runs of 0, 1, 0, ... down the columns. They hold every pixel, which
polygons of this format do not. Read are compressed lengths and polygons, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.errors import DataError
from napari_fewshot.io._endings import stem_of
from napari_fewshot.io._pieces import (
    KEY,
    Piece,
    class_name,
    facts_in,
    facts_of,
    labels_from,
    pieces_of,
    read_json,
    table_in,
)
from napari_fewshot.ops.outlines import fill_outline

if TYPE_CHECKING:
    from napari_fewshot._types import BoolArray
    from napari_fewshot.io._endings import Opened
    from napari_fewshot.io._written import Written


def write_coco(path: Path, given: Written) -> None:
    """Write a COCO file with one image per plane and one annotation per object."""
    height, width = given.shape[-2:]
    name = Path(given.like).name if given.like is not None else stem_of(path)
    n_planes = int(np.prod(given.shape[:-2], dtype=int))
    images = [
        {
            "id": plane + 1,
            "file_name": name,
            "width": width,
            "height": height,
            **({"plane": plane} if n_planes > 1 else {}),
        }
        for plane in range(n_planes)
    ]
    used: set[int] = set(given.classes)
    head = {"info": {"description": "labels of napari-fewshot"}, "licenses": []}
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps({**head, KEY: facts_of(given), "images": images})[:-1])
        file.write(', "annotations": [')
        for number, piece in enumerate(pieces_of(given), start=1):
            used.add(piece.value)
            file.write("\n" if number == 1 else ",\n")
            file.write(json.dumps(_annotation(number, piece, (height, width))))
        categories = [
            {"id": v, "name": class_name(given.classes, v), "supercategory": ""}
            for v in sorted(used)
        ]
        file.write(f'\n], "categories": {json.dumps(categories)}}}\n')


def _annotation(number: int, piece: Piece, size: tuple[int, int]) -> dict[str, Any]:
    height, width = piece.mask.shape
    found: dict[str, Any] = {
        "id": number,
        "image_id": piece.plane + 1,
        "category_id": piece.value,
        "segmentation": {
            "size": list(size),
            "counts": run_lengths(piece.mask, (piece.row, piece.column), size),
        },
        "bbox": [piece.column, piece.row, width, height],
        "area": int(piece.mask.sum()),
        "iscrowd": 0,
    }
    if piece.number is not None:
        found["object"] = piece.number
    return found


def run_lengths(
    mask: BoolArray, corner: tuple[int, int], size: tuple[int, int]
) -> list[int]:
    """Return the run lengths of a mask that lies somewhere in a plane.

    Parameters
    ----------
    mask : array (h, w) bool
        As small as the object.
    corner : (int, int)
        Row and column of its first pixel in the plane.
    size : (int, int)
        Rows and columns of the plane.

    Returns
    -------
    list of int
        Lengths of 0, 1, 0, ... down the columns; their sum is the size of the plane.
    """
    height, width = size
    # Starts and ends of the runs of every column, as positions in column order.
    edges = np.diff(np.pad(mask, ((1, 1), (0, 0))).astype(np.int8), axis=0)
    columns, rows = np.nonzero(edges.T)
    at = (columns + corner[1]) * height + rows + corner[0]
    # A run that goes on at the top of the next column is one run.
    same = np.flatnonzero(at[1:-1:2] == at[2::2]) * 2 + 1
    at = np.delete(at, np.concatenate([same, same + 1]))
    lengths = np.diff(np.concatenate([[0], at, [height * width]]))
    counts: list[int] = lengths.tolist()
    return counts[:-1] if counts[-1] == 0 else counts


def from_run_lengths(counts: Any, size: tuple[int, int]) -> BoolArray:
    """Return the mask of run lengths, as numbers or as the compressed text.

    Raises
    ------
    DataError
        If they do not fit the size.
    """
    lengths = _decompressed(counts) if isinstance(counts, (str, bytes)) else counts
    lengths = np.asarray(lengths, np.int64)
    total = size[0] * size[1]
    if lengths.ndim != 1 or (lengths < 0).any() or lengths.sum() > total:
        raise DataError(
            f"A mask of {size[0]} x {size[1]} pixels does not fit its run lengths. "
            "Export the annotations again."
        )
    values = np.arange(len(lengths)) % 2 == 1
    flat = np.zeros(total, bool)
    flat[: int(lengths.sum())] = np.repeat(values, lengths)
    mask: BoolArray = flat.reshape(size[1], size[0]).T
    return mask


def _decompressed(text: str | bytes) -> list[int]:
    """Return the numbers of compressed run lengths.

    A number is stored in groups of five bits, lowest first, each as one character from
    "0" on; the sixth bit says that more follow, the fifth of the last is the sign.
    From the fourth number on the difference to the last but one is stored.
    """
    codes = text.encode() if isinstance(text, str) else text
    found: list[int] = []
    value = shift = 0
    for code in codes:
        bits = code - 48
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        found.append(value + (found[-2] if len(found) > 2 else 0))
        value = shift = 0
    return found


def open_coco(path: Path) -> Opened:
    """Return labels from annotations; later ones lie over earlier ones.

    Parameters
    ----------
    path : Path
        Of the JSON file; several images of one size are the planes of a stack.

    Raises
    ------
    DataError
        If it is no COCO file, or its images differ in size.
    """
    content = read_json(path)
    lists = [content.get(k) if isinstance(content, Mapping) else None for k in _LISTS]
    if not all(isinstance(entry, list) for entry in lists) or not lists[0]:
        raise DataError(
            f"{path.name} is no COCO file: it holds no images, annotations and "
            "categories. Export it again."
        )
    images, annotations, categories = (list(entry or ()) for entry in lists)
    facts = facts_in(content)
    sizes = {(int(i["height"]), int(i["width"])) for i in images}
    if len(sizes) > 1:
        raise DataError(
            f"{path.name} holds images of {len(sizes)} different sizes; one file per "
            "image is needed. Export them one by one."
        )
    size = sizes.pop()
    planes = {i["id"]: n for n, i in enumerate(images)}
    stack = (len(images), *size) if len(images) > 1 else size
    told = tuple(int(n) for n in facts["shape"]) if facts else stack
    pieces = [_piece(entry, planes, size, path) for entry in annotations]
    classes = {int(c["id"]): str(c.get("name", "")) for c in categories}
    if facts:
        classes = table_in(facts)
    return labels_from([p for p in pieces if p is not None], told, facts, classes)


_LISTS = ("images", "annotations", "categories")


def _piece(
    entry: Any, planes: Mapping[Any, int], size: tuple[int, int], path: Path
) -> Piece | None:
    if not isinstance(entry, Mapping) or entry.get("image_id") not in planes:
        raise DataError(
            f"{path.name} is damaged: an annotation is of no image in it. Export it "
            "again."
        )
    shape = entry.get("segmentation")
    if isinstance(shape, Mapping):
        mask = from_run_lengths(shape["counts"], size)
    elif shape:
        mask = np.zeros(size, bool)
        for polygon in shape:
            points = np.asarray(polygon, np.float64).reshape(-1, 2)[:, ::-1]
            mask |= fill_outline([points], size)
    else:
        left, top, width, height = (float(v) for v in entry.get("bbox", (0, 0, 0, 0)))
        mask = np.zeros(size, bool)
        mask[round(top) : round(top + height), round(left) : round(left + width)] = True
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not rows.size:
        return None
    number = entry.get("object")
    return Piece(
        planes[entry["image_id"]],
        int(entry["category_id"]),
        None if number is None else int(number),
        int(rows[0]),
        int(columns[0]),
        mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1],
    )
