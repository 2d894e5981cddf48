"""`measure`: a table of objects, from whatever holds labels."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from napari_fewshot.data import Image, Prediction
from napari_fewshot.evaluation._measure import measure_objects
from napari_fewshot.io import open_image, open_labels

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd


def measure(
    labels: Any,
    image: Any = None,
    scale: Any = None,
    classes: Mapping[int, str] | None = None,
    instances: Any = None,
    *,
    axes: str | None = None,
    channels: Any = None,
) -> pd.DataFrame:
    """Measure every object of labels: size, place, shape, and intensity.

    Parameters
    ----------
    labels : Prediction, array, path or layer
        Class labels; of a prediction also its classes and instances are used. What does
        not fit in memory (zarr) is read a few slices at a time.
    image : array, path, layer or Image, optional
        The image of the labels, for intensities; gives the pixel size if it knows it.
    scale : sequence of float, optional
        Pixel size per spatial axis (z, y, x), any one unit.
    classes : mapping of int to str, optional
        Names of the classes.
    instances : array, path or "labels", optional
        Object numbers in the shape of the labels, or ``"labels"`` if the labels are
        object numbers. Default: the connected pieces of every class, diagonal
        neighbours included.
    axes : str, optional
        Of the labels; ``"tyx"`` for a series of planes.
    channels : int or sequence of int, optional
        Of the image; default all of up to 4.

    Returns
    -------
    pandas.DataFrame
        A row per object (and point in time, ``t``); none for empty labels.
        ``label`` is the object number, ``class`` and ``class_value`` its class,
        ``pixels`` its size in pixels. In the unit of ``scale``: ``area`` and
        ``perimeter``, or ``volume`` and ``surface`` (by counted crossings, see
        `evaluation._measure_border`); ``major_axis`` and ``minor_axis`` of the ellipse
        or ellipsoid with the same second moments, and its ``eccentricity``. In pixels:
        the centroid ``z, row, column`` and the box ``min_z ... max_column``, the maxima
        exclusive. ``solidity`` is the share of the convex hull, NaN where that would
        take minutes. Per channel c ``mean_c, min_c, max_c, std_c`` of the intensity as
        stored. ``table.attrs`` holds the scale.

    Raises
    ------
    DataError
        If shapes do not fit, a file can't be read, or labels are not whole numbers.
    """
    if isinstance(labels, Prediction):
        classes = labels.classes if classes is None else classes
        instances = labels.instances if instances is None else instances
        about = labels.provenance.get("inputs", {}).get("query", {})
        scale = about.get("scale") if scale is None else scale
        axes = axes or str(about.get("axes", "")).replace("c", "") or None
        labels = labels.labels
    else:
        labels = open_labels(labels)
    if isinstance(instances, (str, os.PathLike)) and instances != "labels":
        instances = open_labels(instances)
    if image is not None and (_is_described(image) or channels is not None):
        image = open_image(image, channels=channels)
        scale = image.scale if scale is None else scale
        axes = axes or image.label_axes
    table = measure_objects(labels, image, scale, classes, instances, axes=axes)
    table.attrs["scale"] = None if scale is None else [float(s) for s in scale]
    return table


def _is_described(image: Any) -> bool:
    """Whether an image says of itself which axis is which."""
    is_file = isinstance(image, (str, os.PathLike))
    return is_file or isinstance(image, Image) or hasattr(image, "events")
