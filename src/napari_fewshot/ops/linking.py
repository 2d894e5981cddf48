"""Link object numbers of consecutive planes or time points by overlap.

Two objects of consecutive frames are candidates if the overlap covers enough of the
smaller one. Among candidates the one-to-one assignment of largest total intersection
over union is taken (Kuhn, Naval Research Logistics Quarterly 1955), in each group of
objects that overlap by itself. What is left over says where objects split and merge:
along depth these are branches of one object, over time they are events.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_fewshot._types import AnyArray, LabelArray

MIN_OVERLAP = 0.5


@dataclass
class Track:
    """One object through time or depth.

    Attributes
    ----------
    track : int
        Its number in the linked instances.
    first, last : int
        Frames it is seen in, the first and the last.
    parent : int
        The track it split from; 0 is none.
    merged_into : int
        The track that took its place; 0 is none.
    """

    track: int
    first: int
    last: int
    parent: int = 0
    merged_into: int = 0


@dataclass(frozen=True, eq=False)
class Tracks:
    """All tracks of a run.

    Attributes
    ----------
    table : list of Track
        Ordered by number.
    points : array (N, 2 + D)
        ``(track, frame, [z,] row, column)`` of the centre of every object in every
        frame, ordered by track and frame: what a napari Tracks layer takes.
    """

    table: list[Track] = field(default_factory=list)
    points: AnyArray = field(default_factory=lambda: np.zeros((0, 4)), repr=False)

    @property
    def graph(self) -> dict[int, list[int]]:
        """Tracks and where they come from, as napari has it: ``{track: [parents]}``."""
        found: dict[int, list[int]] = {}
        for row in self.table:
            if row.parent:
                found.setdefault(row.track, []).append(row.parent)
            if row.merged_into:
                found.setdefault(row.merged_into, []).append(row.track)
        return found


def shared_pixels(
    first: Iterable[LabelArray], second: Iterable[LabelArray]
) -> tuple[AnyArray, AnyArray]:
    """Count the pixels that every pair of objects has in common.

    Parameters
    ----------
    first, second : iterable of array (H, W)
        Planes of two frames, in the same order.

    Returns
    -------
    pairs : array (N, 2)
        Labels in the first and in the second; background is left out.
    counts : array (N,)
        Pixels in common.
    """
    found: dict[tuple[int, int], int] = {}
    for a, b in zip(first, second, strict=True):
        both = (a > 0) & (b > 0)
        if not both.any():
            continue
        x, y = a[both].astype(np.int64), b[both].astype(np.int64)
        width = int(y.max()) + 1
        codes, counts = np.unique(x * width + y, return_counts=True)
        for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
            pair = divmod(code, width)
            found[pair] = found.get(pair, 0) + count
    if not found:
        return np.zeros((0, 2), np.int64), np.zeros(0, np.int64)
    return np.array(list(found), np.int64), np.array(list(found.values()), np.int64)


def best_pairs(pairs: AnyArray, gains: AnyArray) -> list[tuple[int, int]]:
    """Return the one-to-one assignment of largest total gain.

    Parameters
    ----------
    pairs : array (N, 2)
        Labels that may be assigned to each other.
    gains : array (N,)
        What every pair is worth; above 0.

    Returns
    -------
    list of (int, int)
        Sorted.
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(pairs):
        return []
    left, rows = np.unique(pairs[:, 0], return_inverse=True)
    right, columns = np.unique(pairs[:, 1], return_inverse=True)
    size = len(left) + len(right)
    joined = coo_array((gains, (rows, columns + len(left))), shape=(size, size))
    group = connected_components(joined, directed=False)[1][rows]
    order = np.argsort(group, kind="stable")
    cuts = np.flatnonzero(np.diff(group[order])) + 1
    found = []
    for members in np.split(order, cuts):
        r, i = np.unique(rows[members], return_inverse=True)
        c, j = np.unique(columns[members], return_inverse=True)
        worth = np.zeros((len(r), len(c)))
        worth[i, j] = gains[members]
        for a, b in zip(*linear_sum_assignment(worth, maximize=True), strict=True):
            if worth[a, b] > 0:
                found.append((int(left[r[a]]), int(right[c[b]])))
    return sorted(found)


