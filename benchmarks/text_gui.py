"""The threshold slider of the Text tab: from its move to the repainted outline.

A real napari window with an image of 1024 x 1024 pixels and a heat map as large. The
slider moves by one step; the time ends when the canvas has drawn. Prints the median,
the 95th percentile and the maximum of many moves: of the call alone, and with the
painting of the window. No model takes part: there is none.

    python benchmarks/text_gui.py [--side 1024] [--moves 60]    # a display, or xvfb-run
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time

os.environ.setdefault("NAPARI_FEWSHOT_HOME", tempfile.mkdtemp())

import napari
import numpy as np
from gui_gaps import Gaps, after
from qtpy.QtWidgets import QApplication
from scipy import ndimage

from napari_fewshot.data import TextPrompt
from napari_fewshot.inference import Evidence


def smooth(side: int) -> np.ndarray:
    """Some thirty rounded parts, in [0, 1]."""
    noise = np.random.default_rng(0).standard_normal((side, side))
    field = ndimage.gaussian_filter(noise, side / 25)
    return (1 / (1 + np.exp(-2 * field / field.std()))).astype(np.float32)


def said(times: list[float]) -> str:
    values = 1000 * np.array(times)
    return (
        f"median {np.median(values):.1f} ms, 95 % {np.percentile(values, 95):.1f} ms, "
        f"maximum {values.max():.1f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--moves", type=int, default=60)
    options = parser.parse_args()
    heat = smooth(options.side)
    viewer = napari.Viewer()
    viewer.window.resize(1280, 860)
    viewer.add_image((255 * heat).astype(np.uint8), name="image")
    _, dock = viewer.window.add_plugin_dock_widget("napari-fewshot", "Segment")
    dock.show_tab("text")
    panel = dock.text.panel
    dock.binding.set_query(viewer.layers["image"])
    dock.session.set_text({1: TextPrompt("parts")})
    # As if the worker had answered.
    panel.heat._asked = (_read_as(dock), 0.5)
    panel.heat._on_shown(0, {1: Evidence({"heat map": heat})})
    panel.heat._wants_check = False
    Gaps().run(after(3))
    jobs: list[object] = []
    dock.session.progressed.connect(jobs.append)
    canvas = viewer.window._qt_viewer.canvas
    painted: list[float] = []
    canvas._scene_canvas.events.draw.connect(
        lambda _: painted.append(time.perf_counter())
    )
    calls, whole, processor = [], [], []
    steps = np.r_[20:80:1, 80:20:-1]
    panel.heat.slider.setSliderDown(True)
    for number in range(options.moves):
        painted.clear()
        begin, spent = time.perf_counter(), time.process_time()
        panel.heat.slider.setValue(int(steps[number % len(steps)]))
        calls.append(time.perf_counter() - begin)
        while not painted:
            QApplication.processEvents()
        whole.append(painted[-1] - begin)
        processor.append(time.process_time() - spent)
    panel.heat.slider.setSliderDown(False)
    size = f"{options.side} x {options.side}"
    print(f"{size}, {options.moves} moves, {len(jobs)} jobs of a model")
    print("slider to new outline:    ", said(calls))
    print("slider to repainted canvas:", said(whole))
    # What a busy machine does not change.
    print("processor time of the same:", said(processor))
    dock.shut_down()
    viewer.close()


def _read_as(dock) -> object:
    from napari_fewshot.widgets._text_heat import _read_as as read_as

    return read_as(dock.session.state)


if __name__ == "__main__":
    main()
