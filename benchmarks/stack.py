"""Carry objects through stacks of planes: the encoder's share, and the memory.

The first and the last plane are annotated, so that every other one is encoded, and the
model is asked, whatever it answers: weights are random. The stack and the labels are
zarr stores on disk. Each number of planes has a process of its own; memory is the most
that it holds while it works, beyond what it held with the model loaded.

    python benchmarks/stack.py                        # a tiny SAM; 10, 50, 100 planes
    python benchmarks/stack.py --vit-b --planes 10    # ViT-B at 1024 pixels
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import zarr
from sam import written as vit_b

GOAL_SHARE = 0.9


class Peak:
    """The most memory that this process holds while a block runs, in MB."""

    def __enter__(self) -> Peak:
        self.process, self.done = psutil.Process(), threading.Event()
        self.before = self.most = self.now()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def now(self) -> float:
        return self.process.memory_info().rss / 2**20

    def _watch(self) -> None:
        while not self.done.wait(0.02):
            self.most = max(self.most, self.now())

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()


def tiny(folder: Path) -> Path:
    """Write the stand-in for SAM of the documentation, untaught."""
    sys.path.append(str(Path(__file__).resolve().parents[1] / "docs"))
    from stand_in_sam import build

    path = folder / "sam_vit_b.pth"
    torch.save(build().state_dict(), path)
    return path


def store(
    folder: Path, planes: int, side: int, objects: int
) -> tuple[Path, dict[int, np.ndarray]]:
    """Write a noisy stack with discs that move, and return two annotated planes."""
    path, rng = folder / "stack.zarr", np.random.default_rng(0)
    shape = (planes, side, side)
    stack = zarr.create_array(path, shape=shape, chunks=(1, *shape[1:]), dtype="uint8")
    rows, columns = np.mgrid[:side, :side]
    masks = {}
    for plane in range(planes):
        labels = np.zeros(shape[1:], int)
        for number in range(objects):
            middle = side * (number + 0.5 + 0.2 * plane / planes) / objects
            radius = 0.25 * side / max(objects, 2)
            near = np.hypot(rows - middle, columns - side / 2) < radius
            labels[near] = number + 1
        noise = rng.normal(0, 12, shape[1:])
        stack[plane] = np.clip(50 + 130 * (labels > 0) + noise, 0, 255).astype(np.uint8)
        if plane in (0, planes - 1):
            masks[plane] = labels
    return path, masks


def measure(weights: Path, planes: int, side: int, objects: int) -> dict[str, Any]:
    import napari_fewshot as nf

    own = {"model": "sam/vit_b", "checkpoint": str(weights), "device": "cpu"}
    model: Any = nf.load_model(own["model"], own["checkpoint"], own["device"])
    spent, encode = [], model.encode

    def timed(*given: Any) -> Any:
        begin = time.perf_counter()
        found = encode(*given)
        spent.append(time.perf_counter() - begin)
        return found

    model.encode = timed
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path, masks = store(folder, planes, side, objects)
        # What is loaded or measured at first use is none of the stack's.
        model.predict(encode(np.zeros((side, side), np.uint8)), points=[[9, 9]])
        with Peak() as peak:
            begin = time.perf_counter()
            nf.propagate(path, masks=masks, out=folder / "labels.zarr", **own)
            total = time.perf_counter() - begin
    if len(spent) != planes - 2:
        raise SystemExit(f"{len(spent)} of {planes - 2} planes were encoded")
    return {
        "planes": planes,
        "seconds": total,
        "share": sum(spent) / total,
        "memory": peak.most - peak.before,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--planes", default="10,50,100", help="a,b,...; from 3")
    parser.add_argument("--side", type=int, default=512, help="of a plane in pixels")
    parser.add_argument("--objects", type=int, default=1)
    parser.add_argument("--vit-b", action="store_true", help="ViT-B at 1024 pixels")
    parser.add_argument("--weights", type=Path, help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.weights is not None:
        more = int(wanted.planes), wanted.side, wanted.objects
        print(json.dumps(measure(wanted.weights, *more)))
        return
    with tempfile.TemporaryDirectory() as folder:
        weights = (vit_b if wanted.vit_b else tiny)(Path(folder))
        for count in wanted.planes.split(","):
            words = ["--weights", weights, "--planes", count, "--side", wanted.side]
            words += ["--objects", wanted.objects]
            row = alone(list(map(str, words)), Path(folder) / f"home {count}")
            print(
                f"{row['planes']:4d} planes  {row['seconds']:7.1f} s  encoder "
                f"{row['share']:.0%} (goal for ViT-B: {GOAL_SHARE:.0%})  "
                f"memory +{row['memory']:.0f} MB (goal: the same for all)",
                flush=True,
            )


def alone(words: list[str], home: Path) -> dict[str, Any]:
    """Measure in a process and with a cache of its own."""
    out = subprocess.run(
        [sys.executable, __file__, *words],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "NAPARI_FEWSHOT_HOME": str(home)},
    )
    row: dict[str, Any] = json.loads(out.stdout.splitlines()[-1])
    return row


if __name__ == "__main__":
    main()
