"""Before a run: how long, how much memory and disk, and whether that is there."""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_fewshot.errors import DataError, FewShotError, StorageError
from napari_fewshot.inference._estimate import (
    BASE,
    LABEL_BYTES,
    PACKED,
    Speeds,
    disk_of,
    memory_of,
    work_of,
)
from napari_fewshot.io import (
    cache_folder,
    suffix_of,
    write_text,
)
from napari_fewshot.session._asked import request_of
from napari_fewshot.session._resources import (
    free_disk,
    free_memory,
    say_bytes,
    say_duration,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from napari_fewshot.inference import SegmentRequest
    from napari_fewshot.inference._estimate import Work

SPEEDS = "speeds.json"
# Less memory than this is never a reason to refuse.
LITTLE = 500e6
# Pixels of a plane and of a result that fit anywhere.
SMALL_PLANE, SMALL_RESULT = 1 << 20, 1 << 24
# Seconds between two notes: runs may take less than writing one.
NOTE_EVERY = 1.0
_noted = [-NOTE_EVERY]


@dataclass(frozen=True)
class Estimate:
    """What a run would take.

    Attributes
    ----------
    seconds : float
        From runs on this machine, or a guess.
    memory_bytes : int
        At the peak, with the model.
    disk_bytes : int
        Where the result is written and in the cache.
    fits : bool
        Whether memory and disk suffice.
    reasons : tuple of str
        Why it does not fit.
    advice : tuple of str
        What would.
    is_guess : bool
        Whether no run of this method was measured on this machine.
    n_planes, n_windows : int
        Planes, and what is looked at one by one: planes, or tiles of large ones.
    megapixels : float
        Of all that is looked at.
    """

    seconds: float
    memory_bytes: int
    disk_bytes: int
    fits: bool = True
    reasons: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    is_guess: bool = False
    n_planes: int = 1
    n_windows: int = 1
    megapixels: float = 0.0

    def __str__(self) -> str:
        """Return one line."""
        what = "1 plane" if self.n_planes == 1 else f"{self.n_planes:,} planes"
        if self.n_windows > self.n_planes:
            what += f" in {self.n_windows:,} tiles"
        guess = " (a guess: not measured here yet)" if self.is_guess else ""
        line = (
            f"{what}, about {say_duration(self.seconds)}{guess}, "
            f"{say_bytes(self.memory_bytes)} of memory"
        )
        if self.disk_bytes:
            line += f", {say_bytes(self.disk_bytes)} on disk"
        return line


def estimate(
    query: Any,
    support: Any = None,
    text: Any = None,
    prompts: Any = None,
    method: str | None = None,
    model: str | None = None,
    *,
    scale: Any = None,
    axes: str | None = None,
    channels: Any = None,
    device: str = "auto",
    checkpoint: Any = None,
    keep_probabilities: bool | None = None,
    out: str | os.PathLike[str] | None = None,
    region: tuple[int, int, int, int] | None = None,
    inside: Any = None,
    level: Any = "auto",
    text_method: str | None = None,
    text_model: Any = None,
    text_share: str = "learnt",
    **params: Any,
) -> Estimate:
    """Tell what `segment` with the same arguments would take; nothing is computed.

    Parameters
    ----------
    query, support, text, prompts, method, model, scale, axes, channels, device
        As for `segment`.
    checkpoint, keep_probabilities, out, region, inside, level
        As for `segment`.
    text_method, text_model, text_share, **params
        As for `segment`.

    Returns
    -------
    Estimate
        ``fits`` is False if memory or disk can't suffice; ``reasons`` and ``advice``
        then say why, and what would.

    Raises
    ------
    SupportError, PromptError, DataError, ModelError
        If the request can't be done at all.
    TypeError
        For an unknown parameter.
    """
    request = request_of(
        query,
        support,
        text,
        prompts,
        method,
        model,
        params,
        scale=scale,
        axes=axes,
        channels=channels,
        device=device,
        checkpoint=checkpoint,
        keep_probabilities=keep_probabilities,
        region=region,
        inside=inside,
        level=level,
        text_method=text_method,
        text_model=text_model,
        text_share=text_share,
    )
    return estimate_request(request, out)


def estimate_request(
    request: SegmentRequest,
    out: str | os.PathLike[str] | None = None,
    *,
    is_local: bool = True,
    workers: int = 1,
) -> Estimate:
    """Tell what a request would take.

    Parameters
    ----------
    request : SegmentRequest
        Not yet run.
    out : path, optional
        Where the result is to be written.
    is_local : bool
        Whether it is computed on this machine: the memory of others is not known.
    workers : int
        How many of a cluster share it.

    Raises
    ------
    DataError, ModelError, TypeError, ValueError
        If the request can't be done at all.
    """
    work = work_of(request)
    is_stored = out is not None and suffix_of(out) == ".zarr"
    memory = memory_of(request, work, is_stored=is_stored)
    written, cached = disk_of(
        request, work, has_out=out is not None, is_stored=is_stored
    )
    speeds = Speeds.parse(_read())
    seconds, is_guess = speeds.predict(request, _device(request), work, workers)
    reasons, advice = _short_of_disk(work, written, cached, out)
    if is_local and not reasons:
        reasons, advice = _short_of_memory(work, memory)
    return Estimate(
        seconds=seconds,
        memory_bytes=memory,
        disk_bytes=written + cached,
        fits=not reasons,
        reasons=tuple(reasons),
        advice=tuple(advice),
        is_guess=is_guess,
        n_planes=work.n_planes,
        n_windows=work.n_windows,
        megapixels=work.megapixels * work.n_windows,
    )


def refuse_too_large(
    request: SegmentRequest,
    out: str | os.PathLike[str] | None = None,
    *,
    is_local: bool = True,
) -> None:
    """Refuse what can't fit, before hours are spent on it.

    Parameters
    ----------
    request : SegmentRequest
        Not yet run.
    out : path, optional
        Where the result is to be written.
    is_local : bool
        As for `estimate_request`.

    Raises
    ------
    StorageError
        If the result does not fit on the disk.
    DataError
        If a plane needs more memory than there is.
    """
    query = request.query
    is_small = math.prod(query.label_shape) <= SMALL_RESULT
    if is_small and math.prod(query.plane_shape) <= SMALL_PLANE:
        return
    try:
        found = estimate_request(request, out, is_local=is_local)
    except (FewShotError, TypeError, ValueError):
        # Whoever runs it says what is wrong.
        return
    if not found.fits:
        kind = StorageError if "disk" in found.reasons[0] else DataError
        raise kind(" ".join([*found.reasons, *found.advice]))


def total(estimates: Sequence[Estimate]) -> Estimate:
    """Return what several runs after one another take.

    Parameters
    ----------
    estimates : sequence of Estimate
        At least one.
    """
    return Estimate(
        seconds=sum(e.seconds for e in estimates),
        memory_bytes=max(e.memory_bytes for e in estimates),
        disk_bytes=sum(e.disk_bytes for e in estimates),
        fits=all(e.fits for e in estimates),
        reasons=tuple(dict.fromkeys(r for e in estimates for r in e.reasons)),
        advice=tuple(dict.fromkeys(a for e in estimates for a in e.advice)),
        is_guess=any(e.is_guess for e in estimates),
        n_planes=sum(e.n_planes for e in estimates),
        n_windows=sum(e.n_windows for e in estimates),
        megapixels=sum(e.megapixels for e in estimates),
    )


def note_speed(request: SegmentRequest, provenance: dict[str, Any]) -> None:
    """Remember how long a run took, for the next estimate; never fails.

    Parameters
    ----------
    request : SegmentRequest
        That was run.
    provenance : dict
        Of its result.
    """
    if time.monotonic() - _noted[0] < NOTE_EVERY:
        return
    with contextlib.suppress(OSError, FewShotError, KeyError, TypeError, ValueError):
        _noted[0] = time.monotonic()
        speeds = Speeds.parse(_read())
        if speeds.note(provenance, work_of(request)):
            write_text(cache_folder() / SPEEDS, speeds.text())


def _short_of_disk(
    work: Work, written: int, cached: int, out: str | os.PathLike[str] | None
) -> tuple[list[str], list[str]]:
    """Return why a result does not fit on the disk, and what would."""
    reasons, advice = [], []
    places = [(cache_folder(), cached)]
    if out is not None:
        places.insert(0, (Path(out), written))
    for place, size in places:
        free = free_disk(place)
        if size and free is not None and size > free:
            reasons.append(
                f"The result needs about {say_bytes(size)} of disk in {place.parent}, "
                f"where {say_bytes(free)} are free."
            )
            room = free / (PACKED * LABEL_BYTES * max(1, work.label_pixels))
            advice.append(
                "Write to another disk with out=, free space, take a coarser level=, "
                f"or segment a part of it (about {min(0.9, room):.0%} fits)."
            )
    return reasons, advice


def _short_of_memory(work: Work, memory: int) -> tuple[list[str], list[str]]:
    """Return why a run does not fit into the memory, and what would.

    What the program takes anyway, and little beside it, is no reason: estimates are on
    the generous side.
    """
    there, needed = free_memory(), memory - BASE
    if there is None or needed <= max(there, LITTLE):
        return [], []
    rows, columns = work.window
    what = "tile" if work.is_tiled else "plane"
    reason = (
        f"A {what} of {rows:,} x {columns:,} pixels needs about {say_bytes(memory)} of "
        f"memory; {say_bytes(there)} are free."
    )
    smaller = ["tile=512"] if max(work.window) > 1024 else []
    words = ", ".join([*smaller, "a smaller region=", "a coarser level="])
    return [reason], [f"Use {words} or a smaller model, or close other programs."]


def _device(request: SegmentRequest) -> str:
    if request.device != "auto":
        return request.device.partition(":")[0]
    # Asking torch costs seconds, if it is not loaded yet: ask what was used last.
    return "cpu" if not _has_cards() else "cuda"


def _has_cards() -> bool:
    return Path("/proc/driver/nvidia/version").exists()


def _read() -> str:
    try:
        return (cache_folder() / SPEEDS).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
