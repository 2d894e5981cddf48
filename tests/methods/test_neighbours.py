"""Planes of a stack help one another."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_fewshot.data import Hooks, Image, Support, SupportSet
from napari_fewshot.errors import Cancelled
from napari_fewshot.inference import SegmentRequest, run
from napari_fewshot.methods import block_size
from napari_fewshot.methods.neighbours import BLOCK

DEPTH, SIDE = 16, 96


def scan(seed, last=0.35):
    """A stack with an organ, whose contrast ends at ``last``, beside another one."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    images, masks = [], []
    for z in range(DEPTH):
        reach = 16 + 4 * np.sin(z / 5)
        mask = np.hypot(rows - 40 - z, (columns - 40) / 1.3) < reach
        other = np.hypot(rows - 30 - z / 2, columns - 78) < 11
        contrast = 0.35 + (last - 0.35) * z / (DEPTH - 1)
        image = 0.25 + contrast * mask + 0.15 * other
        image = ndimage.gaussian_filter(image, 1.5) + rng.normal(0, 0.04, mask.shape)
        images.append(np.clip(image, 0, 1))
        masks.append(mask)
    return np.array(images, np.float32), np.array(masks)


@pytest.fixture(scope="module")
def support():
    images, masks = scan(0)
    return SupportSet([Support(images[0], masks[0].astype(np.int32), axes="yx")])


def segment(images, support, planes=None, hooks=None, **params):
    results = []
    wanted = SegmentRequest(
        Image.from_array(images, axes="zyx", name="scan"),
        support,
        method="incontext",
        params={"practise": False, "look": "whole", **params},
        planes=planes,
    )
    run(wanted, hooks or Hooks(), results.append)
    return results


def dices(results, masks):
    found = [r.labels == 1 for r in results]
    return [
        2 * (f & m).sum() / (f.sum() + m.sum())
        for f, m in zip(found, masks, strict=True)
    ]


@pytest.fixture(scope="module")
def fading(support):
    """A scan that fades, its masks, and what is found without and with neighbours."""
    images, masks = scan(1, last=0.05)
    alone = segment(images, support, neighbours=False)
    return images, masks, alone, segment(images, support)


def test_planes_that_differ_from_the_support_are_helped(fading):
    _, masks, alone, helped = fading
    alone = dices(alone, masks)
    assert [r.plane for r in helped] == list(range(DEPTH))
    assert np.mean(dices(helped, masks)) > np.mean(alone) + 0.015
    assert min(dices(helped, masks)) > min(alone) + 0.2


def test_a_plane_that_is_left_over_is_helped_too(support, fading):
    """The last plane is alone in its block and knows the block before."""
    images, masks, alone, _ = fading
    planes = tuple(range(DEPTH - BLOCK - 1, DEPTH))
    alone = dices(alone, masks)
    helped = dices(segment(images, support, planes), masks[planes[0] :])
    assert len(planes) == BLOCK + 1
    assert helped[-1] > alone[-1] + 0.1


def test_blank_planes_stay_empty_and_in_order(support):
    images, _ = scan(1)
    images[[0, 5, DEPTH - 1]] = 0.5
    results = segment(images, support)
    assert [r.plane for r in results] == list(range(DEPTH))
    assert [i for i, r in enumerate(results) if not r.labels.any()] == [
        0,
        5,
        DEPTH - 1,
    ]


def test_a_single_plane_has_no_neighbours(support):
    images, _ = scan(1, last=0.1)
    with_them = segment(images, support, planes=(9,))
    without = segment(images, support, planes=(9,), neighbours=False)
    np.testing.assert_array_equal(with_them[0].labels, without[0].labels)


def test_the_same_stack_gives_the_same_masks(support, fading):
    images, _, _, first = fading
    second = segment(images, support)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.labels, other.labels)


def test_cancelling_stops_while_planes_agree(support):
    images, _ = scan(1)
    looked = []

    def is_cancelled():
        return len(looked) >= BLOCK

    def on_progress(progress):
        if progress.stage.startswith("Plane"):
            looked.append(progress)

    with pytest.raises(Cancelled):
        segment(images, support, hooks=Hooks(on_progress, is_cancelled))


@pytest.fixture(scope="module")
def twins():
    """A scan with two things that look alike, and their masks."""
    rng = np.random.default_rng(3)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    one = np.hypot(rows - 30, columns - 24) < 11
    other = np.hypot(rows - 66, columns - 70) < 14
    image = ndimage.gaussian_filter(0.25 + 0.5 * (one | other), 1.2)
    stack = image + rng.normal(0, 0.03, (6, SIDE, SIDE))
    return stack.clip(0, 1).astype(np.float32), one, other


def found_of(twins, shown, **params):
    images, one, other = twins
    support = SupportSet([Support(images[0], shown.astype(np.int32), axes="yx")])
    results = segment(images[1:], support, **params)
    labels = np.stack([r.labels for r in results]) == 1
    return labels[:, one].mean(), labels[:, other].mean()


def test_one_object_stays_if_the_supports_show_one(twins):
    _, one, other = twins
    here, there = found_of(twins, one, one_object=True)
    assert here > 0.9
    assert there == 0
    # The larger one, too, if that is what the support shows; also on a single plane.
    images, *shown = twins
    here, there = found_of((images[:2], *shown), other, one_object=True)
    assert here == 0
    assert there > 0.9


def test_nothing_is_dropped_if_the_supports_show_several(twins):
    _, one, other = twins
    assert min(found_of(twins, one | other, one_object=True)) > 0.9


def test_what_lies_apart_does_not_teach(twins):
    """By default it may stay, but is not found more often because of the neighbours."""
    _, one, _ = twins
    alone = found_of(twins, one, neighbours=False)
    helped = found_of(twins, one)
    assert helped[0] > 0.9
    assert helped[1] <= alone[1]


def test_large_planes_wait_for_fewer():
    assert block_size((64, 64), 1) == BLOCK
    assert block_size((40_000, 40_000), 3) == 2
    assert 2 <= block_size((2048, 2048), 2) < BLOCK
