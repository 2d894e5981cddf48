"""Prototypes against closed forms and brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from napari_fewshot.ops import (
    angular_best,
    cosine_maps,
    cyclic_match,
    farthest_points,
    grid_prototypes,
    kmeans_parts,
    max_and_mean,
    ring_prototypes,
    softmax_weighted,
    voronoi_parts,
)

ROWS, COLUMNS = np.mgrid[:20, :24]
RNG = np.random.default_rng(0)


def disc(y, x, r):
    return np.hypot(ROWS - y, COLUMNS - x) <= r


def test_farthest_points_of_a_line_are_its_middle_and_its_ends():
    line = np.stack([np.arange(11), np.zeros(11)], 1)
    assert farthest_points(line, 3).tolist() == [5, 0, 10]
    assert len(farthest_points(np.ones((4, 2)), 3)) == 1


def test_each_point_is_in_the_part_of_the_nearest_seed():
    points = RNG.random((60, 2))
    seeds = points[farthest_points(points, 4)]
    parts = voronoi_parts(points, 4)
    for point, part in zip(points, parts, strict=True):
        assert part == np.argmin([np.linalg.norm(point - s) for s in seeds])


def test_kmeans_finds_directions_the_largest_group_first():
    axes = np.eye(3, dtype=np.float32)[[0] * 3 + [1] * 9 + [2] * 5]
    lengths = RNG.uniform(1, 9, (17, 1))
    centres, parts = kmeans_parts(axes * lengths + RNG.normal(0, 0.01, axes.shape), 3)
    np.testing.assert_allclose(centres, np.eye(3)[[1, 2, 0]], atol=0.02)
    assert parts.tolist() == [2] * 3 + [0] * 9 + [1] * 5
    assert len(kmeans_parts(np.ones((5, 3)), 4)[0]) == 1


def test_half_maximum_half_mean():
    rows = np.array([[0.0, 4.0], [2.0, 0.0]])
    np.testing.assert_allclose(max_and_mean(rows), [1.5, 3.0])


def test_windows_in_the_class_are_prototypes():
    features = RNG.random((3, 5, 6)).astype(np.float32)
    cover = np.zeros((5, 6), np.float32)
    cover[:2, :2] = 1
    cover[2:4, 4:6] = 0.94
    cover[4] = 1
    found = grid_prototypes(features, cover, 2)
    np.testing.assert_allclose(found, [features[:, :2, :2].mean((1, 2))], rtol=1e-6)
    assert len(grid_prototypes(features, cover, 2, 0.9)) == 2
    assert grid_prototypes(features, cover, 9).shape == (0, 3)


def test_one_prototype_scores_twenty_times_the_cosine():
    features = RNG.normal(size=(4, 6, 7))
    maps = 20 * cosine_maps(features, RNG.normal(size=(3, 4)))
    np.testing.assert_allclose(softmax_weighted(maps[:1]), maps[0])
    share = np.exp(maps) / np.exp(maps).sum(0)
    np.testing.assert_allclose(softmax_weighted(maps), (share * maps).sum(0))


def test_the_ring_tells_what_is_on_which_side():
    mask = disc(10, 12, 4)
    left = np.stack([COLUMNS < 12, COLUMNS >= 12, mask]).astype(np.float32)
    ring = ring_prototypes(left, mask.astype(np.float32), 8, 2.0, 0.7)
    assert ring.shape == (8, 3)
    assert (ring[1:4, 1] > 0.95).all()
    assert (ring[5:8, 0] > 0.95).all()
    assert (ring[:, 2] < 0.01).all(), "nothing of the object itself"


def test_the_best_cell_of_every_direction():
    mask = disc(10, 12, 3)
    scores = RNG.random((2, *mask.shape))
    best, cells = angular_best(scores, mask, 1.0, 4.0, 4)
    away = np.array(
        [
            [np.hypot(*(np.argwhere(mask) - p).T).min() for p in row]
            for row in np.moveaxis(np.indices(mask.shape), 0, -1)
        ]
    )
    angle = np.mod(np.arctan2(COLUMNS - 12, 10 - ROWS), 2 * np.pi)
    for number in range(4):
        there = (away > 1) & (away <= 4) & (angle // (np.pi / 2) == number)
        for k in range(2):
            assert best[k, number] == scores[k][there].max()
            assert scores[k][tuple(cells[k, number])] == best[k, number]


@pytest.mark.parametrize(("count", "gap"), [(1, 2), (2, 3), (3, 2), (4, 2)])
def test_cyclic_order_against_every_choice(count, gap):
    for seed in range(4):
        scores = np.random.default_rng(seed).random((count, 9))
        scores[:, 4] = -np.inf
        chosen = cyclic_match(scores, gap)
        assert _in_order(chosen, gap, 9)
        order = np.arange(count)
        best = max(
            scores[order, list(c)].sum()
            for c in itertools.product(range(9), repeat=count)
            if _in_order(c, gap, 9)
        )
        assert scores[order, chosen].sum() == pytest.approx(best)


def test_no_choice_where_nothing_is():
    assert len(cyclic_match(np.full((3, 12), -np.inf), 2)) == 0


def _in_order(chosen, gap, size):
    """Whether steps round the circle are long enough and make one turn."""
    if len(chosen) == 1:
        return True
    steps = np.mod(np.diff([*chosen, chosen[0]]), size)
    return steps.sum() == size and steps.min() >= gap
