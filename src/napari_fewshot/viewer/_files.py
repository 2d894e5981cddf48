"""Commands that save a layer in one of our formats, open slides and projects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Labels as LabelsLayer
from napari.layers import Layer
from napari.utils.notifications import show_error, show_info, show_warning
from qtpy.QtWidgets import QFileDialog

from napari_fewshot.errors import FewShotError
from napari_fewshot.io import LABEL_SUFFIXES, SLIDES
from napari_fewshot.viewer._actions import open_dock
from napari_fewshot.viewer._reader import read_slide
from napari_fewshot.viewer._writer import write_labels

if TYPE_CHECKING:
    import napari

FILTERS = (
    "TIFF (*.tif *.tiff)",
    "OME-Zarr (*.ome.zarr)",
    "NIfTI (*.nii.gz *.nii)",
    "GeoJSON (*.geojson)",
    "COCO (*.coco.json)",
    "PNG (*.png)",
    "NumPy (*.npy)",
)


def save_selected(viewer: napari.viewer.Viewer) -> None:
    """Ask for a file and write the selected Labels layer there."""
    layer = viewer.layers.selection.active
    if not isinstance(layer, LabelsLayer):
        show_warning("Select the Labels layer to save first.")
        return
    path = ask_where(None, layer.name)
    if path is None:
        return
    data, meta, _ = layer.as_layer_data_tuple()
    try:
        write_labels(str(path), data, meta)
    except FewShotError as error:
        show_error(str(error))
    else:
        show_info(f"Saved {path.name}.")


def ask_where(parent: Any, name: str) -> Path | None:
    """Ask for a file of labels; None if the user thought better of it.

    Parameters
    ----------
    parent : QWidget, optional
        Over which the question appears.
    name : str
        What is offered.
    """
    found, chosen = QFileDialog.getSaveFileName(
        parent, "Save labels", name, ";;".join(FILTERS)
    )
    return Path(with_ending(found, chosen)) if found else None


def with_ending(name: str, chosen: str) -> str:
    """Return a file name with an ending: its own if known, else the filter's.

    Parameters
    ----------
    name : str
        As typed.
    chosen : str
        The filter, such as ``"GeoJSON (*.geojson)"``.
    """
    endings = chosen[chosen.find("(") + 1 : chosen.rfind(")")].replace("*", "").split()
    is_given = name.lower().endswith(LABEL_SUFFIXES)
    return name if is_given or not endings else name + endings[0]


def open_slide(viewer: napari.viewer.Viewer) -> None:
    """Ask for slides and show them with all their levels, read as they are seen."""
    endings = " ".join(f"*{e}" for e in (".tif", ".tiff", *SLIDES))
    names, _ = QFileDialog.getOpenFileNames(
        None, "Open slides", "", f"TIFF ({endings})"
    )
    for name in names:
        try:
            for data, options, kind in read_slide(name):
                viewer.add_layer(Layer.create(data, options, kind))
        except FewShotError as error:
            show_error(str(error))


def open_project(viewer: napari.viewer.Viewer) -> None:
    """Ask for a project folder and bring its supports and classes into the dock."""
    dock = open_dock(viewer)
    folder = QFileDialog.getExistingDirectory(dock, "Open a .fewshot-project folder")
    if folder:
        dock.show_tab("supports")
        dock.recover_bar.bring(Path(folder))
