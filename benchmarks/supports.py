"""What many supports cost: seconds to learn and to segment with 5, 25 and 100 of them.

    python benchmarks/supports.py [--methods panet,knn,...] [--model filters]

Supports are synthetic planes of 512 x 512 pixels. Embeddings are cached before the
clock starts, leaving supports out is off, and medians of a few planes are told:
learning should grow no faster than the supports, and segmenting with 100 should take no
more than twice as long as with 5.
"""

from __future__ import annotations

import argparse
import resource
import time
from statistics import median

import numpy as np

from napari_fewshot.adapt.synthesis import draw_scene
from napari_fewshot.data import Hooks, Plane, Sample
from napari_fewshot.methods import get_method, make_params
from napari_fewshot.models import load_model

METHODS = "panet,alpnet,qnet,fob,knn,linear,matcher,insid3,persam,repri,template-bank"
COUNTS = (5, 25, 100)


def samples(count: int, side: int) -> list[Sample]:
    """Draw labelled planes."""
    found: list[Sample] = []
    seed = 0
    while len(found) < count:
        scene = draw_scene(7_000_000 + seed, side, 1)
        seed += 1
        labels = np.isin(scene.labels[0], scene.targets[0]).astype(np.int32)
        if not 0.01 < labels.mean() < 0.6:
            continue
        image = scene.images[0].astype(np.float32) / 255
        found.append(
            Sample(image, labels=labels, group=str(seed), name=f"support {seed}")
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--model", default="filters")
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--planes", type=int, default=5)
    options = parser.parse_args()
    every = samples(max(COUNTS) + options.planes, options.side)
    supports, queries = every[: max(COUNTS)], every[max(COUNTS) :]
    planes = [Plane(q.image) for q in queries]
    encoder = load_model(options.model)
    print(f"{'method':14s}" + "".join(f"  fit {n:3d}  query {n:3d}" for n in COUNTS))
    for name in options.methods.split(","):
        method = get_method(name)
        params = make_params(method.spec.params, {"leave_one_out": False})
        hooks, told, asked = Hooks(), [], []
        for count in COUNTS:
            method.fit(supports[:count], [1], params, encoder, hooks)
            start = time.perf_counter()
            fitted = method.fit(supports[:count], [1], params, encoder, hooks)
            learnt = time.perf_counter() - start
            fitted.predict(planes[0], hooks)
            seconds = []
            for plane in planes:
                start = time.perf_counter()
                fitted.predict(plane, hooks)
                seconds.append(time.perf_counter() - start)
            told.append(learnt)
            asked.append(median(seconds))
        row = "".join(f"  {t:7.2f}  {a:9.3f}" for t, a in zip(told, asked, strict=True))
        print(f"{name:14s}{row}   query {asked[-1] / asked[0]:.2f} x", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:.0f} MB")


if __name__ == "__main__":
    main()
