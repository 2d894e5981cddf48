"""Gaps in the GUI event loop: how long the window is deaf while a job runs.

A 10 ms timer runs in a real napari window (1) idle, (2) while the same layer updates
are made without a job, (3) while the worker process segments a stack. Prints the 99th
percentile and the maximum of each, and what the job adds to the layer updates.

    python benchmarks/gui_gaps.py          # needs a display, or xvfb-run
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("NAPARI_FEWSHOT_HOME", tempfile.mkdtemp())

import napari
import numpy as np
from qtpy.QtCore import QEventLoop, QTimer
from scipy import ndimage

INTERVAL_MS = 10
PLANES, SIDE = 60, 512


class Gaps:
    """Times between the ticks of a timer, in milliseconds."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self._timer = QTimer()
        self._timer.setInterval(INTERVAL_MS)
        self._timer.timeout.connect(self._tick)
        self._last = time.perf_counter()

    def _tick(self) -> None:
        now = time.perf_counter()
        self.values.append(1000 * (now - self._last))
        self._last = now

    def run(self, is_done) -> dict[str, float]:
        loop, check = QEventLoop(), QTimer()
        check.timeout.connect(lambda: loop.quit() if is_done() else None)
        self.values.clear()
        self._last = time.perf_counter()
        self._timer.start()
        check.start(50)
        loop.exec()
        check.stop()
        self._timer.stop()
        values = np.array(self.values)
        return {
            "p99_ms": round(float(np.percentile(values, 99)), 1),
            "max_ms": round(float(values.max()), 1),
            "seconds": round(float(values.sum() / 1000), 1),
        }


def after(seconds: float):
    end = time.perf_counter() + seconds
    return lambda: time.perf_counter() > end


def make_stack() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((PLANES, SIDE, SIDE)).astype(np.float32)
    field = ndimage.gaussian_filter(noise, (0, 8, 8))
    labels = np.zeros(field.shape, np.uint8)
    labels[0] = field[0] > 0.02
    return (field + 0.02 * noise).astype(np.float32), labels


def updates_only(viewer, dock, images, seconds: float):
    """Write planes into a layer of the same size, as a run would, without computing."""
    layer = viewer.add_labels(np.zeros(images.shape, np.int32), name="updates")
    gaps, timer, plane = Gaps(), QTimer(), [0]
    written = (images[0] > 0).astype(np.int32)

    def update() -> None:
        layer.data[plane[0] % PLANES] = written
        plane[0] += 1
        layer.refresh()

    timer.timeout.connect(update)
    timer.start(100)
    result = gaps.run(after(seconds))
    timer.stop()
    viewer.layers.remove(layer)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--method", default="pixel")
    options = parser.parse_args()
    images, labels = make_stack()
    viewer = napari.Viewer()
    viewer.add_image(images, name="stack")
    viewer.add_labels(labels, name="masks")
    viewer.layers.selection.active = viewer.layers[0]
    _, dock = viewer.window.add_plugin_dock_widget("napari-fewshot", "Segment")
    dock.session.set_method(options.method)
    Gaps().run(after(3))
    table = {"idle": Gaps().run(after(5))}
    # A first run warms the worker and makes the result layer.
    dock.binding.start([0])
    Gaps().run(lambda: not dock.session.is_running)
    table["updates"] = updates_only(viewer, dock, images, 10)
    dock.binding.start()
    table["job"] = Gaps().run(lambda: not dock.session.is_running)
    table["added"] = {
        key: round(table["job"][key] - table["updates"][key], 1)
        for key in ("p99_ms", "max_ms")
    }
    for name, row in table.items():
        print(f"{name:8s}", row)
    if options.json:
        options.json.write_text(json.dumps(table, indent=1))
    dock.shut_down()
    viewer.close()


if __name__ == "__main__":
    main()
