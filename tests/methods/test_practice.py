"""After practice: who votes, with which weight, and how far one support leads."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_fewshot.data import Hooks, Plane, Sample
from napari_fewshot.methods import Neighbours, ReverseJudge, get_method
from napari_fewshot.methods._looks import PRACTISED
from napari_fewshot.methods._second_opinion import shares
from napari_fewshot.models import load_model, tuning

SHAPE = (64, 72)


def sample(seed):
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    row, column = rng.uniform(0.35, 0.65, 2) * SHAPE
    labels = (np.hypot(rows - row, columns - column) < 14).astype(np.uint8)
    image = 0.4 + 0.3 * labels + rng.normal(0, 0.05, SHAPE)
    pixels = np.clip(image, 0, 1)[..., None].astype(np.float32)
    return Sample(pixels, labels=labels, name=str(seed), group=seed)


@pytest.mark.parametrize("name", ["incontext", "auto"])
@pytest.mark.parametrize("count", [1, 3])
def test_all_that_votes_is_there_and_the_shares_make_a_whole(name, count):
    method = get_method(name)
    samples = [sample(n) for n in range(count)]
    model = load_model("incontext/small")
    fitted = method.fit(samples, [1], method.spec.params(), model, Hooks())
    weights = fitted.recipes[1].weights
    assert sum(weights.values()) == pytest.approx(1)
    assert weights.keys() <= fitted.fits.keys()
    practised = [n for n in weights if n.endswith(PRACTISED)]
    assert bool(practised) == (count > 1)
    for look in practised:
        assert weights[look] == weights[look.removesuffix(PRACTISED)]
    neighbours = Neighbours(fitted, ReverseJudge.fit(model, samples, [1]))
    whole = [n for n in weights if n.startswith("network") and "detail" not in n]
    given = shares(neighbours.looks, fitted.recipes[1])
    assert sum(given.values()) == pytest.approx(sum(weights[n] for n in whole))
    assert all(n.endswith(PRACTISED) for n in given) == (count > 1)
    query = sample(9)
    found = fitted.predict(Plane(query.image, None, None), Hooks())[1] >= 0.5
    wanted = query.labels == 1
    assert 2 * (found & wanted).sum() / (found.sum() + wanted.sum()) > 0.8


def test_one_support_leads_half_the_way(monkeypatch):
    base = load_model("incontext/small")

    def practised():
        return tuning.tuned(base, [sample(0)], {1: 0.0}, 0, lambda n, of: None)

    half = practised()
    monkeypatch.setattr(tuning, "LONE_SHARE", 1.0)
    whole = practised()
    moved = False
    for start, middle, end in zip(
        base.network.parameters(),
        half.network.parameters(),
        whole.network.parameters(),
        strict=True,
    ):
        torch.testing.assert_close(middle, (start + end) / 2)
        moved = moved or not torch.equal(start, end)
    assert moved