@dataclass
class _Frame:
    number: int
    planes: Sequence[LabelArray]
    sizes: dict[int, int]
    open: set[int]


class Linker:
    """Gives objects of one frame after the other numbers that stay the same.

    Only the last ``gap + 1`` frames are looked at.

    Parameters
    ----------
    min_overlap : float
        Share of the smaller object that must be in common, in (0, 1].
    gap : int
        Frames in which an object may be missing.
    branches : bool
        Pieces that split or merge stay one object (depth); else they are events (time).
    divisions : bool
        Over time, where an object splits, all pieces become new tracks; else the
        piece that is most like it keeps its number.
    """

    def __init__(
        self,
        *,
        min_overlap: float = MIN_OVERLAP,
        gap: int = 0,
        branches: bool = False,
        divisions: bool = False,
    ) -> None:
        self._min_overlap, self._branches = min_overlap, branches
        self._divisions = divisions and not branches
        self._recent: deque[_Frame] = deque(maxlen=gap + 1)
        self._tracks: list[Track] = []
        self._root: list[int] = [0]
        self._points: list[tuple[float, ...]] = []
        self._count = 0

    def match(self, planes: Sequence[LabelArray]) -> AnyArray:
        """Number the objects of the next frame; `keep` must follow.

        Parameters
        ----------
        planes : sequence of array (H, W)
            The frame: one plane, or the planes of a volume, perhaps read on demand.

        Returns
        -------
        array (largest label + 1,)
            New number of every label; 0 for background.
        """
        sizes, centres = _measure(planes)
        number, names = self._count, np.zeros(max(sizes, default=0) + 1, np.int64)
        self._count += 1
        given: dict[int, int] = {}
        for frame in reversed(self._recent):
            free = [label for label in sizes if label not in given]
            if not free:
                break
            self._match_with(frame, planes, sizes, given, number)
        for label in sizes:
            if label not in given:
                given[label] = self._new(number)
        for label, track in given.items():
            names[label] = track
            row = self._tracks[self._find(track) - 1]
            row.last = max(row.last, number)
            self._points.append((track, number, sizes[label], *centres[label]))
        renamed: dict[int, int] = {}
        for label, size in sizes.items():
            renamed[given[label]] = renamed.get(given[label], 0) + size
        self._recent.append(_Frame(number, (), renamed, set(renamed)))
        return names

    def keep(self, planes: Sequence[LabelArray]) -> None:
        """Hold the frame, with its new numbers, for those that follow."""
        self._recent[-1].planes = planes

    def finish(self) -> tuple[AnyArray, Tracks]:
        """Return the final number of every track number, 1..N, and the tracks."""
        final = np.zeros(len(self._root), np.int64)
        kept: list[Track] = []
        for track in range(1, len(self._root)):
            if self._find(track) == track:
                kept.append(self._tracks[track - 1])
                final[track] = len(kept)
        for track in range(1, len(self._root)):
            final[track] = final[self._find(track)]
        table = [
            Track(
                int(final[row.track]),
                row.first,
                row.last,
                int(final[row.parent]),
                int(final[row.merged_into]),
            )
            for row in kept
        ]
        return final, Tracks(table, _points_of(self._points, final))

    def _match_with(
        self,
        frame: _Frame,
        planes: Sequence[LabelArray],
        sizes: dict[int, int],
        given: dict[int, int],
        number: int,
    ) -> None:
        """Match what has no number yet with the objects of an earlier frame."""
        pairs, counts = shared_pixels(frame.planes, planes)
        is_last = frame.number == number - 1
        usable = np.array(
            [
                a in frame.open and (is_last or b not in given)
                for a, b in pairs.tolist()
            ],
            bool,
        )
        pairs, counts = pairs[usable], counts[usable]
        before = np.array([frame.sizes[a] for a in pairs[:, 0].tolist()], float)
        now = np.array([sizes[b] for b in pairs[:, 1].tolist()], float)
        near = counts >= self._min_overlap * np.minimum(before, now)
        pairs, counts = pairs[near], counts[near]
        gains = counts / (before[near] + now[near] - counts)
        chosen = dict(best_pairs(pairs, gains))
        for track, label in chosen.items():
            given[label] = track
            self._continue(track, frame)
        taken = set(chosen.values())
        if is_last:
            self._left_over(pairs, chosen, taken, given, number, frame)

    def _left_over(
        self,
        pairs: AnyArray,
        chosen: dict[int, int],
        taken: set[int],
        given: dict[int, int],
        number: int,
        frame: _Frame,
    ) -> None:
        """Note pieces that split from, or merge with, objects that went on."""
        pieces: dict[int, list[int]] = {}
        for track, label in pairs.tolist():
            if chosen.get(track) == label:
                continue
            if self._branches:
                self._continue(track, frame)
                if label in given:
                    self._join(track, given[label])
                else:
                    given[label] = track
            elif label in taken and track not in chosen:
                self._tracks[track - 1].merged_into = given[label]
                self._continue(track, frame)
            elif track in chosen and label not in taken and label not in given:
                pieces.setdefault(track, []).append(label)
                given[label] = self._new(number, parent=track)
        if self._divisions:
            for track in pieces:
                # The parent ends where it divides; both halves are its children.
                given[chosen[track]] = self._new(number, parent=track)

    def _continue(self, track: int, frame: _Frame) -> None:
        """An object that goes on can't be found again after a gap."""
        for known in self._recent:
            known.open.discard(track)
        frame.open.discard(track)

    def _new(self, number: int, parent: int = 0) -> int:
        track = len(self._root)
        self._root.append(track)
        self._tracks.append(Track(track, number, number, parent))
        return track

    def _find(self, track: int) -> int:
        while self._root[track] != track:
            self._root[track] = self._root[self._root[track]]
            track = self._root[track]
        return track

    def _join(self, first: int, second: int) -> None:
        a, b = sorted((self._find(first), self._find(second)))
        if a == b:
            return
        self._root[b] = a
        kept, gone = self._tracks[a - 1], self._tracks[b - 1]
        kept.first, kept.last = min(kept.first, gone.first), max(kept.last, gone.last)


