"""The presets of published pipelines, and what a model says of single masks."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from tests import tiny_clip

from napari_fewshot.data import Hooks, Plane, TextPrompt
from napari_fewshot.methods import get_method, make_params, method_names
from napari_fewshot.methods.grid import MapDecoder
from napari_fewshot.methods.gscorecam import GScoreCamMethod
from napari_fewshot.methods.m2ib import M2ibMethod
from napari_fewshot.methods.text import Heat, TextFitted, TextMethod, TextParams
from napari_fewshot.methods.text._asks import Drawing
from napari_fewshot.methods.text._rescore import can_look, judge_mask, two_views
from napari_fewshot.methods.text._words import ClassWords, TextBank
from napari_fewshot.models import load_text_model
from napari_fewshot.ops import mask_to_grid
from napari_fewshot.ops.heatmaps import (
    box_round,
    keep_largest,
    largest_parts,
    two_means,
)
from napari_fewshot.ops.random_field import WIDE_FIELD

SIDE = 96


def disc(row, column, radius):
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return np.hypot(rows - row, columns - column) < radius


BIG, SMALL = disc(32, 34, 20), disc(74, 74, 10)


def plane_of(*masks):
    rng = np.random.default_rng(0)
    image = 0.2 + 0.5 * np.any(masks, axis=0)[..., None] * np.array([1.0, 0.6, 0.4])
    image = image + rng.normal(0, 0.02, image.shape)
    return Plane(np.clip(image, 0, 1).astype(np.float32))


class Boxed:
    """Fills the boxes that it is given, and remembers them: SAM at its best."""

    name = "boxes"

    def __init__(self):
        self.asked, self.several = [], []

    def decode(self, query, odds, asks, hooks, *, several=False, **guidance):
        self.asked += asks
        self.several.append(several)
        found = []
        for ask in asks:
            logits = np.full(query.shape, -4.0, np.float32)
            top, left, bottom, right = np.asarray(ask.box).round().astype(int)
            logits[top:bottom, left:right] = 4.0
            found.append(logits[None])
        return np.stack(found), np.full((len(asks), 1), 0.9, np.float32)

    def as_mask(self, query, odds):
        return query.to_image(odds)

    def to_grid(self, query, logits):
        return np.stack([mask_to_grid(one > 0, query.grid) for one in logits])

    def restore(self, query, logits):
        return logits


def bank_of(*prompts, rows=None):
    width = np.eye(8, dtype=np.float32) if rows is None else rows
    none = np.zeros((0, width.shape[1]), np.float32)
    words = [
        ClassWords(i + 1, TextPrompt(p), width[i : i + 1], none)
        for i, p in enumerate(prompts)
    ]
    return TextBank(tuple(words), width[-3:-2], width[-2:-1], width[-1])


def preset(name, maps, decoder, monkeypatch, **values):
    """Return the fitted preset, whose maps are planted."""
    method = get_method(name)
    heat = Heat(np.stack(maps).astype(np.float32), "relevance")
    monkeypatch.setattr(type(method), "heat", lambda *_: heat)
    params = make_params(method.spec.params, values)
    model = SimpleNamespace(spec=SimpleNamespace(name="planted"))
    words = bank_of(*[f"thing {i}" for i in range(len(maps))])
    return TextFitted(method, model, params, words, decoder)


def test_presets_are_methods_of_their_maps():
    assert {"medclip-sam", "medclip-samv2"} <= set(method_names())
    one, two = get_method("medclip-sam"), get_method("medclip-samv2")
    assert isinstance(one, GScoreCamMethod)
    assert isinstance(two, M2ibMethod)
    first, second = one.spec.params(), two.spec.params()
    assert (first.cut, first.prompts, first.parts) == ("crf", "box", 1)
    assert (second.cut, second.prompts, second.parts) == ("two-means", "box", 1)
    assert (first.channels, second.beta, second.var) == (300, 0.1, 1.0)
    assert one.drawing(first).field == WIDE_FIELD
    assert second.boxes == "one"


def test_v2_is_two_means_largest_part_box_and_the_mask_as_it_is(monkeypatch):
    rng = np.random.default_rng(0)
    values = 0.7 * BIG + 0.8 * SMALL + 0.1 * rng.random(BIG.shape)
    decoder = Boxed()
    fitted = preset("medclip-samv2", [values], decoder, monkeypatch)
    found = fitted.find(plane_of(BIG, SMALL), Hooks())
    coarse = keep_largest(values >= two_means(values.astype(np.float32)), 1)
    box = box_round(coarse, 0.0)
    np.testing.assert_allclose(decoder.asked[0].box, box, atol=1)
    assert len(decoder.asked) == 1
    assert decoder.several == [False]
    # The box is filled though that does not agree with the disc.
    assert (found.maps[1] >= 0.5).sum() == np.prod(box[2:] - box[:2])


@pytest.mark.parametrize(("boxes", "count"), [("one", 1), ("each", 2)])
def test_v2_one_box_or_one_for_each_lung(boxes, count, monkeypatch):
    decoder = Boxed()
    values = 0.8 * (BIG | SMALL)
    fitted = preset(
        "medclip-samv2", [values], decoder, monkeypatch, parts=2, boxes=boxes
    )
    found = fitted.find(plane_of(BIG, SMALL), Hooks())
    assert len(decoder.asked) == count
    inside = found.maps[1] >= 0.5
    assert inside[BIG].all()
    assert inside[SMALL].all()
    assert inside[50, 60] == (boxes == "one")


def test_v2_random_points(monkeypatch):
    class Points(Boxed):
        def decode(self, query, odds, asks, hooks, **more):
            self.asked += asks
            logits = np.where(BIG, 4.0, -4.0).astype(np.float32)
            return logits[None, None], np.ones((1, 1), np.float32)

    decoder = Points()
    values = 0.8 * BIG
    fitted = preset("medclip-samv2", [values], decoder, monkeypatch, prompts="points")
    fitted.find(plane_of(BIG), Hooks())
    ask = decoder.asked[0]
    assert (len(ask.positive), len(ask.negative)) == (10, 10)
    assert ask.box is None


def test_v1_is_a_random_field_and_the_largest_part(monkeypatch):
    rng = np.random.default_rng(0)
    # A map that is too wide: the field brings it back to the colours of the image.
    wide = disc(32, 34, 24)
    values = np.clip(0.25 + 0.3 * wide + 0.05 * rng.normal(size=wide.shape), 0, 1)
    values[BIG] += 0.25
    fitted = preset("medclip-sam", [values], MapDecoder(), monkeypatch)
    found = fitted.find(plane_of(BIG), Hooks())
    inside = found.maps[1] >= 0.5
    assert 2 * (inside & BIG).sum() / (inside.sum() + BIG.sum()) > 0.9
    assert "before the field" in found.heats[1]


@pytest.mark.parametrize("name", ["medclip-sam", "medclip-samv2"])
def test_a_flat_map_has_no_mask(name, monkeypatch):
    decoder = Boxed()
    fitted = preset(name, [np.full((SIDE, SIDE), 0.4)], decoder, monkeypatch)
    found = fitted.find(plane_of(BIG), Hooks())
    assert decoder.asked == []
    assert found.present == {1: False}
    assert not (found.maps[1] >= 0.5).any()


class Looker:
    """Reads the mean colour of what it is shown: red, green and blue are words."""

    logit_scale = 20.0
    spec = SimpleNamespace(name="colours")

    class Tower:
        depth = 1

        def begin(self, x):
            return x

        def run(self, tokens, first, last):
            assert (first, last) == (0, self.depth)
            return tokens

        def pooled(self, tokens):
            return tokens.mean((2, 3))

    tower = Tower()

    def prepared(self, image):
        import torch

        pixels = torch.as_tensor(image).permute(2, 0, 1)[None]
        return torch.nn.functional.interpolate(pixels, (16, 16))


COLOURS = np.concatenate(
    [np.eye(3), np.full((1, 3), 3**-0.5), np.full((2, 3), 3**-0.5)]
).astype(np.float32)


def coloured():
    image = np.full((SIDE, SIDE, 3), 0.2, np.float32)
    image[BIG] = (0.9, 0.1, 0.1)
    image[SMALL] = (0.1, 0.1, 0.9)
    return image


def test_views_show_the_mask_and_little_else():
    image = coloured()
    alone, dim = two_views(image, SMALL)
    assert alone.shape == dim.shape == (23, 23, 3)
    np.testing.assert_allclose(alone[0, 0], image.mean((0, 1)), atol=1e-6)
    np.testing.assert_allclose(dim[0, 0], 0.3 * image[63, 63], atol=1e-6)
    for view in (alone, dim):
        np.testing.assert_allclose(view[11, 11], (0.1, 0.1, 0.9), atol=1e-6)
    corner = np.zeros((SIDE, SIDE), bool)
    corner[0, 0] = True
    assert two_views(image, corner)[0].shape == (3, 3, 3)


def test_a_mask_is_judged_by_its_share_of_a_softmax():
    bank = bank_of("red", "green", "blue", rows=COLOURS)
    image, model = coloured(), Looker()
    share, wins = judge_mask(image, BIG, bank, 0, model)
    assert wins
    assert share > 0.8
    shows = []
    for view in two_views(image, BIG):
        small = model.prepared(view).mean((0, 2, 3)).numpy()
        logits = 20.0 * COLOURS[:4] @ (small / np.linalg.norm(small))
        shows.append(np.exp(logits[0]) / np.exp(logits).sum())
    assert share == pytest.approx(np.mean(shows), abs=1e-5)
    assert judge_mask(image, BIG, bank, 2, model)[1] is False
    assert judge_mask(image, SMALL, bank, 2, model)[1]


@pytest.mark.parametrize("rescore", [False, True])
def test_rescoring_drops_what_other_words_fit_better(rescore):
    class Planted(TextMethod):
        def heat(self, model, plane, bank, params, hooks):
            return Heat(np.stack([BIG | SMALL]).astype(np.float32), "relevance")

    fitted = TextFitted(
        Planted(),
        Looker(),
        TextParams(rescore=rescore),
        replace(
            bank_of("blue", rows=COLOURS[[2, 0, 1, 0, 3, 3]]), background=COLOURS[:2]
        ),
        MapDecoder(),
    )
    found = fitted.find(Plane(coloured()), Hooks()).maps[1] >= 0.5
    assert found[SMALL].mean() > 0.9
    assert (found[BIG].mean() > 0.9) is not rescore
    assert found[BIG].any() is np.bool_(not rescore)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return load_text_model(
        "biomedclip", tiny_clip.write(tmp_path_factory.mktemp("clip") / "native")
    )


def test_presence_on_a_trained_model(trained):
    """Nonsense is never there; most of what is there is found, and where it is."""
    method = get_method("maskclip")
    params = make_params(method.spec.params, {"decoder": "map"})
    there, nonsense, overlaps = [], [], []
    for number, (scene, phrase) in enumerate(tiny_clip.asked(8)):
        pixels = np.asarray(scene.image, np.float32)
        plane = Plane(pixels.reshape(*pixels.shape[:2], -1))
        truth = scene.mask(phrase) > 0
        for text, notes in (
            (phrase.text, there),
            (tiny_clip.nonsense(number), nonsense),
        ):
            fitted = method.fit_text({1: TextPrompt(text)}, params, trained, Hooks())
            found = fitted.find(plane, Hooks())
            notes.append(found.present[1])
            mask = found.maps[1] >= 0.5
            if notes is there:
                both = 2 * (mask & truth).sum()
                overlaps.append(both / (mask.sum() + truth.sum()))
    assert not any(nonsense)
    assert np.mean(there) >= 0.7
    assert np.mean(overlaps) >= 0.45


@pytest.mark.parametrize("name", ["medclip-sam", "medclip-samv2"])
def test_presets_run_on_a_trained_model(name, trained):
    method = get_method(name)
    fast = {"channels": 16} if name == "medclip-sam" else {"steps": 3, "samples": 2}
    params = make_params(method.spec.params, {"decoder": "map", **fast})
    scene, phrase = tiny_clip.asked(1)[0]
    pixels = np.asarray(scene.image, np.float32)
    plane = Plane(pixels.reshape(*pixels.shape[:2], -1))
    fitted = method.fit_text({1: TextPrompt(phrase.text)}, params, trained, Hooks())
    found = fitted.find(plane, Hooks())
    assert found.present[1]
    # One part: the paper keeps the largest.
    assert len(largest_parts(found.maps[1] >= 0.5)) == 1


def test_models_that_cannot_look_do_not_judge():
    assert can_look(Looker())
    assert not can_look(SimpleNamespace(spec=SimpleNamespace(name="boxes")))
    assert Drawing().as_is is False
