"""The worker process: memory against the length of a stack, and the time to cancel.

    python benchmarks/worker.py

Segments zarr stacks of 512x512 planes of two lengths and prints the peak memory of both
processes; then cancels a running job, once answered by the worker and once with the
worker stopped (SIGSTOP), so that it has to be killed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import zarr

SIDE = 512


def make_store(folder: Path, planes: int) -> Path:
    path = folder / f"{planes}.zarr"
    store = zarr.create_array(
        path, shape=(planes, SIDE, SIDE), chunks=(1, SIDE, SIDE), dtype="uint16"
    )
    rng = np.random.default_rng(0)
    for i in range(planes):
        store[i] = rng.integers(0, 4000, (SIDE, SIDE), np.uint16)
    return path


def segment_stack(path: Path) -> None:
    """Body of a fresh process: segment a stack, print the peaks in megabytes."""
    import resource

    import napari_fewshot as nf
    from napari_fewshot.session._process import ProcessExecutor

    store = zarr.open(path, mode="r")
    image = np.asarray(store[0])
    labels = np.zeros(image.shape, int)
    labels[100:300, 100:300] = 1
    image[labels == 1] += 2000
    executor = ProcessExecutor()
    peak = [0]
    import threading

    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.05):
            if executor.pid is not None:
                try:
                    memory = psutil.Process(executor.pid).memory_info().rss
                except psutil.NoSuchProcess:
                    continue
                peak[0] = max(peak[0], memory)

    threading.Thread(target=watch, daemon=True).start()
    out = path.with_suffix(".labels.zarr")
    nf.segment(
        store,
        nf.Support(image, labels),
        method="pixel",
        trees=10,
        leave_one_out=False,
        executor=executor,
        out=out,
    )
    stop.set()
    mine = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"client_mb": round(mine), "worker_mb": round(peak[0] / 2**20)}))
    executor.close()


def cancel_seconds(*, stopped: bool, repeats: int = 5) -> list[float]:
    """Seconds from cancel to the end of the job."""
    import napari_fewshot as nf
    from napari_fewshot.data import Image, SupportSet
    from napari_fewshot.inference import SegmentRequest
    from napari_fewshot.session._process import ProcessExecutor

    rng = np.random.default_rng(0)
    plane = rng.integers(0, 255, (1024, 1024)).astype(np.uint8)
    labels = np.zeros(plane.shape, int)
    labels[200:600, 200:600] = 1
    query = Image.from_array(np.stack([plane] * 40), axes="zyx", name="query")
    request = SegmentRequest(
        query, SupportSet([nf.Support(plane, labels)]), method="auto"
    )
    executor, found = ProcessExecutor(), []
    for _ in range(repeats):
        job = executor.submit(
            request,
            on_plane=lambda r: None,
            on_progress=lambda p: None,
            on_done=lambda o: None,
        )
        while executor.pid is None:
            time.sleep(0.01)
        time.sleep(3.0)
        if stopped:
            os.kill(executor.pid, signal.SIGSTOP)
        start = time.perf_counter()
        job.cancel()
        job.wait()
        found.append(time.perf_counter() - start)
    executor.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stack", type=Path, help="(for the child process)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.stack:
        segment_stack(options.stack)
        return
    table: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        for planes in (50, 500):
            path = make_store(Path(folder), planes)
            result = subprocess.run(
                [sys.executable, __file__, "--stack", str(path)],
                capture_output=True,
                text=True,
                check=True,
            )
            table[f"{planes} planes"] = json.loads(result.stdout.splitlines()[-1])
    for name, stopped in (("cancel", False), ("cancel, stopped worker", True)):
        seconds = cancel_seconds(stopped=stopped)
        table[name] = {
            "median_s": round(statistics.median(seconds), 2),
            "max_s": round(max(seconds), 2),
        }
    for name, row in table.items():
        print(f"{name:24s}", row)
    if options.json:
        options.json.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