def _measure(
    planes: Sequence[LabelArray],
) -> tuple[dict[int, int], dict[int, tuple[float, ...]]]:
    """Return pixels and centre ([z,] row, column) of every label of a frame."""
    count = np.zeros(1, np.int64)
    sums = np.zeros((3, 1))
    for z, plane in enumerate(planes):
        rows, columns = np.nonzero(plane)
        if not len(rows):
            continue
        labels = plane[rows, columns]
        length = max(len(count), int(labels.max()) + 1)
        grow = length - len(count)
        count = np.pad(count, (0, grow)) + np.bincount(labels, minlength=length)
        more = [np.bincount(labels, w, length) for w in (rows, columns)]
        depth = np.bincount(labels, minlength=length) * z
        sums = np.pad(sums, ((0, 0), (0, grow))) + np.stack([depth, *more])
    present = np.flatnonzero(count)
    centres = sums[:, present] / count[present]
    first = 0 if len(planes) > 1 else 1
    return (
        {int(v): int(count[v]) for v in present},
        {
            int(v): tuple(float(c) for c in centres[first:, i])
            for i, v in enumerate(present)
        },
    )


def _points_of(points: Sequence[tuple[float, ...]], final: AnyArray) -> AnyArray:
    """Return one point per track and frame: pieces of an object are weighed by size."""
    if not points:
        return np.zeros((0, 4))
    table = np.array(points, float)
    table[:, 0] = final[table[:, 0].astype(int)]
    table = table[np.lexsort((table[:, 1], table[:, 0]))]
    starts = np.flatnonzero((np.diff(table[:, :2], axis=0, prepend=-1) != 0).any(1))
    sizes = np.add.reduceat(table[:, 2], starts)
    sums = np.add.reduceat(table[:, 3:] * table[:, 2:3], starts)
    found: AnyArray = np.concatenate([table[starts, :2], sums / sizes[:, None]], 1)
    return found
