"""Make the pictures of the documentation: dark and light, every state of the dock.

Run with ``make screenshots``, then look at every picture. Names after
``python docs/screenshots.py`` make only these: ``empty``, ``story``, ``prompts``,
``sam``, ``objects``, ``models``, ``compare``, ``measure``, ``trust``, ``show_how``,
``text``, ``large``.
"""

from __future__ import annotations

import functools
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("NAPARI_FEWSHOT_HOME", tempfile.mkdtemp())

import napari
import numpy as np
from PIL import Image
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QScrollArea

OUT = Path(__file__).parent / "images"
SMALL, LARGE = (1280, 720), (1920, 1080)
# Pixels from the rim within which no object is clicked on.
MARGIN = 20


def settle(seconds: float = 0.4) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)


def until(condition) -> None:
    while not condition():
        QApplication.processEvents()
        time.sleep(0.01)


def shoot(viewer, name: str) -> None:
    settle()
    pixels = viewer.window.screenshot(canvas_only=False, flash=False)
    picture = Image.fromarray(np.asarray(pixels)[..., :3])
    # Grey images must not take the few pixels of colour with them.
    picture = picture.quantize(
        256, method=Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE
    )
    picture.save(OUT / name, optimize=True)
    print(name, picture.size)


def open_window(theme: str, size=SMALL):
    viewer = napari.Viewer()
    viewer.theme = theme
    viewer.window.resize(*size)
    return viewer


def open_dock(viewer):
    _, dock = viewer.window.add_plugin_dock_widget("napari-fewshot", "Segment")
    dock.recover_bar.hide()
    return dock


def close(viewer, dock) -> None:
    dock.shut_down()
    viewer.close()
    settle(0.1)


def empty(theme: str) -> None:
    viewer = open_window(theme)
    dock = open_dock(viewer)
    viewer.open_sample("napari-fewshot", "lungs")
    del viewer.layers[1]
    settle()
    shoot(viewer, f"empty-{theme}.png")
    close(viewer, dock)


def story(theme: str, size=SMALL, suffix: str = "") -> None:
    viewer = open_window(theme, size)
    viewer.open_sample("napari-fewshot", "lungs")
    viewer.layers.selection.active = viewer.layers[0]
    dock = open_dock(viewer)
    shoot(viewer, f"filled-{theme}{suffix}.png")
    dock.run_panel.segment_button.click()
    until(lambda: dock.binding.result_layer is not None)
    shoot(viewer, f"running-{theme}{suffix}.png")
    until(lambda: not dock.session.is_running)
    viewer.layers[1].visible = False
    viewer.layers.selection.active = viewer.layers[-1]
    dock.results_panel.go_to.emit(4)
    shoot(viewer, f"results-{theme}{suffix}.png")
    dock.how_panel.change.click()
    shoot(viewer, f"how-{theme}{suffix}.png")
    dock.how_panel.change.click()
    viewer.add_labels(np.ones((64, 64), int), name="another image's mask")
    viewer.layers.selection.active = viewer.layers[-1]
    dock.support_panel.layers_button.click()
    shoot(viewer, f"error-{theme}{suffix}.png")
    close(viewer, dock)


def prompts(theme: str) -> None:
    viewer = open_window(theme)
    viewer.open_sample("napari-fewshot", "nuclei_fluo")
    viewer.layers[1].visible = False
    viewer.layers.selection.active = viewer.layers[0]
    dock = open_dock(viewer)
    dock.show_tab("prompts")
    panel = dock.prompt_panel
    panel.helped.setChecked(False)
    settle()
    points = panel.layers.layer("points")
    plane = annotated_plane(viewer)
    dock._go_to(plane)
    labels = np.asarray(viewer.layers[1].data[plane])
    for number, place in enumerate(object_centres(labels)):
        if number:
            panel.next_object()
        points.add([plane, *place])
        until(lambda: panel._preview is not None)
    shoot(viewer, f"prompts-{theme}.png")
    close(viewer, dock)


@functools.cache
def install_stand_in() -> None:
    """Install weights in the place of SAM's, see `stand_in_sam`."""
    from stand_in_sam import written

    from napari_fewshot.io import import_weights

    import_weights(written(Path(tempfile.mkdtemp())), "sam/vit_b")


def sam(theme: str) -> None:
    """A SAM model, one click, and the second of the masks that it may mean."""
    install_stand_in()
    viewer = open_window(theme)
    viewer.open_sample("napari-fewshot", "lungs")
    viewer.layers[1].visible = False
    viewer.layers.selection.active = viewer.layers[0]
    dock = open_dock(viewer)
    dock.session.set_method(model="sam/vit_b")
    dock.show_tab("prompts")
    panel = dock.prompt_panel
    plane = annotated_plane(viewer)
    dock._go_to(plane)
    place = object_centres(np.asarray(viewer.layers[1].data[plane]))[0]
    panel.layers.layer("points").add([plane, *place])
    until(lambda: panel._preview is not None)
    panel.next_candidate()
    shoot(viewer, f"sam-{theme}.png")
    close(viewer, dock)


