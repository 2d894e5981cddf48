"""Methods on models that look for phrases by themselves, with real small networks."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("transformers")

from tests.models.grounding import tiny

import napari_fewshot as nf
from napari_fewshot.data import Hooks, Plane, TextPrompt
from napari_fewshot.methods import get_method
from napari_fewshot.methods.sam3_concept import joined, shown
from napari_fewshot.methods.text._boxes import FLOOR, drawn, likely
from napari_fewshot.methods.text._phrases import phrase_bank
from napari_fewshot.models.grounding import Concepts

MODELS = {
    "clipseg": ("clipseg/rd64", "heat", tiny.write_clipseg),
    "grounding-dino": ("grounding-dino/tiny", "boxes", tiny.write_dino),
    "owlv2": ("owlv2/base", "boxes", tiny.write_owl),
    "sam3": ("sam3/concept", "concept", tiny.write_sam3),
}
TEXT = {
    2: TextPrompt("a cell", synonyms=["dot"], negatives=["dark nucleus"]),
    5: TextPrompt("something round"),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    found = {}
    for method, (name, kind, write) in MODELS.items():
        folder = tmp_path_factory.mktemp(method)
        write(folder)
        found[method] = tiny.reader(name, folder, kind)
    return found


@pytest.fixture
def plane():
    pixels = np.random.default_rng(0).random((60, 88, 3)).astype(np.float32)
    return Plane(pixels)


def params_of(method, **more):
    return method.spec.params(decoder="map", **more)


def level_of(name, model, plane):
    """Return a threshold that some of what is found passes."""
    if name == "clipseg":
        return {}
    if name == "sam3":
        found = [
            s
            for p in ("a cell", "dot", "something round")
            for s in model.concepts(plane.image, p, threshold=0.01).scores
        ]
        return {"least_score": float(np.median(found))}
    more = {"text_threshold": 0.0} if name == "grounding-dino" else {}
    phrases = ["a cell", "dot", "something round", "dark nucleus"]
    found = model.detect(plane.image, phrases, 0.01, **more)
    level = {"least_score": float(np.median(found.scores))}
    return {**level, "least_word": 0.0} if more else level


@pytest.mark.parametrize("name", MODELS)
def test_the_whole_way_from_words_to_masks(name, models, plane):
    method, model = get_method(name), models[name]
    assert method.spec.reads_text
    assert model.spec.text in method.model_kinds
    params = params_of(method, **level_of(name, model, plane))
    fitted = method.fit_text(TEXT, params, model, Hooks())
    heat = fitted.heat(plane, Hooks())
    assert heat.kind == "probability"
    assert heat.maps.shape[0] == 2
    assert heat.maps.dtype == np.float32
    assert 0 <= heat.maps.min() < heat.maps.max() <= 1
    found = fitted.find(plane, Hooks())
    assert list(found.maps) == [2, 5]
    assert all(m.shape == (60, 88) for m in found.maps.values())
    if name != "clipseg":
        assert sum(len(b) for b in heat.boxes.values()) > 0
        for value, boxes in heat.boxes.items():
            assert len(boxes) == len(heat.scores[value])
    again = method.fit_text(TEXT, params, model, Hooks()).heat(plane, Hooks())
    np.testing.assert_array_equal(again.maps, heat.maps)


@pytest.mark.parametrize("name", MODELS)
def test_methods_stop_when_asked(name, models, plane):
    method = get_method(name)
    asked = iter(range(1000))
    # The first questions are asked before the network begins.
    hooks = Hooks(is_cancelled=lambda: next(asked) > 3)
    bank = method.bank(TEXT, models[name], None)
    other = Plane(1 - plane.image)
    with pytest.raises(nf.Cancelled):
        for _ in range(9):
            method.heat(models[name], other, bank, params_of(method), hooks)
            hooks.check()


def test_clipseg_takes_the_best_phrase_and_what_is_not_meant_off(models, plane):
    method, model = get_method("clipseg"), models["clipseg"]
    words = ["a cell", "dot", "dark nucleus", "something round"]
    logits = dict(zip(words, model.heat(plane.image, words), strict=True))
    bank = method.bank(TEXT, model, None)
    assert bank.phrases == ("a cell", "dot", "something round", "dark nucleus")
    heat = method.heat(model, plane, bank, params_of(method), Hooks())
    best = np.maximum(logits["a cell"], logits["dot"])
    odds = best - np.maximum(logits["dark nucleus"], 0)
    np.testing.assert_allclose(heat.maps[0], 1 / (1 + np.exp(-odds)), atol=1e-5)
    plain = 1 / (1 + np.exp(-logits["something round"]))
    np.testing.assert_allclose(heat.maps[1], plain, atol=1e-5)


def test_clipseg_flips_agree_with_the_mirrored_plane(models, plane):
    method, model = get_method("clipseg"), models["clipseg"]
    bank = method.bank({1: TextPrompt("a cell")}, model, None)
    params = params_of(method, flips=True)
    heat = method.heat(model, plane, bank, params, Hooks()).maps
    mirrored = Plane(np.ascontiguousarray(plane.image[:, ::-1]))
    other = method.heat(model, mirrored, bank, params, Hooks()).maps
    np.testing.assert_allclose(heat, other[..., ::-1], atol=1e-5)


@pytest.mark.parametrize("name", ["grounding-dino", "owlv2"])
def test_boxes_of_what_is_not_meant_are_dropped(name, models, plane):
    method, model = get_method(name), models[name]
    level = level_of(name, model, plane)
    params = params_of(method, overlap=1.0, **level)
    with_it = method.bank(TEXT, model, None)
    heat = method.heat(model, plane, with_it, params, Hooks())
    more = {"text_threshold": 0.0} if name == "grounding-dino" else {}
    found = model.detect(
        plane.image, with_it.phrases, level["least_score"], overlap=1.0, **more
    )
    unwanted = int((found.phrases == 3).sum())
    assert sum(len(b) for b in heat.boxes.values()) == len(found) - unwanted
    assert set(heat.boxes) == {2, 5}


def test_a_model_of_the_other_detector_is_used_with_its_own_threshold(models, plane):
    """`text` looks with grounding-dino, whichever detector is there."""
    method, owl = get_method("grounding-dino"), models["owlv2"]
    bank = method.bank(TEXT, owl, None)
    seen = {}

    class Watched:
        spec, threshold = owl.spec, owl.threshold

        def detect(self, image, phrases, level, **more):
            seen.update(more, level=level)
            return owl.detect(image, phrases, level, **more)

    heat = method.heat(Watched(), plane, bank, params_of(method), Hooks())
    assert seen["level"] == 0.1
    assert heat.maps.shape[0] == 2


def test_a_score_that_only_just_counts_is_at_the_boundary():
    for level in (0.1, 0.3, 0.9):
        values = likely(np.array([level, level / 2, (1 + level) / 2]), level)
        assert values[0] == pytest.approx(0.5, abs=1e-6)
        assert values[1] < 0.5 < values[2]
    ends = likely(np.array([0.0, 1.0]), 0.3)
    np.testing.assert_allclose(ends, [FLOOR, 1 - FLOOR], rtol=1e-6)


def test_boxes_are_drawn_where_they_are():
    boxes = np.array([[10, 20, 30, 60], [20, 50, 40, 70], [39.2, 0, 39.4, 0.1]])
    scores = np.array([0.6, 0.8, 0.4])
    found = drawn(boxes, scores, 0.3, (40, 80))
    wanted = np.full((40, 80), FLOOR)
    for (y0, x0, y1, x1), value in zip(
        np.array([[10, 20, 30, 60], [20, 50, 40, 70], [39, 0, 40, 1]]),
        likely(scores, 0.3),
        strict=True,
    ):
        wanted[y0:y1, x0:x1] = np.maximum(wanted[y0:y1, x0:x1], value)
    np.testing.assert_allclose(found, wanted)
    # Large planes have fewer cells than pixels.
    large = drawn(boxes * 100, scores, 0.3, (4000, 8000))
    assert large.shape == (128, 256)
    assert abs((large > 0.5).mean() - (wanted > 0.5).mean()) < 0.02


def square(y, x, side, shape=(40, 40)):
    mask = np.zeros(shape, bool)
    mask[y : y + side, x : x + side] = True
    return mask


def concepts(masks, scores, presence=0.9, region=None):
    masks = np.array(masks).reshape(-1, 40, 40)
    empty = np.zeros((10, 10), np.float32)
    return Concepts(
        masks,
        np.array(scores, np.float32),
        np.zeros((len(masks), 4), np.float32),
        presence,
        empty if region is None else region,
    )


def test_objects_of_several_phrases_are_each_one_object():
    one = concepts([square(0, 0, 10), square(20, 20, 10)], [0.5, 0.8])
    two = concepts([square(0, 1, 10), square(0, 30, 5)], [0.9, 0.6])
    against = concepts([square(20, 20, 10), square(0, 30, 3)], [0.8, 0.99])
    masks, scores, _ = joined([one, two], [], 0.7)
    np.testing.assert_allclose(scores, [0.9, 0.8, 0.6])
    assert (masks[0] == square(0, 1, 10)).all()
    masks, scores, boxes = joined([one, two], [against], 0.7)
    np.testing.assert_allclose(scores, [0.9, 0.6])
    assert boxes.shape == (2, 4)
    none = joined([concepts([], [])], [], 0.7)
    assert [len(part) for part in none] == [0, 0, 0]


def test_what_the_heat_map_of_concepts_shows():
    region = np.zeros((10, 10), np.float32)
    region[:, 5:] = 0.8
    answer = concepts([square(0, 0, 20)], [0.6], 0.5, region)
    args = (answer.masks, answer.scores, [answer], [])

    def see(what, against=()):
        params = SimpleNamespace(shown=what, least_score=0.3)
        return shown(*args[:3], list(against), params)

    value = float(likely(np.array([0.6]), 0.3)[0])
    assert see("objects")[2, 2] == pytest.approx(value)
    assert see("objects")[2, 7] == pytest.approx(FLOOR)
    assert see("region")[2, 7] == pytest.approx(0.4)
    assert see("region")[2, 2] == pytest.approx(FLOOR)
    both = np.maximum(see("objects"), see("region"))
    np.testing.assert_allclose(see("both"), both)
    other = concepts([], [], 1.0, region)
    assert see("region", [other])[2, 7] == pytest.approx(0.4 * 0.2)


def test_things_without_number_are_drawn_from_the_map(models, plane):
    method, model = get_method("sam3"), models["sam3"]
    bank = method.bank({1: TextPrompt("a cell")}, model, None)
    params = params_of(method, shown="region")
    heat = method.heat(model, plane, bank, params, Hooks())
    answer = model.concepts(plane.image, "a cell")
    wanted = np.maximum(answer.region * answer.presence, FLOOR)
    np.testing.assert_allclose(heat.maps[0], wanted, atol=1e-6)
    assert heat.objects == {}
    assert heat.boxes == {}


def test_the_bank_says_what_is_not_read(models):
    text = {1: TextPrompt(["cell " * 60, "細胞"]), 2: TextPrompt("the largest dot")}
    bank = phrase_bank(text, models["grounding-dino"])
    assert any("reads only the beginning (32 tokens)" in n for n in bank.notes)
    assert any("knows no word of the phrase '細胞'" in n for n in bank.notes)
    assert bank.classes[1].positive == ("dot",)
    assert bank.classes[1].referring is not None
    assert bank.classes[1].prompt is text[2]
    plain = phrase_bank(text, models["grounding-dino"], relations=False)
    assert plain.classes[1].positive == ("the largest dot",)
    assert plain.classes[1].referring is None


def test_classes_with_one_noun_are_no_rivals(models):
    text = {
        1: TextPrompt("left kidney"),
        2: TextPrompt("right kidney"),
        3: TextPrompt("liver"),
    }
    bank = phrase_bank(text, models["owlv2"])
    assert bank.phrases == ("kidney", "liver")
    assert bank.rivals(0) == (2,)
    assert bank.rivals(2) == (0, 1)


@pytest.mark.parametrize("name", MODELS)
def test_supports_without_a_phrase_are_refused(name):
    with pytest.raises(nf.PromptError, match="Type what to look for"):
        get_method(name).fit([], [1], None, None, Hooks())
