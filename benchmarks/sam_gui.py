"""SAM ViT-B in a real window: clicks, gaps in the event loop, a stack of planes.

Random weights in the published layout, 1024 pixels, the worker process. Prints

* from a click to the painted outline, the decoder's own time, and the difference;
* gaps of a 10 ms timer (99th percentile and maximum): idle, while a plane is encoded,
  while objects are carried over the planes, and what is added to idle;
* the share of the encoder in carrying an object over a stack, and the worker's memory.

    python benchmarks/sam_gui.py [--planes 12]      # needs a display, or xvfb-run
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import napari
import numpy as np
import psutil
from gui_gaps import Gaps, after
from sam import written

import napari_fewshot as nf
from napari_fewshot.data import Image

SIDE, CLICKS = 512, 12


def pictures(planes: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 255, (planes, SIDE, SIDE), dtype=np.uint8)


def wait(condition) -> None:
    Gaps().run(condition)


def click_times(dock) -> list[float]:
    """Milliseconds from adding a point to its outline in the preview layer."""
    panel, found = dock.prompt_panel, []
    points = panel.layers.layer("points")
    rng = np.random.default_rng(1)
    for _ in range(CLICKS):
        panel.discard()
        arrived: list[float] = []
        outline = panel.layers.layer("preview")
        begin = time.perf_counter()

        def note(_: object = None, arrived: list[float] = arrived) -> None:
            arrived.append(time.perf_counter())

        outline.events.set_data.connect(note)
        points.add([panel.layers.plane(), *rng.uniform(50, SIDE - 50, 2)])
        wait(lambda: panel._preview is not None)
        outline.events.set_data.disconnect(note)
        found.append(1000 * (arrived[-1] - begin))
    return found


def decoder_time(path: Path, plane: np.ndarray) -> float:
    """Milliseconds of `predict` for one click, in this process."""
    model = nf.load_model("sam/vit_b", str(path))
    embedding = model.encode(Image.from_array(plane).plane(0))
    times = []
    for number in range(CLICKS):
        begin = time.perf_counter()
        model.predict(embedding, points=[(100 + 10 * number, 200)])
        times.append(1000 * (time.perf_counter() - begin))
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--planes", type=int, default=12)
    options = parser.parse_args()
    path = written(Path(tempfile.mkdtemp()))
    images = pictures(options.planes)
    viewer = napari.Viewer()
    viewer.add_image(images, name="stack")
    viewer.dims.set_point(0, 0)
    _, dock = viewer.window.add_plugin_dock_widget("napari-fewshot", "Segment")
    session = dock.session
    wait(after(3))
    idle = Gaps().run(after(5))
    print("idle       ", idle)
    session.set_method(model="sam/vit_b", checkpoint=path)
    dock.show_tab("prompts")
    # The layers of prompts are made now; they are not what encoding costs.
    wait(after(1))
    encoding = Gaps().run(lambda: not session._previewer.is_busy)
    print("encoding   ", encoding, added(encoding, idle))
    clicks = click_times(dock)
    mask = np.zeros((SIDE, SIDE), bool)
    mask[200:300, 200:300] = True
    dock.prompt_panel.discard()
    session.commit(mask, plane=0)
    spent: list[float] = []
    session.progressed.connect(lambda _: spent.append(memory(session)))
    session.propagate(mode="interpolate" if options.planes < 2 else "box", wait=False)
    carrying = Gaps().run(lambda: not session.is_running)
    print("propagating", carrying, added(carrying, idle))
    if spent:
        half = len(spent) // 2
        print(
            f"worker's memory: {max(spent[:half] or spent):.0f} MB at most in the "
            f"first half, {max(spent[half:]):.0f} MB in the second"
        )
    dock.shut_down()
    viewer.close()
    alone = decoder_time(path, images[0])
    middle = statistics.median(clicks)
    print(
        f"click to outline {middle:.0f} ms, decoder {alone:.0f} ms, "
        f"added {middle - alone:.0f} ms"
    )


def added(job: dict[str, float], idle: dict[str, float]) -> str:
    p99, most = (job[k] - idle[k] for k in ("p99_ms", "max_ms"))
    return f"added: p99 {p99:+.1f} ms, max {most:+.1f} ms"


def memory(session) -> float:
    pid = session._executor.pid
    return psutil.Process(pid).memory_info().rss / 2**20 if pid else 0.0


if __name__ == "__main__":
    main()
