"""Matching, transport, sampling and merging against brute force and by hand."""

import itertools

import numpy as np
import pytest
from scipy.optimize import linprog

from napari_fewshot import ops


@pytest.mark.parametrize("shape", [(4, 4), (3, 6), (6, 6)])
def test_assignment_is_the_best_of_all(shape):
    rows, columns = shape
    similarity = np.random.default_rng(rows).normal(size=shape)
    found = similarity[np.arange(rows), ops.assign(similarity)].sum()
    every = itertools.permutations(range(columns), rows)
    best = max(sum(similarity[i, j] for i, j in enumerate(p)) for p in every)
    assert found == pytest.approx(best)


def test_more_rows_than_columns_drop_none():
    similarity = np.random.default_rng(0).normal(size=(7, 3))
    found = ops.assign(similarity)
    assert sorted(np.bincount(found, minlength=3).tolist()) == [2, 2, 3]
    # The first round is the best assignment of three rows.
    best = max(
        sum(similarity[i, j] for j, i in enumerate(p))
        for p in itertools.permutations(range(7), 3)
    )
    totals = [
        sum(similarity[i, found[i]] for i in rows)
        for rows in itertools.combinations(range(7), 3)
        if len({found[i] for i in rows}) == 3
    ]
    assert max(totals) == pytest.approx(best)


def test_pairs_that_return_elsewhere_are_dropped():
    # Query cell 1 is most like support cell 2, which is outside the mask.
    similarity = np.array([[0.9, 0.0, 0.1], [0.0, 0.5, 0.2], [0.1, 0.8, 0.6]])
    inside = np.array([True, True, False])
    rows, columns = ops.bidirectional(similarity, inside)
    assert (rows.tolist(), columns.tolist()) == ([0], [0])
    np.testing.assert_array_equal(
        ops.cycle_consistent(similarity, inside), [True, False, True]
    )
    np.testing.assert_array_equal(
        ops.backward_vote(similarity, np.array([5, 6, 7])), [5, 7, 7]
    )


def test_nothing_returns_and_all_stay():
    similarity = np.array([[0.5, 0.4], [0.9, 0.8]])
    rows, columns = ops.bidirectional(similarity, np.array([True, False]))
    assert (rows.tolist(), columns.tolist()) == ([0], [0])


def transport(cost, source, target):
    """Optimal transport as a linear programme."""
    n, m = cost.shape
    sums = np.zeros((n + m, n * m))
    for i, j in np.ndindex(n, m):
        sums[i, i * m + j] = sums[n + j, i * m + j] = 1
    given = np.concatenate([source / source.sum(), target / target.sum()])
    return linprog(cost.ravel(), A_eq=sums, b_eq=given).fun


def test_transport_is_the_linear_programme():
    rng = np.random.default_rng(1)
    cost = rng.random((5, 7))
    source, target = np.array([1, 2, 3, 4, 2.0]), np.array([3, 1, 1, 2, 2, 2, 1.0])
    exact = transport(cost, source, target)
    assert ops.earth_movers_distance(cost, source, target, 12) == pytest.approx(exact)
    equal = transport(cost, np.ones(5), np.ones(7))
    assert ops.earth_movers_distance(cost) == pytest.approx(equal, abs=0.01)
    with pytest.raises(ValueError, match="without weight"):
        ops.earth_movers_distance(cost, np.zeros(5))


def test_distance_of_sets_of_cells():
    rows = np.eye(4, dtype=np.float32)
    assert ops.token_distance(rows, rows[::-1]) == pytest.approx(0, abs=1e-6)
    assert ops.token_distance(rows[:1], -rows[:1]) == pytest.approx(1)
    assert ops.token_distance(rows[:1], rows[1:2]) == pytest.approx(0.5)


def test_lowest_point_keeps_its_distance():
    values = np.ones((9, 9))
    values[4, 4], values[4, 7], values[8, 8] = -2, -1, 0.5
    region = np.zeros((9, 9), bool)
    region[3:6, 3:6] = True
    np.testing.assert_array_equal(ops.lowest_outside(values, region, 2.5), [8, 8])
    np.testing.assert_array_equal(ops.lowest_outside(values, region, 1.0), [4, 7])
    assert ops.lowest_outside(values, np.ones((9, 9), bool), 1.0) is None
    np.testing.assert_array_equal(ops.highest(-values, region), [4, 4])
    with pytest.raises(ValueError, match="allowed"):
        ops.highest(values, np.zeros((9, 9), bool))


