"""Heat maps: scales, levels, parts, boxes and points."""

import numpy as np
import pytest
from sklearn.cluster import KMeans

from napari_fewshot.ops import heatmaps as hm
from napari_fewshot.ops import map_points as points


def disc(shape, row, column, radius):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return np.hypot(rows - row, columns - column) < radius


def two_humps(seed, share=0.3, shape=(40, 50)):
    rng = np.random.default_rng(seed)
    high = rng.random(shape) < share
    return np.where(high, rng.normal(0.7, 0.1, shape), rng.normal(0.2, 0.08, shape))


def test_finite_replaces_by_extremes():
    given = np.array([[np.nan, 1.0], [np.inf, -np.inf], [3.0, 2.0]])
    found = hm.finite(given)
    assert found.tolist() == [[1, 1], [3, 1], [3, 2]]
    assert hm.finite(np.full((2, 2), np.nan)).tolist() == [[0, 0], [0, 0]]


def test_normalised_ways():
    values = np.array([[1.0, 5.0, 5.0], [3.0, 2.0, 9.0]])
    np.testing.assert_allclose(hm.normalised(values), (values - 1) / 8, atol=1e-6)
    # Equal values share the middle of their ranks.
    np.testing.assert_allclose(
        hm.normalised(values, "rank") * 5, [[0, 3.5, 3.5], [2, 1, 5]], atol=1e-6
    )
    spread = hm.normalised(values, "spread")
    assert abs(spread.mean()) < 1e-6
    assert abs(spread.std() - 1) < 1e-6


@pytest.mark.parametrize("way", ["range", "rank", "spread"])
def test_normalised_flat_map_is_zero(way):
    assert not hm.normalised(np.full((3, 4), 7.0), way).any()
    assert hm.normalised(np.full((1, 1), 7.0), way).shape == (1, 1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [0.02, 0.3, 0.8])
def test_two_means_is_kmeans(seed, share):
    rows = two_humps(seed, share).reshape(-1, 1)
    level = hm.two_means(rows)
    centres = np.array([[rows[rows < level].mean()], [rows[rows >= level].mean()]])
    # Begun with these groups k-means stays; begun at random it finds none better.
    kept = KMeans(2, init=centres, n_init=1, tol=0).fit(rows)
    np.testing.assert_allclose(kept.cluster_centers_, centres, atol=1e-9)
    drawn = KMeans(2, n_init=5, random_state=10).fit(rows)
    assert kept.inertia_ <= drawn.inertia_ + 1e-9
    width = np.ptp(rows) / hm.BINS
    assert share == 0.02 or abs(drawn.cluster_centers_.mean() - level) <= width


@pytest.mark.parametrize("seed", range(3))
def test_two_means_has_the_least_squares_of_all_levels(seed):
    values = np.round(two_humps(seed, 0.1, (12, 13)), 2)

    def squares(level):
        groups = [values[values < level], values[values >= level]]
        return sum(((g - g.mean()) ** 2).sum() for g in groups if g.size)

    best = min(squares(level) for level in np.unique(values))
    assert squares(hm.two_means(values)) == pytest.approx(best)


def test_two_means_far_from_zero():
    values = two_humps(1) * 1e-3 + 500.0
    near = hm.two_means(values - 500.0)
    assert hm.two_means(values) - 500.0 == pytest.approx(near, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_otsu_is_that_of_skimage(seed):
    from skimage.filters import threshold_otsu

    values = two_humps(seed)
    width = np.ptp(values) / hm.BINS
    assert abs(hm.otsu(values) - threshold_otsu(values, nbins=hm.BINS)) <= width


@pytest.mark.parametrize("way", ["two-means", "otsu", "percentile", "fixed"])
def test_levels_of_hostile_maps(way):
    assert hm.cut_level(np.full((4, 5), 0.3), way, 0.5) is None
    assert hm.cut_level(np.zeros((1, 1)), way, 0.5) is None
    dot = np.zeros((20, 20))
    dot[3, 4] = 1
    level = hm.cut_level(dot, way, 0.9)
    if way != "percentile":
        assert (dot >= level).sum() == 1
    for share in (0.0, 1.0):
        level = hm.cut_level(dot, way, share)
        assert (dot >= level).sum() > 0


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.9])
def test_percentile_leaves_out_its_share(share):
    values = np.random.default_rng(0).permutation(400).reshape(20, 20).astype(float)
    level = hm.cut_level(values, "percentile", share)
    assert (values < level).mean() == pytest.approx(share, abs=0.005)
    assert level not in values


def test_percentile_of_ties_keeps_the_tied():
    values = np.zeros((10, 10))
    values[:3] = 1.0
    for share in (0.8, 0.9, 1.0):
        assert (values >= hm.cut_level(values, "percentile", share)).sum() == 30


def test_fixed_is_a_share_of_the_range():
    values = np.linspace(-2, 6, 801).reshape(9, 89)
    level = hm.cut_level(values, "fixed", 0.3)
    assert level == pytest.approx(0.4, abs=0.011)