def objects(theme: str) -> None:
    """Objects made click by click, shown as a map in which each has its number."""
    viewer = open_window(theme)
    viewer.open_sample("napari-fewshot", "nuclei_fluo")
    viewer.layers[1].visible = False
    viewer.layers.selection.active = viewer.layers[0]
    dock = open_dock(viewer)
    plane = annotated_plane(viewer)
    dock._go_to(plane)
    dock.show_tab("prompts")
    panel = dock.prompt_panel
    panel.helped.setChecked(False)
    for place in object_centres(np.asarray(viewer.layers[1].data[plane]), 12):
        panel.layers.layer("points").add([plane, *place])
        until(lambda: panel._preview is not None)
        panel.next_object()
    panel.view.setCurrentIndex(panel.view.findData("objects"))
    panel.object_layers.choose("objects")
    dock.binding.result_layer.visible = False
    settle()
    dock.findChild(QScrollArea).ensureWidgetVisible(panel.everything)
    shoot(viewer, f"objects-{theme}.png")
    close(viewer, dock)


def models(theme: str) -> None:
    """The dock *Models* with one installed model and another one selected."""
    install_stand_in()
    viewer = open_window(theme)
    viewer.open_sample("napari-fewshot", "lungs")
    _, dock = viewer.window.add_plugin_dock_widget("napari-fewshot", "Models")
    dock.table.select("sam/vit_l")
    shoot(viewer, f"models-{theme}.png")
    viewer.close()
    settle(0.1)


def compare(theme: str) -> None:
    """The dock *Compare*: before, side by side, and over the image."""
    from napari_fewshot.viewer._actions import compare as open_compare

    viewer = open_window(theme)
    viewer.open_sample("napari-fewshot", "lungs")
    viewer.layers[1].visible = False
    viewer.layers.selection.active = viewer.layers[0]
    dock = open_dock(viewer)
    dock._go_to(4)
    panel = open_compare(viewer)
    shoot(viewer, f"compare-empty-{theme}.png")
    panel.choices.methods.check(["pixel", "template", "prototype"])
    panel.run_panel.segment_button.click()
    until(lambda: not dock.session.is_running)
    panel.go_button.click()
    shoot(viewer, f"compare-{theme}.png")
    panel.beside.setChecked(False)
    shoot(viewer, f"compare-over-{theme}.png")
    panel.clear()
    close(viewer, dock)


def measure(theme: str) -> None:
    """The objects of a result in a table, largest first; one of them is marked."""
    viewer = open_window(theme, (1280, 860))
    viewer.open_sample("napari-fewshot", "nuclei_fluo")
    viewer.layers[0].scale = viewer.layers[1].scale = (1, 0.5, 0.5)
    viewer.layers[0].units = viewer.layers[1].units = ("pixel", "um", "um")
    viewer.layers[1].visible = False
    viewer.layers.selection.active = viewer.layers[0]
    dock = open_dock(viewer)
    dock.session.set_method("pixel", params={"leave_one_out": False})
    dock.image_panel.some.setChecked(True)
    dock.image_panel.range.setText("0-3")
    dock.run_panel.segment_button.click()
    until(lambda: not dock.session.is_running)
    viewer.reset_view()
    dock.results_panel.measure_button.click()
    docked = viewer.window.dock_widgets.values()
    panel = next(w for w in docked if hasattr(w, "save_button") and hasattr(w, "table"))
    until(lambda: panel.table.model() is not None)
    panel.table.sortByColumn(
        panel.table.model().columns.index("area"), Qt.SortOrder.DescendingOrder
    )
    settle()
    panel.table.selectRow(2)
    bottom = dock.results_panel.tracks_button
    dock.findChild(QScrollArea).ensureWidgetVisible(bottom)
    shoot(viewer, f"measure-{theme}.png")
    close(viewer, dock)


def trust(theme: str) -> None:
    """Supports that were checked: one disagrees, one teaches nothing new; results."""
    viewer = open_window(theme, (1280, 860))
    viewer.open_sample("napari-fewshot", "nuclei_he")
    strange = np.asarray(viewer.layers[0].data[0])[:256, :256, 1]
    viewer.layers.clear()
    viewer.open_sample("napari-fewshot", "nuclei_fluo")
    # One plane of the stack was stained otherwise.
    mixed = np.array(viewer.layers[0].data)
    mixed[5] = (strange / strange.max() * mixed.max()).astype(mixed.dtype)
    viewer.layers[0].data = mixed
    viewer.layers[1].visible = False
    viewer.layers.selection.active = viewer.layers[0]
    dock = open_dock(viewer)
    session = dock.session
    session.set_method("matcher", "filters")
    first = annotated_plane(viewer)
    image = np.asarray(viewer.layers[0].data[first])
    mask = np.asarray(viewer.layers[1].data[first]) > 0
    names = {"classes": {1: "nucleus"}, "scale": (0.5, 0.5)}
    session.add_support(image, mask, name="well A1.tif", **names)
    session.add_support(image[::-1], mask, name="well B7.tif", **names)
    dock.trust.bar.button.click()
    until(lambda: not session.is_running)
    settle()
    scroll = dock.findChild(QScrollArea)
    scroll.ensureWidgetVisible(dock.trust.bar)
    dock.support_panel.list.scrollToBottom()
    shoot(viewer, f"trust-{theme}.png")
    session.remove_support(session.state.supports[-1].key)
    session.remove_support(session.state.supports[-1].key)
    dock.run_panel.segment_button.click()
    until(lambda: not session.is_running)
    settle()
    scroll.verticalScrollBar().setValue(scroll.verticalScrollBar().maximum())
    dock._go_to(5)
    shoot(viewer, f"trust-results-{theme}.png")
    close(viewer, dock)


