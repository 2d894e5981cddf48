"""Comparisons of methods, estimates of quality, and the precision of objects."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from napari_fewshot.evaluation import (
    AP_THRESHOLDS,
    compare_pairs,
    estimate_quality,
    holm,
    object_precision,
    signed_rank,
)


def test_holm_by_hand():
    # 0.01 x 4, 0.02 x 3, 0.03 x 2 is not below the one before, 0.9 x 1.
    found = holm([0.03, 0.01, 0.9, 0.02])
    np.testing.assert_allclose(found, [0.06, 0.04, 0.9, 0.06])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_signed_rank_test_counts_signs_and_ranks():
    # All six differences have one sign: 2 of 2^6 ways are as extreme.
    first = np.arange(6) / 10
    assert signed_rank(first + np.arange(1, 7) / 10, first) == 2 / 64
    assert signed_rank(first, first) == 1.0
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 30))
    assert signed_rank(x, y) == pytest.approx(stats.wilcoxon(x, y).pvalue)


def test_pairs_are_compared_on_what_both_have_done():
    episodes = [str(i) for i in range(8)]
    low = {name: 0.1 * i for i, name in enumerate(episodes)}
    high = {name: v + 0.01 * (i + 1) for i, (name, v) in enumerate(low.items())}
    few = {"0": 0.5, "elsewhere": 1.0}
    found = compare_pairs({"low": low, "high": high, "few": few})
    assert [(c.first, c.second, c.n) for c in found] == [
        ("low", "high", 8),
        ("low", "few", 1),
        ("high", "few", 1),
    ]
    first = found[0]
    assert (first.better, first.worse) == (0, 8)
    assert first.difference == pytest.approx(-0.045)
    assert first.p == 2 / 256
    assert first.p_holm == 3 * first.p
    assert found[1].p_holm == 1.0
    assert compare_pairs({"few": few, "other": {"2": 0.1}}) == []


def test_an_estimate_against_the_truth():
    found = estimate_quality([0.5, 0.7, 0.9], [0.4, 0.7, 1.0])
    assert found["correlation"] == pytest.approx(1.0)
    assert found["mae"] == pytest.approx(0.2 / 3)
    assert found["n"] == 3
    assert estimate_quality([0.5] * 3, [0.4, 0.7, 1.0])["correlation"] is None
    assert estimate_quality([], []) == {"correlation": None, "mae": None, "n": 0}


def test_object_precision_by_hand():
    truth = np.zeros((20, 40), int)
    truth[2:12, 2:12], truth[2:12, 20:30] = 3, 7
    found = np.zeros_like(truth)
    found[2:12, 2:10] = 5  # IoU 0.8
    found[2:12, 24:34] = 2  # IoU 60 / 140
    found[15:18, 2:5] = 9  # nothing
    precision = object_precision(found, truth)
    # One hit, two objects too many and one missed.
    np.testing.assert_allclose(precision[:7], 1 / 4)
    np.testing.assert_array_equal(precision[7:], 0)
    assert len(AP_THRESHOLDS) == 10
    assert AP_THRESHOLDS[-1] == 0.95
    np.testing.assert_array_equal(object_precision(truth, truth), 1)
    nothing = np.zeros_like(truth)
    np.testing.assert_array_equal(object_precision(nothing, truth), 0)
    assert np.isnan(object_precision(nothing, nothing)).all()


def test_a_good_match_is_not_given_up_for_two_poor_ones():
    """Matching for the largest sum of IoU would lose the only pair above 0.5."""
    truth, found = np.zeros((1, 60), int), np.zeros((1, 60), int)
    truth[0, :29], truth[0, 29:38] = 1, 2
    found[0, :9], found[0, 9:38] = 2, 1
    # 1 and 1: 20 / 38; crosswise 9 / 29 each, more in sum.
    assert object_precision(found, truth, [0.5])[0] == pytest.approx(1 / 3)