def test_stretched_keeps_order_and_puts_level_at_half():
    values = two_humps(0).astype(np.float32)
    level = hm.cut_level(values, "two-means", 0)
    found = hm.stretched(values, level)
    assert found.min() == 0
    assert found.max() == 1
    assert ((found >= 0.5) == (values >= level)).all()
    order = np.argsort(values.ravel())
    assert (np.diff(found.ravel()[order]) >= 0).all()


@pytest.mark.parametrize(("level", "side"), [(5.0, False), (-5.0, True)])
def test_stretched_beyond_the_range(level, side):
    found = hm.stretched(np.array([[0.0, 1.0]], np.float32), level)
    assert ((found > 0.5) == side).all()


def test_clipped_log_odds():
    found = hm.clipped_log_odds(np.array([0.0, 0.25, 0.5, 1.0]), 6.0)
    np.testing.assert_allclose(found, [-6, -np.log(3), 0, 6], atol=1e-6)


def test_parts_are_the_largest():
    mask = disc((40, 60), 10, 10, 4) | disc((40, 60), 25, 40, 8)
    mask[0, 59] = True
    parts = hm.largest_parts(mask)
    assert [int(p.sum()) for p in parts] == sorted(
        [int(p.sum()) for p in parts], reverse=True
    )
    assert len(parts) == 3
    assert (np.any(parts, axis=0) == mask).all()
    assert len(hm.largest_parts(mask, 2)) == 2
    assert (hm.keep_largest(mask, 1) == parts[0]).all()
    assert hm.keep_largest(mask, 0) is mask
    assert hm.largest_parts(np.zeros((3, 3), bool)) == []
    assert not hm.keep_largest(np.zeros((3, 3), bool), 2).any()


def test_box_round_is_exclusive_and_clipped():
    mask = np.zeros((20, 30), bool)
    mask[2:6, 10:20] = True
    assert hm.box_round(mask, 0).tolist() == [2, 10, 6, 20]
    assert hm.box_round(mask, 0.5).tolist() == [0, 5, 8, 25]
    assert hm.box_round(np.ones((3, 5), bool), 1.0).tolist() == [0, 0, 3, 5]


def test_tidy_boxes():
    boxes = [
        [2, 2, 8, 9],
        [0, 0, 20, 20],
        [np.nan, 0, 4, 4],
        [5, 5, 5, 9],
        [-4, -4, 4, 4],
        [30, 30, 40, 40],
    ]
    found, scores = hm.tidy_boxes(
        np.array(boxes), np.array([0.2, 0.9, 0.8, 0.7, 0.5, 0.4]), (20, 20), 0.8
    )
    assert found.tolist() == [[0, 0, 4, 4], [2, 2, 8, 9]]
    assert scores.tolist() == pytest.approx([0.5, 0.2])
    none, _ = hm.tidy_boxes(np.zeros((0, 4)), np.zeros(0), (5, 5), 0.8)
    assert none.shape == (0, 4)


def test_peaks_are_deep_and_apart():
    part = disc((40, 90), 20, 20, 12) | disc((40, 90), 20, 65, 12)
    part[19:22, 20:65] = True
    found = points.peak_points(part, np.zeros(part.shape), 5)
    assert len(found) == 2
    assert sorted(found[:, 1]) == pytest.approx([20, 65], abs=2)
    one = np.zeros((3, 3), bool)
    one[2, 0] = True
    assert points.peak_points(one, np.zeros((3, 3)), 3).tolist() == [[2, 0]]


def test_of_equally_deep_cells_the_surest():
    part = np.zeros((9, 30), bool)
    part[2:7, 3:27] = True
    values = np.zeros(part.shape)
    values[4, 17] = 1.0
    assert points.peak_points(part, values, 1).tolist() == [[4, 17]]


def test_quiet_points_lie_in_the_ring_where_the_map_is_least():
    part = disc((60, 60), 30, 30, 10)
    other = disc((60, 60), 30, 50, 5)
    values = np.random.default_rng(0).random((60, 60))
    found = points.quiet_points(part, part | other, values, 4)
    assert len(found) == 4
    away = np.hypot(*(found - 30).T)
    assert ((away > 11) & (away < 18)).all()
    assert not (part | other)[found[:, 0], found[:, 1]].any()
    assert values[found[:, 0], found[:, 1]].max() < 0.1
    full = np.ones((4, 4), bool)
    assert points.quiet_points(full, full, np.zeros((4, 4)), 4).shape == (0, 2)


def test_random_points_are_seeded_and_on_their_side():
    mask = disc((30, 30), 12, 14, 6)
    inside, outside = points.random_points(mask, 10, seed=3)
    assert len(inside) == len(outside) == 10
    assert mask[inside[:, 0], inside[:, 1]].all()
    assert not mask[outside[:, 0], outside[:, 1]].any()
    assert len(np.unique(inside, axis=0)) == 10
    again = points.random_points(mask, 10, seed=3)
    assert (again[0] == inside).all()
    assert (points.random_points(mask, 10, seed=4)[0] != inside).any()
    none, few = points.random_points(np.zeros((2, 2), bool), 10, 0)
    assert (len(none), len(few)) == (0, 4)
