"""Feature maps made fit for comparing: position, common parts, hot channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_fewshot._types import FloatArray

EPSILON = 1e-6


def position_basis(blank: FloatArray, rank: int) -> FloatArray:
    """Return the directions in which an encoder writes down positions.

    Parameters
    ----------
    blank : array (C, h, w)
        Features of a plane that shows nothing: they differ by position alone.
    rank : int
        At most so many directions; fewer if the features span no more.

    Returns
    -------
    array (r, C)
        Orthonormal rows, the strongest first.

    Notes
    -----
    INSID3 (arXiv 2603.28480): left singular vectors of the centred tokens.
    """
    tokens = blank.reshape(len(blank), -1).T.astype(np.float64)
    tokens = tokens - tokens.mean(0)
    _, strength, rows = np.linalg.svd(tokens, full_matrices=False)
    # Below this share of the strongest one a direction is rounding.
    count = int((strength > 1e-4 * max(float(strength[0]), EPSILON)).sum())
    basis: FloatArray = rows[: min(rank, count)].astype(np.float32)
    return basis


def without_directions(features: FloatArray, basis: FloatArray) -> FloatArray:
    """Return features (C, h, w) with directions (r, C, orthonormal) taken off."""
    along = np.tensordot(basis, features, 1)
    rest: FloatArray = features - np.tensordot(basis.T, along, 1)
    return rest


def centred(features: FloatArray, mean: FloatArray) -> FloatArray:
    """Return features (C, h, w) less a mean (C,), such as that of the supports."""
    moved: FloatArray = features - mean[:, None, None]
    return moved


def whitening(rows: FloatArray, shrink: float = 0.1) -> tuple[FloatArray, FloatArray]:
    """Return the mean of tokens and the matrix that makes their channels independent.

    Parameters
    ----------
    rows : array (N, C)
        Tokens, such as those of all supports.
    shrink : float
        This share of the mean variance is added to that of every direction: rare
        directions are mostly noise.

    Returns
    -------
    mean : array (C,)
    matrix : array (C, C)
        Symmetric; ``(rows - mean) @ matrix`` has covariance one, but for ``shrink``.

    Notes
    -----
    Zero-phase (ZCA) whitening: Bell and Sejnowski, Vision Research 1997.
    """
    mean = rows.mean(0, dtype=np.float64)
    away = rows - mean
    values, vectors = np.linalg.eigh(away.T @ away / len(rows))
    level = shrink * float(np.mean(values)) + EPSILON
    matrix = (vectors / np.sqrt(np.maximum(values, 0) + level)) @ vectors.T
    return mean.astype(np.float32), matrix.astype(np.float32)


def whitened(features: FloatArray, mean: FloatArray, matrix: FloatArray) -> FloatArray:
    """Return features (C, h, w) after `whitening`."""
    found: FloatArray = np.tensordot(matrix.T, centred(features, mean), 1)
    return found


def channel_scale(features: FloatArray) -> FloatArray:
    """Return features (C, h, w), every channel divided by its length over the plane.

    Channels then count alike, also those that are hot everywhere.

    Notes
    -----
    What the published code of GF-SAM does before its cosine similarity.
    """
    length = np.linalg.norm(features.reshape(len(features), -1), axis=1)
    found: FloatArray = features / (length[:, None, None] + EPSILON)
    return found
