"""Objects that were found window by window, made one where they cross seams.

Two windows that see the same object number it each in its own way. What both number in
the zone that they share is compared; objects that are each other's best partner there,
and share at least half of the smaller one, are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.inference.tiles._components import OPPOSITE, neighbours

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from napari_fewshot._types import AnyArray, LabelArray
    from napari_fewshot.data import Lattice

    # Objects that a window sees in its zone, and their classes by number.
    Seen = tuple[LabelArray, AnyArray]
    Objects = Callable[[int], Seen | None]

# Shared by two views of one object, of the smaller view within the common zone.
SAME = 0.5


def stitch(
    lattice: Lattice,
    cells: Sequence[int],
    labels: Callable[[int], LabelArray],
    objects: Objects,
) -> Iterator[tuple[int, LabelArray]]:
    """Number the objects of a plane 1..N, cell by cell.

    Parameters
    ----------
    lattice : Lattice
        Of the plane.
    cells : sequence of int
        Those there are, in order.
    labels : callable
        Number of a cell to its final labels (class values).
    objects : callable
        Number of a cell to the objects that its window sees in its zone, numbered over
        all classes, and an array of their classes by number; None if there are none.

    Yields
    ------
    (int, array)
        Every cell and its object numbers, int32; 0 exactly where labels are 0.
    """
    nodes = _Nodes()
    for cell in cells:
        _match(lattice, cell, objects, nodes)
    rims: dict[int, dict[str, AnyArray]] = {}
    for cell in cells:
        found = _numbered(lattice, cell, labels(cell), objects(cell), nodes)
        _join_new(lattice, cell, found, labels(cell), rims, nodes)
    order = nodes.close()
    for cell in cells:
        found = _numbered(lattice, cell, labels(cell), objects(cell), nodes)
        yield cell, np.where(found >= 0, order[found], 0).astype(np.int32)


class _Nodes:
    """Objects of windows, and which of them are the same."""

    def __init__(self) -> None:
        self.offsets: dict[int, int] = {}
        self.new: dict[int, int] = {}
        self.total = 0
        self.pairs: list[AnyArray] = []
        # Where an object is seen first, as a pixel number of the plane.
        self.first: dict[int, int] = {}

    def grow(self, count: int) -> int:
        """Make nodes; returns the number of the first."""
        low, self.total = self.total, self.total + count
        return low

    def close(self) -> AnyArray:
        """Return the final number of every node, in the order they are seen first."""
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components

        if not self.total:
            return np.zeros(1, np.int64)
        pairs = np.concatenate([np.zeros((0, 2), np.int64), *self.pairs])
        ones = np.ones(len(pairs), np.int8)
        graph = coo_matrix((ones, (pairs[:, 0], pairs[:, 1])), (self.total,) * 2)
        count, root = connected_components(graph, directed=False)
        seen = np.full(count, np.iinfo(np.int64).max)
        if self.first:
            at = np.fromiter(self.first, np.int64)
            when = np.fromiter(self.first.values(), np.int64)
            np.minimum.at(seen, root[at], when)
        # Views that nothing is left of are sorted behind all others.
        numbers = np.empty(count, np.int64)
        numbers[np.argsort(seen, kind="stable")] = np.arange(1, count + 1)
        final: AnyArray = numbers[root]
        return final


def _match(lattice: Lattice, cell: int, objects: Objects, nodes: _Nodes) -> None:
    """Compare the objects of a window with those of neighbours that came before."""
    mine = objects(cell)
    if mine is None:
        return
    nodes.offsets[cell] = nodes.grow(len(mine[1]))
    for other in set(neighbours(lattice, cell).values()):
        if other < 0 or other not in nodes.offsets or other == cell:
            continue
        theirs = objects(other)
        if theirs is None:
            continue
        a, b = lattice.zone(cell), lattice.zone(other)
        common = (max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))
        if common[0] >= common[2] or common[1] >= common[3]:
            continue
        pairs = same_objects(_cut(mine[0], a, common), _cut(theirs[0], b, common))
        alike = mine[1][pairs[:, 0]] == theirs[1][pairs[:, 1]]
        if alike.any():
            low = np.array([nodes.offsets[cell], nodes.offsets[other]])
            nodes.pairs.append(pairs[alike] + low)


def same_objects(a: LabelArray, b: LabelArray) -> AnyArray:
    """Return pairs (N, 2) of numbers that mean the same object in two views.

    Parameters
    ----------
    a, b : array (H, W)
        Object numbers; 0 is none.
    """
    both = (a > 0) & (b > 0)
    if not both.any():
        return np.zeros((0, 2), np.int64)
    size = int(b.max()) + 1
    codes, shared = np.unique(
        a[both].astype(np.int64) * size + b[both], return_counts=True
    )
    left, right = np.divmod(codes, size)
    of_a, of_b = np.bincount(a[a > 0])[left], np.bincount(b[b > 0])[right]
    enough = shared >= SAME * np.minimum(of_a, of_b)
    # Each other's best: the order of size decides, and the last one written stays.
    order = np.argsort(shared, kind="stable")
    best_a = np.zeros(int(a.max()) + 1, np.int64)
    best_b = np.zeros(size, np.int64)
    best_a[left[order]], best_b[right[order]] = right[order], left[order]
    mutual = (best_a[left] == right) & (best_b[right] == left)
    found: AnyArray = np.stack([left, right], 1)[enough & mutual]
    return found


def _numbered(
    lattice: Lattice,
    cell: int,
    labels: LabelArray,
    objects: Seen | None,
    nodes: _Nodes,
) -> AnyArray:
    """Return the node of every pixel of a cell, -1 where labels are 0.

    Pixels without an object join the nearest one of their connected part; parts without
    any are an object each.
    """
    from scipy import ndimage

    region = lattice.cell(cell)
    found = np.full(labels.shape, -1, np.int64)
    if objects is not None:
        own = _cut(objects[0], lattice.zone(cell), region).astype(np.int64)
        known = (own > 0) & (objects[1][own] == labels)
        found = np.where(known, own + nodes.offsets[cell], -1)
    found[labels == 0] = -1
    lost = (labels > 0) & (found < 0)
    if not lost.any():
        return found
    extra = 0
    for value in np.unique(labels[lost]).tolist():
        parts, _ = ndimage.label(labels == value, np.ones((3, 3), bool))
        places = ndimage.find_objects(parts)
        for i in np.unique(parts[lost & (labels == value)]).tolist():
            place = places[i - 1]
            here, mine = parts[place] == i, found[place]
            if (mine[here] >= 0).any():
                empty = np.where(here, mine, -1) < 0
                near = ndimage.distance_transform_edt(
                    empty, return_distances=False, return_indices=True
                )
                filled = mine[tuple(near)]
                mine[here] = filled[here]
                continue
            if cell not in nodes.new:
                nodes.new[cell] = nodes.total
            node = nodes.new[cell] + extra
            extra += 1
            nodes.total = max(nodes.total, node + 1)
            mine[here] = node
    return found


def _join_new(
    lattice: Lattice,
    cell: int,
    found: AnyArray,
    labels: LabelArray,
    rims: dict[int, dict[str, AnyArray]],
    nodes: _Nodes,
) -> None:
    """Note where objects are seen first, and join parts no window saw as objects."""
    region, columns = lattice.cell(cell), lattice.shape[1]
    inside = np.flatnonzero(found >= 0)[::-1]
    ids = found.ravel()[inside]
    unique, last = np.unique(ids[::-1], return_index=True)
    for node, at in zip(unique.tolist(), inside[::-1][last].tolist(), strict=True):
        row, column = divmod(at, found.shape[1])
        nodes.first[node] = min(
            nodes.first.get(node, np.iinfo(np.int64).max),
            (row + region[0]) * columns + column + region[1],
        )
    low = nodes.new.get(cell, np.iinfo(np.int64).max)
    both = np.stack([found, labels, found >= low], -1)
    rims[cell] = {
        "n": both[0].copy(),
        "s": both[-1].copy(),
        "w": both[:, 0].copy(),
        "e": both[:, -1].copy(),
    }
    for side, other in neighbours(lattice, cell).items():
        if len(side) > 1 or other not in rims:
            continue
        a, b = rims[cell][side], rims[other][OPPOSITE[side]]
        touch = (a[:, 0] >= 0) & (b[:, 0] >= 0) & (a[:, 1] == b[:, 1])
        touch &= (a[:, 2] > 0) | (b[:, 2] > 0)
        if touch.any():
            pairs = np.stack([a[touch, 0], b[touch, 0]], 1)
            nodes.pairs.append(np.unique(pairs, axis=0))


def _cut(
    array: LabelArray,
    region: tuple[int, int, int, int],
    part: tuple[int, int, int, int],
) -> LabelArray:
    """Return a part of an array that shows a region."""
    top, left = part[0] - region[0], part[1] - region[1]
    return array[top : top + part[2] - part[0], left : left + part[3] - part[1]]
