"""Concept files: supports, method and scores in one file that can be shared.

::

    nuclei.fewshot            a zip file
        concept.json          what is what, with the SHA-256 of every member
        supports.safetensors  pixels and labels of the planes that teach
        thumbnails/0.png      a picture of every support, for other programs

No pickle, nothing is unpacked to disk, and the same content gives the same bytes.
"""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import Concept, SupportSet, default_colour
from napari_fewshot.data._ignored import IGNORED
from napari_fewshot.errors import DataError
from napari_fewshot.io._archive import read_archive, write_archive
from napari_fewshot.io._endings import suffix_of
from napari_fewshot.io._images import resolve_support
from napari_fewshot.io._labels import smallest_dtype
from napari_fewshot.io._records import image_record, restore_support

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray
    from napari_fewshot.data import Support

SUFFIX = ".fewshot"
FORMAT = "napari-fewshot concept"
# Version 2 has labels of -1, where they are not known; all else is as in version 1.
VERSION, PLAIN = 2, 1
MANIFEST, ARRAYS = "concept.json", "supports.safetensors"
THUMBNAIL_SIDE = 192
TINT = 0.45
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


def is_concept(path: Any) -> bool:
    """Return whether a path is named like a concept file."""
    return isinstance(path, (str, os.PathLike)) and suffix_of(path) == SUFFIX


def write_concept(
    path: str | os.PathLike[str], concept: Concept, *, thumbnails: bool = True
) -> Path:
    """Write a concept file; it is complete or not there.

    Parameters
    ----------
    path : path
        ``.fewshot`` is added where it is missing.
    concept : Concept
        Its paths are opened; only the planes that teach are kept, at their dtype.
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
    DataError
        If an image can't be opened, or all are larger than 2 GB.
    StorageError
        If it can't be written; what was there stays.
    """
    from safetensors.numpy import save

    target = Path(path)
    if suffix_of(target) != SUFFIX:
        target = target.with_name(target.name + SUFFIX)
    supports = SupportSet([resolve_support(s) for s in concept.support]).check()
    arrays: dict[str, AnyArray] = {}
    for number, support in enumerate(supports):
        arrays.update(_arrays(number, support))
    members = {ARRAYS: save(arrays)}
    if thumbnails:
        for number, support in enumerate(supports):
            members[f"thumbnails/{number}.png"] = _picture(support, concept.colours)
    write_archive(target, MANIFEST, _content(concept, supports), members)
    return target


