"""Tokens without position, whitened, clustered."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage

from napari_fewshot.ops import (
    average_linkage,
    centred,
    channel_scale,
    position_basis,
    seed_and_aggregate,
    whitened,
    whitening,
    without_directions,
)

RNG = np.random.default_rng(0)


def test_what_a_blank_plane_shows_is_taken_off():
    rows, columns = np.meshgrid(np.arange(6.0), np.arange(7.0), indexing="ij")
    down, right = np.linalg.qr(RNG.normal(size=(8, 2)))[0].T
    blank = 3.0 + down[:, None, None] * rows + right[:, None, None] * columns
    basis = position_basis(blank, 5)
    assert basis.shape == (2, 8), "positions span two directions"
    np.testing.assert_allclose(basis @ basis.T, np.eye(2), atol=1e-5)
    rest = without_directions(blank, basis)
    assert np.ptp(rest, axis=(1, 2)).max() < 1e-4
    assert position_basis(np.ones((4, 3, 3)), 2).shape == (0, 4)
    assert len(position_basis(blank, 1)) == 1


def test_whitened_tokens_are_uncorrelated():
    rows = RNG.normal(size=(500, 4)) @ RNG.normal(size=(4, 4)) + 2
    mean, matrix = whitening(rows, shrink=0.0)
    features = rows.T.reshape(4, 20, 25)
    after = whitened(features, mean, matrix).reshape(4, -1)
    np.testing.assert_allclose(np.cov(after, bias=True), np.eye(4), atol=1e-3)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-5)
    moved = centred(features, rows.mean(0))
    np.testing.assert_allclose(moved.mean((1, 2)), 0, atol=1e-9)


def test_channels_count_alike():
    features = RNG.normal(size=(3, 5, 6)) * np.array([1, 100, 0])[:, None, None]
    lengths = np.linalg.norm(channel_scale(features).reshape(3, -1), axis=1)
    np.testing.assert_allclose(lengths, [1, 1, 0], atol=1e-5)


def test_average_linkage_by_angle():
    rows = RNG.normal(size=(40, 3))
    found = average_linkage(rows, 0.6, 40)
    wanted = fcluster(linkage(rows, "average", "cosine"), 0.4, "distance")
    same = found[:, None] == found[None]
    np.testing.assert_array_equal(same, wanted[:, None] == wanted[None])
    assert len(np.unique(average_linkage(rows, 0.99, 5))) <= 5
    assert average_linkage(rows[:1], 0.6, 5).tolist() == [0]


def test_scores_of_clusters():
    rows = np.array([[1, 0], [1, 0], [0.6, 0.8], [0.6, 0.8], [-1, 0]], float)
    clusters = np.array([0, 0, 1, 1, 2])
    like = rows @ [1, 0]
    candidates = np.array([True, False, True, False, False])
    scores = seed_and_aggregate(rows, clusters, like, candidates)
    # The seed: 1 x 1 x 1. The second: 0.6 x 0.6 x one half. The third: no candidate.
    assert scores == pytest.approx([1.0, 0.18, 0.0], abs=1e-5)
    assert seed_and_aggregate(rows, clusters, like, candidates & False).max() <= 0
