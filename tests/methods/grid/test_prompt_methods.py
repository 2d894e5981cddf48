"""Methods that make prompts: quality, bad input, every kind of decoder."""

import numpy as np
import pytest

import napari_fewshot as nf
from napari_fewshot.data import Hooks, Plane, Sample
from napari_fewshot.methods import get_method
from napari_fewshot.methods._params import make_params
from napari_fewshot.methods.grid import GridPlane
from napari_fewshot.methods.grid._reference import MOST_INSIDE, reference_of
from napari_fewshot.methods.med_persam import Piece, register
from napari_fewshot.methods.persam_f import fit_weights

NAMES = ("persam", "persam-f", "p2sam", "matcher", "gf-sam", "dc-sam", "med-persam")


@pytest.fixture(scope="module")
def supports(make_scene, make_supports):
    return make_supports([make_scene(seed) for seed in range(2)])


def samples_of(support_set):
    """Planes of a set of single-plane supports."""
    return [
        Sample(np.asarray(s.image)[..., None], labels=np.asarray(s.labels), group=i)
        for i, s in enumerate(support_set)
    ]


def fit(name, samples, model, decoder, leave_one_out=False):
    method = get_method(name)
    values = {"decoder": decoder, "leave_one_out": leave_one_out}
    params = make_params(method.spec.params, values)
    return method.fit(samples, [1], params, model, Hooks())


@pytest.mark.parametrize("name", NAMES)
def test_finds_discs(name, supports, make_scene, dice_of):
    image, truth = make_scene(9)
    model = nf.load_model("incontext/small")
    fitted = fit(name, samples_of(supports), model, "map")
    query = Plane(image[..., None])
    chance = fitted.predict(query, Hooks())[1]
    assert dice_of(chance >= 0.5, truth == 1) > 0.8
    np.testing.assert_array_equal(chance, fitted.predict(query, Hooks())[1])


def test_by_name_with_the_bundled_network(supports, make_scene, dice_of):
    image, truth = make_scene(9)
    result = nf.segment(image, supports, method="gf-sam", model="auto")
    assert dice_of(np.asarray(result.labels).squeeze() == 1, truth == 1) > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_bad_supports(name, every_bad_input):
    model = nf.load_model("incontext/small")
    for kind, bad in every_bad_input.items():
        samples = samples_of(bad)
        fitted = fit(name, samples, model, "map")
        chance = fitted.predict(samples[0], Hooks())[1]
        assert np.isfinite(chance).all(), kind
        if kind == "everything":
            assert (chance >= 0.5).mean() > 0.5


@pytest.fixture(scope="module")
def sam(tiny_sam):
    return nf.load_model("sam/vit_b", checkpoint=tiny_sam, device="cpu")


@pytest.mark.parametrize("name", NAMES)
def test_with_sam(name, sam, supports):
    fitted = fit(name, samples_of(supports), sam, "sam")
    assert "masks by sam/vit_b" in fitted.choice
    plane = samples_of(supports)[0]
    shown = fitted.explain(plane, Hooks())[1]
    assert all(np.isfinite(m).all() for m in shown.maps.values())
    points = np.concatenate([shown.prompts.positive, shown.prompts.negative])
    assert len(shown.prompts.positive) > 0
    assert (points >= 0).all()
    assert (points < plane.image.shape[:2]).all()


def test_guidance_reaches_sam(sam, supports):
    fitted = fit("persam", samples_of(supports), sam, "sam")
    method, params = fitted.method, fitted.params
    plane = samples_of(supports)[0]
    query = GridPlane(plane, sam.encode(plane.image))
    look = method.look(fitted.states[1], query, params, Hooks())
    more = fitted.decoder._guidance(query, look.raw, fitted.states[1].mine)
    bias = more["attention_bias"]
    rows, _ = query.grid
    assert bias.shape == query.embedding.array.shape[1:]
    assert bias.mean() == pytest.approx(0, abs=1e-5)
    # The picture is wider than high: below it the frame is empty.
    assert rows < bias.shape[0]
    np.testing.assert_allclose(bias[rows:], bias.min())
    assert np.unravel_index(bias.argmax(), bias.shape) == np.unravel_index(
        look.raw.argmax(), look.raw.shape
    )
    assert more["target"].shape == (256,)


def test_weights_choose_the_right_candidate():
    truth = np.zeros((24, 24), np.float32)
    truth[6:16, 6:16] = 1
    small, large = np.full((2, 24, 24), -6.0, np.float32)
    small[9:12, 9:12] = large[2:22, 2:22] = 6
    right = 12 * truth - 6
    weights = fit_weights([np.stack([small, right, large])], [truth])
    assert sum(weights) == pytest.approx(1)
    assert np.argmax(weights) == 1
    mixed = np.tensordot(weights, np.stack([small, right, large]), 1)
    np.testing.assert_array_equal(mixed > 0, truth > 0)
    assert fit_weights([right[None]], [truth]) == (1.0,)


def test_registration_finds_what_has_moved():
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:96, :96]
    mask = np.hypot((rows - 40) / 14, (columns - 50) / 9) < 1
    grey = (0.5 * mask + random.normal(0, 0.02, mask.shape)).astype(np.float32)
    moved = np.roll(grey, (9, -12), (0, 1))
    vote, score = register([Piece(grey, mask)], moved, 0.25, Hooks())
    there = np.roll(mask, (9, -12), (0, 1))
    assert score > 0.9
    assert 2 * ((vote > 0.5) & there).sum() / ((vote > 0.5).sum() + there.sum()) > 0.9


def test_cells_do_not_grow_with_supports(supports):
    model = nf.load_model("filters")
    fitted = fit("matcher", samples_of(supports), model, "map")
    found = reference_of(fitted.supports * 10, 1, 0)
    assert len(found.inside) == MOST_INSIDE
    np.testing.assert_allclose(found.mine, fitted.states[1].mine, rtol=1e-4)
