"""Where candidates differ: votes per pixel, Dice of pairs, and the places to look at.

Everything is a sum over pairs of candidates, so that planes can be compared as they
come and a candidate that fails half-way leaves nothing behind.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_fewshot._types import BoolArray, FloatArray, LabelArray

# Places to look at are tiles: this many along the longer side, none smaller than that.
TILES, MIN_TILE = 8, 16


def disagreement(labels: Sequence[LabelArray]) -> FloatArray:
    """Return the share of pairs of candidates that differ, pixel by pixel.

    With two candidates it is 1 where they differ; with more it is the chance that two
    of them, drawn without replacement, say something else (Gini and Simpson's index of
    diversity of the votes). Unlike the share of a minority it always reaches 1 where
    all differ, however many they are.

    Parameters
    ----------
    labels : sequence of array (H, W)
        Class labels of every candidate.

    Returns
    -------
    array (H, W)
        float32 in [0, 1]; 0 for a single candidate.
    """
    found = np.zeros(np.shape(labels[0]), np.float32)
    pairs = list(combinations(labels, 2))
    for first, second in pairs:
        found += first != second
    return found / np.float32(max(1, len(pairs)))


@dataclass
class Overlap:
    """What two candidates have in common, plane by plane.

    Attributes
    ----------
    common : Counter
        Pixels that both give to a class, by class.
    tiles : dict of int to array (rows, columns)
        Pixels in which they differ, by plane, counted in square tiles.
    """

    common: Counter[int] = field(default_factory=Counter)
    tiles: dict[int, Any] = field(default_factory=dict)

    def add(self, plane: int, first: LabelArray, second: LabelArray) -> None:
        """Count a plane of both."""
        same = first == second
        self.common.update(areas(first[same]))
        self.tiles[plane] = count_tiles(~same)


def areas(labels: LabelArray) -> dict[int, int]:
    """Return the number of pixels of every class above 0 that is there."""
    counts = np.bincount(labels.ravel())
    return {int(v): int(counts[v]) for v in np.flatnonzero(counts) if v}


def pair_dice(
    common: Counter[int],
    first: Counter[int],
    second: Counter[int],
    classes: Iterable[int],
) -> float:
    """Return the Dice of two candidates, mean over classes; both empty is 1.

    Parameters
    ----------
    common : Counter
        Pixels that both give to a class.
    first, second : Counter
        Pixels that each gives to a class.
    classes : iterable of int
        Classes to average over.
    """
    found = []
    for value in classes:
        total = first[value] + second[value]
        found.append(2 * common[value] / total if total else 1.0)
    return float(np.mean(found)) if found else 1.0


def tile_side(shape: tuple[int, int]) -> int:
    """Return the side of tiles of a plane, in pixels."""
    return max(MIN_TILE, -(-max(shape) // TILES))


def count_tiles(mask: BoolArray) -> Any:
    """Return how many pixels of a mask are in every tile, ``(rows, columns)`` int."""
    side = tile_side((mask.shape[0], mask.shape[1]))
    rows, columns = (np.arange(0, n, side) for n in mask.shape)
    return np.add.reduceat(
        np.add.reduceat(mask.astype(np.int64), rows, axis=0), columns, axis=1
    )


def rank_places(
    tiles: Iterable[dict[int, Any]], shape: tuple[int, int]
) -> list[tuple[int, int, int]]:
    """Return middles of the tiles in which candidates differ, most first.

    Parameters
    ----------
    tiles : iterable of dict of int to array
        `Overlap.tiles` of every pair.
    shape : (int, int)
        Of a plane.

    Returns
    -------
    list of (int, int, int)
        Plane, row and column, in pixels.
    """
    totals: dict[int, Any] = {}
    for one in tiles:
        for plane, counts in one.items():
            totals[plane] = totals.get(plane, 0) + counts
    side = tile_side(shape)
    found = []
    for plane, counts in totals.items():
        for at in np.argwhere(counts):
            row, column = np.minimum(at * side + side // 2, np.subtract(shape, 1))
            found.append((-int(counts[tuple(at)]), plane, int(row), int(column)))
    return [(plane, row, column) for _, plane, row, column in sorted(found)]
