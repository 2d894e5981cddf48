"""Prototype methods: on any embedding, on bad input, and what each does of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import napari_fewshot as nf
from napari_fewshot.data import Hooks, Plane, Sample
from napari_fewshot.methods import alpnet, get_method, insid3
from napari_fewshot.methods.fob import ring_cells
from napari_fewshot.methods.grid import GridSupport
from napari_fewshot.methods.insid3 import PLACELESS, PlacelessEncoder
from napari_fewshot.models import load_model
from napari_fewshot.ops import position_features

NAMES = ("panet", "alpnet", "adnet", "qnet", "repri", "mumford-shah", "fob", "insid3")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Cluster and compare little, where quality is not the question."""
    monkeypatch.setattr(insid3, "MOST_SIDE", 24)
    monkeypatch.setattr(alpnet, "MOST", 64)


def segment(image, supports, method, **options):
    options = {"model": "filters", **options}
    return nf.segment(image, supports, method=method, **options)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_objects_are_found_each_time(name, make_scene, make_supports, dice_of):
    image, truth = make_scene(9)
    supports = make_supports([make_scene(1), make_scene(2)])
    found = segment(image, supports, name)
    again = segment(image, supports, name)
    np.testing.assert_array_equal(found.labels, again.labels)
    assert dice_of(found.labels == 1, truth == 1) > 0.85
    assert found.scores[1] > 0.7


@pytest.mark.parametrize("name", NAMES)
def test_on_the_bundled_network(name, make_scene, make_supports, dice_of):
    image, truth = make_scene(9)
    found = segment(image, make_supports([make_scene(1)]), name, model="auto")
    assert dice_of(found.labels == 1, truth == 1) > 0.7


@pytest.mark.parametrize("name", NAMES)
def test_on_a_sam_that_draws_the_masks(name, make_scene, make_supports, tiny_sam):
    found = segment(
        make_scene(9)[0],
        make_supports([make_scene(1)]),
        name,
        model="sam/vit_b",
        checkpoint=tiny_sam,
        decoder="sam",
        keep_probabilities=True,
        leave_one_out=False,
    )
    assert np.isfinite(found.probabilities[1]).all()
    assert "masks by sam/vit_b" in found.choice


@pytest.mark.parametrize("name", NAMES)
def test_bad_supports_give_a_finite_answer(name, make_scene, every_bad_input):
    image, truth = make_scene(9)
    for kind, supports in every_bad_input.items():
        found = segment(
            image, supports, name, leave_one_out=False, keep_probabilities=True
        )
        assert np.isfinite(found.probabilities[1]).all()
        inside = found.labels == 1
        # No worse than chance, where there is more to learn from than a pixel.
        if "pixel" not in kind and inside.any():
            assert truth[inside].mean() >= 0.9 * truth.mean(), kind


def on_filters(pairs):
    """Return supports on the grid of the filter bank."""
    encoder = load_model("filters")
    found = []
    for number, (image, labels) in enumerate(pairs):
        sample = Sample(image[..., None], labels=labels, group=number, name=f"{number}")
        found.append(GridSupport(sample, encoder.encode(sample.image), sample=sample))
    return found


def params_of(name, **values):
    return replace(get_method(name).spec.params(), **values)


def test_a_support_without_background_does_not_weaken_it(make_scene):
    method, params = get_method("panet"), params_of("panet")
    image, labels = make_scene(1)
    one = on_filters([(image, labels)])
    full = on_filters([(make_scene(2)[0], np.ones_like(labels))])
    both = method.learn(one + full, 1, params, Hooks())
    alone = method.learn(one, 1, params, Hooks())
    np.testing.assert_allclose(both[1], alone[1], rtol=1e-5)
    twice = method.learn(one + one, 1, params, Hooks())
    np.testing.assert_allclose(twice, alone, rtol=1e-5)


def test_more_supports_do_not_make_alpnet_slower(make_scene):
    supports = on_filters([make_scene(seed) for seed in range(4)])
    mine, rest = get_method("alpnet").learn(supports, 1, params_of("alpnet"), Hooks())
    assert len(mine) <= alpnet.MOST + 1
    assert len(rest) == alpnet.MOST


def test_qnet_has_a_threshold_of_the_query_and_knows_its_own_cells(make_scene):
    method = get_method("qnet")
    supports = on_filters([make_scene(1), make_scene(2)])
    image, labels = make_scene(9)
    query = on_filters([(0.7 * image + 0.05, labels)])[0]
    params = params_of("qnet", refine=0.0)
    state = method.learn(supports, 1, params, Hooks())
    look = method.look(state, query, params, Hooks())
    shift = look.maps["before refinement"] - look.raw
    assert np.ptp(shift) < 1e-3
    assert 1e-3 < abs(shift.mean()) <= 1 / state.boundary.slope + 1e-3
    own = look.maps["own cells"]
    truth = query.cover(1) >= 0.5
    assert own[truth].mean() > own[~truth].mean() + 0.3
    moved = method.look(state, query, params_of("qnet", refine=0.6), Hooks())
    assert np.abs(moved.raw - look.raw).max() > 0.01


