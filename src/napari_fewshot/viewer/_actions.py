"""Functions behind the commands of the manifest: menus and the command palette."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.layers import Image as ImageLayer
from napari.layers import Labels as LabelsLayer
from napari.utils.notifications import show_error, show_warning

from napari_fewshot.errors import FewShotError
from napari_fewshot.viewer._layers import image_layers, matches, open_layer
from napari_fewshot.viewer._tracks import show_tracks as add_tracks

if TYPE_CHECKING:
    import napari

PLUGIN, WIDGET = "napari-fewshot", "Segment"


def few_shot(viewer: napari.viewer.Viewer) -> None:
    """Open the dock on its Supports tab."""
    open_dock(viewer).show_tab("supports")


def text(viewer: napari.viewer.Viewer) -> None:
    """Open the dock on its Text tab."""
    open_dock(viewer).show_tab("text")


def prompts(viewer: napari.viewer.Viewer) -> None:
    """Open the dock on its Prompts tab."""
    open_dock(viewer).show_tab("prompts")


def find_everything(viewer: napari.viewer.Viewer) -> None:
    """Find all objects on the plane that is shown."""
    dock = open_dock(viewer)
    dock.show_tab("prompts")
    dock.prompt_panel.find_everything()


def follow_objects(viewer: napari.viewer.Viewer) -> None:
    """Carry the committed objects over the other planes."""
    dock = open_dock(viewer)
    dock.show_tab("prompts")
    dock.prompt_panel.follow()


def use_as_support(viewer: napari.viewer.Viewer) -> None:
    """Use the selected Labels layer and its image as supports."""
    dock = open_dock(viewer)
    active = viewer.layers.selection.active
    if not isinstance(active, LabelsLayer):
        show_warning("Select the Labels layer with your masks first.")
        return
    fitting = [x for x in image_layers(viewer) if _fits(x, active)]
    if not fitting:
        show_warning(f"No image has the size of {active.name}. Open its image first.")
        return
    try:
        dock.binding.use_as_support(active, fitting[0])
    except FewShotError as error:
        show_error(str(error))


def _fits(layer: Any, labels: Any) -> bool:
    """Whether a labels layer is of an image layer, at some level of it."""
    try:
        return matches(open_layer(layer), labels)
    except FewShotError:
        return False


def segment_this(viewer: napari.viewer.Viewer) -> None:
    """Segment the selected image layer with the supports of the dock."""
    dock = open_dock(viewer)
    active = viewer.layers.selection.active
    if not isinstance(active, ImageLayer):
        show_warning("Select the image to segment first.")
        return
    dock.image_panel.refresh()
    dock.image_panel.choose(active)
    dock.image_panel.whole.setChecked(True)
    dock.run_panel.segment.emit()


def check_supports(viewer: napari.viewer.Viewer) -> None:
    """Say what to expect of the supports, before anything is segmented."""
    dock = open_dock(viewer)
    dock.show_tab("supports")
    dock.trust.bar.check.emit()


def show_how(viewer: napari.viewer.Viewer) -> None:
    """Show how the plane that is shown comes out, as layers."""
    open_dock(viewer).trust.how.show_how()


def load_concept(viewer: napari.viewer.Viewer) -> None:
    """Ask for a concept file and load it into the dock."""
    dock = open_dock(viewer)
    dock.show_tab("supports")
    dock.support_panel.concepts.ask_load()


def save_concept(viewer: napari.viewer.Viewer) -> None:
    """Save the supports of the dock as a concept file."""
    dock = open_dock(viewer)
    dock.show_tab("supports")
    dock.support_panel.concepts.ask_save()


def compare(viewer: napari.viewer.Viewer) -> Any:
    """Open the dock that compares methods and models; returns it."""
    open_dock(viewer)
    dock, widget = viewer.window.add_plugin_dock_widget(PLUGIN, "Compare", tabify=True)
    dock.show()
    dock.raise_()
    return widget


def measure_objects(viewer: napari.viewer.Viewer, layer: Any = None) -> Any:
    """Open the dock *Measure* and measure a Labels layer; returns the dock.

    Parameters
    ----------
    viewer : napari viewer
        Gets the dock; napari puts it below the canvas, as it is wide.
    layer : napari Labels layer, optional
        Default the selected one, else the latest result.
    """
    dock, widget = viewer.window.add_plugin_dock_widget(PLUGIN, "Measure")
    dock.show()
    dock.raise_()
    widget.begin(layer)
    return widget


def show_tracks(viewer: napari.viewer.Viewer) -> None:
    """Show the linked objects of the result as a Tracks layer."""
    try:
        add_tracks(open_dock(viewer).binding)
    except FewShotError as error:
        show_warning(str(error))


def models(viewer: napari.viewer.Viewer, name: str = "") -> Any:
    """Open the dock *Models*; returns it.

    Parameters
    ----------
    viewer : napari viewer
        Gets the dock.
    name : str
        Model that is selected there.
    """
    dock, widget = viewer.window.add_plugin_dock_widget(PLUGIN, "Models", tabify=True)
    dock.show()
    dock.raise_()
    if name:
        widget.table.select(name)
    return widget


def where_to_run(viewer: napari.viewer.Viewer) -> None:
    """Show where runs are computed: this computer or a cluster."""
    open_dock(viewer).where_panel.show_up()


def open_dock(viewer: napari.viewer.Viewer) -> Any:
    """Return the dock of a viewer, opened if it was not."""
    dock, widget = viewer.window.add_plugin_dock_widget(PLUGIN, WIDGET)
    dock.show()
    dock.raise_()
    return widget