def test_clusters_are_those_there_are():
    rng = np.random.default_rng(2)
    middles = np.array([[0, 0], [10, 0], [0, 10]], float)
    truth = np.repeat(np.arange(3), 20)
    rows = middles[truth] + rng.normal(0, 0.3, (60, 2))
    centres, owner = ops.cluster_centres(rows, 3, 0)
    expected = np.stack([rows[truth == k].mean(0) for k in range(3)])
    order = np.lexsort(centres.T)
    np.testing.assert_allclose(
        centres[order], expected[np.lexsort(expected.T)], rtol=1e-4, atol=1e-4
    )
    assert all(len(set(owner[truth == k])) == 1 for k in range(3))
    same, _ = ops.cluster_centres(np.ones((5, 2)), 3, 0)
    assert same.shape == (1, 2)


def test_raster_spreads_over_what_is_high():
    values = np.zeros((20, 20))
    values[2:18, 2:18] = 1 + np.random.default_rng(3).random((16, 16))
    cells = ops.raster_cells(values, 0.5, 16)
    assert 8 <= len(cells) <= 16
    assert (values[cells[:, 0], cells[:, 1]] > 0.5).all()
    quarters = {(r // 10, c // 10) for r, c in cells.tolist()}
    assert len(quarters) == 4
    assert len(ops.raster_cells(values, 9.0, 16)) == 0
    best = np.unravel_index(values.argmax(), values.shape)
    assert ops.raster_cells(values, 0.5, 1).tolist() == [list(best)]


def test_subsets():
    every = ops.point_subsets(4, (2, 3), 30, 0)
    assert len(every) == len(set(every)) == 10
    some = ops.point_subsets(20, (4, 5, 6), 30, 0)
    assert len(set(some)) == 30
    assert {len(s) for s in some} == {4, 5, 6}
    assert some == ops.point_subsets(20, (4, 5, 6), 30, 0)
    assert ops.point_subsets(2, (4, 5), 30, 0) == [(0, 1)]
    assert ops.point_subsets(0, (4,), 30, 0) == []


def strip(*spans):
    """Masks of one row of ten cells."""
    masks = np.zeros((len(spans), 1, 10), bool)
    for mask, (begin, end) in zip(masks, spans, strict=True):
        mask[0, begin:end] = True
    return masks


def test_suppression_and_soft_merge():
    masks = strip((0, 4), (1, 4), (6, 8), (0, 0))
    union, smaller = ops.overlaps(masks)
    assert union[0, 1] == pytest.approx(0.75)
    assert smaller[0, 1] == pytest.approx(1.0)
    assert union[3].max() == 0
    scores = np.array([0.9, 0.8, 0.5, 0.1])
    assert ops.suppress_masks(masks, scores, 0.5) == [0, 2, 3]
    assert ops.suppress_masks(masks, scores, 0.8) == [0, 1, 2, 3]
    np.testing.assert_allclose(
        ops.soft_merge(masks, scores), [0.9, 0, 0.5, 0.1], atol=1e-6
    )
    half = ops.soft_merge(masks, scores, np.full((4, 4), 0.75))
    assert half[1] == pytest.approx(0.4)


def test_purity_and_coverage():
    cells = np.array([[0, 1], [0, 2], [0, 7], [0, 9]])
    purity, coverage = ops.purity_and_coverage(strip((0, 4), (6, 8)), cells)
    np.testing.assert_allclose(purity, [0.5, 0.5])
    np.testing.assert_allclose(coverage, [0.5, 0.25])


def test_groups_of_a_hand_made_graph():
    # 0 covers the point of 1, 2 covers that of 1 too; 3 is alone, 4 covers 3.
    masks = strip((0, 4), (2, 3), (2, 6), (7, 8), (7, 10))
    cells = np.array([[0, 0], [0, 2], [0, 5], [0, 7], [0, 9]])
    groups = ops.covering_components(masks, cells)
    assert groups[0] == groups[1] == groups[2] != groups[3]
    assert groups[3] == groups[4]


def test_positive_gate():
    masks = strip((0, 4), (0, 10), (5, 7))
    positive = strip((0, 5))[0]
    accepted = ops.positive_gate(
        masks, np.zeros(3, int), np.array([3.0, 2.0, 1.0]), positive
    )
    # The second adds six cells of which one is positive; the third is off by itself.
    assert accepted.tolist() == [True, False, False]


def test_overshoot_gate():
    features = np.zeros((2, 1, 10))
    features[0, 0, :5], features[1, 0, 5:] = 1, 1
    unions = strip((0, 5), (4, 10))
    cells = np.array([[0, 1], [0, 2], [0, 7], [0, 8]])
    own = np.array([0, 0, 1, 1])
    assert ops.overshoot_gate(unions, own, cells, features).all()
    # The second group has one point, which looks like the first and lies next to it.
    features[0, 0, 4], features[1, 0, 4] = 1, 0
    features[:, 0, 6:] = [[-1], [0]]
    cells = np.array([[0, 1], [0, 3], [0, 4]])
    passed = ops.overshoot_gate(
        strip((0, 4), (6, 10)), np.array([0, 0, 1]), cells, features
    )
    assert passed.tolist() == [True, False]