def test_repri_covers_what_is_wished_for(make_scene):
    method = get_method("repri")
    supports = on_filters([make_scene(1)])
    query = on_filters([make_scene(9)])[0]
    shares = []
    for area in (5.0, 60.0):
        params = params_of("repri", target_area=area)
        state = method.learn(supports, 1, params, Hooks())
        raw = method.look(state, query, params, Hooks()).raw
        shares.append(float((1 / (1 + np.exp(-raw))).mean()))
    assert shares[1] > shares[0] + 0.02
    assert abs(shares[1] - 0.6) < abs(shares[0] - 0.6)


def test_mumford_shah_keeps_boundaries_short(make_scene):
    method = get_method("mumford-shah")
    rng = np.random.default_rng(0)
    supports = on_filters([make_scene(1)])
    image, labels = make_scene(9)
    query = on_filters([(image + rng.normal(0, 0.2, image.shape), labels)])[0]
    lengths = []
    for smoothness in (0.0, 0.6):
        params = params_of("mumford-shah", smoothness=smoothness)
        state = method.learn(supports, 1, params, Hooks())
        found = method.look(state, query, params, Hooks()).raw > 0
        lengths.append(np.abs(np.diff(found.astype(int), axis=0)).sum())
    assert lengths[1] < 0.8 * lengths[0]


def test_background_points_lie_all_round(make_scene):
    method, params = get_method("fob"), params_of("fob")
    supports = on_filters([make_scene(1, count=1)])
    state = method.learn(supports, 1, params, Hooks())
    query = on_filters([make_scene(3, count=1)])[0]
    look = method.look(state, query, params, Hooks())
    part = query.cover(1) >= 0.5
    assert look.raw[part].min() > np.median(look.raw[~part])
    ring = np.random.default_rng(0).random((1, 10, *query.grid))
    cells = ring_cells(part, ring, 2.0)
    away = cells - np.argwhere(part).mean(0)
    angles = np.unwrap(np.arctan2(away[:, 1], -away[:, 0]), period=2 * np.pi)
    steps = np.diff(angles)
    assert len(cells) == 10
    assert (steps > 0).all(), "clockwise, as on the support"
    assert steps.max() < np.pi
    assert not part[cells[:, 0], cells[:, 1]].any()


class Placed:
    """The filter bank with loud positions, as vision transformers have them."""

    def __init__(self):
        self.filters = load_model("filters")
        self.spec = self.filters.spec

    def encode(self, image):
        found = self.filters.encode(image)
        place = position_features(found.array.shape[1:], 0.0)[..., :2]
        loud = 40 * np.moveaxis(place - 0.5, -1, 0).astype(np.float32)
        return replace(found, array=np.concatenate([found.array, loud]))

    def blank_features(self, shape):
        return self.encode(np.zeros((*shape, 1), np.float32)).cells


def test_insid3_finds_the_object_elsewhere(dice_of):
    rows, columns = np.mgrid[:64, :64]
    pairs = []
    for y, x in ((16, 16), (46, 44)):
        labels = (np.hypot(rows - y, columns - x) < 9).astype(np.int32)
        pairs.append(((0.3 + 0.4 * labels).astype(np.float32), labels))
    (image, labels), (other, truth) = pairs
    sample = Sample(image[..., None], labels=labels)
    method, encoder = get_method("insid3"), Placed()
    overlaps = {}
    for position in ("off", "on"):
        params = params_of("insid3", position=position, leave_one_out=False)
        fitted = method.fit([sample], [1], params, encoder, Hooks())
        found = fitted.predict(Plane(other[..., None]), Hooks())[1] >= 0.5
        overlaps[position] = dice_of(found, truth == 1)
    assert overlaps["off"] > 0.8
    assert overlaps["on"] < 0.3, "there the place counts, as wished for"


def test_features_without_position_keep_the_rest():
    image = np.random.default_rng(0).random((32, 40, 1)).astype(np.float32)
    plain = Placed().encode(image)
    found = PlacelessEncoder(Placed()).encode(image)
    np.testing.assert_array_equal(found.array, plain.array)
    rest = found.extras[PLACELESS]
    assert np.abs(rest[-2:]).max() < 0.1 * np.abs(plain.array[-2:]).max()
    assert rest[:-2].std() > 0
