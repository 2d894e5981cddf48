"""What many supports cost: seconds to learn and to segment with 5, 25 and 100 of them.

    python benchmarks/supports.py [--methods panet,knn,...] [--model filters]
        [--counts 5,25,50,100] [--side 512] [--planes 5]

Supports are synthetic planes, of 512 x 512 pixels unless told otherwise. Embeddings are
cached before the clock starts, leaving supports out is off, and medians of a few planes
are told: learning should grow no faster than the supports, and segmenting with 100
should take no more than twice as long as with 5. Seconds are of the processor, over all
threads, so that other work on the machine counts for little.
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
    parser.add_argument("--counts", default=",".join(map(str, COUNTS)))
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--planes", type=int, default=5)
    options = parser.parse_args()
    counts = sorted({int(word) for word in options.counts.split(",")})
    every = samples(counts[-1] + options.planes, options.side)
    supports, queries = every[: counts[-1]], every[counts[-1] :]
    planes = [Plane(q.image) for q in queries]
    encoder = load_model(options.model)
    print(f"{'method':14s}" + "".join(f"  fit {n:3d}  query {n:3d}" for n in counts))
    for name in options.methods.split(","):
        method = get_method(name)
        params = make_params(method.spec.params, {"leave_one_out": False})
        hooks, told, asked = Hooks(), [], []
        for count in counts:
            method.fit(supports[:count], [1], params, encoder, hooks)
            start = time.process_time()
            fitted = method.fit(supports[:count], [1], params, encoder, hooks)
            learnt = time.process_time() - start
            fitted.predict(planes[0], hooks)
            seconds = []
            for plane in planes:
                start = time.process_time()
                fitted.predict(plane, hooks)
                seconds.append(time.process_time() - start)
            told.append(learnt)
            asked.append(median(seconds))
        row = "".join(f"  {t:7.2f}  {a:9.3f}" for t, a in zip(told, asked, strict=True))
        print(f"{name:14s}{row}   query {asked[-1] / asked[0]:.2f} x", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:.0f} MB")


if __name__ == "__main__":
    main()