def read_concept(path: str | os.PathLike[str]) -> Concept:
    """Read a concept file.

    Parameters
    ----------
    path : path
        Of the file.

    Returns
    -------
    Concept
        Its supports hold the planes in memory.

    Raises
    ------
    DataError
        If it is missing, damaged, not safe, or from a newer version.
    """
    file = Path(path)
    content, members = read_archive(file, MANIFEST)
    _check_version(content, file.name)
    try:
        arrays = _load(members[ARRAYS])
        classes = {int(v): str(name) for v, name, _ in content["classes"]}
        if any(v < 1 for v in classes):
            raise ValueError("a class below 1")
        return Concept(
            support=_supports(content["supports"], arrays, classes),
            classes=classes,
            colours={
                int(v): colour if _is_colour(colour) else default_colour(int(v))
                for v, _, colour in content["classes"]
            },
            method=str(content["method"]),
            model=str(content["model"]),
            params={
                str(k): _by_class(v) if isinstance(v, dict) else v
                for k, v in content["params"].items()
            },
            weights_sha256=str(content["weights_sha256"]),
            scores=_by_class(content["scores"]),
            score_intervals={
                v: (float(low), float(high))
                for v, (low, high) in _by_class(content["score_intervals"]).items()
            },
            support_scores={
                str(name): _by_class(scores)
                for name, scores in content["support_scores"].items()
            },
            author=str(content["author"]),
            licence=str(content["licence"]),
            notes=str(content["notes"]),
            provenance=dict(content["provenance"]),
            version=str(content["written_by"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(
            f"{file.name} can't be used: its content does not fit together ({error}). "
            "Ask for it again."
        ) from error


def _check_version(content: Mapping[str, Any], name: str) -> None:
    version = content.get("version")
    if content.get("format") != FORMAT or not isinstance(version, int):
        raise DataError(
            f"{name} is no concept file. Choose a {SUFFIX} file that was saved with "
            "napari-fewshot."
        )
    if version > VERSION:
        raise DataError(
            f"{name} was written by napari-fewshot {content.get('written_by', '?')}, "
            f"which saves version {version} of concept files; this one reads up to "
            f"{VERSION}. Update it: pip install --upgrade napari-fewshot."
        )


# -- writing ------------------------------------------------------------------------


def _arrays(number: int, support: Support) -> dict[str, AnyArray]:
    """Return the planes of a support under the names they have in the file."""
    found: dict[str, AnyArray] = {}
    for plane in support.used_planes:
        pixels, labels = support.source.raw_plane(plane), support.label_plane(plane)
        if pixels.dtype.itemsize > 8:
            # No format but the machine's own knows longer floats.
            pixels = pixels.astype(np.float64)
        native = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
        found[_name(number, "image", plane)] = np.ascontiguousarray(native)
        whole = bool((labels != IGNORED).all())
        kind = smallest_dtype(int(labels.max(initial=0))) if whole else np.int32
        found[_name(number, "labels", plane)] = labels.astype(kind)
    return found


def _name(number: int, what: str, plane: int) -> str:
    return f"{number}/{what}/{plane}"


def _content(concept: Concept, supports: SupportSet) -> dict[str, Any]:
    names = {**supports.class_names, **concept.classes}
    colours = concept.colours
    is_plain = all(s.ignore is None for s in supports)
    return {
        "format": FORMAT,
        # Programs that know nothing of ignored pixels would take them for background.
        "version": PLAIN if is_plain else VERSION,
        "written_by": metadata.version("napari-fewshot"),
        "classes": [
            [v, names[v], colours.get(v) or default_colour(v)] for v in sorted(names)
        ],
        "supports": [
            {
                "name": s.name,
                "image": image_record(s.source),
                "planes": [int(p) for p in s.used_planes],
            }
            for s in supports
        ],
        "method": concept.method,
        "model": concept.model,
        "weights_sha256": concept.weights_sha256,
        "params": _plain(concept.params),
        "scores": _plain(concept.scores),
        "score_intervals": _plain(concept.score_intervals),
        "support_scores": _plain(concept.support_scores),
        "author": concept.author,
        "licence": concept.licence,
        "notes": concept.notes,
        "provenance": _plain(concept.provenance),
    }


def _plain(value: Any) -> Any:
    """Return JSON-able values; NaN and infinite numbers are left out."""
    if isinstance(value, Mapping):
        found = {str(k): _plain(v) for k, v in value.items()}
        return {k: v for k, v in found.items() if v is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


def _picture(support: Support, colours: Mapping[int, str]) -> bytes:
    """Return a PNG of the first plane with its classes tinted."""
    from PIL import Image as Picture

    plane = support.used_planes[0]
    image, labels = support.source.plane(plane), support.label_plane(plane)
    step = max(1, math.ceil(max(labels.shape) / THUMBNAIL_SIDE))
    image, labels = image[::step, ::step], labels[::step, ::step]
    is_colour = image.shape[-1] >= 3
    shown = image[..., :3] if is_colour else np.repeat(image[..., :1], 3, axis=-1)
    pixels = shown * 255
    for value in support.label_values:
        colour = colours.get(value) or default_colour(value)
        tint = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
        inside = labels == value
        pixels[inside] = (1 - TINT) * pixels[inside] + TINT * tint
    buffer = io.BytesIO()
    Picture.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


# -- reading ------------------------------------------------------------------------


def _load(data: bytes) -> dict[str, AnyArray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return dict(load(data))
    except SafetensorError as error:
        raise ValueError(f"{ARRAYS}: {error}") from error


def _supports(
    records: list[Mapping[str, Any]],
    arrays: Mapping[str, AnyArray],
    classes: Mapping[int, str],
) -> SupportSet:
    found = []
    for number, record in enumerate(records):
        planes = [int(p) for p in record["planes"]]
        image = record["image"]
        channels = "c" in image["axes"]
        shape = tuple(int(n) for n in image["shape"])
        wanted = shape[-3:] if channels else shape[-2:]
        low, high = (float(value) for value in image["window"])
        if not planes or not (math.isfinite(low) and low < high < math.inf):
            raise ValueError(f"support {number} has no planes or no window")
        images = {p: arrays[_name(number, "image", p)] for p in planes}
        labels = {p: arrays[_name(number, "labels", p)] for p in planes}
        for plane in planes:
            _check_plane(images[plane], labels[plane], wanted, 3 if channels else 2)
        found.append(
            restore_support(
                {**image, "shape": shape, "window": (low, high)},
                images,
                labels,
                classes,
                str(record["name"]),
            )
        )
    return SupportSet(found).check()


def _check_plane(
    image: AnyArray, labels: AnyArray, wanted: tuple[int, ...], ndim: int
) -> None:
    if image.shape != wanted or image.ndim != ndim or labels.shape != wanted[:2]:
        raise ValueError(f"a plane of shape {image.shape} where {wanted} is said")
    signed = labels.dtype.kind == "i" and labels.min(initial=0) >= IGNORED
    if labels.dtype.kind != "u" and not signed:
        raise ValueError(f"labels of dtype {labels.dtype}")


def _by_class(values: Mapping[str, Any]) -> dict[int, Any]:
    return {int(v): x for v, x in values.items()}


def _is_colour(value: Any) -> bool:
    return isinstance(value, str) and _COLOUR.fullmatch(value) is not None
