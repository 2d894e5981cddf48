"""Which of many candidate masks stay, and how they become one.

Masks are boolean arrays (N, h, w), usually on the grid of an embedding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray, BoolArray, FloatArray


def overlaps(masks: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Return how masks overlap in pairs.

    Parameters
    ----------
    masks : array (N, h, w) bool
        Some may be empty.

    Returns
    -------
    union : array (N, N)
        Intersection over union; 0 where both are empty.
    smaller : array (N, N)
        Intersection over the smaller of the two.
    """
    flat = masks.reshape(len(masks), -1).astype(np.float32)
    both = flat @ flat.T
    area = flat.sum(1)
    union = both / np.maximum(area[:, None] + area[None] - both, 1.0)
    smaller = both / np.maximum(np.minimum(area[:, None], area[None]), 1.0)
    return union, smaller


def suppress_masks(masks: BoolArray, scores: FloatArray, limit: float) -> list[int]:
    """Return which masks stay when each drops the lesser ones that it covers.

    Parameters
    ----------
    masks : array (N, h, w) bool
        Some may be empty.
    scores : array (N,)
        The greater one stays; of equals the first.
    limit : float
        Intersection over union above which the lesser mask goes.

    Returns
    -------
    list of int
        The best first.
    """
    union, _ = overlaps(masks)
    left = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    kept: list[int] = []
    while len(left):
        best, left = int(left[0]), left[1:]
        kept.append(best)
        left = left[union[best, left] <= limit]
    return kept


def soft_merge(
    masks: BoolArray, scores: FloatArray, alike: FloatArray | None = None
) -> FloatArray:
    """Lower the scores of masks that lie within better ones.

    Every score is multiplied with the square root of one minus the largest overlap
    with a better mask, relative to the smaller of the two, times how alike the two are
    (Espinosa et al., No time to train!, arXiv 2507.02798).

    Parameters
    ----------
    masks : array (N, h, w) bool
        Some may be empty.
    scores : array (N,)
        At least 0.
    alike : array (N, N), optional
        In [0, 1]; 1 everywhere by default.

    Returns
    -------
    array (N,)
    """
    _, smaller = overlaps(masks)
    shared = smaller if alike is None else smaller * np.clip(alike, 0, 1)
    found = np.array(scores, np.float64)
    order = np.argsort(-found, kind="stable")
    for rank, number in enumerate(order):
        if rank:
            most = float(shared[number, order[:rank]].max())
            found[number] *= np.sqrt(max(0.0, 1.0 - most))
    return found.astype(np.float32)


def purity_and_coverage(
    masks: BoolArray, cells: AnyArray
) -> tuple[FloatArray, FloatArray]:
    """Say how full of points masks are, and how many of all points they hold.

    Parameters
    ----------
    masks : array (N, h, w) bool
        Some may be empty.
    cells : array (K, 2) int
        Matched cells, each at most once.

    Returns
    -------
    purity : array (N,)
        Points inside per cell of the mask (Matcher, Liu et al., ICLR 2024).
    coverage : array (N,)
        Points inside per point.
    """
    inside = masks[:, cells[:, 0], cells[:, 1]].sum(1)
    purity: FloatArray = inside / np.maximum(masks.sum((1, 2)), 1)
    coverage: FloatArray = inside / max(len(cells), 1)
    return purity, coverage


def covering_components(masks: BoolArray, cells: AnyArray) -> AnyArray:
    """Group masks that cover each other's points.

    Mask i leads to mask j if it covers the point that j was made from; groups are the
    weakly connected components of that graph (Zhang et al., Bridge the Points: GF-SAM,
    NeurIPS 2024).

    Parameters
    ----------
    masks : array (N, h, w) bool
        Some may be empty.
    cells : array (N, 2) int
        The point of every mask.

    Returns
    -------
    array (N,) int
        Group of every mask, from 0 on.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    graph = csr_array(masks[:, cells[:, 0], cells[:, 1]])
    _, found = connected_components(graph, directed=True, connection="weak")
    groups: AnyArray = found
    return groups


def positive_gate(
    masks: BoolArray, groups: AnyArray, worth: FloatArray, positive: BoolArray
) -> BoolArray:
    """Accept masks group by group while what they add is mostly positive.

    Parameters
    ----------
    masks : array (N, h, w) bool
        Empty ones are not accepted.
    groups : array (N,) int
        From `covering_components`.
    worth : array (N,)
        The best mask of a group comes first.
    positive : array (h, w) bool
        Cells that are more like the class than like the rest.

    Returns
    -------
    array (N,) bool
        Accepted masks (positive gating of GF-SAM, NeurIPS 2024).
    """
    accepted = np.zeros(len(masks), bool)
    for group in np.unique(groups):
        grown = np.zeros(positive.shape, bool)
        members = np.flatnonzero(groups == group)
        for number in members[np.argsort(-worth[members], kind="stable")]:
            new = masks[number] & ~grown
            if 2 * int((new & positive).sum()) > int(new.sum()):
                accepted[number] = True
                grown |= masks[number]
    return accepted


def overshoot_gate(
    unions: BoolArray, own: AnyArray, cells: AnyArray, features: FloatArray
) -> BoolArray:
    """Reject groups whose points look more like the inside of another group.

    Every point compares its likeness to the mean of every group's mask, divided by one
    plus the distance to the group's nearest point; a group passes if half of its points
    or more prefer it (overshoot gating of GF-SAM, NeurIPS 2024).

    Parameters
    ----------
    unions : array (G, h, w) bool
        Mask of every group.
    own : array (K,) int
        Group of every point, from 0 to G - 1.
    cells : array (K, 2) int
        The points.
    features : array (C, h, w)
        Of length one in every cell.

    Returns
    -------
    array (G,) bool
    """
    tokens = features[:, cells[:, 0], cells[:, 1]].T
    gap = np.linalg.norm(cells[:, None] - cells[None].astype(float), axis=-1)
    worth = np.full((len(cells), len(unions)), -np.inf)
    for group, mask in enumerate(unions):
        members = own == group
        if mask.any() and members.any():
            # The mean of cosines with the cells is the cosine with their mean.
            like = (tokens @ features[:, mask].mean(1) + 1) / 2
            worth[:, group] = like / (1 + gap[:, members].min(1))
    wins = worth.argmax(1) == own
    passed = [
        bool((own == g).any() and wins[own == g].mean() >= 0.5)
        for g in range(len(unions))
    ]
    return np.array(passed, bool)
