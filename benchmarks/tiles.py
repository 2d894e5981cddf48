"""Large planes in tiles: memory, time against size, seams, and the first result.

``python benchmarks/tiles.py [--quick] [--only seams,first,...]``

Images are synthetic and generated while they are read, so that a plane of 40,000 x
40,000 pixels needs no disk; results are written to zarr. Memory is that of a fresh
process per size, beyond what it holds when the method has learnt and one plane of
normal size was segmented.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

PERIOD = 509
CHEAP = {"trees": 5, "leave_one_out": False, "max_side": 256, "position": "off"}
USUAL = {"trees": 20, "leave_one_out": False, "max_side": 8192, "position": "off"}


class Synthetic:
    """Discs on noise, repeated without end; pixels are made when they are read."""

    def __init__(self, shape: tuple[int, ...], seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        rows, columns = np.mgrid[:PERIOD, :PERIOD]
        labels = np.zeros((PERIOD, PERIOD), np.uint8)
        for y, x, radius in rng.uniform(
            (12, 12, 5), (PERIOD - 12,) * 2 + (11,), (90, 3)
        ):
            labels[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = 1
        noise = 60 + 90.0 * labels + rng.normal(0, 12, labels.shape)
        self.pattern, self.labels = noise.clip(0, 255).astype(np.uint8), labels
        self.shape, self.dtype, self.ndim = shape, np.dtype(np.uint8), len(shape)

    def __getitem__(self, key: Any) -> Any:
        *leading, rows, columns = key
        shift = 37 * sum(int(i) for i in leading)
        at = [
            (np.arange(*s.indices(n)) + shift) % PERIOD
            for s, n in zip((rows, columns), self.shape[-2:], strict=True)
        ]
        return self.pattern[np.ix_(*at)]

    def pair(self, side: int) -> tuple[Any, Any]:
        """Return a plane and its labels, to learn from."""
        at = np.arange(side) % PERIOD
        return self.pattern[np.ix_(at, at)], self.labels[np.ix_(at, at)].astype(int)


def run_one(
    shape: tuple[int, ...], support: int, rows: int, params: dict[str, Any]
) -> dict[str, Any]:
    """Segment an image, or its first rows, here; returns seconds and memory (MB)."""
    import napari_fewshot as nf

    image = Synthetic(shape)
    pair = nf.Support(*image.pair(support))
    small = Synthetic((support, support))
    nf.segment(small[:, :], pair, method="pixel", **params)
    before = peak()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        found = nf.segment(
            image,
            pair,
            method="pixel",
            out=Path(folder) / "labels.zarr",
            region=(0, 0, rows, shape[-1]) if rows else None,
            **params,
        )
        seconds = time.perf_counter() - start
        tiles = found.provenance.get("tiles", {}).get("grid", [1, 1])
    return {
        "shape": list(shape),
        "rows": rows or shape[-2],
        "tiles": tiles,
        "seconds": round(seconds, 1),
        "beyond_mb": round(peak() - before, 1),
        "peak_mb": round(peak(), 1),
    }


def peak() -> float:
    """Return the most memory this process ever held, in MB."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (2**20 if sys.platform == "darwin" else 2**10)


def in_fresh_process(
    shape: tuple[int, ...], support: int, rows: int = 0
) -> dict[str, Any]:
    """Run `run_one` in a process of its own."""
    asked = json.dumps([list(shape), support, rows])
    words = [sys.executable, __file__, "--one", asked]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    row: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    print(row, flush=True)
    return row


def memory(quick: bool) -> dict[str, Any]:
    """Stacks of 1024 x 1024: does memory grow with the number of planes?"""
    counts = (10, 40) if quick else (20, 200, 2000)
    rows = [in_fresh_process((n, 1024, 1024), 1024) for n in counts]
    return {"rows": rows, "mb_per_1000_planes": slope(counts, rows, 1000)}


def plane(quick: bool) -> dict[str, Any]:
    """Single planes: does memory grow with their size?"""
    sides = (6000, 12000) if quick else (10000, 20000, 40000)
    rows = [in_fresh_process((n, n), 2048) for n in sides]
    pixels = [n * n / 1e6 for n in sides]
    return {"rows": rows, "mb_per_1000_megapixels": slope(pixels, rows, 1000)}


def strip(quick: bool) -> dict[str, Any]:
    """The first rows of windows of a plane of 40,000 x 40,000.

    Windows are kept while the row below them is not done, so that the third row holds
    as much as any later one.
    """
    return in_fresh_process((40000, 40000), 2048, 2500 if quick else 6000)


