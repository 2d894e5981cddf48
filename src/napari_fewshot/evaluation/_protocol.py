"""The few-shot benchmark protocol: which images support, which are queries.

Pure functions; files are read and methods called elsewhere. Every method, and the
baseline script, is scored on the very same episodes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import apply_window, intensity_window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import AnyArray, BoolArray, FloatArray

LONGEST_SIDE = 256
MIN_FRACTION = 5e-4
N_QUERIES = 8
MIN_QUERIES = 3
# In consecutive slices queries keep this distance from the slices that may support.
SLICE_GAP = 3


@dataclass(frozen=True, eq=False)
class Pair:
    """One image with the mask of one class, at benchmark size."""

    image: FloatArray
    mask: BoolArray
    group: str


@dataclass(frozen=True)
class Row:
    """One line of a benchmark; figures are None when there were too few queries."""

    dataset: str
    class_name: str
    shots: int
    dice: float | None = None
    iou: float | None = None
    seconds_per_image: float | None = None
    fit_seconds: float | None = None
    query_seconds: float | None = None
    n_queries: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON; ``class_name`` is called ``class``."""
        found = asdict(self)
        return {"class" if k == "class_name" else k: v for k, v in found.items()}


def make_pair(image: AnyArray, labels: AnyArray, value: int, group: str) -> Pair | None:
    """Return the pair of one class, or None if it covers too little.

    Parameters
    ----------
    image : array (Y, X[, C]) or (Z, Y, X[, C])
        A stack gives the plane in which the class is largest.
    labels : array (Y, X) or (Z, Y, X)
        Class labels.
    value : int
        The class.
    group : str
        Pairs of one group are never on both sides of an episode.
    """
    mask = labels == value
    if mask.ndim == 3:
        z = int(np.argmax(mask.sum(axis=(1, 2))))
        image, mask = image[z], mask[z]
    if mask.mean() <= MIN_FRACTION:
        return None
    plane = benchmark_image(image)
    return Pair(plane, benchmark_mask(mask, plane.shape[:2]), group)


def benchmark_image(image: AnyArray) -> FloatArray:
    """Window to [0, 1] and resize to longest side 256: (H, W, C) float32."""
    from skimage.transform import resize

    plane = image.astype(np.float32)
    plane = plane[..., None] if plane.ndim == 2 else plane[..., :3]
    plane = apply_window(plane, intensity_window([plane]))
    factor = LONGEST_SIDE / max(plane.shape[:2])
    shape = tuple(max(8, int(n * factor)) for n in plane.shape[:2])
    resized: AnyArray = resize(
        plane, shape + plane.shape[2:], order=1, anti_aliasing=True
    )
    return resized.astype(np.float32)


def benchmark_mask(mask: BoolArray, shape: tuple[int, ...]) -> BoolArray:
    """Resize a mask by nearest neighbour."""
    from skimage.transform import resize

    resized: BoolArray = (
        resize(mask.astype(float), shape, order=0, anti_aliasing=False) > 0.5
    )
    return resized


def episode(
    groups: Sequence[str], shots: int, seed: int, *, is_ordered: bool
) -> tuple[list[int], list[int]] | None:
    """Draw supports and queries.

    Parameters
    ----------
    groups : sequence of str
        Group of every pair.
    shots : int
        How many supports.
    seed : int
        Number of the draw.
    is_ordered : bool
        The pairs are consecutive slices: supports come from the first third, queries
        from at least three slices beyond.

    Returns
    -------
    (list of int, list of int) or None
        Supports and at most eight queries; None if there are too few of either.
    """
    count = len(groups)
    order = [int(i) for i in np.random.default_rng(seed).permutation(count)]
    if is_ordered:
        pool = max(shots, -(-count // 3))
        support = [i for i in order if i < pool][:shots]
        queries = [i for i in order if i >= pool + SLICE_GAP]
    else:
        support = order[:shots]
        taken = {groups[i] for i in support}
        queries = [i for i in order[shots:] if groups[i] not in taken]
    queries = queries[:N_QUERIES]
    if len(support) < shots or len(queries) < MIN_QUERIES:
        return None
    return support, queries


def binary_dice(p: BoolArray, r: BoolArray) -> float:
    """Dice of a benchmark: both empty is 1."""
    size = int(p.sum()) + int(r.sum())
    return 1.0 if size == 0 else 2.0 * int((p & r).sum()) / size


def macro(rows: Sequence[Row]) -> dict[str, Any]:
    """Aggregate: mean over data sets of the mean over classes, per number of shots."""
    by_shots = {}
    for shots in sorted({r.shots for r in rows}):
        found = [r for r in rows if r.shots == shots and r.dice is not None]
        names = sorted({r.dataset for r in found})
        means = [
            np.mean([r.dice for r in found if r.dataset == n and r.dice is not None])
            for n in names
        ]
        if means:
            by_shots[str(shots)] = float(np.mean(means))
    seconds = [r.seconds_per_image for r in rows if r.seconds_per_image is not None]
    return {
        "dice": float(np.mean(list(by_shots.values()))) if by_shots else None,
        "seconds_per_image": float(np.mean(seconds)) if seconds else None,
        "by_shots": by_shots,
        "rows_without_queries": sum(r.dice is None for r in rows),
    }
