"""Objects of supports as examples, for models that look at examples and phrases."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("transformers")

from tests.methods.text.planted import disc
from tests.models.grounding import tiny

import napari_fewshot as nf
from napari_fewshot.data import Hooks, Plane, Sample, TextPrompt
from napari_fewshot.methods import get_method
from napari_fewshot.methods.owlv2 import rescaled
from napari_fewshot.methods.text._boxes import FLOOR, drawn, likely
from napari_fewshot.methods.text._exemplars import (
    exemplars_of,
    has_exemplars,
    without_samples,
)
from napari_fewshot.models import load_text_model
from napari_fewshot.models.grounding import ConceptModel, Detections, kept_boxes
from napari_fewshot.ops import resize_image

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
SHAPE = (60, 88)
LARGE, SMALL = disc(30, 25, 14, SHAPE), disc(20, 66, 7, SHAPE)
CUT, SPECK = disc(52, 70, 18, SHAPE), disc(50, 45, 2, SHAPE)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    found = {}
    for method, (_, _, write) in MODELS.items():
        found[method] = tmp_path_factory.mktemp(method)
        write(found[method])
    return found


@pytest.fixture(scope="module")
def models(folders):
    return {
        method: tiny.reader(name, folders[method], kind)
        for method, (name, kind, _) in MODELS.items()
    }


def sample(*masks, value=2, seed=0, group=0):
    rng = np.random.default_rng(seed)
    labels = np.zeros(SHAPE, np.int32)
    for mask in masks:
        labels[mask] = value
    image = np.clip(0.3 + 0.4 * (labels > 0) + rng.normal(0, 0.1, SHAPE), 0, 1)
    pixels = np.repeat(image[..., None], 3, -1).astype(np.float32)
    return Sample(pixels, labels=labels, group=group, name=f"support {group}")


@pytest.fixture
def plane():
    pixels = np.random.default_rng(9).random((*SHAPE, 3)).astype(np.float32)
    return Plane(pixels)


def fitted_for(name, models, samples=(), text=TEXT, **more):
    method = get_method(name)
    params = method.spec.params(decoder="map", **more)
    return method.fit_text(text, params, models[name], Hooks(), samples=samples)


def test_the_largest_whole_objects_of_every_support_come_first():
    one, two = sample(SMALL, LARGE, CUT, SPECK), sample(SMALL, seed=1, group=1)
    found = exemplars_of([one, two], [2, 5], 8)
    assert list(found) == [2]
    masks = [(e.sample, e.mask) for e in found[2]]
    wanted = [(0, LARGE), (1, SMALL), (0, SMALL), (0, CUT)]
    assert [number for number, _ in masks] == [number for number, _ in wanted]
    for (_, mask), (_, other) in zip(masks, wanted, strict=True):
        np.testing.assert_array_equal(mask, other)
    assert [e.sample for e in exemplars_of([one, two], [2], 2)[2]] == [0, 1]
    assert exemplars_of([one, two], [2], 0) == {}
    assert exemplars_of([], [2], 3) == {}


def test_a_box_is_round_the_object_and_a_crop_a_little_wider():
    (found,) = exemplars_of([sample(LARGE)], [2], 1)[2]
    rows, columns = np.nonzero(LARGE)
    y0, x0, y1, x1 = found.box
    assert (y0, x0) == (rows.min(), columns.min())
    assert (y1, x1) == (rows.max() + 1, columns.max() + 1)
    more = round(0.15 * max(y1 - y0, x1 - x0))
    np.testing.assert_array_equal(
        found.crop, found.image[y0 - more : y1 + more, x0 - more : x1 + more]
    )
    (edge,) = exemplars_of([sample(CUT)], [2], 1)[2]
    assert edge.crop.shape[0] < edge.image.shape[0]


def test_examples_of_a_sample_can_be_hidden(models):
    fitted = fitted_for("clipseg", models, [sample(LARGE), sample(SMALL, group=1)])
    assert has_exemplars(fitted.bank)
    left = without_samples(fitted.bank, [0])
    assert [e.sample for e in left.exemplars[2]] == [1]
    assert not has_exemplars(without_samples(fitted.bank, [0, 1]))
    plain = SimpleNamespace()
    assert without_samples(plain, [0]) is plain


@pytest.mark.parametrize("name", MODELS)
def test_only_models_that_look_at_examples_are_shown_them(name, models):
    samples = [sample(LARGE, SMALL)]
    fitted = fitted_for(name, models, samples)
    takes = name != "grounding-dino"
    assert has_exemplars(fitted.bank) == takes
    assert ("with examples" in fitted.choice) == takes
    assert not has_exemplars(fitted_for(name, models).bank)
    if takes:
        assert not has_exemplars(fitted_for(name, models, samples, exemplars=0).bank)
    chosen = get_method("text")
    params = chosen.spec.params(decoder="map")
    read = chosen.fit_text(TEXT, params, models[name], Hooks(), samples=samples)
    assert has_exemplars(read.bank) == takes
    assert chosen.takes_exemplars(models[name]) == takes


@pytest.mark.parametrize("name", ["clipseg", "owlv2", "sam3"])
def test_from_examples_to_masks(name, models, plane):
    fitted = fitted_for(name, models, [sample(LARGE, SMALL)])
    found = fitted.find(plane, Hooks())
    assert list(found.maps) == [2, 5]
    assert all(m.shape == SHAPE for m in found.maps.values())


def test_clipseg_mixes_examples_into_the_condition_of_their_class(models, plane):
    model, shown = models["clipseg"], sample(LARGE, SMALL)
    fitted = fitted_for("clipseg", models, [shown], weight=0.25)
    maps = fitted.heat(plane, Hooks()).maps
    examples = [(shown.image, LARGE), (shown.image, SMALL)]
    words = ["a cell", "dot"]
    logits = model.heat(plane.image, words, examples, 0.25).max(0)
    odds = logits - np.maximum(model.heat(plane.image, ["dark nucleus"])[0], 0)
    np.testing.assert_allclose(maps[0], 1 / (1 + np.exp(-odds)), atol=1e-5)
    bare = fitted_for("clipseg", models).heat(plane, Hooks()).maps
    np.testing.assert_allclose(maps[1], bare[1], atol=1e-5)
    assert np.abs(maps[0] - bare[0]).max() > 1e-3
    ignored = fitted_for("clipseg", models, [shown], weight=0.0)
    np.testing.assert_allclose(ignored.heat(plane, Hooks()).maps, bare, atol=1e-5)


def test_clipseg_flips_look_at_examples_too(models, plane):
    shown = [sample(LARGE)]
    fitted = fitted_for("clipseg", models, shown, flips=True)
    maps = fitted.heat(plane, Hooks()).maps
    mirrored = Plane(np.ascontiguousarray(plane.image[:, ::-1]))
    other = fitted.heat(mirrored, Hooks()).maps
    np.testing.assert_allclose(maps, other[..., ::-1], atol=1e-5)


def test_owl_joins_boxes_of_phrases_and_of_what_looks_like_examples(models, plane):
    model, shown = models["owlv2"], sample(LARGE, SMALL)
    phrases = ["a cell", "dot", "something round", "dark nucleus"]
    text = model.detect(plane.image, phrases, 0.01, overlap=0.9)
    crops = [e.crop for e in exemplars_of([shown], [2], 3)[2]]
    every = model.boxes_like(plane.image, crops, 0.01, overlap=0.9)
    level, alike = float(np.median(text.scores)), float(np.median(every.scores))
    fitted = fitted_for(
        "owlv2", models, [shown], least_score=level, least_alike=alike, overlap=0.9
    )
    heat = fitted.heat(plane, Hooks())
    text = model.detect(plane.image, phrases, level, overlap=0.9, largest=0.8)
    like = model.boxes_like(plane.image, crops, alike, overlap=0.9, largest=0.8)
    assert len(like)
    scores = rescaled(like.scores, alike, level)
    both = kept_boxes(
        Detections(
            np.concatenate([text.boxes, like.boxes]),
            np.concatenate([text.scores, scores]),
            np.concatenate([text.phrases, np.full(len(like), 4)]),
        ),
        SHAPE,
        0.9,
        0.8,
    )
    mine = both[np.isin(both.phrases, [0, 1, 4])]
    assert (mine.phrases == 4).any()
    np.testing.assert_allclose(heat.boxes[2], mine.boxes, atol=1e-4)
    np.testing.assert_allclose(heat.scores[2], mine.scores, atol=1e-6)
    np.testing.assert_allclose(
        heat.maps[0], drawn(mine.boxes, mine.scores, level, SHAPE), atol=1e-6
    )


def test_scores_on_another_scale_are_as_far_above_the_least_one():
    scores = np.array([0.6, 0.8, 0.3])
    found = rescaled(scores, 0.6, 0.1)
    np.testing.assert_allclose(likely(found, 0.1), likely(scores, 0.6), rtol=1e-5)
    assert found[0] == pytest.approx(0.1, abs=1e-6)
    assert np.isfinite(rescaled(np.array([0.0, 1.0]), 0.6, 0.1)).all()


def test_sam3_sees_examples_beside_the_plane(models, plane):
    model, shown = models["sam3"], sample(LARGE, SMALL)
    fitted = fitted_for("sam3", models, [shown], shown="region")
    maps = fitted.heat(plane, Hooks()).maps
    examples = [(e.image, e.box) for e in exemplars_of([shown], [2], 3)[2]]
    against = model.concepts(plane.image, "dark nucleus")
    answers = [
        model.concepts(plane.image, p, exemplars=examples) for p in ("a cell", "dot")
    ]
    wanted = np.max([a.region * a.presence for a in answers], 0)
    unwanted = resize_image(against.region, SHAPE) * against.presence
    wanted = np.maximum(np.maximum(wanted, FLOOR) * (1 - unwanted), FLOOR)
    assert maps.shape == (2, *SHAPE)
    np.testing.assert_allclose(maps[0], wanted, atol=1e-6)
    bare = fitted_for("sam3", models, shown="region").heat(plane, Hooks()).maps
    np.testing.assert_allclose(maps[1], resize_image(bare[1], SHAPE), atol=1e-5)


@pytest.mark.parametrize("rows", [10, 20])
def test_low_planes_have_room_for_few_examples(models, rows):
    pixels = np.random.default_rng(3).random((rows, 40, 3)).astype(np.float32)
    fitted = fitted_for("sam3", models, [sample(LARGE, SMALL)])
    heat = fitted.heat(Plane(pixels), Hooks())
    assert np.isfinite(heat.maps).all()


def test_examples_are_encoded_once_for_all_planes(models, plane, monkeypatch):
    model = models["clipseg"]
    fitted = fitted_for("clipseg", models, [sample(LARGE, SMALL, seed=5)])
    calls = []
    pooled = model._pooled
    monkeypatch.setattr(
        model, "_pooled", lambda rgb: calls.append(rgb.shape) or pooled(rgb)
    )
    for turn in range(3):
        fitted.heat(Plane(np.roll(plane.image, turn, 0)), Hooks())
    assert len(calls) == 2


@pytest.mark.parametrize("name", MODELS)
def test_a_folder_says_which_model_it_holds(name, folders):
    model = load_text_model(checkpoint=folders[name])
    assert model.spec.name == MODELS[name][0]


def as_bytes(image):
    return np.rint(image * 255).astype(np.uint8)


@pytest.fixture
def shown(monkeypatch):
    """Examples that SAM 3 is asked with."""
    asked = []
    concepts = ConceptModel.concepts

    def watched(self, image, phrase="", *more, exemplars=(), **how):
        asked.append((phrase, len(exemplars)))
        return concepts(self, image, phrase, *more, exemplars=exemplars, **how)

    monkeypatch.setattr(ConceptModel, "concepts", watched)
    return asked


def test_supports_are_examples_of_a_phrase_alone(folders, plane, shown):
    support = nf.Support(as_bytes(sample(LARGE).image), (LARGE).astype(np.int32))
    how = {"text_method": "sam3", "text_model": folders["sam3"]}
    found = nf.segment(
        as_bytes(plane.image), support, text="a cell", text_share="alone", **how
    )
    assert found.labels.shape == SHAPE
    assert ("a cell", 1) in shown
    assert "with examples" in found.provenance["choice"]
    assert len(found.provenance["inputs"]["support_fingerprints"]) == 1
    shown.clear()
    nf.segment(as_bytes(plane.image), text="a cell", **how)
    assert shown
    assert not any(count for _, count in shown)


def test_examples_and_a_method_for_supports_decide_together(folders, plane, shown):
    pair = [
        nf.Support(as_bytes(sample(m, seed=n).image), m.astype(np.int32))
        for n, m in enumerate((LARGE, SMALL))
    ]
    found = nf.segment(
        as_bytes(plane.image),
        pair,
        text="a cell",
        method="prototype",
        model="filters",
        text_method="sam3",
        text_model=folders["sam3"],
    )
    assert "with examples" in found.provenance["choice"]
    # Judged on each support without its own example, then used with both.
    assert [count for _, count in shown] == [1, 1, 2]
