"""Fitted heads and the template bank: on any embedding, on bad input, by themselves."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

import napari_fewshot as nf
from napari_fewshot.data import Hooks, Plane, Sample
from napari_fewshot.errors import Cancelled
from napari_fewshot.methods import _fine, get_method
from napari_fewshot.methods._fine import FineEncoder
from napari_fewshot.methods._heads import Rows, balance, draw_rows
from napari_fewshot.methods.grid import GridPlane, GridSupport
from napari_fewshot.methods.linear import fit_logistic
from napari_fewshot.methods.template_bank import descriptor_of
from napari_fewshot.models import filters, load_model

TRAINED = {"mlp": 40, "dino-augseg": 25, "distill": 40}
NAMES = ("knn", "linear", "template-bank", *TRAINED)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Small grids, where quality is not the question."""
    monkeypatch.setattr(filters, "WORKING_SIDE", 72)
    monkeypatch.setattr(_fine, "FINE_SIDE", 36)


def segment(image, supports, method, **options):
    steps = {"steps": TRAINED[method]} if method in TRAINED else {}
    options = {"model": "filters", **steps, **options}
    return nf.segment(image, supports, method=method, **options)


def samples_of(scenes):
    return [
        Sample(image[..., None], labels=labels, group=str(i), name=str(i))
        for i, (image, labels) in enumerate(scenes)
    ]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_objects_are_found_each_time(name, make_scene, make_supports, dice_of):
    image, truth = make_scene(9)
    supports = make_supports([make_scene(1), make_scene(2)])
    found = segment(image, supports, name)
    again = segment(image, supports, name)
    np.testing.assert_array_equal(found.labels, again.labels)
    assert dice_of(found.labels == 1, truth == 1) > 0.85


@pytest.mark.parametrize("name", NAMES)
def test_on_the_bundled_network(name, make_scene, make_supports, dice_of):
    image, truth = make_scene(9)
    found = segment(image, make_supports([make_scene(1)]), name, model="auto")
    assert dice_of(found.labels == 1, truth == 1) > 0.7


@pytest.mark.parametrize("name", ["linear", "template-bank"])
def test_on_a_sam_that_draws_the_masks(name, make_scene, make_supports, tiny_sam):
    found = segment(
        make_scene(9)[0],
        make_supports([make_scene(1)]),
        name,
        model="sam/vit_b",
        checkpoint=tiny_sam,
        decoder="sam",
    )
    assert np.isfinite(found.scores[1])


@pytest.mark.parametrize("name", NAMES)
def test_bad_input_is_borne(name, every_bad_input, make_scene):
    for supports in every_bad_input.values():
        steps = {"steps": 2} if name in TRAINED else {}
        found = segment(make_scene(9)[0], supports, name, leave_one_out=False, **steps)
        assert all(np.isfinite(s) for s in found.scores.values())


@pytest.mark.parametrize("name", NAMES)
def test_what_is_learnt_can_be_sent_to_another_process(name, make_scene):
    scenes = samples_of([make_scene(1), make_scene(2)])
    method, encoder = get_method(name), load_model("filters")
    params = replace(method.spec.params(), leave_one_out=False)
    if name in TRAINED:
        params = replace(params, steps=3)
    fitted = method.fit(scenes, [1], params, encoder, Hooks())
    states = pickle.loads(pickle.dumps(fitted.states))
    plane = Plane(make_scene(9)[0][..., None])
    before = fitted.predict(plane, Hooks())[1]
    fitted.states = states
    np.testing.assert_array_equal(fitted.predict(plane, Hooks())[1], before)


def test_a_student_holds_nothing_of_the_supports(make_scene):
    method, encoder = get_method("distill"), load_model("filters")
    params = replace(method.spec.params(), leave_one_out=False, steps=2)
    sizes = []
    for count in (2, 6):
        scenes = samples_of([make_scene(i) for i in range(count)])
        fitted = method.fit(scenes, [1], params, encoder, Hooks())
        sizes.append(len(pickle.dumps(fitted.states)))
    assert sizes[0] == sizes[1]


def test_training_is_cancelled_between_steps(make_scene, make_supports):
    asked = []

    def is_cancelled():
        asked.append(1)
        return len(asked) > 40

    method = get_method("dino-augseg")
    params = replace(method.spec.params(), steps=10_000)
    hooks = Hooks(lambda progress: None, is_cancelled)
    with pytest.raises(Cancelled):
        method.fit(
            samples_of([make_scene(1)]), [1], params, load_model("filters"), hooks
        )


def test_rows_are_drawn_from_both_sides_of_every_support(make_scene):
    encoder = FineEncoder(load_model("filters"))
    supports = [
        GridSupport(s, encoder.encode(s.image), sample=s)
        for s in samples_of([make_scene(1), make_scene(2)])
    ]
    values, cover = draw_rows(supports, 1, 400, 0)
    assert len(values) == len(cover) == 400
    assert ((cover >= 0.5).sum(), (cover < 0.5).sum()) == (200, 200)
    weight = balance(cover)
    np.testing.assert_allclose((weight * cover).sum(), 200, rtol=0.1)


def test_logistic_regression_finds_the_log_odds():
    random = np.random.default_rng(0)
    values = random.normal(size=(4000, 2)).astype(np.float32)
    cover = 1 / (1 + np.exp(-(1.5 * values[:, 0] - 0.5 * values[:, 1] + 0.3)))
    rows = Rows(values, cover.astype(np.float32), np.ones(4000, np.float32))
    head = fit_logistic(rows, 1e-3, Hooks())
    np.testing.assert_allclose(head.weights, [1.5, -0.5], atol=0.02)
    np.testing.assert_allclose(head.bias, 0.3, atol=0.02)


def test_the_fine_grid_shows_both_kinds_of_features(make_scene, monkeypatch):
    monkeypatch.setattr(_fine, "FINE_SIDE", 96)
    image = make_scene(1)[0][..., None]
    network = load_model("incontext/small")
    coarse, fine = network.encode(image), FineEncoder(network).encode(image)
    assert fine.array.shape[0] > coarse.array.shape[0]
    assert fine.array.shape[1] > coarse.array.shape[1]
    assert fine.model != coarse.model


def test_a_template_is_found_by_how_the_image_looks(make_scene):
    encoder = load_model("filters")
    image = make_scene(1)[0][..., None]
    planes = [image, np.roll(image, 20, 1), 1 - image]
    same, moved, other = (
        descriptor_of(GridPlane(Plane(p), encoder.encode(p))) for p in planes
    )
    assert same @ moved > same @ other
