"""Linked object numbers of a stack: planes are read and written one at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_fewshot.ops.linking import MIN_OVERLAP, Linker, Tracks

if TYPE_CHECKING:
    from napari_fewshot._types import LabelArray


def link_planes(
    read: Callable[[int], LabelArray],
    write: Callable[[int, LabelArray], None],
    numbers: Sequence[Sequence[int]],
    axes: Literal["z", "t", "zt"],
    *,
    min_overlap: float = MIN_OVERLAP,
    depth_overlap: float | None = None,
    gap: int = 0,
    divisions: bool = False,
    check: Callable[[], None] = lambda: None,
) -> Tracks:
    """Renumber objects so that one object has one number over depth and time.

    Planes are read and written one at a time; a few are held.

    Parameters
    ----------
    read, write : callable
        Read and write a plane of object numbers; what was written is read again.
    numbers : sequence of sequence of int
        Plane numbers ``[t][z]``.
    axes : {"z", "t", "zt"}
        Link along depth, over time, or first along depth and then over time. With
        ``"t"`` there is one plane per time.
    min_overlap, gap, divisions
        As for `Linker`; ``gap`` holds for the last axis that is linked.
    depth_overlap : float, optional
        In place of ``min_overlap`` along depth: next to 0, pieces that touch are one
        object.
    check : callable
        Called before every plane; may raise.

    Returns
    -------
    Tracks
        Over time where that is linked, else along depth.
    """
    tracks = Tracks()
    if "z" in axes:
        total, parts = 0, []
        for planes in numbers:
            linker = Linker(
                min_overlap=depth_overlap or min_overlap,
                gap=gap if axes == "z" else 0,
                branches=True,
            )
            tracks = _link_depth(read, write, planes, linker, check, total)
            parts.append(tracks)
            # Over time the numbers of a volume are its own; alone they are unique.
            total += 0 if "t" in axes else len(tracks.table)
        tracks = _together(parts)
    if "t" in axes:
        linker = Linker(min_overlap=min_overlap, gap=gap, divisions=divisions)
        tracks = _link_time(read, write, numbers, linker, check)
    return tracks


def _link_depth(
    read: Callable[[int], LabelArray],
    write: Callable[[int, LabelArray], None],
    planes: Sequence[int],
    linker: Linker,
    check: Callable[[], None],
    start: int,
) -> Tracks:
    for number in planes:
        check()
        plane = read(number)
        named = linker.match([plane])[plane].astype(np.int32)
        linker.keep([named])
        write(number, named)
    final, tracks = linker.finish()
    final[1:] += start
    for number in planes:
        check()
        write(number, final[read(number)].astype(np.int32))
    for row in tracks.table:
        row.track += start
    tracks.points[:, 0] += start
    return tracks


def _link_time(
    read: Callable[[int], LabelArray],
    write: Callable[[int, LabelArray], None],
    numbers: Sequence[Sequence[int]],
    linker: Linker,
    check: Callable[[], None],
) -> Tracks:
    for planes in numbers:
        check()
        frame = _Lazy(read, planes)
        names = linker.match(frame)
        for number in planes:
            write(number, names[read(number)].astype(np.int32))
        linker.keep(frame)
    # Over time numbers are given once and in order: the final ones are the same.
    return linker.finish()[1]


class _Lazy(Sequence["LabelArray"]):
    """Planes that are read when they are asked for."""

    def __init__(
        self, read: Callable[[int], LabelArray], numbers: Sequence[int]
    ) -> None:
        self._read, self._numbers = read, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> LabelArray:  # type: ignore[override]
        return self._read(self._numbers[index])


def _together(parts: Sequence[Tracks]) -> Tracks:
    return Tracks(
        [row for part in parts for row in part.table],
        np.concatenate([part.points for part in parts]),
    )
