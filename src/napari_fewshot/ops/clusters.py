"""Regions of a query by the likeness of its own tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.ops.prototypes import unit_rows

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray, BoolArray, FloatArray


def average_linkage(rows: FloatArray, similarity: float, most: int) -> AnyArray:
    """Join tokens to clusters as long as they are alike on average.

    Parameters
    ----------
    rows : array (N, C)
        Tokens; time and memory grow with N squared.
    similarity : float
        Two clusters are joined while the mean cosine between them is above this.
    most : int
        At most so many clusters.

    Returns
    -------
    array (N,) int
        Cluster of every token, from 0.

    Notes
    -----
    Agglomerative clustering with average linkage (UPGMA), Sokal and Michener 1958.
    """
    if len(rows) < 2:
        return np.zeros(len(rows), int)
    from scipy.cluster import hierarchy
    from scipy.spatial.distance import squareform

    units = unit_rows(rows)
    away = np.clip(1.0 - units @ units.T, 0.0, 2.0)
    np.fill_diagonal(away, 0.0)
    tree = hierarchy.linkage(squareform(away, checks=False), "average")
    labels = hierarchy.fcluster(tree, max(1.0 - similarity, 0.0), "distance")
    if labels.max() > most:
        labels = hierarchy.fcluster(tree, most, "maxclust")
    return np.unique(labels, return_inverse=True)[1]


def seed_and_aggregate(
    rows: FloatArray,
    clusters: AnyArray,
    likeness: FloatArray,
    candidates: BoolArray,
) -> FloatArray:
    """Score clusters by how much they are like a class and like its best cluster.

    Parameters
    ----------
    rows : array (N, C)
        Tokens of the query.
    clusters : array (N,) int
        Cluster of each, from 0.
    likeness : array (N,)
        Cosine of each to the prototype of the class.
    candidates : array (N,) bool
        Tokens that may belong to the class.

    Returns
    -------
    array (K,)
        Mean likeness x cosine to the seed cluster x share of candidates; the seed is
        the cluster with candidates that is most like the class, and its share counts
        as one. All at most zero if there is no candidate.

    Notes
    -----
    INSID3 (arXiv 2603.28480), seed cluster and aggregation.
    """
    sizes = np.bincount(clusters).astype(np.float64)
    like = np.bincount(clusters, likeness) / sizes
    share = np.bincount(clusters, candidates.astype(np.float64)) / sizes
    if not candidates.any():
        return np.minimum(like, 0.0)
    seed = int(np.where(share > 0, like, -np.inf).argmax())
    share[seed] = 1.0
    sums = np.zeros((len(sizes), rows.shape[1]))
    np.add.at(sums, clusters, unit_rows(rows))
    centres = unit_rows(sums)
    # Clusters unlike the seed, or unlike the class, score nothing, not each other.
    near = np.clip(centres @ centres[seed], 0.0, None)
    scores: FloatArray = np.clip(like, 0.0, None) * near * share
    return scores
