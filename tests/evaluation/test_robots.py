"""Robot users pinned by cases with known answers (protocols A, B, D, F, G)."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from napari_fewshot.evaluation import (
    KINDS,
    Curve,
    area_under,
    background_ring,
    bootstrap_means,
    click,
    click_largest_error,
    click_pairs,
    click_thickest_error,
    draw_scribbles,
    interval,
    measure,
    near_background,
    noisy_box,
    noisy_boxes,
    normalised_area,
    object_rng,
    random_click,
    simulate,
    stroke,
    surface_metrics,
    tight_box,
)

SHAPE = (60, 80)
NOTHING = np.zeros(SHAPE, bool)
CLICKERS = [click_thickest_error, click_largest_error]


def disc(centre, radius, shape=SHAPE):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2


def rng(seed=0):
    return np.random.default_rng(seed)


def said(interaction):
    return (*(int(v) for v in interaction.places[0]), interaction.positive)


@pytest.mark.parametrize("robot", CLICKERS)
def test_the_first_click_is_in_the_middle(robot):
    (first,) = robot(NOTHING, disc((30, 40), 12), [], rng())
    assert said(first) == (30, 40, True)


@pytest.mark.parametrize("robot", CLICKERS)
def test_image_borders_count_as_background(robot):
    truth = NOTHING.copy()
    truth[:20] = True
    (first,) = robot(NOTHING, truth, [], rng())
    assert first.places[0, 0] in (9, 10)


@pytest.mark.parametrize("robot", CLICKERS)
def test_what_is_covered_is_not_clicked_again(robot):
    large, small = disc((20, 20), 10), disc((40, 60), 6)
    (found,) = robot(large, large | small, [click(20, 20)], rng())
    assert said(found) == (40, 60, True)


def test_a_goes_by_thickness_and_b_by_area():
    long, thick = NOTHING.copy(), disc((40, 40), 8)
    long[5:10] = True
    assert long.sum() > thick.sum()
    assert said(click_thickest_error(NOTHING, long | thick, [], rng())[0])[0] == 40
    assert said(click_largest_error(NOTHING, long | thick, [], rng())[0])[0] == 7


def test_a_tie_is_a_negative_click():
    missing, superfluous = disc((30, 20), 7), disc((30, 60), 7)
    (found,) = click_thickest_error(superfluous, missing, [], rng())
    assert said(found) == (30, 60, False)


def test_a_never_clicks_a_pixel_twice():
    truth, before = disc((30, 40), 2), []
    for _ in range(int(truth.sum())):
        before += click_thickest_error(NOTHING, truth, before, rng())
    assert len({said(b) for b in before}) == truth.sum()
    assert click_thickest_error(NOTHING, truth, before, rng()) == []


@pytest.mark.parametrize("robot", CLICKERS)
def test_people_click_near_the_middle(robot):
    truth = disc((30, 40), 12)
    seen = {said(robot(NOTHING, truth, [], rng(s), jitter=True)[0]) for s in range(20)}
    assert len(seen) > 5
    assert all(np.hypot(r - 30, c - 40) <= 8 and yes for r, c, yes in seen)


def test_pairs_of_clicks_point_at_both_errors():
    truth, found = disc((30, 30), 10), disc((30, 40), 10)
    for seed in range(5):
        plus, minus = click_pairs(found, truth, [], rng(seed))
        assert plus.positive
        assert (truth & ~found)[tuple(plus.places[0])]
        assert not minus.positive
        assert (found & ~truth)[tuple(minus.places[0])]
    plus, minus = click_pairs(truth, truth, [], rng())
    assert truth[tuple(plus.places[0])]
    assert near_background(truth)[tuple(minus.places[0])]
    (alone,) = click_pairs(NOTHING, ~NOTHING, [], rng())
    assert alone.positive


def test_boxes_are_tight_and_their_noise_is_bounded():
    truth = disc((30, 40), 10)
    assert tight_box(truth).places.tolist() == [[20, 30], [41, 51]]
    assert noisy_box(truth, 0, rng()).places.tolist() == [[20, 30], [41, 51]]
    corners = np.array([noisy_box(truth, 0.2, rng(s)).places for s in range(200)])
    shifts = corners - tight_box(truth).places
    # 20 % of 21 pixels, rounded.
    assert shifts.min() == -4
    assert shifts.max() == 4
    assert abs(shifts.mean()) < 0.3
    # Sides move by themselves.
    assert np.abs(np.corrcoef(shifts.reshape(-1, 4).T) - np.eye(4)).max() < 0.3


def test_noisy_boxes_stay_in_the_image_and_are_never_empty():
    speck = NOTHING.copy()
    speck[59, 79] = True
    for truth in (speck, ~NOTHING):
        for seed in range(20):
            low, high = noisy_box(truth, 0.9, rng(seed)).places
            assert (low >= 0).all()
            assert (high <= SHAPE).all()
            assert (high > low).all()


def masks():
    ring = disc((30, 40), 25) & ~disc((30, 40), 20)
    speck, pair = NOTHING.copy(), NOTHING.copy()
    speck[0, 0] = pair[10:12, 10:12] = True
    return [disc((30, 40), 12), ring, speck, pair, ~NOTHING, rng(1).random(SHAPE) > 0.6]


@pytest.mark.parametrize("kind", KINDS)
def test_scribbles_stay_inside_and_are_never_empty(kind):
    for mask in masks():
        for seed in range(6):
            path = stroke(mask, kind, rng(seed), longest=30)
            assert len(path) > 0
            assert mask[tuple(path.T)].all()
            steps = np.abs(np.diff(path, axis=0))
            assert np.hypot(*np.diff(path, axis=0).T).sum() <= 30
            # One stroke without jumps.
            assert steps.max(initial=0) <= 1


def test_kinds_of_scribbles():
    bar = NOTHING.copy()
    bar[25:36, 10:70] = True
    centre = stroke(bar, "centre", rng(), longest=80)
    assert (centre[:, 0] == 30).mean() > 0.8
    assert np.ptp(centre[:, 1]) > 45
    contour = stroke(bar, "contour", rng(), longest=200)
    assert {26, 27, 28, 29} & set(contour[:, 0].tolist())
    assert {31, 32, 33, 34} & set(contour[:, 0].tolist())
    line = stroke(bar, "line", rng(), longest=80)
    ends = line[[0, -1]].astype(float)
    (dy, dx), (y, x) = ends[1] - ends[0], (line - ends[0]).T
    # No pixel is farther than one from the straight line between the ends.
    assert np.abs(dy * x - dx * y).max() <= np.hypot(dy, dx)


def test_scribbles_begin_on_and_beside_the_object_then_correct():
    large, small = disc((30, 30), 12), disc((30, 65), 6)
    truth = large | small
    on, beside = draw_scribbles(NOTHING, truth, [], rng())
    assert on.positive
    assert large[tuple(on.places.T)].all()
    assert not beside.positive
    assert background_ring(truth)[tuple(beside.places.T)].all()
    assert not (background_ring(truth) & truth).any()
    (fix,) = draw_scribbles(large, truth, [on, beside], rng())
    assert fix.positive
    assert small[tuple(fix.places.T)].all()
    (fix,) = draw_scribbles(truth | disc((30, 50), 9), truth, [on], rng())
    assert not fix.positive
    assert not truth[tuple(fix.places.T)].any()
    assert draw_scribbles(truth, truth, [on], rng()) == []


def test_an_object_that_fills_the_image_has_nothing_beside_it():
    (on,) = draw_scribbles(NOTHING, ~NOTHING, [], rng())
    assert on.positive


def test_the_time_of_a_user():
    assert click(3, 3).seconds == 1.5
    assert tight_box(disc((30, 40), 5)).seconds == 3.5
    path = stroke(disc((30, 40), 12), "line", rng(2), longest=80)
    (on, _) = draw_scribbles(NOTHING, disc((30, 40), 12), [], rng(2), first="line")
    steps = np.hypot(*np.diff(path, axis=0).T)
    assert on.length == pytest.approx(steps.sum())
    assert on.seconds == pytest.approx(2 + steps.sum() / 200)


def test_a_perfect_engine_solves_at_the_first_click_and_the_curve_is_padded():
    truth, asked = disc((30, 40), 12), []

    def perfect(done):
        asked.append(len(done))
        return truth

    curve = simulate(truth, perfect, click_largest_error, 20, rng())
    assert asked == [1]
    assert curve.values("iou").tolist() == [0.0] + [1.0] * 20
    assert curve.interactions("iou", 0.9) == 1
    assert len(curve.seconds) == 1


def test_an_engine_that_finds_nothing_fails_with_all_clicks():
    truth = disc((30, 40), 12)
    curve = simulate(truth, lambda done: NOTHING, click_thickest_error, 20, rng())
    assert len(curve.steps) == 21
    assert curve.interactions("dice", 0.8) == 20
    assert curve.reached("dice", 0.8) is None
    assert normalised_area(curve.values()[1:]) == 0


def test_solved_at_the_last_click_is_no_failure():
    truth = disc((30, 40), 12)
    late = simulate(
        truth,
        lambda done: truth if len(done) == 20 else NOTHING,
        click_thickest_error,
        20,
        rng(),
    )
    assert late.interactions("iou", 0.9) == 20
    assert late.reached("iou", 0.9) == 20


def test_a_box_comes_before_the_first_click():
    truth, wrong = disc((30, 40), 12), disc((30, 40), 10)
    seen = []

    def answer(done):
        seen.append([d.kind for d in done])
        return truth if len(done) > 1 else wrong

    box = [tight_box(truth)]
    curve = simulate(truth, answer, click_largest_error, 5, rng(), begin=box)
    assert seen == [["box"], ["box", "click"]]
    assert 0.8 < curve.steps[0].dice < 1
    assert curve.reached("dice", 0.8) == 0
    assert [s.user_seconds for s in curve.steps] == [3.5, 5.0]


def test_early_stopping_pads_with_the_last_value():
    truth, near = disc((30, 40), 12), disc((30, 40), 11)
    curve = simulate(
        truth,
        lambda done: near,
        click_thickest_error,
        6,
        rng(),
        enough=lambda step: step.dice > 0.8,
    )
    assert len(curve.steps) == 2
    assert (curve.values()[1:] == curve.steps[1].dice).all()


def test_every_noise_meets_an_engine_that_knows_nothing():
    truth, opened = disc((30, 40), 12), []

    def open_object():
        opened.append([])

        def box_filled(done):
            opened[-1].append(done)
            (top, left), (bottom, right) = done[-1].places
            found = NOTHING.copy()
            found[top:bottom, left:right] = True
            return found

        return box_filled

    curve = noisy_boxes(truth, open_object, (0, 0.2), rng(1))
    assert [len(o) for o in opened] == [1, 1]
    assert isinstance(curve, Curve)
    assert curve.steps[0].dice == pytest.approx(2 * truth.sum() / (truth.sum() + 625))
    assert curve.steps[0].dice != curve.steps[1].dice


def test_figures_of_a_step():
    truth = disc((0, 40), 12)
    exact = measure(truth, truth, [click(1, 1)], 0.5)
    assert (exact.dice, exact.iou, exact.nsd, exact.hd95) == (1, 1, 1, 0)
    assert (exact.pixels, exact.seconds) == (1, 0.5)
    shifted = np.roll(truth, 3, axis=1)
    off = measure(shifted, truth, [], None)
    both = (shifted & truth).sum()
    assert off.iou == pytest.approx(both / (2 * truth.sum() - both))
    # Looking at a window only changes no distance, not at the border either.
    whole = surface_metrics(shifted, truth, (1.0, 1.0), 1.0)
    assert (off.nsd, off.hd95) == (whole["nsd"], whole["hd95"])
    assert measure(NOTHING, NOTHING, [], None).dice == 1
    assert measure(NOTHING, truth, [], None).iou == 0


def test_areas():
    assert area_under([1] * 5) == 4
    assert normalised_area([1] * 5) == 1
    assert normalised_area([0, 0.5, 1]) == 0.5
    assert normalised_area([0.3]) == 0.3


def test_intervals_are_by_image():
    """Twenty alike objects of two images know no more than the two images."""
    values = np.repeat([[0.2], [0.8]], 20, axis=0)
    images = ["a"] * 20 + ["b"] * 20
    low, high = interval(bootstrap_means(values, images, ["x"] * 40))[:, 0]
    assert (low, high) == (pytest.approx(0.2), pytest.approx(0.8))
    by_object = bootstrap_means(values, [str(i) for i in range(40)], ["x"] * 40)
    low, high = interval(by_object)[:, 0]
    assert 0.35 < low < 0.5 < high < 0.65
    assert np.isnan(bootstrap_means(values[:20], images[:20], ["x"] * 20)).all()
    # A class counts as much as another, however many objects it has.
    classes = ["x"] * 3 + ["y"]
    means = bootstrap_means(
        np.array([[0.0]] * 3 + [[1.0]]), ["a", "b", "a", "b"], classes
    )
    assert set(np.round(means[:, 0], 6)) == {0.0, 0.5}


def drawn(robot, name):
    generator = object_rng(3, "image", name)
    truth = disc((30, 40), 12)
    return [
        i.places.tolist()
        for i in robot(NOTHING | disc((30, 45), 8), truth, [], generator)
    ]


@pytest.mark.parametrize(
    "robot",
    [partial(click_thickest_error, jitter=True), click_pairs, draw_scribbles],
)
def test_the_same_seed_gives_the_same_prompts_in_any_order(robot):
    names = ["1", "2", "3"]
    forward = {n: drawn(robot, n) for n in names}
    backward = {n: drawn(robot, n) for n in reversed(names)}
    assert forward == backward


def test_random_numbers_are_those_of_any_process():
    """Python's own hash differs from process to process."""
    code = (
        "from napari_fewshot.evaluation import object_rng;"
        "print(object_rng(1, 'a', 'b').random())"
    )
    words = [sys.executable, "-c", code]
    other = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert float(other) == object_rng(1, "a", "b").random()
    draws = {object_rng(*k).random() for k in ((1, "a", "b"), (2, "a", "b"))}
    draws |= {object_rng(*k).random() for k in ((1, "ab", ""), (1, "a", "c"))}
    assert len(draws) == 4


def test_random_clicks_are_on_the_mask():
    truth = disc((30, 40), 5)
    seen = {said(random_click(truth, rng(s), positive=False)) for s in range(30)}
    assert len(seen) > 10
    assert all(truth[r, c] and not yes for r, c, yes in seen)
