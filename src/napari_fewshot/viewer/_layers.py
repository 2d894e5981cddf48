"""Make and find layers; what makes a result lie exactly over its image.

A layer is known by ``metadata["napari-fewshot"]``, never by its name: users rename.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image as ImageLayer
from napari.layers import Labels as LabelsLayer
from napari.utils.transforms import Affine

from napari_fewshot.data import ClassTable, Image, downsampling, strips
from napari_fewshot.io import fit_pair, open_image

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_fewshot.data import Prediction

KEY = "napari-fewshot"
# Masks of larger planes are read in strips, and at a coarser level if there is one.
MAX_SUPPORT_PLANE = 1 << 26
# Pixels of a result that are counted at once.
STRIP = 1 << 24
TRANSFORMS = ("scale", "translate", "rotate", "shear")


def image_layers(viewer: ViewerModel) -> list[Any]:
    """Return the image layers of users, top first; ours have a role."""
    found = [x for x in reversed(viewer.layers) if isinstance(x, ImageLayer)]
    return [x for x in found if role(x) is None]


def labels_layers(viewer: ViewerModel, *, with_results: bool = False) -> list[Any]:
    """Return the labels layers of users, top first; results of ours only if wanted."""
    found = [x for x in reversed(viewer.layers) if isinstance(x, LabelsLayer)]
    kinds = {None, "support", "result"} if with_results else {None, "support"}
    return [x for x in found if role(x) in kinds]


def role(layer: Layer) -> str | None:
    """Return what a layer is to us: ``"result"``, ``"support"``, ``"prompts ..."``."""
    mark = layer.metadata.get(KEY)
    return mark.get("role") if isinstance(mark, dict) else None


def open_layer(layer: Any, *, level: int | str = "auto", channels: Any = None) -> Image:
    """Return the image of a layer.

    Parameters
    ----------
    layer : napari Image layer
        Of any kind; multiscale layers give the chosen level.
    level : int or "auto"
        0 is the finest; ``"auto"`` follows the supports.
    channels : sequence of int, optional
        Channels to use.

    Raises
    ------
    DataError
        If its axes are not clear or its pixels can't be used.
    """
    return open_image(
        layer, channels=channels, level=level if layer.multiscale else "auto"
    )


def reads_alike(one: Image, other: Image) -> bool:
    """Whether two images of the same array are read in the same way."""
    found = []
    for image in (one, other):
        is_auto = image.levels is None or image.levels.is_auto
        found.append((image.channels, image.axes, is_auto))
    return found[0] == found[1]


def fit_layers(image: Image, labels: Any) -> tuple[Image, Any] | None:
    """Return an image and labels at a level that both have.

    Parameters
    ----------
    image : Image
        With all its levels.
    labels : napari Labels layer
        With levels or without.

    Returns
    -------
    image : Image
        At the finest level that fits; where planes are large and there are coarser
        levels of both, at one whose planes are not.
    labels : array
        Its labels.
    """
    arrays = tuple(labels.data) if labels.multiscale else (labels.data,)
    small = [a for a in arrays if a.shape[-2] * a.shape[-1] <= MAX_SUPPORT_PLANE]
    for group in (small, arrays):
        found, array = fit_pair(image, group) if group else (image, None)
        if array is not None and tuple(array.shape) == found.label_shape:
            return found, array
    return None


def matches(image: Image, labels: Any) -> bool:
    """Whether a labels layer fits an image plane by plane, at some level."""
    return fit_layers(image, labels) is not None


def has_shape(image: Image, labels: Any) -> bool:
    """Whether a labels layer without levels has the shape of labels for an image."""
    return not labels.multiscale and tuple(labels.data.shape) == image.label_shape


def matching_labels(viewer: ViewerModel, image: Image) -> list[Any]:
    """Return the labels layers that fit an image and hold some paint."""
    return [
        layer
        for layer in labels_layers(viewer)
        if matches(image, layer) and painted_planes(image, layer)
    ]


def painted_planes(image: Image, labels: Any) -> list[int]:
    """Return the planes of a labels layer that hold some paint."""
    fitting = fit_layers(image, labels)
    if fitting is None:
        return []
    at, data = fitting
    return [p for p in range(at.n_planes) if _is_painted(data, at.label_key(p))]


def _is_painted(data: Any, key: tuple[Any, ...]) -> bool:
    """Whether a plane holds paint; large ones are read in strips."""
    height, width = data.shape[-2:]
    rows = max(1, MAX_SUPPORT_PLANE // width)
    for row in range(0, height, rows):
        strip = (*key[:-2], slice(row, row + rows), slice(None))
        if np.asarray(data[strip]).any():
            return True
    return False


def current_plane(viewer: ViewerModel, layer: Any, image: Image) -> int:
    """Return the plane of an image that the viewer shows."""
    n_leading = len(image.leading_shape)
    if not n_leading:
        return 0
    point = layer.world_to_data(viewer.dims.point[-layer.ndim :])
    factor = level_factor(layer, image.label_shape)
    point = (np.asarray(point) - (factor - 1) / 2) / factor
    where = [i for i, a in enumerate(image.label_axes) if a in "tz"]
    index = [
        int(np.clip(round(point[i]), 0, n - 1))
        for i, n in zip(where, image.leading_shape, strict=True)
    ]
    return int(np.ravel_multi_index(index, image.leading_shape))


def show_plane(viewer: ViewerModel, layer: Any, image: Image, plane: int) -> None:
    """Move the sliders of a viewer to a plane of an image."""
    index = iter(image.plane_index(plane))
    data = [next(index) if a in "tz" else 0 for a in image.label_axes]
    factor = level_factor(layer, image.label_shape)
    world = layer.data_to_world(np.asarray(data) * factor + (factor - 1) / 2)
    first = viewer.dims.ndim - layer.ndim
    for axis, letter in enumerate(image.label_axes):
        if letter in "tz":
            viewer.dims.set_point(first + axis, world[axis])


def level_factor(layer: Any, shape: tuple[int, ...]) -> Any:
    """Return how many pixels of a layer a pixel of labels covers, per axis.

    Parameters
    ----------
    layer : napari layer
        Of its levels the finest counts.
    shape : tuple of int
        Of labels for the layer, at any of its levels.
    """
    full = layer.data[0].shape if layer.multiscale else layer.data.shape
    full = full[: len(shape)] if getattr(layer, "rgb", False) else full
    if len(full) != len(shape):
        return np.ones(layer.ndim)
    return np.array([downsampling(n, m) for n, m in zip(full, shape, strict=True)])


def placement(layer: Any, shape: tuple[int, ...] | None = None) -> dict[str, Any]:
    """Return the arguments that place a layer exactly over an image layer.

    Parameters
    ----------
    layer : napari Image layer
        Below.
    shape : tuple of int, optional
        Of what is placed, if it may be of a coarser level. The centre of its first
        pixel lies half of its width from the corner of the image, so further in.
    """
    found = {name: np.array(getattr(layer, name)) for name in TRANSFORMS}
    factor = 1.0 if shape is None else level_factor(layer, shape)
    if np.any(np.asarray(factor) != 1):
        inner = Affine(**found, ndim=layer.ndim)
        found["translate"] = np.array(inner((factor - 1) / 2))
        found["scale"] = found["scale"] * factor
    found["affine"] = np.array(layer.affine.affine_matrix)
    found["units"] = layer.units
    found["axis_labels"] = layer.axis_labels
    return found


def colormap(colours: Mapping[int, Any]) -> Any:
    """Return the colours of label values for a labels layer; others are not drawn."""
    from napari.utils import DirectLabelColormap

    shown: dict[int | None, Any] = {None: "transparent", 0: "transparent"}
    for value, colour in colours.items():
        shown[value] = colour
    return DirectLabelColormap(color_dict=shown)


def class_features(classes: ClassTable, prediction: Prediction | None) -> Any:
    """Return a table of class, expected Dice and area, a row per label value."""
    import pandas as pd

    values = [0, *classes.names]
    scores = prediction.scores if prediction is not None else {}
    areas = _areas(prediction, values)
    return pd.DataFrame(
        {
            "index": values,
            "class": ["background", *classes.names.values()],
            "score": [scores.get(v, np.nan) for v in values],
            "area": areas,
        }
    )


def _areas(prediction: Prediction | None, values: list[int]) -> list[int]:
    if prediction is None:
        return [0 for _ in values]
    counts = np.zeros(max(values) + 1, np.int64)
    # Huge results lie on disk.
    for _, strip in strips(prediction.labels, STRIP):
        counts += np.bincount(strip.ravel(), minlength=len(counts))[: len(counts)]
    return [int(counts[v]) for v in values]


def add_painting_layer(viewer: ViewerModel, layer: Any, image: Image) -> Any:
    """Add an empty labels layer over an image, brush in hand.

    Returns
    -------
    napari Labels layer
    """
    data = np.zeros(image.label_shape, np.uint8)
    painted = viewer.add_labels(
        data, name=f"{layer.name} labels", metadata={KEY: {"role": "support"}}
    )
    for name, value in placement(layer, image.label_shape).items():
        setattr(painted, name, value)
    painted.brush_size = max(2, round(min(image.plane_shape) / 40))
    painted.selected_label = 1
    painted.mode = "paint"
    viewer.layers.selection.active = painted
    return painted
