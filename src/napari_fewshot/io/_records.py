"""Images and supports as JSON records plus the planes that are kept of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import Image, SparsePlanes, Support
from napari_fewshot.data._ignored import IGNORED, without_ignored
from napari_fewshot.io._images import open_image

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from napari_fewshot._types import AnyArray


def image_record(image: Image) -> dict[str, Any]:
    """Return all of an image but its pixels, as JSON-able values.

    Parameters
    ----------
    image : Image
        Of any size; its pixels are not read, but for the intensity window.

    Returns
    -------
    dict
        ``axes`` in plane order (t, z, y, x, c), ``shape`` with the chosen channels
        only, ``scale``, ``name`` and intensity ``window``.
    """
    leading = "".join(a for a in image.axes if a in "tz")
    shape = [*image.leading_shape, *image.plane_shape]
    return {
        "axes": leading + ("yxc" if image.channels else "yx"),
        "shape": [*shape, len(image.channels)] if image.channels else shape,
        "scale": image.scale,
        "name": image.name,
        "window": image.window,
        "unit": image.unit,
        "level": image.level,
        "follows_supports": image.levels is None or image.levels.is_auto,
    }


def reopen_image(record: Mapping[str, Any], path: str | os.PathLike[str]) -> Image:
    """Return an image from its file, at the level that it had.

    Parameters
    ----------
    record : mapping
        What `image_record` returned.
    path : path
        Of the file.

    Raises
    ------
    DataError
        If the file can't be read, or has fewer levels now.
    """
    image = open_image(path, name=record["name"], level=record.get("level", 0))
    if image.levels is None or not record.get("follows_supports", True):
        return image
    return replace(image, levels=replace(image.levels, is_auto=True))


def restore_image(record: Mapping[str, Any], planes: Mapping[int, AnyArray]) -> Image:
    """Return an image from its record and planes, seen through the window it had.

    Parameters
    ----------
    record : mapping
        What `image_record` returned.
    planes : mapping of int to array (H, W) or (H, W, C)
        By flat plane number; those that are missing read as zero.

    Raises
    ------
    DataError, KeyError, TypeError, ValueError
        If the record is none.
    """
    n_leading = sum(a in "tz" for a in record["axes"])
    array = SparsePlanes(tuple(record["shape"]), n_leading, planes)
    channels = list(range(record["shape"][-1])) if "c" in record["axes"] else None
    image = Image.from_array(
        array,
        axes=record["axes"],
        scale=record["scale"],
        channels=channels,
        name=record["name"],
        unit=str(record.get("unit", "")),
    )
    low, high = record["window"]
    image.__dict__["window"] = (low, high)
    return image


def restore_support(
    record: Mapping[str, Any],
    images: Mapping[int, AnyArray],
    labels: Mapping[int, AnyArray],
    classes: Mapping[int, str],
    name: str,
) -> Support:
    """Return a support of the planes that were kept.

    Parameters
    ----------
    record : mapping
        Of its image.
    images, labels : mapping of int to array
        Pixels (H, W) or (H, W, C) and labels (H, W), by flat plane number.
    classes : mapping of int to str
        Names of the label values.
    name : str
        Of the support.

    Raises
    ------
    DataError, KeyError, TypeError, ValueError
        If they do not fit together.
    """
    source = restore_image(record, images)
    return support_of(source, labels, classes, name)


def support_of(
    source: Image,
    labels: Mapping[int, AnyArray],
    classes: Mapping[int, str] | None,
    name: str,
) -> Support:
    """Return a support of an image and labels of some of its planes.

    Parameters
    ----------
    source : Image
        Kept as it is, with its intensity window.
    labels : mapping of int to array (H, W)
        By flat plane number, as `Support.label_plane` returns them; these planes teach.
    classes : mapping of int to str, optional
        Names of the label values.
    name : str
        Of the support.

    Raises
    ------
    SupportError
        If a plane does not exist.
    """
    shape, n_leading = source.label_shape, len(source.leading_shape)
    parts = {p: without_ignored(found) for p, found in labels.items()}
    off = {p: ignored for p, (_, ignored) in parts.items() if ignored.any()}
    known = {p: found for p, (found, _) in parts.items()}
    support = Support(
        source.array,
        SparsePlanes(shape, n_leading, known),
        ignore=SparsePlanes(shape, n_leading, off) if off else None,
        classes=classes,
        scale=source.scale,
        unit=source.unit,
        axes=source.axes,
        channels=source.channels or None,
        name=name,
        planes=tuple(labels),
    )
    support.__dict__["source"] = source
    return support


def relabelled(support: Support, values: Mapping[int, int]) -> Support:
    """Return a support whose label values are exchanged.

    Parameters
    ----------
    support : Support
        Of which the planes that teach are kept.
    values : mapping of int to int
        Old value to new value, for every class that occurs or is named.
    """
    if all(old == new for old, new in values.items()):
        return support
    planes = {}
    for plane in support.used_planes:
        before = support.label_plane(plane)
        after = np.zeros_like(before)
        after[before == IGNORED] = IGNORED
        for old, new in values.items():
            after[before == old] = new
        planes[plane] = after
    classes = {values.get(v, v): n for v, n in (support.classes or {}).items()}
    return support_of(support.source, planes, classes, support.name)
