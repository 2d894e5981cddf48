"""Which of several objects is meant."""

from __future__ import annotations

import numpy as np
import pytest

from napari_fewshot.ops.main_object import is_single, main_object, nearness


def block(*boxes, shape=(4, 40, 60), odds=2.0):
    found = np.full(shape, -3.0, np.float32)
    for z, rows, columns in boxes:
        found[z, rows, columns] = odds
    return found


LEFT = np.s_[0:3], np.s_[10:20], np.s_[5:15]
RIGHT = np.s_[0:4], np.s_[10:21], np.s_[45:56]


def place(columns=np.s_[5:15]):
    mask = np.zeros((40, 60), bool)
    mask[10:20, columns] = True
    return mask


def test_nearness_is_a_gaussian_of_the_distance_to_the_mask():
    near = nearness(place(), (40, 60), reach=0.1)
    assert (near[place()] == 1).all()
    # Six pixels of sixty are one standard deviation.
    assert near[15, 14 + 6] == pytest.approx(np.exp(-0.5))
    assert near[15, 14 + 12] == pytest.approx(np.exp(-2))
    assert nearness(np.zeros((40, 60), bool), (20, 30)).min() == 1


def test_the_place_is_stretched_to_the_image():
    near = nearness(place(), (80, 120), reach=0.1)
    assert (near[20:40, 10:30] == 1).all()
    assert near[30, 29 + 12] == pytest.approx(np.exp(-0.5))
    # A mask of one pixel that no pixel of a smaller image falls on says nothing.
    speck = np.zeros((40, 60), bool)
    speck[1, 1] = True
    assert nearness(speck, (20, 30)).min() == 1


def test_the_object_near_its_place_stays_though_another_is_larger():
    odds = block(LEFT, RIGHT)
    near = nearness(place(), (40, 60))
    kept = main_object(odds, near)
    assert kept[LEFT].all()
    assert kept.sum() == kept[LEFT].size
    # Without a place the larger one does.
    alone = main_object(odds, np.ones((40, 60), np.float32))
    assert alone.sum() == alone[RIGHT].size


def test_others_stay_that_weigh_enough():
    odds = block(LEFT, (np.s_[0:3], np.s_[10:20], np.s_[17:22]))
    everywhere = np.ones((40, 60), np.float32)
    assert main_object(odds, everywhere, 0.4).sum() == (odds > 0).sum()
    assert main_object(odds, everywhere, 0.6).sum() == 300
    assert main_object(odds, everywhere, 0.0).sum() == (odds > 0).sum()


def test_objects_are_connected_over_planes():
    # Two pieces on the middle plane, joined on the first one: one object.
    odds = block(
        (1, np.s_[5:10], np.s_[5:10]),
        (1, np.s_[5:10], np.s_[20:25]),
        (0, np.s_[5:10], np.s_[5:25]),
    )
    kept = main_object(odds, np.ones((40, 60), np.float32))
    assert (kept == (odds > 0)).all()


def test_nothing_found_and_nothing_near():
    nothing = np.full((2, 8, 8), -1.0, np.float32)
    assert not main_object(nothing, np.ones((8, 8), np.float32)).any()
    # Where all is far away nothing is dropped at random: the heaviest stays.
    odds = block(LEFT, RIGHT)
    assert main_object(odds, np.zeros((40, 60), np.float32)).sum() == (odds > 0).sum()


def test_specks_beside_an_object_do_not_make_two():
    mask = place()
    assert is_single(mask)
    mask[30, 30] = True
    assert is_single(mask)
    mask[25:35, 30:40] = True
    assert not is_single(mask)
    assert not is_single(np.zeros((4, 4), bool))
