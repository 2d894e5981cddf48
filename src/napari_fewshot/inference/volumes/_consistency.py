"""What holds across the planes of a volume: smooth depth, objects in space.

Everything passes plane by plane, with a few planes held.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.ops import split_instances

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from napari_fewshot._types import BoolArray, FloatArray, LabelArray

    Odds = dict[int, FloatArray]

# The Gaussian is cut off at so many standard deviations.
REACH = 2.5


def smooth_along(
    planes: Iterable[tuple[int, Odds]], sigma: float
) -> Iterator[tuple[int, Odds]]:
    """Smooth log-odds along depth by a Gaussian; rims weigh what is there.

    Parameters
    ----------
    planes : iterable of (int, {class: array (H, W)})
        Depth, rising, and log-odds.
    sigma : float
        Standard deviation in planes; 0 changes nothing.

    Yields
    ------
    int, {class: array (H, W)}
        Depth and smoothed log-odds, in the same order.
    """
    reach = int(np.ceil(REACH * sigma)) if sigma > 0 else 0
    held: deque[tuple[int, Odds]] = deque()
    done = 0  # how many at the head of `held` were yielded already
    for z, odds in planes:
        held.append((z, odds))
        while done < len(held) and held[done][0] + reach <= z:
            yield _smoothed(held, done, reach, sigma)
            done += 1
            while held and held[0][0] < held[min(done, len(held) - 1)][0] - reach:
                held.popleft()
                done -= 1
    while done < len(held):
        yield _smoothed(held, done, reach, sigma)
        done += 1


def _smoothed(
    held: deque[tuple[int, Odds]], at: int, reach: int, sigma: float
) -> tuple[int, Odds]:
    z, own = held[at]
    if not reach:
        return z, own
    near = [
        (np.exp(-0.5 * ((w - z) / sigma) ** 2), o)
        for w, o in held
        if abs(w - z) <= reach
    ]
    found = {}
    for value in own:
        theirs = [(g, o[value]) for g, o in near if value in o]
        total = sum(g for g, _ in theirs)
        mean = sum((g / total) * o for g, o in theirs)
        found[value] = np.asarray(mean, np.float32)
    return z, found


@dataclass
class SpaceObjects:
    """Objects of one volume in space, told from plane to plane.

    Pixels of a class that touch within a plane (8 neighbours), or lie above each other
    on consecutive planes, are one object.
    """

    _root: list[int] = field(default_factory=lambda: [0])
    _volume: list[int] = field(default_factory=lambda: [0])
    _value: list[int] = field(default_factory=lambda: [0])
    _first: list[int] = field(default_factory=lambda: [0])
    _last: list[int] = field(default_factory=lambda: [0])
    _start: dict[int, int] = field(default_factory=dict)
    _before: tuple[int, LabelArray] | None = None

    def add(self, z: int, labels: LabelArray) -> None:
        """Add the next plane; depth rises.

        Parameters
        ----------
        z : int
            Depth.
        labels : array (H, W)
            Classes.
        """
        parts = split_instances(labels)
        start = self._start[z] = len(self._root) - 1
        count = int(parts.max(initial=0))
        areas = np.bincount(parts.ravel(), minlength=count + 1)
        values = np.zeros(count + 1, int)
        values[parts] = labels
        for number in range(1, count + 1):
            self._root.append(start + number)
            self._volume.append(int(areas[number]))
            self._value.append(int(values[number]))
            self._first.append(z)
            self._last.append(z)
        here = np.where(parts > 0, parts + start, 0)
        if self._before is not None and self._before[0] == z - 1:
            above = self._before[1]
            both = (above > 0) & (here > 0)
            pairs = np.unique(np.stack([above[both], here[both]], 1), axis=0)
            for a, b in pairs.tolist():
                if self._value[a] == self._value[b]:
                    self._join(a, b)
        self._before = (z, here)

    def keep(
        self, *, min_planes: int = 1, min_volume: float = 0.0, largest: bool = False
    ) -> None:
        """Decide, after all planes, which objects stay.

        Parameters
        ----------
        min_planes : int
            Planes that an object must reach over.
        min_volume : float
            Pixels that it must have, over all planes.
        largest : bool
            Only the largest object of each class.
        """
        self._kept = set()
        best: dict[int, int] = {}
        for number in range(1, len(self._root)):
            if self._find(number) != number:
                continue
            depth = self._last[number] - self._first[number] + 1
            if depth < min_planes or self._volume[number] < min_volume:
                continue
            self._kept.add(number)
            value = self._value[number]
            if value not in best or self._volume[number] > self._volume[best[value]]:
                best[value] = number
        if largest:
            self._kept = set(best.values())

    def mask(self, z: int, labels: LabelArray) -> BoolArray:
        """Return which pixels of a plane, given as to `add`, stay."""
        parts = split_instances(labels)
        start, count = self._start[z], int(parts.max(initial=0))
        stays = np.zeros(count + 1, bool)
        for number in range(1, count + 1):
            stays[number] = self._find(start + number) in self._kept
        found: BoolArray = stays[parts]
        return found

    def _find(self, number: int) -> int:
        while self._root[number] != number:
            self._root[number] = self._root[self._root[number]]
            number = self._root[number]
        return number

    def _join(self, first: int, second: int) -> None:
        a, b = sorted((self._find(first), self._find(second)))
        if a == b:
            return
        self._root[b] = a
        self._volume[a] += self._volume[b]
        self._first[a] = min(self._first[a], self._first[b])
        self._last[a] = max(self._last[a], self._last[b])
