"""Prompts from the mask of the plane before, and when an object has ended."""

import numpy as np
import pytest

from napari_fewshot.data import Hooks
from napari_fewshot.errors import ModelError
from napari_fewshot.methods.following import follower_of
from napari_fewshot.methods.projection import (
    MODES,
    deep_points,
    ending,
    is_thin,
    overlap,
    project,
    widened_box,
)
from napari_fewshot.models import load_model


def block(top, left, bottom, right, shape=(60, 80)):
    mask = np.zeros(shape, bool)
    mask[top:bottom, left:right] = True
    return mask


def disc(row, column, radius, shape=(60, 80)):
    rows, columns = np.indices(shape)
    return np.hypot(rows - row, columns - column) < radius


def test_boxes_are_a_little_larger_and_stay_on_the_plane():
    np.testing.assert_allclose(widened_box(block(10, 20, 50, 60)), [8, 18, 52, 62])
    small = widened_box(block(10, 20, 14, 24))
    np.testing.assert_allclose(small, [9, 19, 15, 25], err_msg="at least a pixel")
    np.testing.assert_allclose(widened_box(block(0, 0, 60, 80)), [0, 0, 60, 80])


def test_points_are_deep_inside_and_in_every_part():
    mask = disc(20, 20, 12) | disc(40, 60, 9)
    points = deep_points(mask)
    np.testing.assert_allclose(points[0], [20, 20], atol=1)
    np.testing.assert_allclose(points[1], [40, 60], atol=1)
    assert all(mask[tuple(p.astype(int))] for p in points)
    assert len(deep_points(mask, 1)) == 1
    single = np.zeros((9, 9), bool)
    single[3, 4] = True
    np.testing.assert_array_equal(deep_points(single), [[3, 4]])


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_gives_what_it_says(mode):
    mask = disc(30, 40, 14)
    prompts = project(mask, mode)
    words = mode.split("+")
    assert (len(prompts.boxes) == 1) == ("box" in words)
    assert (prompts.mask is not None) == ("mask" in words)
    assert (prompts.clicks == 1) == ("point" in words)
    assert (prompts.clicks > 1) == ("points" in words)


def test_no_prompts_from_nothing():
    with pytest.raises(ValueError, match="empty"):
        project(np.zeros((5, 5), bool), "box")
    with pytest.raises(ValueError, match="no mode"):
        project(np.ones((5, 5), bool), "boxes")


def test_a_diagonal_thread_is_thin_and_a_disc_is_not():
    thread = np.abs(np.subtract.outer(np.arange(60), np.arange(80))) < 3
    assert is_thin(thread)
    assert not is_thin(disc(30, 40, 14))
    assert not is_thin(block(10, 10, 12, 70)), "a straight thread fills its box"


def test_an_object_ends_when_it_vanishes_jumps_or_moves_too_far():
    before = block(10, 10, 30, 30)
    assert ending(before, np.zeros_like(before), 0.0) == "nothing found"
    assert ending(before, block(0, 0, 60, 80), 0.0) == "area jumps"
    assert ending(before, block(10, 10, 14, 14), 0.0) == "area jumps"
    aside = block(10, 18, 30, 38)
    assert overlap(before, aside) == pytest.approx(12 / 28)
    assert ending(before, aside, 0.5) == "moves too far"
    assert ending(before, aside, 0.4) == ""
    assert overlap(np.zeros_like(before), np.zeros_like(before)) == 1


def test_the_network_learns_from_annotated_planes():
    """The same prompt means another object when other masks were annotated."""
    rng = np.random.default_rng(0)
    one, other = disc(30, 20, 10), disc(30, 60, 10)
    image = (0.1 + 0.8 * (one | other) + rng.normal(0, 0.03, one.shape))[..., None]
    image = np.clip(image, 0, 1).astype(np.float32)
    follower = follower_of(load_model(), lambda image, hooks: None)
    seen = follower.look(image, Hooks())
    for mask in (one, other):
        lesson = follower.learn([image], [mask])
        prompts = project(mask, follower.projects)
        ((logits, score),) = follower.follow(seen, [(lesson, prompts)], Hooks())
        assert overlap(logits > 0, mask) > 0.6
        assert 0.5 < score <= 1


def test_a_model_without_prompts_is_refused():
    with pytest.raises(ModelError, match="does not follow prompts"):
        follower_of(load_model("filters"), lambda image, hooks: None)
