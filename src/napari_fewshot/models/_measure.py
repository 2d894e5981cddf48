"""What is measured once per machine: how long small pieces of work take.

Times are kept in a JSON file in the cache folder, by the version of torch, the name of
the processor or card and the number of threads. Nothing is measured at import; without
a folder that can be written each process measures again.
"""

from __future__ import annotations

import functools
import json
import math
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from napari_fewshot.models._places import cache_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# Objects that may be decoded at a time, on processors and on cards.
SIZES, CARD_SIZES = (1, 4, 8, 16), (1, 8, 32, 64, 128)
# Seconds that one measurement may take.
BUDGET = 1.0
# Of sizes about as fast as the fastest one the smallest is taken.
ABOUT = 1.05
# Rows, inner and columns of the matrix product: a small layer of ViT-B; cards get more
# rows to be busy.
ROWS, CARD_ROWS, INNER, COLUMNS = 256, 8192, 768, 3072
ROUNDS = 3

# (machine, what) -> times that this process knows.
_known: dict[tuple[str, str], dict[str, float]] = {}


def measured(
    what: str, device: torch.device, measure: Callable[[], dict[str, float]]
) -> dict[str, float]:
    """Return times, from the file or measured now.

    Parameters
    ----------
    what : str
        What takes this long.
    device : torch.device
        Where.
    measure : callable
        Returns milliseconds by name.

    Returns
    -------
    dict of str to float
        Milliseconds by name.
    """
    key = (machine(device), what)
    found = _known.get(key) or _valid(_read().get(key[0], {}).get(what))
    if not found:
        found = measure()
        _keep(key, found)
    _known[key] = found
    return found


def machine(device: torch.device) -> str:
    """Return what times depend on: torch, processor or card, number of threads.

    Parameters
    ----------
    device : torch.device
        Where is measured.
    """
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    elif device.type == "cpu":
        name = f"{_processor()}, {torch.get_num_threads()} threads"
    else:
        name = f"{_processor()}, {device.type}"
    return f"torch {torch.__version__}, {name}"


def measurements_file() -> Path:
    """Return the file that keeps the times, there or not."""
    return cache_folder() / "machine.json"


def product_times(
    device: torch.device, kinds: dict[str, torch.dtype]
) -> dict[str, float]:
    """Measure a matrix product with several precisions.

    Parameters
    ----------
    device : torch.device
        Where.
    kinds : dict of str to torch.dtype
        Precisions by name.

    Returns
    -------
    dict of str to float
        Milliseconds of the fastest of a few products each.
    """
    rows = ROWS if device.type == "cpu" else CARD_ROWS
    pairs = {
        name: (
            torch.ones((rows, INNER), dtype=dtype, device=device),
            torch.ones((INNER, COLUMNS), dtype=dtype, device=device),
        )
        for name, dtype in kinds.items()
    }
    found = dict.fromkeys(kinds, math.inf)
    # In turns, so that other work on the machine slows all of them; the first round
    # warms up and is never the fastest.
    for _ in range(1 + ROUNDS):
        for name, (a, b) in pairs.items():
            begin = time.perf_counter()
            # Reading one number waits for a card.
            (a @ b)[0, 0].item()
            found[name] = min(found[name], _since(begin))
    return found


def batch_times(
    work: Callable[[int], object],
    sizes: Iterable[int],
    budget: float = BUDGET,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Measure work on several things at once, for growing sizes.

    Parameters
    ----------
    work : callable
        Does it for as many things as it is told.
    sizes : iterable of int
        Ascending; larger ones are left out when time is up or they are clearly slower.
    budget : float
        Seconds for all of them.
    clock : callable
        Tells the time in seconds.

    Returns
    -------
    dict of str to float
        Milliseconds per thing by size.
    """
    start = clock()
    work(1)
    found: dict[str, float] = {}
    for size in sizes:
        best = min(found.values(), default=0.0)
        if found and 1000 * (clock() - start) + size * best > 1000 * budget:
            break
        begin = clock()
        work(size)
        found[str(size)] = 1000 * (clock() - begin) / size
        if best and found[str(size)] > 1.5 * best:
            break
    return found


def best_size(times: dict[str, float]) -> int:
    """Return the smallest size that is about as fast per thing as the fastest one.

    Parameters
    ----------
    times : dict of str to float
        From `batch_times`.
    """
    most = ABOUT * min(times.values())
    return min(int(size) for size, spent in times.items() if spent <= most)


def _since(begin: float) -> float:
    """Milliseconds since a moment."""
    return 1000 * (time.perf_counter() - begin)


@functools.cache
def _processor() -> str:
    """Name of the processor and the instructions that torch uses of it."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        lines = []
    named = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    return f"{named[0] if named else name} ({torch.backends.cpu.get_cpu_capability()})"


def _read() -> dict[str, dict[str, Any]]:
    """Return what the file holds; nothing if it is missing or damaged."""
    try:
        found = json.loads(measurements_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {k: v for k, v in found.items() if isinstance(v, dict)}


def _valid(times: Any) -> dict[str, float]:
    """Return times if they are some, else nothing."""
    if not isinstance(times, dict):
        return {}
    good = all(isinstance(v, float) and 0 < v < math.inf for v in times.values())
    return times if good else {}


def _keep(key: tuple[str, str], times: dict[str, float]) -> None:
    """Add times to the file, if it can be written.

    Of two processes that write at once one loses its times and measures them again.
    """
    path, every = measurements_file(), _read()
    every.setdefault(key[0], {})[key[1]] = {k: round(v, 4) for k, v in times.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".json")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(every, file, indent=1)
        Path(name).replace(path)
    except OSError:
        return
