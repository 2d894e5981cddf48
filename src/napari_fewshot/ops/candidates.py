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

    from napari_fewshot._types import BoolArray, FloatArray, LabelArray

# A ring round an object is as wide as this share of the root of its area, in pixels
# at least and at most.
RING_SHARE, RING_LEAST, RING_MOST = 0.25, 2, 12
# A landscape is cut at these quantiles, as it is and smoothed by so many pixels.
LEVEL_SHARES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
LEVEL_SIGMAS = (0.0, 1.5)
# Of two candidates that overlap by more than this (union) only the better stays.
MOST_UNION = 0.5
EPSILON = 1e-6


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


def candidates_of(objects: LabelArray, quality: float = 1.0) -> list[Candidate]:
    """Return numbered objects (H, W) as candidates, in the order of their numbers."""
    from scipy import ndimage

    return [
        Candidate(place, objects[place] == i, quality)
        for i, place in enumerate(ndimage.find_objects(objects), 1)
        if place is not None
    ]


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
        width = int(np.clip(RING_SHARE * one.mask.sum() ** 0.5, RING_LEAST, RING_MOST))
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


def level_candidates(
    landscape: FloatArray, plausible: BoolArray, areas: tuple[float, float]
) -> list[Candidate]:
    """Return the connected parts of a landscape above its levels.

    Parts that stay alike from level to level are how extremal regions find cells
    (Arteta et al., Learning to detect cells, MICCAI 2012). Holes are filled.

    Parameters
    ----------
    landscape : array (H, W)
        High inside objects.
    plausible : array (H, W) bool
        Where objects may be; the levels are quantiles of the landscape there.
    areas : (float, float)
        Smallest and largest area in pixels.

    Returns
    -------
    list of Candidate
        Each once.
    """
    from scipy import ndimage

    found: dict[tuple[int, int, bytes], Candidate] = {}
    if not plausible.any():
        return []
    for sigma in LEVEL_SIGMAS:
        smooth = ndimage.gaussian_filter(landscape, sigma) if sigma else landscape
        for level in np.quantile(smooth[plausible], LEVEL_SHARES):
            parts = ndimage.label((smooth >= level) & plausible)[0]
            sizes = np.bincount(parts.ravel())
            for i, place in enumerate(ndimage.find_objects(parts), 1):
                # With its holes it may be larger, but not smaller.
                if sizes[i] > areas[1] or 2 * sizes[i] < areas[0]:
                    continue
                mask = ndimage.binary_fill_holes(parts[place] == i)
                if areas[0] <= mask.sum() <= areas[1]:
                    key = (place[0].start, place[1].start, mask.tobytes())
                    found.setdefault(key, Candidate(place, mask, 0.5))
    return list(found.values())


def best_apart(rows: Any, scores: FloatArray, level: float) -> list[tuple[int, float]]:
    """Choose candidates that hardly overlap, the best first.

    In turn the best is taken. Those that it covers by more than half (intersection
    over union) go, the others lose by how much of the smaller one they share with it:
    the score times the root of one minus that share (soft merging of Espinosa et al.,
    No time to train!, arXiv 2507.02798).

    Parameters
    ----------
    rows : sparse array (N, H W)
        From `as_rows`.
    scores : array (N,)
        At least 0.
    level : float
        Ends as soon as the best that is left is worse.

    Returns
    -------
    list of (int, float)
        Number and score of each chosen candidate.
    """
    both = (rows @ rows.T).tocsr()
    area = np.diff(rows.indptr).astype(float)
    left = np.array(scores, float)
    shared = np.zeros(len(left))
    chosen: list[tuple[int, float]] = []
    while len(left):
        now = left * np.sqrt(1 - shared)
        best = int(now.argmax())
        if now[best] < max(level, EPSILON):
            break
        chosen.append((best, float(now[best])))
        span = slice(both.indptr[best], both.indptr[best + 1])
        others, common = both.indices[span], both.data[span]
        smaller = common / np.minimum(area[others], area[best])
        shared[others] = np.maximum(shared[others], np.clip(smaller, 0, 1))
        union = common / (area[others] + area[best] - common)
        left[others[union > MOST_UNION]] = 0.0
        left[best] = 0.0
    return chosen


def object_overlaps(rows: Any, objects: LabelArray) -> FloatArray:
    """Return intersections over union of candidates with objects, (N, K) float32.

    Parameters
    ----------
    rows : sparse array (N, H W)
        From `as_rows`.
    objects : array (H, W)
        Numbers 1..K.
    """
    from scipy.sparse import csr_array

    flat = objects.ravel()
    at = np.flatnonzero(flat)
    ones = np.ones(len(at), np.float32)
    shape = (flat.size, int(flat.max(initial=0)))
    members = csr_array((ones, (at, flat[at] - 1)), shape)
    both = (rows @ members).toarray()
    union = np.diff(rows.indptr)[:, None] + members.sum(0)[None] - both
    found: FloatArray = (both / np.maximum(union, 1)).astype(np.float32)
    return found


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
