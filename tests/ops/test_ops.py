"""Pure functions against closed forms and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_fewshot.errors import DataError
from napari_fewshot.ops import (
    Match,
    bend_mask,
    bounding_box,
    context_features,
    cosine_maps,
    find_piece,
    fit_factor,
    mask_to_grid,
    masked_average,
    pixel_features,
    position_features,
    probabilities_to_labels,
    resize_image,
    resize_labels,
    smooth,
    soft_dice,
    split_instances,
    standing_out,
    walk_boundary,
    walk_from_clicks,
)

RNG = np.random.default_rng(0)
ROWS, COLUMNS = np.mgrid[:64, :80]


def disc(y, x, r, shape=(64, 80)):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 <= r**2


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("shape", [(64, 80), (8, 8), (5, 40)])
def test_features_of_any_size_are_finite(shape, channels):
    image = RNG.random((*shape, channels)).astype(np.float32)
    features = pixel_features(image)
    groups = 4 if channels == 3 else channels
    assert features.shape == (*shape, 37 * groups)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()


def test_coarse_features_agree_with_the_exact_ones():
    image = ndimage.gaussian_filter(RNG.random((192, 192)), 4).astype(np.float32)
    exact = ndimage.gaussian_filter(image, 12.0, mode="nearest")
    inside = np.s_[36:-36, 36:-36]
    error = np.abs(smooth(image, 12.0) - exact)[inside].max()
    assert error < 0.1 * np.ptp(exact[inside])


def test_a_bright_ridge_has_a_negative_second_derivative():
    image = np.exp(-(((ROWS - 32) / 2.0) ** 2)).astype(np.float32)[..., None]
    features = pixel_features(image, (1.5,))
    value, mean, edge, high, low = features[32, 40, :5]
    assert value > mean > 0.5
    assert edge < features[29, 40, 2], "the slope is steeper beside the ridge"
    assert low < -0.05
    assert abs(high) < 0.01


def test_position_and_context():
    where = position_features((4, 5), 0.25)
    assert where.shape == (4, 5, 3)
    np.testing.assert_allclose(where[3, 4], (0.875, 0.9, 0.25))
    context = context_features(np.eye(32, dtype=np.float32))
    assert context.shape[:2] == (32, 32)
    assert np.isfinite(context).all()


def test_argmax_threshold_and_size_limits():
    first = np.zeros((32, 32), np.float32)
    first[2:12, 2:12] = 0.9
    first[20:22, 20:22] = 0.9
    second = np.zeros_like(first)
    second[2:12, 8:18] = 0.95
    labels = probabilities_to_labels({1: first, 2: second})
    assert labels[5, 4] == 1
    assert labels[5, 9] == 2, "the more probable class wins"
    small = probabilities_to_labels({1: first, 2: second}, min_area={1: 10})
    assert small[20, 20] == 0
    assert small[5, 9] == 2
    large = probabilities_to_labels({1: first}, max_area=50)
    assert large[20, 20] == 1
    assert large[5, 4] == 0
    assert (probabilities_to_labels({1: first}, largest_only=True) == 1).sum() == 100
    assert not probabilities_to_labels({1: first}, threshold=0.95).any()


def test_holes_are_filled_but_never_over_another_class():
    outer = np.zeros((32, 32), np.float32)
    outer[4:28, 4:28] = 0.8
    outer[10:20, 10:20] = 0
    inner = np.zeros_like(outer)
    inner[12:16, 12:16] = 0.9
    labels = probabilities_to_labels({1: outer, 2: inner})
    assert labels[11, 11] == 1
    assert labels[13, 13] == 2
    assert probabilities_to_labels({1: outer}, fill_holes=False)[11, 11] == 0


def test_soft_dice():
    sure = np.where(disc(30, 40, 10), 1.0, 0.0).astype(np.float32)
    unsure = np.where(disc(30, 40, 10), 0.6, 0.3).astype(np.float32)
    assert soft_dice(sure) == 1
    assert soft_dice(unsure) < 0.5
    assert soft_dice(np.zeros((8, 8), np.float32)) == 1
    assert soft_dice(np.full((8, 8), 0.45, np.float32)) == pytest.approx(0.55)


@pytest.mark.parametrize(
    ("mode", "count"), [pytest.param("components", 2), pytest.param("watershed", 3)]
)
def test_touching_discs(mode, count):
    mask = disc(30, 20, 9) | disc(30, 36, 9) | disc(10, 65, 7)
    numbered = split_instances(mask.astype(np.int32), mode)
    assert len(np.unique(numbered)) - 1 == count
    np.testing.assert_array_equal(numbered > 0, mask)


def test_instances_never_merge_classes():
    labels = np.where(disc(30, 30, 8), 1, 0) + np.where(disc(30, 60, 8), 2, 0)
    labels[30, 38:53] = 1
    labels[30, 45:53] = 2
    numbered = split_instances(labels.astype(np.int32), "components")
    for number in range(1, numbered.max() + 1):
        assert len(np.unique(labels[numbered == number])) == 1
    with pytest.raises(DataError, match="watershed"):
        split_instances(labels.astype(np.int32), "magic")


def brute_force_ncc(image, piece):
    best, height, width = (-2.0, 0, 0), *piece.shape
    for y in range(image.shape[0] - height + 1):
        for x in range(image.shape[1] - width + 1):
            window = image[y : y + height, x : x + width]
            score = np.corrcoef(window.ravel(), piece.ravel())[0, 1]
            best = max(best, (score, y, x))
    return best


def test_matching_is_the_best_correlation():
    image = RNG.random((30, 34)).astype(np.float32)
    piece = (image[11:19, 6:15] * 0.5 + 0.1 * RNG.random((8, 9))).astype(np.float32)
    score, y, x = brute_force_ncc(image, piece)
    match = find_piece(image, piece, (0, 0), float("inf"))
    assert (match.dy, match.dx) == (y, x) == (11, 6)
    assert match.score == pytest.approx(score, abs=1e-4)


def test_a_prior_on_the_move_tells_twins_apart():
    image = (disc(30, 15, 6) | disc(30, 62, 6)).astype(np.float32)
    image += 0.01 * RNG.random(image.shape).astype(np.float32)
    top, bottom, left, right = bounding_box(disc(30, 15, 6), 3)
    piece = image[top:bottom, left:right]
    near_left = find_piece(image, piece, (top, left), 20.0)
    assert abs(near_left.dx) <= 1
    near_right = find_piece(image, piece, (top, left + 45), 20.0)
    assert abs(near_right.dx - 2) <= 1


def test_a_flat_piece_is_found_nowhere():
    match = find_piece(RNG.random((20, 20)), np.ones((5, 5)), (3, 3), 5.0)
    assert match == Match(0, 0, 0.0)


@pytest.mark.parametrize("faint", [0.0, 1e-6, 3e-7])
def test_flat_ground_resembles_nothing(faint):
    """Shrunk images leave traces in the dark: nothing to be divided by."""
    rng = np.random.default_rng(0)
    image = np.zeros((200, 200), np.float32)
    body = disc(130, 110, 60, image.shape)
    image[body] = rng.uniform(0.4, 1, int(body.sum()))
    image[10:50:7, 20:80:9] = faint
    piece = rng.uniform(0.4, 1, (40, 30)).astype(np.float32)
    piece[:20] = 0
    match = find_piece(image, piece, (20, 20), float("inf"))
    assert match.score < 0.9
    there = image[20 + match.dy : 60 + match.dy, 20 + match.dx : 50 + match.dx]
    assert there.std() > 0.1


def test_bending_follows_a_larger_object():
    image = ndimage.gaussian_filter(disc(30, 40, 12).astype(np.float32), 1)
    support = ndimage.gaussian_filter(disc(30, 40, 9).astype(np.float32), 1)
    bent = bend_mask(
        image, support, disc(30, 40, 9), Match(0, 0, 1.0), margin=12, max_side=96
    )
    truth = disc(30, 40, 12)
    before = 2 * (disc(30, 40, 9) & truth).sum() / (disc(30, 40, 9).sum() + truth.sum())
    after = 2 * ((bent > 0.5) & truth).sum() / ((bent > 0.5).sum() + truth.sum())
    assert after > before + 0.1


def test_a_mask_moved_out_of_the_frame_is_empty():
    mask = disc(30, 40, 6)
    image = RNG.random((64, 80)).astype(np.float32)
    moved = bend_mask(image, image, mask, Match(200, 0, 0.5), margin=4, max_side=0)
    assert not moved.any()


def test_the_walker_settles_on_the_edge():
    truth = disc(30, 40, 12)
    image = (truth + 0.15 * RNG.standard_normal(truth.shape)).astype(np.float32)
    rough = disc(32, 42, 11).astype(np.float32)
    refined = walk_boundary(image, rough, 6.0) > 0.5

    def dice(mask):
        return 2 * (mask & truth).sum() / (mask.sum() + truth.sum())

    assert dice(refined) > dice(rough > 0.5)


@pytest.mark.parametrize("image", [np.zeros((64, 80)), np.ones((64, 80))])
def test_the_walker_leaves_flat_images_alone(image):
    rough = disc(32, 42, 11).astype(np.float32)
    np.testing.assert_array_equal(walk_boundary(image, rough, 6.0), rough)


def known(*points, shape=(64, 80)):
    mask = np.zeros(shape, bool)
    for row, column in points:
        mask[row, column] = True
    return mask


@pytest.mark.parametrize("channels", [1, 3])
def test_one_click_finds_the_object_it_stands_out_from(channels):
    truth = disc(30, 40, 12)
    image = (truth[..., None] + 0.2 * RNG.standard_normal((64, 80, channels))) / 2
    guess = np.full(truth.shape, 0.5, np.float32)
    click, nothing = known((28, 43)), known()
    image = image.astype(np.float32)
    found = walk_from_clicks(image, click, nothing, guess, 1.0) > 0
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.9


def test_the_walk_keeps_to_what_is_known():
    image = RNG.random((64, 80, 1)).astype(np.float32)
    positive, negative = known((20, 20), (50, 60)), known((32, 40), (1, 1))
    guess = np.full(positive.shape, 0.5, np.float32)
    odds = walk_from_clicks(image, positive, negative, guess, 0.5)
    assert odds.dtype == np.float32
    assert (odds[positive] > 0).all()
    assert (odds[negative] < 0).all()
    every = np.ones_like(positive)
    assert (walk_from_clicks(image, every, ~every, guess, 1.0) > 0).all()


def test_large_planes_walk_on_a_small_copy_with_every_click():
    truth = np.kron(disc(30, 40, 12), np.ones((10, 10), bool))
    image = truth[..., None].astype(np.float32)
    click = known((300, 400), shape=truth.shape)
    guess = np.full(truth.shape, 0.5, np.float32)
    found = walk_from_clicks(image, click, known(shape=truth.shape), guess, 1.0) > 0
    assert found.shape == truth.shape
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.9


def test_the_level_with_the_clearest_boundary_is_chosen():
    rows, columns = np.mgrid[:64, :80]
    cone = 4 - np.hypot(rows - 30, columns - 40) / 4
    image = (disc(30, 40, 12)[..., None] * 1.0).astype(np.float32)
    level = standing_out(image, cone, np.full(cone.shape, 0.5))
    assert abs(level - (4 - 12 / 4)) < 0.25
    assert standing_out(0 * image, cone, 0 * cone) == 0


def test_masked_average_and_cosine_have_closed_forms():
    features = RNG.random((5, 6, 7)).astype(np.float32)
    weights = RNG.random((6, 7)).astype(np.float32)
    wanted = (features * weights).sum((1, 2)) / weights.sum()
    np.testing.assert_allclose(masked_average(features, weights), wanted, rtol=1e-4)
    prototype = RNG.random((1, 5)).astype(np.float32)
    cell = features[:, 2, 3]
    cosine = cell @ prototype[0] / np.linalg.norm(cell) / np.linalg.norm(prototype)
    np.testing.assert_allclose(
        cosine_maps(features, prototype)[0, 2, 3], cosine, rtol=1e-4
    )


@pytest.mark.parametrize("grid", [(8, 8), (5, 7), (16, 16)])
def test_the_grid_keeps_the_area(grid):
    mask = disc(9, 7, 5, (16, 16))
    cover = mask_to_grid(mask, grid)
    assert cover.shape == grid
    assert cover.mean() == pytest.approx(mask.mean(), abs=1e-6)


def test_sizes():
    assert fit_factor((100, 200), 100) == 0.5
    assert fit_factor((10, 20), 100, 40) == 2.0
    assert fit_factor((50, 60), 100, 40) == 1.0
    image = RNG.random((20, 30)).astype(np.float32)
    assert resize_image(image, (20, 30)) is image
    labels = np.arange(20).reshape(4, 5)
    doubled = resize_labels(labels, (8, 10))
    np.testing.assert_array_equal(doubled[::2, ::2], labels)
