"""The main job on sample images, in a real window: ``python -m ...viewer.demo``.

With a display the window stays open. Headless it writes labels, pictures and figures
into a folder and closes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from napari_fewshot.errors import FewShotError
from napari_fewshot.evaluation import evaluate
from napari_fewshot.io import atomic_write, save_labels, write_text
from napari_fewshot.sample_data import NAMES, SampleData, load_sample

SETTLE_MS = 400


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; returns the exit code.

    Parameters
    ----------
    arguments : list of str, optional
        Default: those of the process.
    """
    parser = argparse.ArgumentParser(prog="napari-fewshot demo", description=__doc__)
    parser.add_argument("--headless", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("demo-output"))
    parser.add_argument("--sample", choices=NAMES, default=NAMES[0])
    options = parser.parse_args(arguments)
    is_headless = options.headless or bool(
        os.environ.get("NAPARI_FEWSHOT_VIRTUAL_DISPLAY")
    )
    try:
        run_demo(options.sample, options.out, is_headless=is_headless)
    except FewShotError as error:
        print(f"The demo failed: {error}", file=sys.stderr)  # noqa: T201 - a program
        return 1
    return 0


def run_demo(sample_name: str, out: Path, *, is_headless: bool) -> dict[str, Any]:
    """Open a window, give it the sample's supports, segment the rest.

    Parameters
    ----------
    sample_name : str
        Which sample.
    out : Path
        Folder for the files.
    is_headless : bool
        Close the window at the end; otherwise it stays until the user closes it.

    Returns
    -------
    dict
        What is written to ``result.json``.
    """
    import napari

    sample = load_sample(sample_name)
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1440, 900)
    viewer.open_sample("napari-fewshot", sample_name)
    viewer.layers.selection.active = viewer.layers[0]
    _, dock = viewer.window.add_plugin_dock_widget("napari-fewshot", "Segment")
    session = dock.session
    if not session.state.supports:
        dock.binding.use_as_support(viewer.layers[1], viewer.layers[0])
    dock.binding.start()
    _wait(lambda: not session.is_running)
    prediction = session.prediction
    if prediction is None:
        raise FewShotError(dock.run_panel.message.text() or "There is no result.")
    viewer.layers[1].visible = False
    # The truth of the sample was never shown to the method.
    result = _figures(sample, prediction)
    # Show the query with the most to see.
    shown = max(sample.queries, key=lambda i: int((sample.truth[i] > 0).sum()))
    dock.results_panel.go_to.emit(shown)
    _settle()
    _write(out, sample, prediction, result, viewer, shown)
    print(json.dumps(result["dice"]), "->", out)  # noqa: T201 - a program
    if is_headless:
        viewer.close()
    else:
        napari.run()
    return result


def _figures(sample: SampleData, prediction: Any) -> dict[str, Any]:
    queries = list(sample.queries)
    found = np.stack([prediction.labels[i] for i in queries])
    table = evaluate(found, sample.truth[queries], classes=sample.classes)
    dice = {row["class"]: round(float(row["dice"]), 4) for _, row in table.iterrows()}
    return {
        "sample": sample.name,
        "supports": list(sample.supports),
        "queries": queries,
        "dice": {**dice, "mean": round(float(np.mean(list(dice.values()))), 4)},
        "expected_dice": {
            sample.classes[v]: round(s, 4) for v, s in prediction.scores.items()
        },
        "choice": prediction.choice,
        "seconds": prediction.provenance["seconds"],
        "versions": prediction.provenance["versions"],
    }


def _write(
    out: Path,
    sample: SampleData,
    prediction: Any,
    result: dict[str, Any],
    viewer: Any,
    shown: int,
) -> None:
    from PIL import Image as Picture

    axes = sample.axes.replace("c", "")
    save_labels(out / "labels.tif", prediction.labels, scale=sample.scale, axes=axes)
    picture = _overlay(sample, np.asarray(prediction.labels[shown]), shown)
    with atomic_write(out / "overlay.png") as path:
        Picture.fromarray(picture).save(path)
    with atomic_write(out / "screenshot.png") as path:
        viewer.window.screenshot(str(path), canvas_only=False, flash=False)
    write_text(out / "result.json", json.dumps(result, indent=1))


def _overlay(sample: SampleData, labels: Any, plane: int) -> Any:
    """Return the image with the outlines of what was found."""
    from skimage.segmentation import find_boundaries

    from napari_fewshot.data import Image, default_colour

    image = Image.from_array(sample.image, axes=sample.axes).plane(plane)
    colour = image if image.shape[-1] == 3 else np.repeat(image[..., :1], 3, axis=-1)
    picture = (colour * 255).astype(np.uint8)
    for value in sample.classes:
        name = default_colour(value)
        edge = find_boundaries(labels == value, mode="inner")
        picture[edge] = [int(name[i : i + 2], 16) for i in (1, 3, 5)]
    return picture


def _wait(is_done: Any) -> None:
    """Keep the window alive until something holds."""
    from qtpy.QtCore import QEventLoop, QTimer

    loop, timer = QEventLoop(), QTimer()
    timer.timeout.connect(lambda: loop.quit() if is_done() else None)
    timer.start(20)
    loop.exec()
    timer.stop()


def _settle() -> None:
    """Let the window draw what has changed."""
    from qtpy.QtCore import QEventLoop, QTimer

    loop = QEventLoop()
    QTimer.singleShot(SETTLE_MS, loop.quit)
    loop.exec()


if __name__ == "__main__":
    raise SystemExit(main())
