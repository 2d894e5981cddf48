"""What this machine has left, and sizes and times in words."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
from pathlib import Path


def free_memory() -> int | None:
    """Return the bytes of memory that are free; None where that is not known."""
    found = [n for n in (_free_of_system(), _free_of_group()) if n is not None]
    return min(found, default=None)


def free_disk(place: Path) -> int | None:
    """Return the free bytes of the disk of a path that need not be there yet.

    Parameters
    ----------
    place : Path
        A file or folder.
    """
    for folder in (place, *place.absolute().parents):
        with contextlib.suppress(OSError):
            return shutil.disk_usage(folder).free
    return None


def say_bytes(count: float) -> str:
    """Return a size as people say it.

    Parameters
    ----------
    count : float
        Bytes.
    """
    for unit in ("bytes", "kB", "MB"):
        if count < 999.5:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"


def say_duration(seconds: float) -> str:
    """Return a duration as people say it.

    Parameters
    ----------
    seconds : float
        0 or more.
    """
    if seconds < 90:
        return f"{max(1, math.ceil(seconds))} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} hours" if hours < 48 else f"{hours / 24:.1f} days"


def _free_of_system() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found = next(line for line in lines if line.startswith("MemAvailable:"))
        return int(found.split()[1]) * 1024
    except (OSError, StopIteration, ValueError, IndexError):
        pass
    try:
        # Without a word on what is in use: all there is.
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _free_of_group() -> int | None:
    """Return what a container or a cluster job leaves (Linux control groups)."""
    try:
        group = Path("/sys/fs/cgroup")
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        used = (group / "memory.current").read_text(encoding="ascii").strip()
        facts = (group / "memory.stat").read_text(encoding="ascii").split()
        # Pages of files that were read go when others need the room.
        spare = int(facts[facts.index("inactive_file") + 1])
        return None if limit == "max" else max(0, int(limit) - int(used) + spare)
    except (OSError, ValueError, IndexError):
        return None