def slope(sizes: Any, rows: list[dict[str, Any]], unit: float) -> float:
    """Return by how much memory grows with size."""
    beyond = [r["beyond_mb"] for r in rows]
    return round(float(np.polyfit(sizes, beyond, 1)[0] * unit), 2)


def timed(image: Any, pair: Any, **options: Any) -> tuple[Any, dict[str, Any]]:
    """Segment inline; tell the time of the model, of everything, and of results."""
    import napari_fewshot as nf
    from napari_fewshot.data import Image, SupportSet
    from napari_fewshot.inference import SegmentRequest, _planes
    from napari_fewshot.session import InlineExecutor
    from napari_fewshot.session._api import run_to_end
    from napari_fewshot.session._collect import Collector

    inner = _planes._predict
    calls: list[tuple[float, float]] = []
    shown: list[float] = []
    began: list[float] = []

    def predict(*given: Any) -> Any:
        start = time.perf_counter()
        began.append(time.process_time())
        try:
            return inner(*given)
        finally:
            calls.append((start, time.perf_counter()))

    first = options.pop("first", None)
    request = SegmentRequest(
        Image.from_array(image),
        SupportSet([nf.Support(*pair)]),
        method="pixel",
        params={**USUAL, **options},
        first=first,
    )
    collector = Collector(request.query)

    def on_plane(result: Any) -> None:
        collector.add(result)
        shown.append(time.perf_counter())

    executor = InlineExecutor()
    _planes._predict = predict
    try:
        summary = run_to_end(request, executor, on_plane)
    finally:
        _planes._predict = inner
    end = time.perf_counter()
    tile = [b - a for a, b in calls]
    return collector.prediction(summary, "inline"), {
        "model": sum(tile),
        "all": end - calls[0][0],
        "processor": time.process_time() - began[0],
        "tiles": len(tile),
        "tile": (end - calls[0][0]) / len(tile),
        "first": shown[0] - calls[0][0],
    }


def times(quick: bool) -> dict[str, Any]:
    """Time against size, 1x to 64x, and what comes on top of the model.

    The straight line is fitted to the time of the processor, which others who use the
    machine do not change.
    """
    factors = (1, 4, 16) if quick else (1, 4, 16, 64)
    pair, rows = Synthetic((1, 1)).pair(512), []
    timed(Synthetic((512, 512)), pair)
    for factor in factors:
        side = int(512 * factor**0.5)
        _, t = timed(Synthetic((side, side)), pair, tile=512)
        row = {"pixels": side * side, "tiles": t["tiles"]}
        row |= {"seconds": round(t["all"], 2), "model": round(t["model"], 2)}
        row["processor"] = round(t["processor"], 2)
        row["overhead_percent"] = round(100 * (t["all"] / t["model"] - 1), 1)
        rows.append(row)
        print(row, flush=True)
    x, y = (np.array([r[k] for r in rows], float) for k in ("pixels", "processor"))
    rest = y - np.polyval(np.polyfit(x, y, 1), x)
    r2 = 1 - (rest**2).sum() / ((y - y.mean()) ** 2).sum()
    return {"rows": rows, "r2": round(float(r2), 5)}


def seams(quick: bool) -> dict[str, Any]:
    """Tiled against whole where the plane fits: Dice and counts of objects."""
    side = 700 if quick else 1100
    image, rows = Synthetic((side, side)), []
    pair = image.pair(300)
    for mode in ("components", "watershed"):
        whole, _ = timed(image, pair, instances=mode)
        for tile in (256, 384):
            found, t = timed(image, pair, instances=mode, tile=tile)
            a, b = np.asarray(whole.labels) > 0, np.asarray(found.labels) > 0
            counts = int(whole.instances.max()), int(found.instances.max())
            row = {"instances": mode, "tile": tile, "tiles": t["tiles"]}
            row["dice"] = round(float(2 * (a & b).sum() / (a.sum() + b.sum())), 5)
            row |= {"objects_whole": counts[0], "objects_tiled": counts[1]}
            rows.append(row)
            print(row, flush=True)
    return {"rows": rows}


