"""SAM ViT-B at 1024 pixels: our core against ``segment_anything`` on the same weights.

Random weights in the published layout; each side in a process of its own, since memory
is counted too. Medians; ratios are theirs over ours.

``python benchmarks/sam.py [--rounds 3]``
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

CLICK = (400, 700)
BOXES = 100


def written(folder: Path) -> Path:
    """Write ViT-B with random weights as Meta does."""
    from segment_anything import sam_model_registry

    torch.manual_seed(0)
    sam = sam_model_registry["vit_b"]()
    with torch.no_grad():
        for name, tensor in sam.named_parameters():
            if "rel_pos" in name or "pos_embed" in name:
                tensor.normal_(0, 0.02)
    path = folder / "sam_vit_b.pth"
    torch.save(sam.state_dict(), path)
    return path


def picture() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 255, (768, 1024, 3), dtype=np.uint8)


def median(work: Any, rounds: int) -> float:
    work()
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def theirs(path: Path, rounds: int) -> dict[str, Any]:
    from segment_anything import SamPredictor, sam_model_registry

    predictor = SamPredictor(sam_model_registry["vit_b"](str(path)).eval())
    image, before = picture(), held_now()
    encode = median(lambda: predictor.set_image(image), rounds)
    held = peak() - before
    point = np.array([CLICK[::-1]], float), np.array([1])
    click = median(lambda: predictor.predict(*point), 5 * rounds)
    masks, _, logits = predictor.predict(*point)
    return {"encode": encode, "memory": held, "click": click, **told(masks, logits)}


def ours(path: Path, rounds: int, precision: str) -> dict[str, Any]:
    import napari_fewshot as nf

    model: Any = nf.load_model("sam/vit_b", str(path), "cpu", precision)
    image, before = picture(), held_now()
    encode = median(lambda: model.encode(image), rounds)
    held = peak() - before
    embedding = model.encode(image)
    click = median(lambda: model.predict(embedding, points=[CLICK]), 5 * rounds)
    masks, _, logits = model.predict(embedding, points=[CLICK])
    corners = np.random.default_rng(1).uniform(0, 600, (BOXES, 2))
    boxes = np.concatenate([corners, corners + 100], 1)
    many = median(lambda: model.predict(embedding, boxes=boxes), 1)
    single = median(lambda: [model.predict(embedding, boxes=b) for b in boxes], 1)
    more = {"boxes": many / BOXES, "one by one": single / BOXES}
    found = {"encode": encode, "memory": held, "click": click, **more}
    return {**found, **told(masks, logits)}


def told(masks: np.ndarray, logits: np.ndarray) -> dict[str, Any]:
    return {
        "areas": masks.sum((1, 2)).tolist(),
        "logits": logits[:, ::64, ::64].tolist(),
    }


def held_now() -> float:
    return psutil.Process().memory_info().rss / 2**20


def peak() -> float:
    """Most memory that this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def alone(side: str, path: Path, rounds: int) -> dict[str, Any]:
    words = [sys.executable, __file__, "--side", side, "--weights", str(path)]
    out = subprocess.run(
        [*words, "--rounds", str(rounds)], check=True, capture_output=True, text=True
    )
    found: dict[str, Any] = json.loads(out.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=["theirs", "fp32", "bf16"])
    parser.add_argument("--weights", type=Path)
    wanted = parser.parse_args()
    if wanted.side:
        work = theirs if wanted.side == "theirs" else ours
        more = () if wanted.side == "theirs" else (wanted.side,)
        print(json.dumps(work(wanted.weights, wanted.rounds, *more)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder))
        rows = {s: alone(s, path, wanted.rounds) for s in ("theirs", "fp32", "bf16")}
    base = rows["theirs"]
    for side, row in rows.items():
        off = np.abs(np.array(row["logits"]) - np.array(base["logits"])).max()
        faster = {k: base[k] / row[k] for k in ("encode", "click")}
        share = row["memory"] / base["memory"]
        print(
            f"{side:7s} encode {row['encode']:.2f} s ({faster['encode']:.2f}x)"
            f", {row['memory']:.0f} MB ({share:.0%})"
            f", click {1000 * row['click']:.0f} ms ({faster['click']:.2f}x)"
            f", logits off by at most {off:.1e}"
        )
        if "boxes" in row:
            ratio = row["one by one"] / row["boxes"]
            print(
                f"        {BOXES} boxes: {1000 * row['boxes']:.0f} ms each together, "
                f"{1000 * row['one by one']:.0f} ms one by one ({ratio:.2f}x)"
            )


if __name__ == "__main__":
    main()
