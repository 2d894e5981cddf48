"""Whether methods differ, and whether an estimate can be trusted.

Methods are compared in pairs over the episodes that both have done: Wilcoxon's
signed-rank test (Biometrics Bulletin 1, 1945) as Demsar advises for classifiers over
data sets (JMLR 7, 2006), with the step-down correction of Holm (Scandinavian Journal of
Statistics 6, 1979). Episodes of one data set share images, so p values are optimistic.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike

# Fewer points have no correlation worth a name.
MIN_POINTS = 3


@dataclass(frozen=True)
class Comparison:
    """One pair of methods over the episodes that both have done.

    Attributes
    ----------
    first, second : str
        Who is compared.
    n : int
        Episodes in common.
    difference : float
        Mean of first minus second.
    better, worse : int
        Episodes in which the first was above, below the second.
    p : float
        Two-sided, of this pair alone.
    p_holm : float
        Corrected for all pairs.
    """

    first: str
    second: str
    n: int
    difference: float
    better: int
    worse: int
    p: float
    p_holm: float


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for their number, in the same order.

    The smallest of m is multiplied by m, the next by m - 1 and so on; none becomes
    smaller than one before it, nor larger than 1.

    Parameters
    ----------
    p_values : sequence of float
        In any order.
    """
    count = len(p_values)
    corrected, largest = [0.0] * count, 0.0
    for rank, at in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (count - rank) * float(p_values[at])))
        corrected[at] = largest
    return corrected


def signed_rank(first: ArrayLike, second: ArrayLike) -> float:
    """Return the two-sided p value of Wilcoxon's signed-rank test.

    Parameters
    ----------
    first, second : array (N,)
        Paired; pairs without a difference are left out. 1 if none is left.
    """
    from scipy import stats

    differences = np.asarray(first, float) - np.asarray(second, float)
    differences = differences[differences != 0]
    if not len(differences):
        return 1.0
    return float(stats.wilcoxon(differences).pvalue)


def compare_pairs(scores: Mapping[str, Mapping[str, float]]) -> list[Comparison]:
    """Compare every pair of methods.

    Parameters
    ----------
    scores : dict of str to dict of str to float
        Per method the mean score of each episode.

    Returns
    -------
    list of Comparison
        In the order of ``scores``; pairs without a common episode are left out.
    """
    found = []
    for (a, mine), (b, theirs) in itertools.combinations(scores.items(), 2):
        common = [name for name in mine if name in theirs]
        if not common:
            continue
        x = np.array([mine[name] for name in common])
        y = np.array([theirs[name] for name in common])
        better, worse = int((x > y).sum()), int((x < y).sum())
        difference = float(np.mean(x - y))
        found.append((a, b, len(common), difference, better, worse, signed_rank(x, y)))
    corrected = holm([row[-1] for row in found])
    return [Comparison(*row, p) for row, p in zip(found, corrected, strict=True)]


def estimate_quality(
    expected: Sequence[float], true: Sequence[float]
) -> dict[str, Any]:
    """Return how well an estimate of Dice foretells the true one.

    Parameters
    ----------
    expected, true : sequence of float
        Of the same episodes or images.

    Returns
    -------
    dict
        ``correlation`` (Pearson's; None for fewer than three points or constant
        values), ``mae`` (mean absolute error; None without points), ``n``.
    """
    x, y = np.asarray(expected, float), np.asarray(true, float)
    varies = len(x) >= MIN_POINTS and np.ptp(x) > 0 and np.ptp(y) > 0
    return {
        "correlation": float(np.corrcoef(x, y)[0, 1]) if varies else None,
        "mae": float(np.abs(x - y).mean()) if len(x) else None,
        "n": len(x),
    }
