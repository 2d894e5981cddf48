"""A second visit to a plane, from disk and from memory, against encoding it.

SAM ViT-B at 1024 pixels with random weights; the picture is a plane of floats as a run
sees it. What is timed includes the digest of the pixels. Medians; for a read from disk
each round has a fresh cache, and the system's own file cache is warm.

``python benchmarks/cache.py [--rounds 5]``
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from sam import picture, written

import napari_fewshot as nf
from napari_fewshot.data import Image
from napari_fewshot.inference._embeddings import EmbeddingCache, key_of


def seconds(work: Any) -> tuple[float, Any]:
    begin = time.perf_counter()
    found = work()
    return time.perf_counter() - begin, found


def median(work: Any, rounds: int) -> float:
    return statistics.median(seconds(work)[0] for _ in range(rounds))


def measure(folder: Path, rounds: int) -> dict[str, float]:
    model: Any = nf.load_model("sam/vit_b", str(written(folder)), "cpu", "fp32")
    plane = Image.from_array(picture()).plane(0)
    model.encode(plane)
    encodes, disks, writes = [], [], []
    for number in range(rounds):
        place = folder / f"cache {number}"
        took, plain = seconds(lambda: model.encode(plane))
        encodes.append(took)
        took, first = seconds(lambda p=place: EmbeddingCache(p).encode(model, plane))
        writes.append(took)
        took, again = seconds(lambda p=place: EmbeddingCache(p).encode(model, plane))
        disks.append(took)
        if first.array.tobytes() != again.array.tobytes():
            raise SystemExit("the second visit differs from the first")
        if not np.allclose(first.array, plain.array, rtol=1e-3, atol=1e-6):
            raise SystemExit("float16 changes more than its rounding")
    cache = EmbeddingCache(place)
    cache.encode(model, plane)
    return {
        "encode": statistics.median(encodes),
        "first visit": statistics.median(writes),
        "from disk": statistics.median(disks),
        "from memory": median(lambda: cache.encode(model, plane), 5 * rounds),
        "of which the digest": median(lambda: key_of(model, plane), 5 * rounds),
        "is it held": median(lambda: cache.holds(model, plane), 5 * rounds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), wanted.rounds)
    for name, took in rows.items():
        ratio = rows["encode"] / took
        print(
            f"{name:20s} {1000 * took:8.1f} ms  encoding takes {ratio:.1f} times this"
        )


if __name__ == "__main__":
    main()