def methods(quick: bool) -> dict[str, Any]:
    """Other methods: whole, in tiles, in larger tiles; Dice with one another, truth.

    Methods on embeddings shrink a whole plane; in tiles they see it as it is.
    """
    import napari_fewshot as nf

    side, rows = 700 if quick else 1000, []
    image = Synthetic((side, side))
    pair, at = image.pair(512), np.arange(side) % PERIOD
    truth = image.labels[np.ix_(at, at)] > 0
    for method in ("auto", "pixel", "panet", "knn", "linear", "prototype"):
        found = {"truth": truth}
        for tile in (None, 512, 640):
            run = nf.segment(
                image[:side, :side],
                [pair],
                method=method,
                leave_one_out=False,
                executor="inline",
                **({} if tile is None else {"tile": tile}),
            )
            found[str(tile or "whole")] = np.asarray(run.labels) > 0
        row: dict[str, Any] = {"method": method}
        pairs = ("whole", "512"), ("512", "640"), ("whole", "truth"), ("512", "truth")
        for a, b in pairs:
            both = 2 * (found[a] & found[b]).sum()
            dice = both / max(1, found[a].sum() + found[b].sum())
            row[f"{a}_{b}"] = round(float(dice), 4)
        rows.append(row)
        print(row, flush=True)
    return {"rows": rows}


def first(quick: bool) -> dict[str, Any]:
    """Time until something is seen, in times of one tile."""
    side = 1500 if quick else 2600
    image = Synthetic((side, side))
    _, t = timed(image, image.pair(512), tile=512, first=(side / 2, side / 3))
    row = {"tiles": t["tiles"], "tile": round(t["tile"], 3)}
    row |= {"first": round(t["first"], 3), "ratio": round(t["first"] / t["tile"], 2)}
    print(row, flush=True)
    return row


def child(out: str, log: str) -> None:
    """Segment into a store; note every window whose result was taken."""
    import napari_fewshot as nf
    from napari_fewshot.session import InlineExecutor

    class Noting(InlineExecutor):
        def submit(self, request: Any, *, on_plane: Any, **calls: Any) -> Any:
            def take(result: Any) -> None:
                on_plane(result)
                with Path(log).open("a") as file:
                    file.write(f"{result.plane}\n")

            return super().submit(request, on_plane=take, **calls)

    is_stack = Path(out).name.startswith("stack")
    image = Synthetic((60, 128, 128) if is_stack else (700, 900))
    nf.segment(
        image,
        nf.Support(*image.pair(128)),
        method="pixel",
        executor=Noting(),
        out=out,
        instances="components",
        **({} if is_stack else {"tile": 128}),
        **CHEAP,
    )


def stack_kills(quick: bool) -> dict[str, Any]:
    """Kill the process at random planes of a stack of small ones; compare."""
    return kills(quick, "stack-")


def kills(quick: bool, kind: str = "") -> dict[str, Any]:
    """Kill the process at random tiles until it gets through; compare the result."""
    import zarr

    rng, wanted, killed = np.random.default_rng(0), 6 if quick else 50, 0
    repeated = differing = runs = 0
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / f"{kind}whole.zarr"
        _started(whole, Path(folder) / "whole.log").join()
        truth = zarr.open(whole)[...]
        while killed < wanted:
            runs += 1
            out = Path(folder) / f"{kind}{runs}.zarr"
            log = Path(folder) / f"{runs}.log"
            while True:
                before = _lines(log)
                process = _started(out, log)
                after = before + int(rng.integers(1, 12))
                while process.is_alive() and (killed >= wanted or _lines(log) < after):
                    time.sleep(0.002)
                if not process.is_alive():
                    break
                process.kill()
                process.join()
                killed += 1
            seen = log.read_text().split()
            repeated += len(seen) - len(set(seen))
            differing += int((zarr.open(out)[...] != truth).sum())
            differing += Path(f"{out}.parts").exists() or process.exitcode
    what = "planes" if kind else "tiles"
    row = {"kills": killed, "runs": runs, what: len(set(seen))}
    row |= {f"repeated_{what}": repeated, "differing_pixels": differing}
    print(row, flush=True)
    return row


def _lines(log: Path) -> int:
    return log.read_text().count("\n") if log.exists() else 0


def _started(out: Path, log: Path) -> Any:
    """Start a process of its own; where it can be, one that need not import first."""
    kinds = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context(
        "forkserver" if "forkserver" in kinds else "spawn"
    )
    context.set_forkserver_preload(["napari_fewshot.session", "sklearn.ensemble"])
    process = context.Process(target=child, args=(str(out), str(log)))
    process.start()
    return process


PARTS = {
    "seams": seams,
    "methods": methods,
    "first": first,
    "time": times,
    "memory": memory,
    "plane": plane,
    "strip": strip,
    "kills": kills,
    "stack-kills": stack_kills,
}


def main() -> None:
    """Run what was asked for and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller images")
    parser.add_argument("--only", default=",".join(PARTS), help="a,b of the parts")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        shape, support, rows = json.loads(given.one)
        print(json.dumps(run_one(tuple(shape), support, rows, CHEAP)))
        return
    found = {name: PARTS[name](given.quick) for name in given.only.split(",")}
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
