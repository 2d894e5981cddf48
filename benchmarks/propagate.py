"""Carry objects from every 8th plane of volumes to the others, mode by mode.

    python benchmarks/propagate.py ../shared/volumes/chaos_t2 --step 8 --volumes 6

Every 8th plane is annotated with all organs; planes that do not show one say so. Dice
is pooled over the planes of a volume that are not annotated, apart for stretches
between two annotated planes that both show the organ ("between") and for all others
("beyond"), then averaged over organs and volumes. ``interpolate`` is the reference: it
needs no model; "worse" counts organs of volumes that come out worse than with it.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

import napari_fewshot as nf
from napari_fewshot.inference._propagation import neighbours
from napari_fewshot.io import open_image, open_labels
from napari_fewshot.session._propagate import propagate

MODES = "interpolate,auto,mask,box,box+mask,point,points,points+mask"


def regions(truth: np.ndarray, value: int, keys: list[int]) -> dict[str, list[int]]:
    """Planes of a volume by what is known of an organ on their annotated neighbours."""
    found: dict[str, list[int]] = {"between": [], "beyond": []}
    for plane in set(range(len(truth))) - set(keys):
        ends = [p for p in neighbours(keys, plane) if p is not None]
        shown = [p for p in ends if (truth[p] == value).any()]
        if shown:
            found["between" if len(shown) == 2 else "beyond"].append(plane)
    return found


def score(found: np.ndarray, truth: np.ndarray, planes: list[int], value: int) -> float:
    one, other = found[planes] == value, truth[planes] == value
    total = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / total if total else np.nan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--step", type=int, default=8)
    parser.add_argument("--volumes", type=int, default=6)
    parser.add_argument("--modes", default=MODES)
    parser.add_argument("--model", default="auto")
    parser.add_argument("--checkpoint")
    parser.add_argument("--stop-iou", type=float, default=0.5)
    wanted = parser.parse_args()
    facts = json.loads((wanted.root / "dataset.json").read_text())
    values = [int(v) for v in facts["classes"]]
    rows: dict[str, dict[str, list[float]]] = {}
    for item in facts["items"][: wanted.volumes]:
        image = open_image(wanted.root / item["image"])
        truth = np.asarray(open_labels(wanted.root / item["mask"]))
        keys = list(range(wanted.step // 2, len(truth), wanted.step))
        masks = {k: truth[k].astype(int) for k in keys}
        for mode in wanted.modes.split(","):
            begun = time.perf_counter()
            found = propagate(
                image,
                masks=masks,
                mode=mode,
                model=wanted.model,
                checkpoint=wanted.checkpoint,
                stop_iou=wanted.stop_iou,
            )
            spent = (time.perf_counter() - begun) / (len(truth) - len(keys))
            row = rows.setdefault(mode, {"between": [], "beyond": [], "seconds": []})
            row["seconds"].append(spent)
            labels = np.asarray(found.labels)
            print(f"{image.name} {mode}: {spent:.2f} s a plane", flush=True)
            for value in values:
                for name, planes in regions(truth, value, keys).items():
                    row[name].append(score(labels, truth, planes, value))
    print(f"every {wanted.step}th plane of {wanted.volumes} volumes, {nf.__version__}")
    base = np.array(rows.get("interpolate", next(iter(rows.values())))["between"])
    for mode, row in rows.items():
        held = np.isfinite(base)
        worse = int((np.array(row["between"])[held] < base[held] - 0.005).sum())
        print(
            f"{mode:12s} between {np.nanmean(row['between']):.3f}"
            f" (worse in {worse} of {held.sum()})"
            f"  beyond {np.nanmean(row['beyond']):.3f}"
            f"  {np.mean(row['seconds']):.2f} s a plane"
        )


if __name__ == "__main__":
    main()
