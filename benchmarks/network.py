"""Seconds and memory of the bundled network on this machine.

A 512 x 512 query with 5 supports that were seen before; a click on it, with and without
supports, as the Prompts tab does it; and the peak memory of 64 supports.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time

import numpy as np

SIZE, SUPPORTS, MANY, TIMES = 512, 5, 64, 7


def pair(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    labels = np.zeros((SIZE, SIZE), np.int32)
    for _ in range(12):
        y, x = rng.uniform(40, SIZE - 40, 2)
        labels[(rows - y) ** 2 + (columns - x) ** 2 < rng.uniform(15, 35) ** 2] = 1
    image = 60 + 90 * labels + rng.normal(0, 12, labels.shape)
    return np.clip(image, 0, 255).astype(np.uint8), labels


def median(work, times: int = TIMES) -> float:
    found = []
    for number in range(times + 1):
        start = time.perf_counter()
        work(number)
        found.append(time.perf_counter() - start)
    return float(np.median(found[1:]))


def speed() -> None:
    import napari_fewshot as nf
    from napari_fewshot.data import Hooks, Image, SupportSet
    from napari_fewshot.inference import FitCache, SegmentRequest, run

    supports = SupportSet([nf.Support(*pair(n)) for n in range(SUPPORTS)])
    queries = [Image.from_array(pair(100 + n)[0]) for n in range(TIMES + 1)]
    cache = FitCache()

    def segment(number: int) -> None:
        request = SegmentRequest(queries[number], supports, method="incontext")
        run(request, Hooks(), lambda _: None, cache)

    segment(0)
    fitted = next(iter(cache._fits.values())).fitted
    planes = [q.plane(0) for q in queries]
    from napari_fewshot.data import Plane

    alone = median(lambda n: fitted.predict(Plane(planes[n]), Hooks()))
    print(f"query, {SUPPORTS} cached supports: {alone:.3f} s")
    print(f"the same with checks and score:   {median(segment):.3f} s")
    for count in (0, SUPPORTS):
        session = nf.Session(autosave=False)
        session.set_query(pair(100)[0])
        for number in range(count):
            session.add_support(*pair(number))
        points = np.random.default_rng(0).uniform(0, SIZE, (TIMES + 1, 2))

        def click(number: int, session=session, points=points) -> None:
            session.preview(nf.PromptSet(points=points[: number + 1]))

        print(f"a click, {count} supports:           {median(click):.3f} s")


def memory() -> None:
    import napari_fewshot as nf

    nf.load_model("incontext/small").encode(np.zeros((64, 64)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    supports = [nf.Support(*pair(n)) for n in range(MANY)]
    nf.segment(pair(200)[0], supports, method="incontext", leave_one_out=False)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory, {MANY} supports of {SIZE} x {SIZE}: {after:.0f} MB in all,")
    print(f"  {after - before:.0f} MB beyond the loaded network")


if __name__ == "__main__":
    if "--memory" in sys.argv:
        memory()
    else:
        speed()
        subprocess.run([sys.executable, __file__, "--memory"], check=True)
