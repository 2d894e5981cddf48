"""What napari does with our files that are opened or dropped on the viewer.

A reader that is asked for a file it does not know answers None at once: napari asks
for every folder that is opened.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari import current_viewer

from napari_fewshot.io import Opened, is_store, open_path, read_labels
from napari_fewshot.session import load_concept
from napari_fewshot.viewer._actions import open_dock
from napari_fewshot.viewer._file_layers import LayerData, image_layer, labels_layer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_fewshot.data import Support

PROJECT = ".fewshot-project"
# Words in the name of a NIfTI file that holds labels.
LABEL_WORDS = ("label", "labels", "seg", "segmentation", "mask", "annotation")
# The intent code of NIfTI labels.
INTENT_LABEL = 1002
# Whole numbers of so few kinds are labels.
FEW_VALUES = 16
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
    # What nobody knows is shown as not painted.
    labels = np.stack([support.label_plane(p).clip(min=0) for p in planes])
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


def folder_reader(path: Any) -> Callable[[Any], list[LayerData]] | None:
    """Return the reader of project folders and OME-Zarr images; None for others.

    Parameters
    ----------
    path : str or sequence of str
        Folders.
    """
    folder = Path(first_of(path))
    if folder.name.endswith(PROJECT):
        return read_project if (folder / "project.json").is_file() else None
    if not is_store(folder) or not is_ome(folder):
        return None
    return read_ome


def is_ome(folder: Path) -> bool:
    """Return whether a folder says of itself that it is an OME-Zarr image."""
    for name in ("zarr.json", ".zattrs"):
        try:
            with (folder / name).open(encoding="utf-8") as file:
                if '"multiscales"' in file.read(1 << 20):
                    return True
        except (OSError, ValueError):
            continue
    return False


def read_project(path: Any) -> list[tuple[Any, ...]]:
    """Load a project folder into the dock of the viewer, opened if it was not.

    Without a window its supports become an image and a labels layer each.
    """
    from napari_fewshot.session import Session

    folder = Path(first_of(path))
    viewer = current_viewer()
    if viewer is None or getattr(viewer, "window", None) is None:
        session = Session.load(folder, autosave=False)
        supports = [row.support for row in session.state.supports]
        session.close()
        return [layer for support in supports for layer in support_layers(support)]
    dock = open_dock(viewer)
    dock.show_tab("supports")
    dock.recover_bar.bring(folder)
    return NO_LAYERS


def read_ome(path: Any) -> list[LayerData]:
    """Return the layers of an OME-Zarr image or label image.

    Raises
    ------
    DataError
        If its metadata or its chunks are damaged.
    """
    import zarr

    from napari_fewshot.io import is_label_image, label_names

    found = []
    for name in all_of(path):
        group = zarr.open_group(name, mode="r")
        if is_label_image(group):
            found.append(labels_layer(read_labels(name), name))
            continue
        found.append(image_layer(open_path(name), name))
        for inner in label_names(Path(name)):
            place = Path(name) / "labels" / inner
            found.append(labels_layer(read_labels(place), place))
    return found


def nifti_reader(path: Any) -> Callable[[Any], list[LayerData]] | None:
    """Return the reader of NIfTI images and labels; None if a file is missing."""
    return read_nifti if all(Path(p).is_file() for p in all_of(path)) else None


def read_nifti(path: Any) -> list[LayerData]:
    """Return NIfTI files as image or labels layers that lie where their affine says.

    Labels are what its header calls labels, what has such a name, or whole numbers of
    few kinds.

    Raises
    ------
    DataError
        If a file is damaged.
    """
    found = []
    for name in all_of(path):
        opened = open_path(name)
        layer = labels_layer if holds_labels(opened, Path(name)) else image_layer
        found.append(layer(opened, name))
    return found


def holds_labels(opened: Opened, path: Path) -> bool:
    """Return whether a NIfTI file holds labels and no image."""
    import nibabel

    array: Any = opened.array
    if opened.classes:
        return True
    header: Any = nibabel.load(path).header
    if int(header["intent_code"]) == INTENT_LABEL:
        return True
    if np.dtype(array.dtype).kind not in "ui":
        return False
    words = re.split(r"[^a-z]+", path.name.lower())
    if set(words) & set(LABEL_WORDS):
        return True
    middle = np.asarray(array[array.shape[0] // 2])
    return len(np.unique(middle)) <= FEW_VALUES and int(middle.min()) == 0


def slide_reader(path: Any) -> Callable[[Any], list[LayerData]] | None:
    """Return the reader of slides (TIFF with levels); None if a file is missing."""
    return read_slide if all(Path(p).is_file() for p in all_of(path)) else None


def read_slide(path: Any) -> list[LayerData]:
    """Return slides as image layers of all their levels; nothing is read yet.

    A file with class names, as we write them, becomes a labels layer.

    Raises
    ------
    DataError
        If a file is damaged, or its compression takes a package that is not there.
    """
    found = []
    for name in all_of(path):
        opened = open_path(name)
        layer = labels_layer if opened.classes else image_layer
        found.append(layer(opened, name))
    return found


def outline_reader(path: Any) -> Callable[[Any], list[LayerData]] | None:
    """Return the reader of GeoJSON and COCO files; None if a file is missing."""
    return read_outlines if all(Path(p).is_file() for p in all_of(path)) else None


def read_outlines(path: Any) -> list[LayerData]:
    """Return outlines as labels layers.

    Raises
    ------
    DataError
        If a file holds none.
    """
    return [labels_layer(read_labels(name), name) for name in all_of(path)]


def all_of(path: Any) -> list[str]:
    """Return the paths that a reader is asked for."""
    given = [path] if isinstance(path, (str, os.PathLike)) else list(path)
    return [os.fspath(p) for p in given]


def first_of(path: Any) -> str:
    """Return the first path that a reader is asked for; empty without one."""
    return next(iter(all_of(path)), "")
