"""Figures of heat maps against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from napari_fewshot.errors import DataError
from napari_fewshot.evaluation import (
    area_under_roc,
    best_dice,
    binary_dice,
    dice_at,
    map_correlation,
    pointing_game,
)


@pytest.fixture(params=["distinct", "ties"])
def planted(request):
    rng = np.random.default_rng(3)
    mask = rng.random((7, 9)) < 0.3
    heat = rng.normal(size=mask.shape) + mask
    return (np.round(heat) if request.param == "ties" else heat), mask


def test_auc_counts_pairs(planted):
    heat, mask = planted
    pairs = itertools.product(heat[mask], heat[~mask])
    wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs]
    assert area_under_roc(heat, mask) == pytest.approx(np.mean(wins))
    assert area_under_roc(np.zeros_like(heat), mask) == 0.5
    assert area_under_roc(-heat, mask) == pytest.approx(1 - np.mean(wins))


def test_the_best_threshold_is_the_best_of_all(planted):
    heat, mask = planted
    every = [binary_dice(heat >= level, mask) for level in np.unique(heat)]
    dice, level = best_dice(heat, mask)
    assert dice == pytest.approx(max(every))
    assert binary_dice(heat >= level, mask) == pytest.approx(dice)
    # Only the order counts.
    assert best_dice(np.exp(heat / 3), mask)[0] == pytest.approx(dice)


def test_pointing_looks_at_the_hottest_pixel():
    heat, mask = np.zeros((4, 5)), np.zeros((4, 5), bool)
    mask[1, 2] = True
    heat[1, 2] = 1
    assert pointing_game(heat, mask) == 1
    heat[3, 3] = 2
    assert pointing_game(heat, mask) == 0
    heat[1, 2] = 2
    assert pointing_game(heat, mask) == 0.5
    # A map that says nothing points anywhere.
    assert pointing_game(np.ones((4, 5)), mask) == pytest.approx(1 / 20)


def test_dice_at_a_level():
    heat = np.linspace(0, 1, 12).reshape(3, 4)
    mask = heat > 0.5
    assert dice_at(heat, mask, 0.5) == 1
    assert dice_at(heat, mask, 2.0) == 0
    assert dice_at(heat, np.zeros_like(mask), 2.0) == 1


def test_nothing_to_find():
    heat, nothing = np.random.default_rng(0).random((5, 5)), np.zeros((5, 5), bool)
    assert np.isnan(area_under_roc(heat, nothing))
    assert np.isnan(area_under_roc(heat, ~nothing))
    assert np.isnan(pointing_game(heat, nothing))
    assert np.isnan(best_dice(heat, nothing)).all()


def test_correlation_of_maps():
    rng = np.random.default_rng(1)
    a, b = rng.random((2, 6, 8))
    assert map_correlation(a, b) == pytest.approx(
        np.corrcoef(a.ravel(), b.ravel())[0, 1]
    )
    assert map_correlation(a, 3 * a + 7) == pytest.approx(1)
    assert map_correlation(a, -a) == pytest.approx(-1)
    assert np.isnan(map_correlation(a, np.ones_like(a)))
    with pytest.raises(DataError, match="same plane"):
        map_correlation(a, b[:3])


def test_what_cannot_be_ordered_is_refused():
    mask = np.eye(4, dtype=bool)
    with pytest.raises(DataError, match="shape"):
        area_under_roc(np.ones((4, 5)), mask)
    bad = np.ones((4, 4))
    bad[0, 0] = np.nan
    for figure in (area_under_roc, pointing_game, best_dice):
        with pytest.raises(DataError, match="NaN"):
            figure(bad, mask)
