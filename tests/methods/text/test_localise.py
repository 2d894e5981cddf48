"""Every dense map finds what a phrase means, on a model that was really trained.

The weights are tiny and learnt on synthetic scenes with captions; the scenes here are
others. `benchmarks/text_scenes.py` does the same at length, with masks.
"""

from __future__ import annotations

import numpy as np
import pytest
from tests import tiny_clip

from napari_fewshot.data import Hooks, Plane, TextPrompt
from napari_fewshot.methods import get_method, make_params
from napari_fewshot.models import load_text_model
from napari_fewshot.ops import resize_image

# Scenes that are looked at, by name of the map, and cheaper parameters.
CHEAP = {"maskclip": 16, "clearclip": 16, "sclip": 16, "surgery": 16, "proxy": 5}
DEAR = {"gscorecam": (5, {}), "m2ib": (9, {"steps": 30, "samples": 3})}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Both tiny models, read by the product's own loader."""
    folder = tmp_path_factory.mktemp("tiny_clip")
    return {
        kind: load_text_model(
            checkpoint=tiny_clip.write(folder / kind, kind), device="cpu"
        )
        for kind in ("native", "timm")
    }


def heat_map(method, model, image, phrase, **values):
    """Return the map of a phrase at the plane's size."""
    params = make_params(method.spec.params, values)
    bank = method.bank({1: TextPrompt(phrase)}, model, params)
    heat = method.heat(model, Plane(image), bank, params, Hooks())
    return resize_image(heat.maps[0], image.shape[:2])


def figures(heats, masks):
    """Return pointing, and the Dice at the best threshold that is one for all."""
    hits = [mask.flat[heat.argmax()] for heat, mask in zip(heats, masks, strict=True)]
    levels = np.quantile(np.stack(heats), np.linspace(0.5, 0.995, 40))
    dices = [
        [dice(h > v, m) for h, m in zip(heats, masks, strict=True)] for v in levels
    ]
    best = int(np.mean(dices, 1).argmax())
    return float(np.mean(hits)), float(np.mean(dices[best])), float(levels[best])


def dice(found, mask):
    return 2 * (found & mask).sum() / max(found.sum() + mask.sum(), 1)


def localised(name, model, count, **values):
    """Return pointing and Dice of phrases, then of letters without meaning."""
    method = get_method(name)
    rows = tiny_clip.asked(count, first=200)
    masks = [scene.mask(phrase) for scene, phrase in rows]
    own = [heat_map(method, model, s.image, p.text, **values) for s, p in rows]
    other = [
        heat_map(method, model, s.image, tiny_clip.nonsense(n), **values)
        for n, (s, _) in enumerate(rows)
    ]
    pointing, overlap, level = figures(own, masks)
    wrong = [m.flat[h.argmax()] for h, m in zip(other, masks, strict=True)]
    drawn = [dice(h > level, m) for h, m in zip(other, masks, strict=True)]
    return pointing, overlap, float(np.mean(wrong)), float(np.mean(drawn))


@pytest.mark.parametrize("kind", ["native", "timm"])
@pytest.mark.parametrize("name", CHEAP)
def test_map_finds_what_was_asked_for(name, kind, models):
    pointing, overlap, _, drawn = localised(name, models[kind], CHEAP[name])
    assert pointing >= 0.6
    assert overlap >= 0.5
    # Letters without meaning draw next to nothing at the same threshold.
    assert drawn <= 0.15


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(DEAR))
def test_map_of_relevance_finds_what_was_asked_for(name, models):
    """Objects are brighter than the ground, and those that are meant the brightest.

    Such maps have a maximum whatever is asked, so places are ranked. All objects stand
    out, with letters as well; who stands out among them depends on the phrase.
    """
    count, values = DEAR[name]
    method, model = get_method(name), models["native"]
    ranks = []
    for number, (scene, phrase) in enumerate(several_kinds(count, first=700)):
        mask = scene.mask(phrase)
        rest = np.any([t.mask for t in scene.things], 0) & ~mask
        texts = (phrase.text, tiny_clip.nonsense(number))
        own, other = (heat_map(method, model, scene.image, t, **values) for t in texts)
        pairs = ((own, ~mask), (own, rest), (other, rest))
        ranks.append([ranked(heat, mask, outside) for heat, outside in pairs])
    whole, among, by_letters = np.mean(ranks, 0)
    assert whole >= 0.85
    assert among >= by_letters + 0.1


def several_kinds(count, first):
    """Return scenes with objects that a phrase means and others that it does not."""
    rows = tiny_clip.asked(8 * count, first)
    mixed = [r for r in rows if {0, 1} <= {r[1].fits(t) for t in r[0].things}]
    return mixed[:count]


def ranked(heat, inside, outside):
    """Return how often a place inside is higher than one outside."""
    values = np.sort(heat[outside])
    return float(np.searchsorted(values, heat[inside]).mean() / len(values))


@pytest.mark.parametrize("kind", ["native", "timm"])
def test_scene_fits_its_phrases_better_than_letters(kind, models):
    model = models[kind]
    better = []
    for number, (scene, phrase) in enumerate(tiny_clip.asked(24, first=300)):
        words = model.encode_text([phrase.text, tiny_clip.nonsense(number)])
        tower = model.tower
        tokens = tower.begin(model.prepared(scene.image))
        seen = tower.pooled(tower.run(tokens, 0, tower.depth))
        fits = words @ np.asarray(seen.detach())[0]
        better.append(fits[0] > fits[1])
    assert np.mean(better) >= 0.85


def test_two_phrases_on_one_scene_are_told_apart(models):
    """Each of two phrases is higher in its own objects than in those of the other."""
    method = get_method("maskclip")
    right = []
    for scene, first in tiny_clip.asked(30, first=400):
        others = [t for t in scene.things if first.fits(t) == 0]
        if not others:
            continue
        noun = next(
            n
            for n, s in tiny_clip.captions.NOUNS.items()
            if s == {"shape": others[0].looks["shape"]}
        )
        if first.says[0]["shape"] == others[0].looks["shape"]:
            continue
        theirs = np.any([t.mask for t in others if t.looks == others[0].looks], 0)
        places = (scene.mask(first), theirs)
        for text, (inside, outside) in (
            (first.text, places),
            (noun, places[::-1]),
        ):
            heat = heat_map(method, models["native"], scene.image, text)
            right.append(heat[inside].mean() > heat[outside].mean())
    assert len(right) >= 12
    assert np.mean(right) >= 0.8