def show_how(theme: str) -> None:
    """How a plane comes out: similarity, and the points that the method made."""
    viewer = open_window(theme, (1280, 860))
    viewer.open_sample("napari-fewshot", "nuclei_fluo")
    viewer.layers[1].visible = False
    viewer.layers.selection.active = viewer.layers[0]
    dock = open_dock(viewer)
    dock.session.set_method("matcher", "filters", params={"leave_one_out": False})
    dock._go_to(annotated_plane(viewer) + 1)
    scroll = dock.findChild(QScrollArea)
    for button, name in (("show", "show-how"), ("unsure", "uncertainty")):
        getattr(dock.trust.how, f"{button}_button").click()
        until(lambda: not dock.session.is_running)
        settle()
        scroll.ensureWidgetVisible(dock.trust.how)
        shoot(viewer, f"{name}-{theme}.png")
    close(viewer, dock)


@functools.cache
def tiny_clip_folder() -> Path:
    """The tiny CLIP of the tests: it knows cells, rings, squares and their looks."""
    sys.path.insert(0, str(OUT.parents[1]))
    from tests import tiny_clip

    return tiny_clip.write(Path(tempfile.mkdtemp()) / "tiny-clip")


def text(theme: str) -> None:
    """Words: before, where they fit, another threshold, masks; what is not known."""
    folder = tiny_clip_folder()
    from tests import tiny_clip

    viewer = open_window(theme, (1280, 860))
    pixels = tiny_clip.scene(7).image
    viewer.add_image((255 * pixels).round().astype(np.uint8), name="scene", rgb=True)
    dock = open_dock(viewer)
    dock.show_tab("text")
    settle(2)
    shoot(viewer, f"text-empty-{theme}.png")
    session, panel = dock.session, dock.text.panel
    session.set_text(
        {1: "green box", 2: "blue curve"},
        checkpoint=folder,
        params={"decoder": "map"},
    )
    ask_where(dock)
    shoot(viewer, f"text-{theme}.png")
    panel.heat.slider.setValue(90)
    settle(1)
    panel.heat.hide_button.click()
    dock.run_panel.segment_button.click()
    until(lambda: not session.is_running)
    shoot(viewer, f"text-results-{theme}.png")
    panel.reading.change.click()
    settle(1)
    dock.findChild(QScrollArea).ensureWidgetVisible(panel.reading)
    shoot(viewer, f"text-change-{theme}.png")
    close(viewer, dock)
    viewer = open_window(theme, (1280, 860))
    viewer.add_image((255 * pixels).round().astype(np.uint8), name="scene", rgb=True)
    dock = open_dock(viewer)
    dock.show_tab("text")
    dock.session.set_text({1: "gallbladder"}, checkpoint=folder)
    ask_where(dock)
    shoot(viewer, f"text-unknown-{theme}.png")
    close(viewer, dock)


def ask_where(dock) -> None:
    """Press Show where, and wait for the map and the check."""
    heat = dock.text.panel.heat
    heat.show_button.click()
    until(lambda: not (dock.session.is_running or heat._wants_check))
    settle(1)


def annotated_plane(viewer) -> int:
    """First plane of the sample that has labels."""
    return next(i for i, x in enumerate(viewer.layers[1].data) if np.any(x))


def object_centres(labels: np.ndarray, count: int = 3) -> list[np.ndarray]:
    """Middles of whole objects of ordinary size: the largest are several that touch."""
    from skimage.measure import label, regionprops

    found = regionprops(label(labels > 0))
    usual = np.median([r.area for r in found])
    high, wide = np.array(labels.shape) - MARGIN
    found = [
        r
        for r in found
        if MARGIN < r.centroid[0] < high and MARGIN < r.centroid[1] < wide
    ]
    found = sorted(found, key=lambda r: abs(r.area - usual))[:count]
    return [np.array(r.coords[len(r.coords) // 2], float) for r in found]


PICTURES = {
    "empty": empty,
    "story": story,
    "prompts": prompts,
    "sam": sam,
    "objects": objects,
    "models": models,
    "compare": compare,
    "measure": measure,
    "trust": trust,
    "show_how": show_how,
    "text": text,
}


def main() -> None:
    OUT.mkdir(exist_ok=True)
    wanted = sys.argv[1:] or [*PICTURES, "large"]
    for theme in ("dark", "light"):
        for name, draw in PICTURES.items():
            if name in wanted:
                draw(theme)
    if "large" in wanted:
        story("dark", LARGE, "-large")


if __name__ == "__main__":
    main()
