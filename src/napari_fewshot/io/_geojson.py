"""GeoJSON: a polygon per object in pixels (x, y), with the properties QuPath reads.

RFC 7946 gives the geometry. QuPath adds, in ``properties``, ``objectType`` and
``classification`` (``name`` and ``color``), and in ``geometry`` the ``plane`` of a
stack. The corners are corners of pixels, so that nothing is lost on the way.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import default_colour
from napari_fewshot.errors import DataError
from napari_fewshot.io._pieces import (
    KEY,
    Piece,
    check_shape,
    class_name,
    facts_in,
    facts_of,
    labels_from,
    pieces_of,
    read_json,
    table_in,
)
from napari_fewshot.ops.outlines import fill_outline, outlines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_fewshot._types import AnyArray
    from napari_fewshot.io._endings import Opened
    from napari_fewshot.io._written import Written

AREAS = ("Polygon", "MultiPolygon")


def write_geojson(path: Path, given: Written) -> None:
    """Write one feature per object; see `pieces_of` for what an object is."""
    with path.open("w", encoding="utf-8") as file:
        facts = json.dumps(facts_of(given))
        file.write(f'{{"type": "FeatureCollection", "{KEY}": {facts}, "features": [')
        for number, piece in enumerate(pieces_of(given)):
            file.write(",\n" if number else "\n")
            file.write(json.dumps(_feature(piece, given)))
        file.write("\n]}\n")


def _feature(piece: Piece, given: Written) -> dict[str, Any]:
    offset = np.array([piece.row, piece.column])
    polygons = [
        [_closed(ring + offset) for ring in rings] for rings in outlines(piece.mask)
    ]
    geometry: dict[str, Any] = (
        {"type": "Polygon", "coordinates": polygons[0]}
        if len(polygons) == 1
        else {"type": "MultiPolygon", "coordinates": polygons}
    )
    if len(given.shape) > 2:
        index = np.unravel_index(piece.plane, given.shape[:-2])
        at = {a: int(i) for a, i in zip(given.axes, index, strict=False)}
        geometry["plane"] = {"c": -1, "z": at.get("z", 0), "t": at.get("t", 0)}
    colour = given.colours.get(piece.value) or default_colour(piece.value)
    properties: dict[str, Any] = {
        "objectType": "annotation",
        "classification": {
            "name": class_name(given.classes, piece.value),
            "color": [int(colour[i : i + 2], 16) for i in (1, 3, 5)],
        },
        "label": piece.value,
    }
    if piece.number is not None:
        properties["object"] = piece.number
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _closed(ring: AnyArray) -> list[list[int]]:
    """Return a ring of (row, column) as (x, y), the first corner again at its end."""
    points: list[list[int]] = ring[:, ::-1].tolist()
    return [*points, points[0]]


def open_geojson(path: Path, shape: tuple[int, ...] | None = None) -> Opened:
    """Return labels from outlines, of this or another program.

    Parameters
    ----------
    path : Path
        A collection of features, a list of them, or one.
    shape : tuple of int, optional
        Of the image, where the file does not say; default what holds all outlines.

    Raises
    ------
    DataError
        If there are no outlines in it.
    """
    content = read_json(path)
    facts = facts_in(content)
    features = _features(content, path)
    classes = table_in(facts)
    found: list[tuple[dict[str, Any], int, int | None]] = []
    colours: dict[int, str] = {}
    for feature in features:
        value = _value_of(feature, classes, is_ours=bool(facts))
        colour = _colour_of(feature)
        if colour:
            colours[value] = colour
        number = (feature.get("properties") or {}).get("object")
        found.append((feature["geometry"], value, None if number is None else number))
    if facts:
        classes = table_in(facts)
        shape = tuple(int(n) for n in facts["shape"])
    axes = str(
        facts.get("axes") or {2: "yx", 3: "zyx", 4: "tzyx"}.get(len(shape or ()))
    )
    if shape is None:
        shape, axes = _extent([g for g, _, _ in found], path)
    check_shape(shape)
    pieces = [
        piece
        for geometry, value, number in found
        for piece in _pieces(geometry, value, number, shape, axes)
    ]
    return labels_from(pieces, shape, facts, classes, colours)


def _features(content: Any, path: Path) -> list[dict[str, Any]]:
    if isinstance(content, dict) and content.get("type") == "FeatureCollection":
        content = content.get("features")
    elif isinstance(content, dict) and "geometry" in content:
        content = [content]
    if not isinstance(content, list):
        raise DataError(
            f"{path.name} is no GeoJSON: it holds no features. Export it again."
        )
    kept = [
        f
        for f in content
        if isinstance(f, dict)
        and isinstance(f.get("geometry"), dict)
        and f["geometry"].get("type") in AREAS
    ]
    if content and not kept:
        raise DataError(
            f"{path.name} holds points or lines only, and no areas. Export polygons."
        )
    return kept


def _value_of(
    feature: dict[str, Any], classes: dict[int, str], *, is_ours: bool
) -> int:
    """Return the class of a feature; those of other programs are numbered by name."""
    properties = feature.get("properties") or {}
    if is_ours and isinstance(properties.get("label"), int):
        return int(properties["label"])
    given = properties.get("classification")
    name = given.get("name") if isinstance(given, dict) else given
    name = str(name or "object")
    known = {n: v for v, n in classes.items()}
    value = known.get(name) or max(classes, default=0) + 1
    classes.setdefault(value, name)
    return value


def _colour_of(feature: dict[str, Any]) -> str:
    given = (feature.get("properties") or {}).get("classification")
    colour = given.get("color") if isinstance(given, dict) else None
    if not isinstance(colour, list) or len(colour) != 3:
        return ""
    return "#" + "".join(f"{min(255, max(0, int(v))):02x}" for v in colour)


def _polygons(geometry: dict[str, Any]) -> Iterator[list[AnyArray]]:
    """Yield the rings of every polygon as (row, column)."""
    given = geometry["coordinates"]
    for polygon in [given] if geometry["type"] == "Polygon" else given:
        rings = [np.asarray(ring, np.float64)[:, :2] for ring in polygon]
        yield [ring[:, ::-1] for ring in rings if len(ring) > 2]


def _extent(
    geometries: list[dict[str, Any]], path: Path
) -> tuple[tuple[int, ...], str]:
    """Return the smallest shape that holds outlines, and its axes."""
    corners = [r.max(axis=0) for g in geometries for p in _polygons(g) for r in p]
    if not corners:
        raise DataError(
            f"{path.name} holds no outline and does not say how large its image is. "
            "Give the image that it belongs to."
        )
    height, width = (int(np.ceil(v)) for v in np.max(corners, axis=0))
    counts = {
        a: 1 + max(int(g.get("plane", {}).get(a, 0) or 0) for g in geometries)
        for a in "tz"
    }
    axes = "".join(a for a in "tz" if counts[a] > 1)
    return (*(counts[a] for a in axes), max(1, height), max(1, width)), f"{axes}yx"


def _pieces(
    geometry: dict[str, Any],
    value: int,
    number: int | None,
    shape: tuple[int, ...],
    axes: str,
) -> Iterator[Piece]:
    at = geometry.get("plane") or {}
    index = [int(at.get(a, 0) or 0) for a in axes if a in "tz"]
    if any(not 0 <= i < n for i, n in zip(index, shape, strict=False)):
        return
    plane = int(np.ravel_multi_index(index, shape[:-2])) if index else 0
    for rings in _polygons(geometry):
        if not rings:
            continue
        corners = np.concatenate(rings)
        limit = np.array(shape[-2:])
        low = np.clip(np.floor(corners.min(axis=0)), 0, limit).astype(int)
        high = np.clip(np.ceil(corners.max(axis=0)), 0, limit).astype(int)
        if (high <= low).any():
            continue
        size = (int(high[0] - low[0]), int(high[1] - low[1]))
        mask = fill_outline([ring - low for ring in rings], size)
        yield Piece(plane, value, number, int(low[0]), int(low[1]), mask)
