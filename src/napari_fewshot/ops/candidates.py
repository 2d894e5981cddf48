"""Candidate masks of single objects: cut out of a map, compared, measured, chosen.

A candidate is a small mask with its place; many of them together are a sparse matrix
with one row per candidate and one column per pixel of the plane.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.ops.instances_bank import LEAST_AREA, cuts_of, shapes_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import AnyArray, BoolArray, FloatArray, LabelArray
    from napari_fewshot.ops.instances_bank import ShapeBank

# A ring round an object is as wide as this share of the root of its area, in pixels
# at least and at most.
RING_SHARE, RING_LEAST, RING_MOST = 0.25, 2, 12


@dataclass(frozen=True, eq=False)
class Candidate:
    """One mask that may be an object.

    Attributes
    ----------
    place : tuple of slice
        Rows and columns of the plane.
    mask : array (r, c) bool
        In that place; not empty.
    quality : float
        What its maker thinks of it, in [0, 1].
    """

    place: tuple[slice, slice]
    mask: BoolArray = field(repr=False)
    quality: float = 1.0


def candidate_of(mask: BoolArray, quality: float = 1.0) -> Candidate | None:
    """Return a mask (H, W) as a candidate; None if it is empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    place = (
        slice(int(rows[0]), int(rows[-1]) + 1),
        slice(int(columns[0]), int(columns[-1]) + 1),
    )
    return Candidate(place, mask[place].copy(), quality)


def cut_candidates(probability: FloatArray) -> list[Candidate]:
    """Return the parts of a map above one half, and the pieces of all ways to cut them.

    Parameters
    ----------
    probability : array (H, W)
        How sure each pixel is; 0.5 is the boundary.

    Returns
    -------
    list of Candidate
        Each once; the quality is the share of the ways to cut a part that yield it.
    """
    from scipy import ndimage

    whole = ndimage.label(probability >= 0.5, np.ones((3, 3), bool))[0]
    found = []
    for number, window in enumerate(ndimage.find_objects(whole), 1):
        mask = whole[window] == number
        ways = [mask.astype(np.int32), *cuts_of(mask, probability[window])]
        seen: dict[bytes, list[Any]] = {}
        for parts in ways:
            for i, place in enumerate(ndimage.find_objects(parts), 1):
                piece = parts[place] == i
                key = repr(place).encode() + np.packbits(piece).tobytes()
                seen.setdefault(key, [place, piece, 0])[2] += 1
        for place, piece, votes in seen.values():
            if piece.sum() >= LEAST_AREA or len(seen) == 1:
                at = _moved(place, window)
                found.append(Candidate(at, piece, votes / len(ways)))
    return found


def as_rows(candidates: Sequence[Candidate], shape: tuple[int, int]) -> Any:
    """Return candidates as a sparse matrix (N, H W) float32 of zeros and ones."""
    from scipy.sparse import csr_array

    columns = []
    for one in candidates:
        rows, cols = np.nonzero(one.mask)
        columns.append((rows + one.place[0].start) * shape[1] + cols)
        columns[-1] += one.place[1].start
    sizes = [len(c) for c in columns]
    index = np.concatenate([np.zeros(0, np.int64), *columns])
    ends = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    ones = np.ones(len(index), np.float32)
    return csr_array((ones, index, ends), (len(candidates), shape[0] * shape[1]))


def rings_of(
    candidates: Sequence[Candidate], shape: tuple[int, int]
) -> list[Candidate]:
    """Return the ring right round each candidate; where there is none, the candidate.

    Parameters
    ----------
    candidates : sequence of Candidate
        On a plane.
    shape : (int, int)
        Of the plane.
    """
    from scipy import ndimage

    found = []
    for one in candidates:
        width = int(
            np.clip(RING_SHARE * one.mask.sum() ** 0.5, RING_LEAST, RING_MOST)
        )
        low = [max(0, s.start - width) for s in one.place]
        high = [min(n, s.stop + width) for s, n in zip(one.place, shape, strict=True)]
        wide = np.zeros((high[0] - low[0], high[1] - low[1]), bool)
        inner = tuple(
            slice(s.start - a, s.stop - a) for s, a in zip(one.place, low, strict=True)
        )
        wide[inner] = one.mask
        ring = (ndimage.distance_transform_edt(~wide) <= width) & ~wide
        place = (slice(low[0], high[0]), slice(low[1], high[1]))
        found.append(Candidate(place, ring) if ring.any() else one)
    return found


def shape_likeness(candidates: Sequence[Candidate], bank: ShapeBank) -> FloatArray:
    """Return how much each candidate is shaped like the objects of a bank, (N,)."""
    found = [bank.likeness(one.mask.astype(np.int32))[0] for one in candidates]
    return np.array(found, np.float32)


def shape_table(candidates: Sequence[Candidate]) -> FloatArray:
    """Return area and solidity of each candidate, (N, 2)."""
    found = [np.concatenate(shapes_of(c.mask.astype(np.int32))) for c in candidates]
    return np.array(found, np.float32).reshape(-1, 2)


def _moved(place: Any, window: Any) -> tuple[slice, slice]:
    """Return a place inside a window as one of the plane."""
    rows, columns = (
        slice(p.start + w.start, p.stop + w.start)
        for p, w in zip(place, window, strict=True)
    )
    return rows, columns
