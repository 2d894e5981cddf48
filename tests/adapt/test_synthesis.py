"""Synthetic tasks: repeatable, varied, answerable."""

from __future__ import annotations

import numpy as np
import pytest

from napari_fewshot.adapt._tasks import TaskStream, draw_group, draw_task
from napari_fewshot.adapt.synthesis import FAMILIES, draw_scene
from napari_fewshot.adapt.synthesis._fields import smooth_noise, warped_grid
from napari_fewshot.adapt.synthesis._layout import Blob
from napari_fewshot.adapt.synthesis._paint import paint


def test_the_same_seed_gives_the_same_scene():
    one, two, other = draw_scene(7, 64), draw_scene(7, 64), draw_scene(8, 64)
    np.testing.assert_array_equal(one.images, two.images)
    np.testing.assert_array_equal(one.labels, two.labels)
    assert one.targets == two.targets
    assert not np.array_equal(one.images, other.images)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_makes_images_that_show_its_targets(family):
    maker = FAMILIES[family][1]
    shown = 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        layout = maker(rng, 3, 64)
        images = paint(rng, layout)
        assert images.shape == (3, 64, 64, 3)
        assert images.dtype == np.uint8
        assert layout.labels.shape == (3, 64, 64)
        assert layout.targets
        for target in layout.targets:
            shown += bool(np.isin(layout.labels, target).any())
        # Not blank: something can be seen.
        assert np.std(images.astype(float), axis=(1, 2)).max() > 3
    assert shown >= 4


def test_scenes_are_varied():
    scenes = [draw_scene(seed, 48, 2) for seed in range(60)]
    assert {s.family for s in scenes} == set(FAMILIES)
    grey = [bool((s.images[..., 0] == s.images[..., 1]).all()) for s in scenes]
    assert 0.3 < np.mean(grey) < 0.9


def test_smooth_noise_is_smooth_and_of_unit_size():
    rng = np.random.default_rng(0)
    fields = smooth_noise(rng, 40, 6, 64)
    assert 0.6 < fields.std() < 1.6
    step = np.abs(np.diff(fields, axis=1)).mean()
    assert step < 0.3 * fields.std()


def test_a_still_grid_is_the_identity():
    rng = np.random.default_rng(0)
    grid = warped_grid(rng, 1, 32, bend=0, turn=0, zoom=0, shift=0)[0]
    line = (np.arange(32) + 0.5) / 16 - 1
    np.testing.assert_allclose(grid[:, 3, 0], line, atol=1e-6)
    np.testing.assert_allclose(grid[3, :, 1], line, atol=1e-6)


def test_a_mirrored_blob_is_the_mirror_image():
    rng = np.random.default_rng(2)
    blob = Blob.draw(rng, np.array([0.1, 0.4]), 0.3, 0.4)
    line = (np.arange(64) + 0.5) / 32 - 1
    grid = np.stack(np.meshgrid(line, line, indexing="ij"), -1).astype(np.float32)
    inside = blob.distance(grid) < 1
    twin = blob.mirrored().distance(grid) < 1
    assert inside.any()
    np.testing.assert_array_equal(twin, inside[:, ::-1])


def test_a_blob_without_waves_is_an_ellipse():
    blob = Blob(np.zeros(2), np.array([0.5, 0.25]), 0.0, np.zeros((0, 2)))
    points = np.array([[0.5, 0.0], [0.0, 0.25], [0.0, 0.5]], np.float32)
    np.testing.assert_allclose(blob.distance(points), [1, 1, 2], rtol=1e-5)


def test_the_first_image_of_a_task_shows_the_target():
    rng = np.random.default_rng(0)
    seen = 0
    for seed in range(12):
        images, masks = draw_task(draw_scene(seed, 64), rng)
        assert images.shape == (6, 3, 64, 64)
        seen += bool(masks[0].any())
    assert seen >= 11


def test_groups_are_repeatable_and_differ():
    stream = TaskStream(seed=1, size=48, tasks=2, images=4)
    one, again, other = (draw_group(stream, n) for n in (3, 3, 4))
    assert len(one) == stream.visits**2
    for a, b in zip(one, again, strict=True):
        assert (a.images == b.images).all()
        assert (a.masks == b.masks).all()
        assert (a.supports, a.seed) == (b.supports, b.seed)
    assert not (one[0].images == other[0].images).all()
