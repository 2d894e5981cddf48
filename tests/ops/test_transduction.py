"""Fits in which the query takes part."""

from __future__ import annotations

import numpy as np
import pytest

from napari_fewshot.ops import (
    Phases,
    RepriTerms,
    chambolle,
    mumford_shah,
    repri_loss,
    self_prototype,
    unit_rows,
)

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("scale", [3.0, 20.0])
def test_gradient_of_repri_against_finite_differences(scale):
    weight, bias = RNG.normal(size=5), 0.4
    support, query = (unit_rows(RNG.normal(size=(n, 5))) for n in (12, 20))
    truth = RNG.random(12)
    terms = RepriTerms(0.3, 0.7, 0.5, scale)

    def loss(parameters):
        return repri_loss(parameters[:5], parameters[5], support, truth, query, terms)

    at = np.append(weight, bias)
    _, by_weight, by_bias = loss(at)
    for number, found in enumerate([*by_weight, by_bias]):
        step = np.zeros(6)
        step[number] = 1e-5
        slope = (loss(at + step)[0] - loss(at - step)[0]) / 2e-5
        assert found == pytest.approx(slope, rel=1e-4, abs=1e-6)


def test_the_proportion_is_what_the_second_term_wants():
    query = unit_rows(RNG.normal(size=(50, 4)))
    weight = RNG.normal(size=4)
    level = np.median(20 * query @ weight / np.linalg.norm(weight))
    half, none = (
        repri_loss(
            weight, level, query[:1], np.array([1.0]), query, RepriTerms(p, 99.0, 0.0)
        )
        for p in (0.5, 0.01)
    )
    assert half[0] < none[0]
    assert none[2] < 0, "a higher bias makes the class smaller"


def test_total_variation_is_weighed_against_the_distance():
    values = np.zeros((16, 16), np.float32)
    values[4:12, 4:12] = 1
    values += RNG.normal(0, 0.1, values.shape).astype(np.float32)

    def energy(u):
        down = np.diff(u, axis=0, append=u[-1:])
        right = np.diff(u, axis=1, append=u[:, -1:])
        return ((u - values) ** 2).sum() / 2 + 0.2 * np.hypot(down, right).sum()

    found = chambolle(values, 0.2, 400)
    assert energy(found) < min(energy(values), energy(np.full_like(values, 0.25)))
    for _ in range(20):
        assert energy(found) < energy(found + RNG.normal(0, 0.05, found.shape))


def two_sides(turn):
    """Two looks side by side, turned away from what the supports say; some noise."""
    angles = np.where(np.arange(24) < 12, 0.0, 1.2) + turn
    plane = np.stack([np.cos(angles), np.sin(angles)])[:, None].repeat(20, 1)
    noisy = plane + RNG.normal(0, 0.25, plane.shape)
    return noisy / np.linalg.norm(noisy, axis=0)


def test_prototypes_and_masks_find_one_another():
    features = two_sides(turn=0.35)
    prototypes = np.array([[1.0, 0.0], [np.cos(1.2), np.sin(1.2)]])
    truth = np.arange(24)[None].repeat(20, 0) < 12
    alone, _ = mumford_shah(features, prototypes, 1, 0.0, Phases(rounds=1))
    thorough = Phases(rounds=30, still=0.0)
    odds, moved = mumford_shah(features, prototypes, 1, 0.0, thorough)
    assert ((odds > 0) == truth).mean() > max(0.97, ((alone > 0) == truth).mean())
    turned = np.arctan2(moved[:, 1], moved[:, 0])
    np.testing.assert_allclose(turned, [0.35, 1.55], atol=0.1)


def test_without_smoothing_and_memory_all_it_is_a_softmax():
    features = two_sides(turn=0.0)
    prototypes = np.array([[1.0, 0.0], [0.0, 1.0]])
    settings = Phases(scale=4.0, smoothness=0.0, momentum=1.0)
    odds, moved = mumford_shah(features, prototypes, 1, 0.3, settings)
    wanted = 4.0 * (features[0] - features[1]) - 0.3
    np.testing.assert_allclose(odds, wanted, atol=1e-3)
    np.testing.assert_allclose(moved, prototypes, atol=1e-5)


def test_a_prototype_moves_to_the_mean_of_the_mask():
    features = two_sides(turn=0.2)
    mask = np.zeros((20, 24))
    mask[:, :12] = 1
    own = features[:, :, :12].mean((1, 2))
    moved = self_prototype(features, np.array([3.0, 0.0]), mask, 1.0)
    np.testing.assert_allclose(moved, own / np.linalg.norm(own), atol=1e-4)
    kept = self_prototype(features, np.array([3.0, 0.0]), 0 * mask, 1.0)
    np.testing.assert_allclose(kept, [1.0, 0.0], atol=1e-5)
