"""What is expected of an empty mask, and of registration with one support."""

from __future__ import annotations

import numpy as np
import pytest

import napari_fewshot as nf
from napari_fewshot.data import Sample
from napari_fewshot.inference._learn import absence_of
from napari_fewshot.methods._validation import (
    COPY_DISCOUNT,
    REGISTERED_DISCOUNT,
    HeldOut,
    summarise,
)


def sample(group: int, *values: int) -> Sample:
    labels = np.zeros((4, 4), np.int32)
    labels.flat[: len(values)] = values
    return Sample(np.zeros((4, 4, 1), np.float32), labels=labels, group=group)


@pytest.mark.parametrize("count", [1, 2, 5, 20])
def test_the_rule_of_succession(count) -> None:
    samples = [sample(i, 1) for i in range(count)]
    assert absence_of(samples, [1]) == {1: 1 / (count + 2)}


def test_planes_of_one_support_count_once_and_negatives_say_more() -> None:
    assert absence_of([sample(0, 1), sample(0, 1), sample(1, 2, 1)], [1, 2]) == {
        1: 1 / 4
    }
    assert absence_of([sample(0, 1), sample(1)], [1]) == {}


@pytest.fixture
def disc() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:64, :64]
    mask = (rows - 30) ** 2 + (columns - 34) ** 2 < 120
    image = 60 + 120 * mask + rng.normal(0, 6, mask.shape)
    return np.clip(image, 0, 255).astype(np.uint8), mask


def test_little_is_expected_of_an_empty_mask(disc) -> None:
    image, mask = disc
    rng = np.random.default_rng(1)
    blank = np.clip(60 + rng.normal(0, 6, mask.shape), 0, 255).astype(np.uint8)
    blank[0, 0] = 255
    support = nf.Support(image, mask)
    nothing = nf.segment(blank, support, method="pixel", trees=20, min_area=60)
    found = nf.segment(np.roll(image, 3, 0), support, method="pixel", trees=20)
    assert not nothing.labels.any()
    assert nothing.scores[1] <= 1 / 3
    assert found.scores[1] > 0.6
    negative = nf.Support(blank, np.zeros_like(mask))
    both = [support, negative, nf.Support(np.roll(image, 5, 1), np.roll(mask, 5, 1))]
    told = nf.segment(np.roll(blank, 9, 0), both, method="pixel", trees=20, min_area=60)
    assert not told.labels.any()
    assert told.scores[1] > 1 / 3


def test_of_a_stack_empty_planes_are_usual(disc) -> None:
    image, mask = disc
    rng = np.random.default_rng(1)
    blank = np.clip(60 + rng.normal(0, 6, mask.shape), 0, 255).astype(np.uint8)
    blank[0, 0] = 255
    stack = np.stack([image, blank])
    how = {"method": "pixel", "trees": 20, "min_area": 60}
    found = nf.segment(stack, nf.Support(image, mask), **how)
    assert not found.labels[1].any()
    assert found.plane_scores[1][1] > 1 / 3


def test_copies_count_less_where_they_are_registered() -> None:
    truth = np.zeros((4, 4), np.int32)
    truth[:2] = 1
    judged = [HeldOut("copy", truth, {1: truth.astype(np.float32)})]
    plain = summarise(judged, [1], is_copy=True)
    less = summarise(judged, [1], is_copy=True, discount=REGISTERED_DISCOUNT)
    assert plain.scores[1] == COPY_DISCOUNT
    assert less.scores[1] == REGISTERED_DISCOUNT < COPY_DISCOUNT
    real = summarise(judged, [1], is_copy=False, discount=REGISTERED_DISCOUNT)
    assert real.scores[1] == 1.0


@pytest.mark.parametrize("method", ["template", "med-persam"])
def test_one_support_promises_no_more_than_the_discount(method, disc) -> None:
    image, mask = disc
    table = nf.check_supports(nf.Support(image, mask), method)
    row = table[table["support"] == "all"].iloc[0]
    assert 0.3 < row["dice"] <= REGISTERED_DISCOUNT
