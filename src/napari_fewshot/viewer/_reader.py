"""What napari does with a concept file that is opened or dropped on the viewer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from napari import current_viewer

from napari_fewshot.session import load_concept
from napari_fewshot.viewer._actions import open_dock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_fewshot.data import Support

# What a reader returns that has done its work without a layer.
NO_LAYERS: list[tuple[Any, ...]] = [(None,)]


def concept_reader(
    path: str | Sequence[str],
) -> Callable[[Any], list[tuple[Any, ...]]]:
    """Return the reader of concept files.

    Parameters
    ----------
    path : str or sequence of str
        Files that end in ``.fewshot``.
    """
    return read_concepts


def read_concepts(path: Any) -> list[tuple[Any, ...]]:
    """Load concept files into the dock of the viewer, opened if it was not.

    Parameters
    ----------
    path : path or sequence of path
        Concept files.

    Returns
    -------
    list of tuple
        No layers; where there is no window, an image and a labels layer per support.

    Raises
    ------
    DataError
        Without a window, if a file can't be used; in a window the dock tells.
    """
    paths = [path] if isinstance(path, (str, os.PathLike)) else list(path)
    viewer = current_viewer()
    if viewer is None or getattr(viewer, "window", None) is None:
        supports = [s for p in paths for s in load_concept(p).support]
        return [layer for support in supports for layer in support_layers(support)]
    dock = open_dock(viewer)
    dock.show_tab("supports")
    for name in paths:
        dock.support_panel.concepts.load(name)
    return NO_LAYERS


def support_layers(support: Support) -> list[tuple[Any, ...]]:
    """Return a support as an image and a labels layer, with the planes that teach.

    Parameters
    ----------
    support : Support
        Several planes become a stack (planes, rows, columns).
    """
    source, planes = support.source, support.used_planes
    pixels = np.stack([source.raw_plane(p) for p in planes])
    labels = np.stack([support.label_plane(p) for p in planes])
    is_rgb = source.n_channels == 3 and pixels.dtype == np.uint8
    if len(planes) == 1:
        pixels, labels = pixels[0], labels[0]
    options: dict[str, Any] = {"name": support.name or "support"}
    if source.pixel_size is not None:
        options["scale"] = (*(1.0,) * (labels.ndim - 2), *source.pixel_size)
    kind: dict[str, Any] = {"rgb": is_rgb}
    if source.channels and not is_rgb:
        kind = {"channel_axis": pixels.ndim - 1}
    return [
        (pixels, {**options, **kind}, "image"),
        (labels, {**options, "name": f"{options['name']} labels"}, "labels"),
    ]
