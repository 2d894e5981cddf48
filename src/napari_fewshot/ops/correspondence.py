"""Which cell of one plane is which cell of another.

All functions take a similarity matrix: rows are cells of the supports, columns cells of
the query, larger is more alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray, BoolArray, FloatArray


def backward_vote(similarity: FloatArray, values: AnyArray) -> AnyArray:
    """Give every query cell the value of the support cell it is most like.

    Parameters
    ----------
    similarity : array (N, M)
        Support cells by query cells.
    values : array (N,)
        Such as the cover of the class.

    Returns
    -------
    array (M,)
    """
    found: AnyArray = np.asarray(values)[similarity.argmax(0)]
    return found


def cycle_consistent(similarity: FloatArray, inside: BoolArray) -> BoolArray:
    """Say which support cells come back to their own side of the mask.

    A support cell goes to its nearest query cell and from there to the nearest support
    cell, which must be in the mask as the first is, or outside as the first is (Zhang
    et al., Few-Shot Segmentation via Cycle-Consistent Transformer, NeurIPS 2021; used
    by DC-SAM, arXiv 2504.12080).

    Parameters
    ----------
    similarity : array (N, M)
        Support cells by query cells.
    inside : array (N,) bool
        Which support cells are in the mask.

    Returns
    -------
    array (N,) bool
    """
    there = similarity.argmax(1)
    # Only columns that some row goes to need their way back.
    reached, place = np.unique(there, return_inverse=True)
    back = similarity[:, reached].argmax(0)
    found: BoolArray = inside[back[place]] == inside
    return found


def assign(similarity: FloatArray) -> AnyArray:
    """Pair every row with a column so that the total similarity is largest.

    The Hungarian method pairs at most as many rows as there are columns. Where there
    are more rows, those left over are paired in further rounds with all columns anew,
    so that none is dropped in silence.

    Parameters
    ----------
    similarity : array (N, M)
        M at least 1.

    Returns
    -------
    array (N,) int
        Column of every row.
    """
    from scipy.optimize import linear_sum_assignment

    found = np.full(len(similarity), -1)
    left = np.arange(len(similarity))
    while len(left):
        rows, columns = linear_sum_assignment(similarity[left], maximize=True)
        found[left[rows]] = columns
        left = np.delete(left, rows)
    return found


def bidirectional(similarity: FloatArray, inside: BoolArray) -> tuple[AnyArray, ...]:
    """Match the cells of a mask with the query, and keep what comes back to the mask.

    Forward, every cell of the mask gets a query cell of its own; backward, every query
    cell that was matched gets a support cell, from the mask or not (Liu et al.,
    Matcher, ICLR 2024). If nothing comes back, all pairs stay.

    Parameters
    ----------
    similarity : array (N, M)
        All support cells by all query cells.
    inside : array (N,) bool
        Cells of the mask, at least one.

    Returns
    -------
    rows, columns : array (K,) int
        Support and query cell of every pair that is kept.
    """
    rows = np.flatnonzero(inside)
    columns = assign(similarity[rows])
    matched = np.unique(columns)
    back = dict(zip(matched, assign(similarity[:, matched].T), strict=True))
    kept = np.array([bool(inside[back[column]]) for column in columns])
    if not kept.any():
        kept[:] = True
    return rows[kept], columns[kept]
