"""Objects cut as those of the supports are shaped; attention that reads masks."""

from __future__ import annotations

import numpy as np
import pytest

from napari_fewshot.ops import attend_to_mask, shape_bank, split_alike


def discs(centres, radius, shape=(60, 90)):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    labels = np.zeros(shape, np.int32)
    for number, (y, x) in enumerate(centres, 1):
        labels[np.hypot(rows - y, columns - x) < radius] = number
    return labels


def test_touching_discs_are_cut_only_if_supports_show_single_discs():
    pair = discs([(30, 30), (30, 46)], 10) > 0
    sure = np.where(pair, 0.9, 0.1)
    small = shape_bank([discs([(20, 20), (40, 60)], 10)])
    large = shape_bank([pair.astype(np.int32)])
    cut = split_alike(pair, sure, small)
    assert cut.max() == 2
    assert abs((cut == 1).sum() - (cut == 2).sum()) < 30
    assert split_alike(pair, sure, large).max() == 1


def test_numbers_cover_the_mask_without_gaps():
    mask = discs([(15, 15), (15, 27), (45, 70)], 8) > 0
    bank = shape_bank([discs([(30, 30)], 8)])
    cut = split_alike(mask, mask.astype(np.float32), bank)
    np.testing.assert_array_equal(cut > 0, mask)
    assert np.unique(cut).tolist() == [0, 1, 2, 3]


def test_a_bank_is_not_misled_by_objects_that_touch():
    single = discs([(12, 12), (12, 60), (45, 12), (45, 40)], 7)
    merged = single.copy()
    merged[:, 20:][discs([(30, 70), (36, 78)], 7)[:, 20:] > 0] = 5
    alone, mixed = shape_bank([single]), shape_bank([merged])
    assert mixed.size == pytest.approx(alone.size, abs=0.1)


@pytest.mark.parametrize("objects", [[], [np.zeros((5, 5), np.int32)]])
def test_without_objects_there_is_no_bank(objects):
    assert shape_bank(objects) is None


def test_attention_is_a_softmax_over_keys():
    random = np.random.default_rng(0)
    queries, keys = random.normal(size=(5000, 3)), random.normal(size=(7, 3))
    values = random.random(7)
    scores = np.exp(queries @ keys.T / 0.5)
    expected = (scores / scores.sum(1, keepdims=True)) @ values
    found = attend_to_mask(queries, keys, values, 0.5)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
