"""A cluster on this machine: two workers against one, and what a kill costs.

``python benchmarks/cluster.py speed [--rounds 3] [--planes 32] [--method pixel]``
    The same stack with one and with two workers of one thread, in turn; workers have
    their model, and have learnt, before anything is timed. Medians; and the share of
    the time in which the two workers had planes to work on. In the same rounds: two
    plain processes with half the stack each against one with all of it, no cluster at
    all, which is the most that this machine gives to two of them.

``python benchmarks/cluster.py kill [--times 10] [--what worker,client,everything]
[--of plane|stack]``
    Kill -9 of a worker, of the program that asked, or of all of them (scheduler, too)
    at a random moment, then, where the program was killed, the same command again.
    The labels must be those of an undisturbed run. A plane in tiles, or a stack of
    small planes, labels written to zarr; told is how many files of finished tiles or
    planes were there at the kill, and of a stack how many of them were made again.

Set ``NAPARI_FEWSHOT_HOME`` to keep it away from your own files.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import napari_fewshot as nf
from napari_fewshot.session import get_executor

SIDE, TILE = 1024, 256
STACK = (60, 160, 160)
OPTIONS: dict[str, Any] = {"method": "pixel", "leave_one_out": False, "trees": 30}


def scene(seed: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Bright discs in noise."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((side, side), np.uint8)
    rows, columns = np.mgrid[:side, :side]
    for _ in range(max(4, side * side // 4000)):
        y, x, r = rng.uniform(0, side), rng.uniform(0, side), rng.uniform(6, 12)
        top, left = max(0, int(y - r)), max(0, int(x - r))
        part = np.s_[top : int(y + r) + 1, left : int(x + r) + 1]
        inside = (rows[part] - y) ** 2 + (columns[part] - x) ** 2 < r * r
        labels[part][inside] = 1
    image = 60 + 80 * labels + rng.normal(0, 15, labels.shape)
    return np.clip(image, 0, 255).astype(np.uint8), labels


def half(planes: np.ndarray, method: str) -> Any:
    """In a process of its own: how long it takes for its share of the planes."""
    import torch

    torch.set_num_threads(1)
    return nf.segment(
        planes, [scene(99, planes.shape[-1])], executor="inline", **options_of(method)
    )


def plain(stack: np.ndarray, pools: Any, method: str) -> dict[int, float]:
    """Seconds for the stack in one plain process, and in two with a half each."""
    seconds = {}
    middle = len(stack) // 2
    for count, shares in ((1, [stack]), (2, [stack[:middle], stack[middle:]])):
        start = time.perf_counter()
        jobs = [
            p.apply_async(half, (s, method))
            for p, s in zip(pools, shares, strict=False)
        ]
        for job in jobs:
            job.get()
        seconds[count] = time.perf_counter() - start
    return seconds


def options_of(method: str) -> dict[str, Any]:
    return OPTIONS if method == "pixel" else {"method": method, "leave_one_out": False}


def local_cluster(workers: int) -> Any:
    from distributed import LocalCluster

    return LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0")


def speed(rounds: int, planes: int, side: int, method: str) -> None:
    """Time one worker against two."""
    stack = np.stack([scene(seed, side)[0] for seed in range(4)])
    stack = np.tile(stack, (-(-planes // 4), 1, 1))[:planes]
    support = [scene(99, side)]
    options = options_of(method)
    times: dict[int, list[float]] = {1: [], 2: []}
    bare: dict[int, list[float]] = {1: [], 2: []}
    shares: list[float] = []
    spawn = multiprocessing.get_context("spawn")
    pools = [spawn.Pool(1), spawn.Pool(1)]
    with local_cluster(1) as one, local_cluster(2) as two:
        places = {1: one.scheduler_address, 2: two.scheduler_address}
        found = {}
        for place in places.values():
            nf.segment(stack[:8], support, executor=place, **options)
        for pool in pools:
            pool.apply(half, (stack[:1], method))
        for _ in range(rounds):
            for workers, place in places.items():
                start = time.perf_counter()
                found[workers] = nf.segment(stack, support, executor=place, **options)
                times[workers].append(time.perf_counter() - start)
                if workers == 2:
                    busy = found[2].provenance["cluster"]["busy_seconds"]
                    shares.append(sum(busy.values()) / 2 / times[2][-1])
            for count, seconds in plain(stack, pools, method).items():
                bare[count].append(seconds)
        same = np.array_equal(found[1].labels, found[2].labels)
        for place in places.values():
            get_executor(place).close()
    for pool in pools:
        pool.terminate()
    medians = {w: statistics.median(t) for w, t in times.items()}
    figures = {
        "method": method,
        "planes": planes,
        "side": side,
        "seconds_1": [round(t, 2) for t in times[1]],
        "seconds_2": [round(t, 2) for t in times[2]],
        "plain_seconds": {n: [round(t, 2) for t in ts] for n, ts in bare.items()},
        "ratio_of_medians": round(medians[1] / medians[2], 3),
        "ratio_of_plain_processes": round(
            statistics.median(bare[1]) / statistics.median(bare[2]), 3
        ),
        "busy_share_of_2": round(statistics.median(shares), 3),
        "same_labels": same,
        "load": os.getloadavg(),
        "cores": os.cpu_count(),
    }
    print(json.dumps(figures, indent=1))


def child(address: str, query: str, out: str) -> None:
    """Segment a plane in tiles, or a stack; this is what gets killed."""
    is_stack = Path(query).name.startswith("stack")
    found = nf.segment(
        query,
        [scene(99, STACK[1] if is_stack else 256)],
        executor=get_executor(address),
        out=out,
        axes="zyx" if is_stack else "yx",
        tile=0 if is_stack else TILE,
        instances="components" if is_stack else "none",
        **OPTIONS,
    )
    print(found.provenance.get("resumed_planes", 0))


class Servers:
    """A scheduler and two workers as programs of their own."""

    def __init__(self, folder: Path) -> None:
        file = folder / f"scheduler-{time.monotonic_ns()}.json"
        run = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        where = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
        where += ["--scheduler-file", str(file)]
        self.processes = [subprocess.Popen(run + where, **quiet)]
        while not file.exists():
            time.sleep(0.2)
        time.sleep(0.5)
        self.address = json.loads(file.read_text())["address"]
        self.folder = folder
        for _ in range(2):
            self.add_worker()

    def add_worker(self) -> None:
        run = [sys.executable, "-m", "distributed.cli.dask_worker", self.address]
        run += ["--nthreads", "1", "--no-nanny", "--no-dashboard"]
        run += ["--local-directory", str(self.folder)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.processes.append(subprocess.Popen(run, env=environment, **quiet))

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()


def done_tiles(out: Path) -> int:
    """Tiles or planes whose result is on disk."""
    return len(list(Path(f"{out}.parts").glob("*.part")))


def once(servers: Servers, query: Path, out: Path, what: str, wait: float) -> Any:
    """Run, kill something after some seconds, and run again if that is needed."""
    command = [sys.executable, __file__, "child", "--query", str(query)]
    command += ["--out", str(out)]

    def start() -> Any:
        where = ["--address", servers.address]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([*command, *where], **pipes)

    process = start()
    # The moment is counted from the first finished tile.
    while process.poll() is None and not done_tiles(out):
        time.sleep(0.02)
    time.sleep(wait)
    kept = done_tiles(out)
    if process.poll() is not None:
        return servers, kept, "too late", 0
    if what == "worker":
        victim = servers.processes.pop(random.randint(1, 2))
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        servers.add_worker()
    else:
        process.kill()
        process.wait()
        kept = done_tiles(out)
        if what == "everything":
            servers.kill()
            servers = Servers(servers.folder)
        process = start()
    told, errors = process.communicate()
    state = "ok" if process.returncode == 0 else errors.decode()[-800:]
    is_asked = state == "ok" and what != "worker" and query.name.startswith("stack")
    repeated = kept - int(told.split()[-1]) if is_asked else 0
    return servers, kept, state, repeated


def kill(times: int, kinds: list[str], of: str) -> None:
    """Kill at random moments and compare."""
    import zarr

    folder = Path(tempfile.mkdtemp(prefix="cluster-"))
    image, chunks = scene(1, SIDE)[0], (256, 256)
    if of == "stack":
        image = np.stack([scene(seed, STACK[1])[0] for seed in range(STACK[0])])
        chunks = (1, *STACK[1:])
    query = folder / f"{of}.zarr"
    store = zarr.create_array(query, shape=image.shape, chunks=chunks, dtype="uint8")
    store[:] = image
    servers = Servers(folder)
    start = time.perf_counter()
    truth = folder / "truth.zarr"
    child(servers.address, str(query), str(truth))
    first = time.perf_counter() - start
    start = time.perf_counter()
    child(servers.address, str(query), str(folder / "again.zarr"))
    whole = time.perf_counter() - start
    expected = np.asarray(zarr.open_array(truth, mode="r"))
    print(f"undisturbed: {first:.1f} s the first time, {whole:.1f} s the second")
    equal = repeated = 0
    for number in range(times):
        what = kinds[number % len(kinds)]
        out = folder / f"out-{number}.zarr"
        wait = random.uniform(0, 0.8 * whole)
        servers, kept, state, again = once(servers, query, out, what, wait)
        repeated += again
        found = np.asarray(zarr.open_array(out, mode="r")) if state == "ok" else None
        same = found is not None and np.array_equal(found, expected)
        equal += same or state == "too late"
        print(f"{number}: {what}, {kept} files kept, {state}, equal {same}", flush=True)
    servers.kill()
    shutil.rmtree(folder)
    print(f"{equal} of {times} equal, {repeated} repeated, load {os.getloadavg()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=("speed", "kill", "child"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--planes", type=int, default=32)
    parser.add_argument("--side", type=int, default=384)
    parser.add_argument("--method", default="pixel")
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--what", default="worker,client,everything")
    parser.add_argument("--of", default="plane", choices=("plane", "stack"))
    parser.add_argument("--address", default="")
    parser.add_argument("--query", default="")
    parser.add_argument("--out", default="")
    given = parser.parse_args()
    if given.task == "speed":
        speed(given.rounds, given.planes, given.side, given.method)
    elif given.task == "kill":
        kill(given.times, given.what.split(","), given.of)
    else:
        child(given.address, given.query, given.out)


if __name__ == "__main__":
    main()
