"""Practice on the supports: better on them, repeatable, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_fewshot.data import Hooks, Sample
from napari_fewshot.errors import Cancelled
from napari_fewshot.methods import get_method
from napari_fewshot.models import load_model, tuning
from napari_fewshot.models.tuning import tuned

USUAL_STEPS = 40


def sample(seed, *, channels=1, shape=(72, 88), n_classes=1, negative=False):
    """Dark rings on noise: unlike anything the network takes for an object at once."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    labels = np.zeros(shape, np.uint8)
    for value in range(1, n_classes + 1):
        row, column = rng.uniform(0.3, 0.7, 2) * shape
        distance = np.hypot(rows - row, columns - column)
        size = min(shape) / 6 + 4 * value
        labels[(distance < size) & (distance > 0.55 * size)] = value
    image = 0.6 - 0.25 * (labels > 0) + rng.normal(0, 0.12, shape)
    if negative:
        labels = np.zeros_like(labels)
        image = 0.6 + rng.normal(0, 0.12, shape)
    pixels = np.repeat(np.clip(image, 0, 1)[..., None], channels, 2)
    return Sample(pixels.astype(np.float32), labels=labels, name=str(seed), group=seed)


def dice(model, support, query):
    context = model.contexts([support], [1], 128)[1]
    features = model.features(query.image, 128)
    found = model.decode(features, context, query.labels.shape) > 0
    wanted = query.labels == 1
    return 2 * (found & wanted).sum() / max(1, found.sum() + wanted.sum())


def quiet(step, steps):
    assert 0 <= step < steps


def test_practice_helps_on_images_like_the_supports(monkeypatch):
    monkeypatch.setattr(tuning, "STEPS", USUAL_STEPS)
    base = load_model("incontext/small")
    supports = [sample(n) for n in range(3)]
    better = tuned(base, supports, {1: 0.0}, 0, quiet)
    fresh = [sample(n) for n in range(20, 26)]
    before = np.mean([dice(base, supports[0], q) for q in fresh])
    after = np.mean([dice(better, supports[0], q) for q in fresh])
    assert after > before


def test_the_same_seed_practises_the_same_and_the_bundled_network_stays():
    base = load_model("incontext/small")
    before = {k: v.clone() for k, v in base.network.state_dict().items()}
    first, again = (tuned(base, [sample(0)], {1: 0.5}, 5, quiet) for _ in range(2))
    other = tuned(base, [sample(0)], {1: 0.5}, 6, quiet)
    one, two = first.network.state_dict(), again.network.state_dict()
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert any(
        not torch.equal(one[k], v) for k, v in other.network.state_dict().items()
    )
    assert all(torch.equal(before[k], v) for k, v in base.network.state_dict().items())
    assert not first.network.training


@pytest.mark.parametrize(
    "samples",
    [
        [sample(0, channels=3), sample(1, channels=3, shape=(200, 60))],
        [sample(0, channels=2)],
        [sample(0, shape=(20, 24))],
        [sample(0, negative=True), sample(1), sample(2, negative=True)],
    ],
    ids=["colour, other size", "two channels", "tiny", "negative supports"],
)
@pytest.mark.parametrize("closer", [0.0, 1.0], ids=["whole", "parts"])
def test_any_supports_will_do(samples, closer):
    model = tuned(load_model("incontext/small"), samples, {1: closer}, 0, quiet)
    assert all(torch.isfinite(p).all() for p in model.network.parameters())


def test_several_classes_practise_together():
    samples = [sample(n, n_classes=2) for n in range(2)]
    steps = []
    tuned(
        load_model("incontext/small"),
        samples,
        {1: 0.0, 2: 1.0},
        0,
        lambda n, of: steps.append(of),
    )
    assert len(steps) == steps[0]


def test_a_step_shows_the_class_twice_and_leaves_room_for_others():
    rng = np.random.default_rng(0)
    for shown, count in (([2], 9), ([0], 1), ([1, 4, 5], 6)):
        for _ in range(20):
            chosen = tuning._choose(shown, count, rng)
            assert len(chosen) == min(tuning.IMAGES, max(2, count + (len(shown) == 1)))
            assert sum(number in shown for number in chosen) >= 2


def test_parts_of_large_images_show_what_is_there():
    rng = np.random.default_rng(0)
    images, masks = torch.rand(3, 3, 256, 192), torch.zeros(3, 1, 256, 192)
    masks[:, :, 60:200, 40:180] = 1
    images[:, 1] = masks[:, 0]
    parts, cut = tuning._cut(images, masks, rng)
    assert parts.shape == (3, 3, tuning.PART, tuning.PART)
    assert torch.equal(parts[:, 1], cut[:, 0])
    assert bool(cut.flatten(1).any(1).all())


@pytest.mark.parametrize("name", ["incontext", "auto"])
def test_practice_can_be_cancelled_and_switched_off(name):
    seen = []

    def stop():
        return any("Practising" in stage for stage in seen)

    hooks = Hooks(lambda progress: seen.append(progress.stage), stop)
    method, samples = get_method(name), [sample(n, shape=(40, 48)) for n in (0, 1)]
    params, encoder = method.spec.params(), load_model("incontext/small")
    with pytest.raises(Cancelled):
        method.fit(samples, [1], params, encoder, hooks)
    seen.clear()
    method.fit(samples, [1], replace(params, practise=False), encoder, hooks)
    assert seen
    assert not stop()
