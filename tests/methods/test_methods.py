"""Every method learns its kind of task, and all keep the rules of the house."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from scipy import ndimage

from napari_fewshot.data import Hooks, Plane, Sample
from napari_fewshot.errors import Cancelled, ModelError
from napari_fewshot.methods import get_method, learning_methods, make_params
from napari_fewshot.methods._fusion import choose_recipe
from napari_fewshot.methods._validation import (
    HeldOut,
    altered_copies,
    dice,
    leave_one_out,
    split_folds,
    summarise,
)
from napari_fewshot.models import load_model

SHAPE = (96, 112)
ROWS, COLUMNS = np.mgrid[: SHAPE[0], : SHAPE[1]]
FAST = {
    "pixel": {"trees": 15},
    "dino-augseg": {"steps": 8},
    "distill": {"steps": 20},
    "mlp": {"steps": 40},
}


def fit(name, samples, classes=(1,), hooks=None, **values):
    method = get_method(name)
    params = make_params(method.spec.params, {**FAST.get(name, {}), **values})
    encoder = load_model("filters") if method.spec.uses_model else None
    return method.fit(samples, classes, params, encoder, hooks or Hooks())


def mask_of(fitted, image, value=1):
    return fitted.predict(Plane(image), Hooks())[value] >= 0.5


def texture_task(seed, group=0):
    """Stripes inside blobs, noise outside: same brightness everywhere."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.standard_normal(SHAPE), 12)
    labels = (field > 0.3 * field.std()).astype(np.int32)
    stripes = 0.5 + 0.3 * np.sin(COLUMNS * 1.5)
    image = np.where(labels, stripes, 0.5 + 0.2 * rng.standard_normal(SHAPE))
    return Sample(
        np.clip(image, 0, 1).astype(np.float32)[..., None],
        labels=labels,
        group=group,
        name=f"texture {seed}",
    )


def anatomy_task(seed, group=0, absent=False):
    """Two look-alike organs at fixed places; only the left one is wanted."""
    rng = np.random.default_rng(seed)
    y, x = 48 + rng.uniform(-5, 5), 34 + rng.uniform(-5, 5)
    left = ((ROWS - y) / 13) ** 2 + ((COLUMNS - x) / 9) ** 2 < 1
    right = ((ROWS - y) / 13) ** 2 + ((COLUMNS - x - 42) / 9) ** 2 < 1
    organs = right if absent else left | right
    image = 0.3 + 0.4 * organs + 0.05 * rng.standard_normal(SHAPE)
    image = ndimage.gaussian_filter(image, 1)
    labels = np.zeros(SHAPE, np.int32) if absent else left.astype(np.int32)
    return Sample(
        image.astype(np.float32)[..., None],
        labels=labels,
        group=group,
        name=f"anatomy {seed}",
    )


@pytest.mark.parametrize(
    ("name", "task", "least"),
    [
        pytest.param("pixel", texture_task, 0.85, id="pixel-texture"),
        pytest.param("pixel", anatomy_task, 0.8, id="pixel-anatomy"),
        pytest.param("template", anatomy_task, 0.9, id="template-anatomy"),
        pytest.param("prototype", texture_task, 0.7, id="prototype-texture"),
        pytest.param("auto", texture_task, 0.85, id="auto-texture"),
        pytest.param("auto", anatomy_task, 0.9, id="auto-anatomy"),
    ],
)
def test_methods_learn_their_tasks(name, task, least):
    fitted = fit(name, [task(s, s) for s in range(3)])
    query = task(9)
    assert dice(mask_of(fitted, query.image), query.labels == 1) >= least


@pytest.mark.parametrize("name", learning_methods())
def test_one_support_is_enough_to_run(name):
    fitted = fit(name, [anatomy_task(0)])
    found = fitted.predict(Plane(anatomy_task(1).image), Hooks())
    assert found[1].shape == SHAPE
    assert found[1].dtype == np.float32
    assert 0 <= found[1].min() <= found[1].max() <= 1


