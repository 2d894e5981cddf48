"""What is measured in a viewer, and showing where an object of the table is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import strips
from napari_fewshot.errors import DataError
from napari_fewshot.io import fit_pair, open_image
from napari_fewshot.session import measure
from napari_fewshot.viewer._binding import class_names
from napari_fewshot.viewer._layers import (
    KEY,
    image_layers,
    level_factor,
    matches,
    open_layer,
    placement,
    role,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from napari.components import ViewerModel

    from napari_fewshot.data import Image, Prediction

AUTO, PIECES, NUMBERS, RUN = "auto", "pieces", "numbers", "run"
SAID = {
    PIECES: "connected pieces of each class",
    NUMBERS: "numbers of the layer",
    RUN: "objects of the run",
}
# Labels with more values than this hold object numbers, not classes.
MANY = 8
# Pixels that are read to tell the two apart.
LOOK = 1 << 26
ROLES = (None, "support", "result", "objects")
# An object is marked on so many planes, around its middle.
MARKED = 64
# Pixels on screen: of a box that is too small to be seen, of one that is well seen.
TINY, SEEN = 12, 96


def measurable(viewer: ViewerModel) -> list[Any]:
    """Return the Labels layers that can be measured, top first."""
    from napari.layers import Labels

    found = [x for x in reversed(viewer.layers) if isinstance(x, Labels)]
    return [x for x in found if role(x) in ROLES]


def image_of(viewer: ViewerModel, labels: Any) -> Any:
    """Return the image layer that labels belong to; None without.

    Parameters
    ----------
    viewer : napari viewer
        Whose layers.
    labels : napari Labels layer
        Of a run, or drawn.
    """
    images = image_layers(viewer)
    mark = labels.metadata.get(KEY, {})
    query = mark.get("query") if isinstance(mark, dict) else None
    named = [x for x in images if x.unique_id == query]
    return next((x for x in [*named, *images] if fits(x, labels)), None)


def fits(image: Any, labels: Any) -> bool:
    """Whether an image layer has the size of a labels layer, at some level."""
    try:
        return matches(open_layer(image), labels)
    except DataError:
        return False


@dataclass(frozen=True, eq=False)
class Wanted:
    """What is to be measured, without any layer: `table` may run in a thread.

    Attributes
    ----------
    name : str
        Of the layer.
    labels, image, instances
        Arrays; the image and the instances may be missing.
    scale : tuple of float, optional
        Pixel size, z, y, x.
    unit : str
        Of the scale; empty if unknown.
    axes : str, optional
        Of the labels.
    classes : dict of int to str
        Names, as far as they are known.
    how : str
        What an object is: ``"pieces"``, ``"numbers"``, ``"run"`` or ``"auto"``.
    """

    name: str
    labels: Any
    image: Image | None = None
    instances: Any = None
    scale: tuple[float, ...] | None = None
    unit: str = ""
    axes: str | None = None
    classes: Mapping[int, str] = field(default_factory=dict)
    how: str = AUTO

    def table(self) -> tuple[pd.DataFrame, str]:
        """Measure; returns the table and what an object is.

        Raises
        ------
        DataError
            If these are no labels.
        """
        how = self.how
        if how == AUTO:
            how = NUMBERS if has_many_values(self.labels) else PIECES
        instances = {NUMBERS: "labels", RUN: self.instances}.get(how)
        found = measure(
            self.labels,
            self.image,
            self.scale,
            # Object numbers have no classes.
            {} if how == NUMBERS else self.classes,
            instances,
            axes=self.axes,
        )
        return found, how


def gather(
    labels: Any,
    image: Any = None,
    how: str = AUTO,
    prediction: Prediction | None = None,
    *,
    is_edited: bool = False,
) -> Wanted:
    """Take what `Wanted` needs from layers.

    Parameters
    ----------
    labels : napari Labels layer
        What is measured; of several levels the finest that the image has, too.
    image : napari Image layer, optional
        For intensities, the pixel size and the axes.
    how : str
        What an object is; ``"auto"`` decides.
    prediction : Prediction, optional
        The result that the layer shows, with its object numbers.
    is_edited : bool
        Whether it was corrected since, so that its object numbers may not hold.

    Raises
    ------
    DataError
        If the image has another size, or its axes are not clear.
    """
    arrays = tuple(labels.data) if labels.multiscale else (labels.data,)
    array, opened = arrays[0], None
    if image is not None:
        opened, array = fit_pair(open_layer(image), arrays)
        if tuple(array.shape) != opened.label_shape:
            raise DataError(
                f"{image.name} has another size than {labels.name}. Choose the image "
                "that the labels were drawn on, or none."
            )
    about = opened if opened is not None else open_image(labels)
    # One all around is what napari takes where nothing is known; with a unit it is one.
    scale = about.scale or tuple(1.0 for a in about.label_axes if a != "t")
    is_known = any(size != 1 for size in scale) or bool(about.unit)
    found = getattr(prediction, "instances", None)
    instances = found if found is not None and found.shape == array.shape else None
    classes = class_names(labels) or {}
    if how == AUTO and role(labels) == "objects":
        how = NUMBERS
    elif how == AUTO and instances is not None and not is_edited:
        how = RUN
    elif how == AUTO and (classes or role(labels) == "result"):
        how = PIECES
    elif how == RUN and instances is None:
        raise DataError(f"{labels.name} has no objects of a run. Measure its pieces.")
    return Wanted(
        name=labels.name,
        labels=array,
        image=opened,
        instances=instances,
        scale=scale if is_known else None,
        unit=about.unit if is_known else "",
        axes=about.label_axes,
        classes=classes,
        how=how,
    )


def has_many_values(labels: Any) -> bool:
    """Whether labels look like object numbers: more values than classes have.

    Parameters
    ----------
    labels : array
        Read in strips until that is clear, and no further than a part of it.
    """
    seen, read = set[int](), 0
    for _, strip in strips(labels, LOOK // 16):
        seen.update(np.unique(strip).tolist())
        read += strip.size
        if len(seen - {0}) > MANY or read >= LOOK:
            return len(seen - {0}) > MANY
    return False


class Marker:
    """Goes to an object and draws a box around it, in a layer of its own.

    Parameters
    ----------
    viewer : napari viewer
        Which shows it.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._layer: Any = None

    def show(self, labels: Any, wanted: Wanted, row: Mapping[str, Any]) -> None:
        """Move the viewer to an object of a table.

        Parameters
        ----------
        labels : napari Labels layer
            That was measured.
        wanted : Wanted
            As it was measured.
        row : mapping
            Of the table.
        """
        shape = tuple(wanted.labels.shape)
        axes = wanted.axes or "tzyx"[-len(shape) :]
        names = {"t": "t", "z": "z", "y": "row", "x": "column"}
        middle = np.array([float(row[names[a]]) for a in axes])
        for at, letter in enumerate(axes):
            # Sliders stand on planes.
            middle[at] = round(middle[at]) if letter in "tz" else middle[at]
        self._go(labels, shape, middle)
        self._draw(labels, wanted, axes, row, middle)

    def remove(self) -> None:
        """Take the box away."""
        if self._layer is not None and self._layer in self._viewer.layers:
            self._viewer.layers.remove(self._layer)
        self._layer = None

    def _go(self, labels: Any, shape: tuple[int, ...], middle: Any) -> None:
        viewer = self._viewer
        factor = level_factor(labels, shape)
        world = np.asarray(labels.data_to_world(middle * factor + (factor - 1) / 2))
        first = viewer.dims.ndim - labels.ndim
        displayed = list(viewer.dims.displayed)
        for at, place in enumerate(world):
            if first + at not in displayed:
                viewer.dims.set_point(first + at, place)
        centre = np.array(viewer.scene.camera.center, float)
        for slot, axis in enumerate(displayed, start=len(centre) - len(displayed)):
            if axis >= first:
                centre[slot] = world[axis - first]
        viewer.scene.camera.center = tuple(centre)

    def _draw(
        self,
        labels: Any,
        wanted: Wanted,
        axes: str,
        row: Mapping[str, Any],
        middle: Any,
    ) -> None:
        viewer, camera = self._viewer, self._viewer.scene.camera
        low = [row["min_row"] - 0.5, row["min_column"] - 0.5]
        high = [row["max_row"] - 0.5, row["max_column"] - 0.5]
        place = placement(labels, tuple(wanted.labels.shape))
        pixel = float(np.mean(np.abs(place["scale"][-2:])))
        side = max(high[0] - low[0], high[1] - low[1]) * pixel
        if side * camera.zoom < TINY:
            camera.zoom = SEEN / side
        corners = np.array(
            [low, [low[0], high[1]], high, [high[0], low[1]]], dtype=float
        )
        boxes = []
        for lead in _leads(axes, row, middle):
            ahead = np.tile(np.asarray(lead, float), (4, 1))
            boxes.append(np.concatenate([ahead.reshape(4, -1), corners], axis=1))
        active = viewer.layers.selection.active
        self.remove()
        self._layer = viewer.add_shapes(
            boxes,
            shape_type="rectangle",
            name="measured object",
            edge_color="yellow",
            face_color="transparent",
            # Two pixels on screen.
            edge_width=2 / camera.zoom / pixel,
            metadata={KEY: {"role": "measured"}},
            **place,
        )
        self._layer.editable = False
        viewer.layers.selection.active = active


def _leads(axes: str, row: Mapping[str, Any], middle: Any) -> list[list[float]]:
    """Return the leading coordinates of the planes on which an object is marked."""
    lead = [a for a in axes if a in "tz"]
    if "z" not in lead:
        return [[float(middle[axes.index(a)]) for a in lead]]
    z = float(middle[axes.index("z")])
    first = max(int(row["min_z"]), int(z) - MARKED // 2)
    last = min(int(row["max_z"]), first + MARKED)
    found = []
    for plane in range(first, last):
        there = {"z": float(plane), "t": float(row.get("t", 0))}
        found.append([there[a] for a in lead])
    return found
