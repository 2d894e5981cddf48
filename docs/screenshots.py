"""Make the pictures of the documentation: dark and light, every state of the dock.

Run with ``make screenshots``, then look at every picture.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("NAPARI_FEWSHOT_HOME", tempfile.mkdtemp())

import napari
import numpy as np
from PIL import Image
from qtpy.QtWidgets import QApplication

OUT = Path(__file__).parent / "images"
SMALL, LARGE = (1280, 720), (1920, 1080)


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
    picture.quantize(192, dither=Image.Dither.NONE).save(OUT / name, optimize=True)
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
    plane = panel.layers.plane()
    labels = np.asarray(viewer.layers[1].data[plane])
    if not labels.any():
        plane = next(i for i, x in enumerate(viewer.layers[1].data) if np.any(x))
        dock._go_to(plane)
        labels = np.asarray(viewer.layers[1].data[plane])
    for number, place in enumerate(object_centres(labels)):
        if number:
            panel.next_object()
        points.add([plane, *place])
        until(lambda: panel._preview is not None)
    shoot(viewer, f"prompts-{theme}.png")
    close(viewer, dock)


def object_centres(labels: np.ndarray) -> list[np.ndarray]:
    """Middles of three objects of ordinary size: the largest are several that touch."""
    from skimage.measure import label, regionprops

    found = regionprops(label(labels > 0))
    usual = np.median([r.area for r in found])
    found = sorted(found, key=lambda r: abs(r.area - usual))[:3]
    return [np.array(r.coords[len(r.coords) // 2], float) for r in found]


def main() -> None:
    OUT.mkdir(exist_ok=True)
    for theme in ("dark", "light"):
        empty(theme)
        story(theme)
        prompts(theme)
    story("dark", LARGE, "-large")


if __name__ == "__main__":
    main()
