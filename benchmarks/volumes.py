"""Ways to segment a volume, in one table: Dice of whole volumes, and seconds.

    python benchmarks/volumes.py                          # all of both sets: hours
    python benchmarks/volumes.py --sets msd_hippocampus --methods pixel --queries 4

Supports are whole annotated volumes, the first of a set; queries are the ones after
them. Every mode of a method uses the same supports and queries. Seconds are those of a
query, with what was learnt from the supports counted once per mode and shared out.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

import napari_fewshot as nf
from napari_fewshot.io import open_image, open_labels
from napari_fewshot.session import InlineExecutor

SHARED = Path(__file__).resolve().parents[2] / "shared"
SETS = {
    "chaos_t2": SHARED / "volumes" / "chaos_t2",
    "msd_hippocampus": SHARED / "data" / "msd_hippocampus",
}
# Smoothing is as long as two planes are apart, in units of the scale.
MODES: dict[str, dict[str, Any]] = {
    "planes": {},
    "planes, smooth": {"smooth_depth": 1.0},
    "stack": {"view": "stack"},
    "stack, smooth": {"view": "stack", "smooth_depth": 1.0},
    "three": {"view": "three"},
    "three, smooth": {"view": "three", "smooth_depth": 0.5},
}


def read(folder: Path, item: dict[str, Any], every: int) -> tuple[Any, Any, Any]:
    """Return image, labels and spacing of a volume, thinned in plane."""
    image = open_image(folder / item["image"])
    labels = np.asarray(open_labels(folder / item["mask"]))
    pixels = np.stack([image.raw_plane(z) for z in range(image.n_planes)])
    facts = json.loads((folder / "dataset.json").read_text())
    spacing = facts.get("spacing") or image.scale or (1.0, 1.0, 1.0)
    spacing = (spacing[0], spacing[1] * every, spacing[2] * every)
    part = np.s_[:, ::every, ::every]
    return pixels[part], labels.reshape(pixels.shape)[part], spacing


def dice(found: Any, truth: Any, value: int) -> float:
    """Return the Dice of one class over a whole volume."""
    a, b = found == value, truth == value
    return float(2 * (a & b).sum() / max(1, a.sum() + b.sum()))


def study(
    folder: Path, method: str, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Return a row per mode of one method on one set."""
    items = json.loads((folder / "dataset.json").read_text())["items"]
    every = options.every if "chaos" in folder.name else 1
    volumes = [
        read(folder, item, every)
        for item in items[: options.supports + options.queries]
    ]
    supports = [
        nf.Support(image, labels, axes="zyx", scale=spacing, name=f"volume {n}")
        for n, (image, labels, spacing) in enumerate(volumes[: options.supports])
    ]
    rows = []
    executor = InlineExecutor()
    for mode, params in MODES.items():
        if options.modes and mode not in options.modes:
            continue
        scores, start = [], time.perf_counter()
        for image, truth, spacing in volumes[options.supports :]:
            given = dict(params)
            if "smooth_depth" in given:
                given["smooth_depth"] *= spacing[0]
            found = nf.segment(
                image,
                supports,
                method=method,
                axes="zyx",
                scale=spacing,
                executor=executor,
                **given,
                **json.loads(options.params),
            )
            labels = np.asarray(found.labels)
            values = [v for v in np.unique(truth) if v]
            scores.append([dice(labels, truth, v) for v in values])
        seconds = (time.perf_counter() - start) / max(1, len(scores))
        row = {
            "set": folder.name,
            "method": method,
            "mode": mode,
            "dice": float(np.mean([np.mean(s) for s in scores])),
            "queries": [round(float(np.mean(s)), 4) for s in scores],
            "seconds": seconds,
            "views": found.provenance.get("views", {}).get("weights"),
        }
        rows.append(row)
        print(json.dumps(row), flush=True)
    executor.close()
    return rows


def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--methods", default="pixel,prototype,incontext,auto")
    parser.add_argument("--modes", nargs="*", default=[])
    parser.add_argument("--supports", type=int, default=2)
    parser.add_argument("--queries", type=int, default=4)
    parser.add_argument("--every", type=int, default=1, help="thin CHAOS in plane")
    parser.add_argument("--params", default="{}", help="of the methods, as JSON")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name in options.sets.split(","):
        for method in options.methods.split(","):
            rows += study(SETS[name], method, options)
    print("\n| set | method | mode | Dice | seconds per volume |")
    print("|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['set']} | {row['method']} | {row['mode']} | {row['dice']:.3f} | "
            f"{row['seconds']:.1f} |"
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
