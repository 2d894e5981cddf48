"""The boundary of greatest expected Dice, and planes that teach themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from napari_fewshot.data import Hooks, Plane, Sample
from napari_fewshot.methods import get_method, make_params
from napari_fewshot.methods._boundary import bolder
from napari_fewshot.methods._fusion import (
    BELIEF,
    Candidate,
    Recipe,
    choose_recipe,
    fit_fused,
    sigmoid,
)
from napari_fewshot.methods._looks import PRACTISED, LookMethod, LookParams
from napari_fewshot.methods._second_opinion import (
    second_looks,
    second_opinion,
    shares,
)
from napari_fewshot.methods._validation import HeldOut, dice
from napari_fewshot.models import load_model

SIDE = 64


def doubtful_map(seed):
    rng = np.random.default_rng(seed)
    odds = ndimage.gaussian_filter(rng.normal(0, 1, (SIDE, SIDE)), 6)
    return (odds / odds.std() * 1.5 - 1).astype(np.float32)


@pytest.mark.parametrize("belief", [1.0, 2.0])
def test_no_other_level_has_a_greater_expected_dice(belief):
    odds = doubtful_map(0)
    chance = 1 / (1 + np.exp(-belief * odds.astype(float)))

    def expected(mask):
        return 2 * chance[mask].sum() / (mask.sum() + chance.sum())

    best = max(expected(odds >= level) for level in np.unique(odds))
    drawn = bolder(odds, belief) >= 0
    assert expected(drawn) == pytest.approx(best, abs=2e-3)
    assert drawn.sum() > (odds >= 0).sum()


def test_what_is_certain_or_absent_keeps_its_boundary():
    odds = doubtful_map(1)
    sure = np.where(odds > 0, 4.0, -4.0)
    assert np.array_equal(bolder(sure, 2.0) >= 0, odds > 0)
    assert bolder(odds, 0.0) is odds
    nothing = odds - odds.max() - 0.1
    assert bolder(nothing, 2.0) is nothing
    # One doubtful pixel in a large plane promises nothing.
    speck = np.full((SIDE, SIDE), -1.0)
    speck[3, 3] = 0.1
    assert (bolder(speck, 2.0) >= 0).sum() == 1


def held(odds, truth):
    return HeldOut("x", truth.astype(np.int32), {1: sigmoid(odds)})


def test_the_boundary_is_drawn_by_expectation_only_where_that_was_better():
    truth = disc(0).labels == 1
    # Half of the object is found, of the rest nobody is sure; or it is another thing.
    upper = np.arange(SIDE)[:, None] < 30
    odds = np.where(truth, np.where(upper, 0.2, -0.8), -4.0)
    missed = choose_recipe({"a": [held(odds, truth)] * 4}, 1)
    assert missed.belief == BELIEF
    found = choose_recipe({"a": [held(odds, truth & upper)] * 4}, 1)
    assert found.belief == 0
    copies = choose_recipe({"a": [held(odds, truth & upper)] * 4}, 1, is_copy=True)
    assert copies.belief == BELIEF


def disc(seed, contrast=0.4):
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    mask = np.hypot(rows - 30 - seed, columns - 34) < 14
    other = np.hypot(rows - 12, columns - 12) < 7
    image = ndimage.gaussian_filter(0.3 + contrast * mask + 0.2 * other, 1)
    image = np.clip(image + rng.normal(0, 0.05, image.shape), 0, 1)
    return Sample(image[..., None].astype(np.float32), labels=mask.astype(np.int32))


def test_a_flattered_candidate_is_judged_down_on_copies_only():
    method, hooks = get_method("template"), Hooks()
    params = make_params(method.spec.params, {"bend": False, "edges": "none"})
    fair = Candidate("a", method, params)
    flattered = Candidate("b", method, params, flattery=0.5)
    one = fit_fused([fair, flattered], [disc(0)], (1,), hooks)
    assert dict(one.recipes[1].weights) == {"a": 1.0}
    # With other supports to be judged on the two are alike, and the first one wins.
    pair = [replace(disc(n), group=n) for n in range(2)]
    two = fit_fused([flattered, fair], pair, (1,), hooks)
    assert "b" in two.recipes[1].weights


@pytest.fixture(scope="module")
def look():
    model = load_model("incontext/small")
    return LookMethod().fit([disc(0)], (1,), LookParams(), model, Hooks())


def test_a_plane_teaches_itself(look):
    query, hooks = disc(2, contrast=-0.25), Hooks()
    plane, truth = Plane(query.image, None, query.pixel_size), query.labels == 1
    first = look.logits(plane.image, hooks)[1].clip(-4, 4)
    recipe = Recipe({"network": 1.0}, 0.0, 0.9)

    def again(fits, mask, recipe=recipe):
        return second_opinion(fits, recipe, 1, plane, first, mask, hooks)

    fits = {"network": look}
    found = again(fits, truth)
    assert dice(found >= 0, truth) > dice(first >= 0, truth) + 0.1
    # Nothing found, several supports, thin structures: the first opinion stays.
    assert again(fits, np.zeros_like(truth)) is first
    assert again({"network": replace(look, supports=2)}, truth) is first
    detail = replace(look, params=replace(look.params, side=512))
    both = Recipe({"network": 0.5, "network (detail)": 0.5}, 0.0, 0.9)
    assert again({**fits, "network (detail)": detail}, truth, both) is first


def test_the_look_after_practice_speaks_for_both(look):
    detail = replace(look, params=replace(look.params, side=512))
    fits = {"network": look, "network" + PRACTISED: look, "network (detail)": detail}
    looks = second_looks(fits)
    assert list(looks) == ["network" + PRACTISED]
    weights = {"network": 0.2, "network" + PRACTISED: 0.2, "pixel": 0.6}
    assert shares(looks, Recipe(weights, 0.0, 0.9)) == {
        "network" + PRACTISED: pytest.approx(0.4)
    }