@pytest.mark.parametrize("name", learning_methods())
@pytest.mark.parametrize(
    "shape",
    [
        pytest.param((8, 8, 1), id="tiny"),
        pytest.param((40, 90, 3), id="colour"),
        pytest.param((70, 30, 2), id="two-channels"),
    ],
)
def test_any_size_and_number_of_channels(name, shape):
    rng = np.random.default_rng(0)
    image = rng.random(shape).astype(np.float32)
    labels = np.zeros(shape[:2], np.int32)
    # The object touches the border.
    labels[: shape[0] // 2, : shape[1] // 2] = 1
    image[labels == 1] *= 0.3
    fitted = fit(name, [Sample(image, labels=labels)])
    assert fitted.predict(Plane(image), Hooks())[1].shape == shape[:2]


@pytest.mark.parametrize("name", learning_methods())
def test_same_seed_same_result_and_fits_can_travel(name):
    samples = [anatomy_task(s, s) for s in range(2)]
    query = Plane(anatomy_task(5).image)
    first, second = fit(name, samples), fit(name, samples)
    travelled = pickle.loads(pickle.dumps(first))
    wanted = first.predict(query, Hooks())[1]
    np.testing.assert_array_equal(second.predict(query, Hooks())[1], wanted)
    np.testing.assert_array_equal(travelled.predict(query, Hooks())[1], wanted)


@pytest.mark.parametrize("name", learning_methods())
def test_cancelling_stops_a_fit_and_a_prediction(name):
    samples = [anatomy_task(s, s) for s in range(2)]
    stop = Hooks(is_cancelled=lambda: True)
    with pytest.raises(Cancelled):
        fit(name, samples, hooks=stop)
    fitted = fit(name, samples)
    with pytest.raises(Cancelled):
        fitted.predict(Plane(samples[0].image), stop)


@pytest.mark.parametrize("name", ["pixel", "template", "auto"])
def test_two_classes(name):
    def both(seed):
        sample = anatomy_task(seed, seed)
        shifted = np.roll(sample.labels, 42, axis=1)
        return Sample(
            sample.image,
            labels=(sample.labels + 2 * shifted).astype(np.int32),
            group=seed,
            name=str(seed),
        )

    fitted = fit(name, [both(s) for s in range(2)], classes=(1, 2))
    query = both(7)
    maps = fitted.predict(Plane(query.image), Hooks())
    for value in (1, 2):
        found = (maps[value] >= 0.5) & (maps[value] >= maps[3 - value])
        assert dice(found, query.labels == value) > 0.75, f"class {value}"


def test_negative_supports_lower_false_alarms():
    negative = [anatomy_task(s, s, absent=True) for s in (3, 4)]
    positive = [anatomy_task(s, s) for s in (0, 1)]
    query = anatomy_task(8, absent=True)
    for name in ("pixel", "auto"):
        alone = mask_of(fit(name, positive), query.image).sum()
        taught = mask_of(fit(name, positive + negative), query.image).sum()
        assert taught <= alone, name
        assert taught < 0.2 * (positive[0].labels == 1).sum(), name


def test_a_blank_query_is_empty():
    blank = np.full((*SHAPE, 1), 0.3, np.float32)
    for name in ("template", "auto"):
        assert not mask_of(fit(name, [anatomy_task(0)]), blank).any(), name


def test_position_is_dropped_for_free_objects():
    method = get_method("pixel")
    params = make_params(method.spec.params, {"trees": 15, "position": "off"})
    samples = [anatomy_task(s, s) for s in range(2)]
    fitted = method.fit(samples, (1,), params, None, Hooks())
    # Without position the twin on the other side is found, too.
    without = mask_of(fitted, samples[0].image)[:, 65:].sum()
    assert without > 2 * mask_of(fit("pixel", samples), samples[0].image)[:, 65:].sum()
    assert without > 40


def test_depth_tells_presence():
    def at(depth, absent):
        sample = anatomy_task(int(depth * 100), absent=absent)
        return Sample(sample.image, depth, labels=sample.labels, name=str(depth))

    fitted = fit("template", [at(0.2, False), at(0.4, False), at(0.8, True)])
    image = anatomy_task(9).image
    there = fitted.predict(Plane(image, 0.3), Hooks())[1]
    gone = fitted.predict(Plane(image, 0.75), Hooks())[1]
    assert (there >= 0.5).any()
    assert not (gone >= 0.5).any()


def test_prototype_needs_a_model():
    method = get_method("prototype")
    params = make_params(method.spec.params, {})
    with pytest.raises(ModelError, match="filters"):
        method.fit([anatomy_task(0)], (1,), params, None, Hooks())


def test_folds_keep_groups_together_and_classes_learnable():
    samples = [anatomy_task(s, s // 2) for s in range(6)]
    folds = split_folds(samples, (1,))
    assert sorted(i for f in folds for i in f) == list(range(6))
    for fold in folds:
        groups = {samples[i].group for i in fold}
        rest = {samples[i].group for i in range(6) if i not in fold}
        assert not groups & rest
    lonely = [anatomy_task(0, 0), anatomy_task(1, 1, absent=True)]
    assert len(split_folds(lonely, (1,))) == 1


def test_copies_differ_and_stay_in_range():
    sample = anatomy_task(0)
    copies = altered_copies(sample, seed=0)
    for copy in copies:
        assert copy.image.shape == sample.image.shape
        assert 0 <= copy.image.min() <= copy.image.max() <= 1
        assert (copy.labels != sample.labels).any()
        assert (copy.labels == 1).any()


def test_reliability_is_honest_about_few_supports():
    method = get_method("template")
    params = make_params(method.spec.params, {})
    samples = [anatomy_task(s, s) for s in range(4)]
    fitted = method.fit(samples, (1,), params, None, Hooks())
    many = leave_one_out(method, samples, (1,), params, None, Hooks(), fitted)
    assert many.kind == "leave-one-out"
    low, high = many.intervals[1]
    assert low <= many.scores[1] <= high
    assert set(many.support_scores) == {s.name for s in samples}
    one = leave_one_out(method, samples[:1], (1,), params, None, Hooks(), fitted)
    assert not one.support_scores
    assert one.intervals[1][1] - one.intervals[1][0] > high - low


def test_the_odd_support_out_is_seen():
    samples = [anatomy_task(s, s) for s in range(4)]
    wrong = Sample(
        samples[3].image,
        labels=np.roll(samples[3].labels, (30, 45), (0, 1)),
        group=3,
        name="wrong",
    )
    method = get_method("template")
    params = make_params(method.spec.params, {})
    everything = [*samples[:3], wrong]
    fitted = method.fit(everything, (1,), params, None, Hooks())
    found = method.assess(everything, (1,), params, None, Hooks(), fitted)
    scores = {n: s[1] for n, s in found.support_scores.items()}
    assert min(scores, key=lambda n: scores[n]) == "wrong"
    assert scores["wrong"] < 0.5


def held(labels, probability):
    return HeldOut("x", labels, {1: probability.astype(np.float32)})


def test_the_recipe_prefers_what_works():
    rng = np.random.default_rng(0)
    truth = [anatomy_task(s).labels for s in range(4)]
    good = [held(t, np.where(t == 1, 0.8, 0.2)) for t in truth]
    bad = [held(t, rng.random(SHAPE)) for t in truth]
    recipe = choose_recipe({"good": good, "bad": bad}, 1)
    assert dict(recipe.weights) == {"good": 1.0}
    assert recipe.score > 0.95


def test_what_will_still_improve_weighs_more_but_never_without_a_hit():
    rng = np.random.default_rng(0)
    truth = [anatomy_task(s).labels for s in range(4)]

    def noisy(share):
        flips = [rng.random(SHAPE) < share for _ in truth]
        odds = [
            np.where((t == 1) ^ f, 0.8, 0.2) for t, f in zip(truth, flips, strict=True)
        ]
        return [held(t, o) for t, o in zip(truth, odds, strict=True)]

    judged = {"a": noisy(0.02), "b": noisy(0.02)}
    plain = choose_recipe(judged, 1)
    assert min(plain.weights.values()) > 0.4
    hopeful = choose_recipe(judged, 1, {"b": 0.1})
    assert hopeful.weights["b"] > plain.weights["b"] + 0.1
    nothing = [held(t, np.zeros(SHAPE)) for t in truth]
    recipe = choose_recipe({"a": judged["a"], "none": nothing}, 1, {"none": 2.0})
    assert dict(recipe.weights) == {"a": 1.0}


def test_looks_of_one_network_share_their_vote():
    truth = [anatomy_task(s).labels for s in range(3)]
    rng = np.random.default_rng(0)
    # Equally good candidates with errors of their own: the mix is better than each.
    flips = [rng.random(SHAPE) < 0.05 for _ in truth]
    judged = {
        name: [
            held(t, np.where((t == 1) ^ np.roll(f, 7 * n, 0), 0.8, 0.2))
            for t, f in zip(truth, flips, strict=True)
        ]
        for n, name in enumerate(("network", "network (close)", "pixel"))
    }
    weights = choose_recipe(judged, 1).weights
    both = weights["network"] + weights["network (close)"]
    assert both == pytest.approx(2**0.5 * weights["pixel"], rel=0.1)
    copies = choose_recipe(judged, 1, is_copy=True).weights
    assert copies["network"] == pytest.approx(copies["pixel"], rel=0.05)


def test_without_any_hit_the_boundary_stays():
    truth = [anatomy_task(s).labels for s in range(3)]
    nothing = [held(t, np.zeros(SHAPE)) for t in truth]
    assert choose_recipe({"a": nothing, "b": nothing}, 1).shift == 0


def test_true_negatives_do_not_hide_misses():
    empty = np.zeros(SHAPE, np.int32)
    rows = [held(empty, np.zeros(SHAPE)), held(anatomy_task(0).labels, np.zeros(SHAPE))]
    assert summarise(rows, (1,), is_copy=False).scores[1] == 0
