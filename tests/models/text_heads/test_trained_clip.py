"""On a CLIP that was really trained, eight labelled scenes teach it new words."""

from __future__ import annotations

import numpy as np
import pytest
from tests import tiny_clip
from tests.models.text_heads import readers

from napari_fewshot.data import Hooks, Plane, Sample, TextPrompt
from napari_fewshot.methods import get_method, make_params
from napari_fewshot.models import load_text_model

WORDS = ("red square", "dark ring", "blue star")
# What the labels call them: the model has never read these.
NEW = ("glorp", "frimm", "taskel")
TEXT = {number: TextPrompt(word) for number, word in enumerate(NEW, 1)}


@pytest.fixture(scope="module")
def phrases():
    return {p.text: p for _, p in tiny_clip.asked(400, most=3)}


def labelled(phrases, first, count):
    """Return scenes that show one of the words, as samples."""
    found, number = [], first
    while len(found) < count:
        scene = tiny_clip.scene(number)
        labels = np.zeros(scene.image.shape[:2], np.int32)
        for value, word in enumerate(WORDS, 1):
            labels[scene.mask(phrases[word])] = value
        if labels.any():
            image = np.asarray(scene.image, np.float32)
            found.append(Sample(image, labels=labels, group=number))
        number += 1
    return found


def score(fitted, samples):
    found = []
    for sample in samples:
        maps = fitted.predict(Plane(sample.image), Hooks())
        for value in TEXT:
            if (sample.labels == value).any():
                truth = sample.labels == value
                found.append(readers.dice(maps[value] > 0.5, truth))
    return float(np.mean(found))


@pytest.mark.slow
def test_eight_labelled_scenes_teach_words_that_the_model_does_not_know(
    tmp_path, phrases
):
    folder = tiny_clip.write(tmp_path / "clip", "native")
    clip = load_text_model(checkpoint=folder, device="cpu")
    held_out = labelled(phrases, 5000, 8)
    plain = {"presence": False}
    without = get_method("clearclip")
    params = make_params(without.spec.params, {**plain, "decoder": "map"})
    zero_shot = without.fit_text(TEXT, params, clip, Hooks())
    method = get_method("text-head")
    params = make_params(method.spec.params, {**plain, "steps": 150})
    head = method.fit_text(
        TEXT, params, clip, Hooks(), samples=labelled(phrases, 1000, 8)
    )
    assert score(head, held_out) > score(zero_shot, held_out) + 0.2
