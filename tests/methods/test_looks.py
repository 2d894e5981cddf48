"""How the network looks at thin and at large structures."""

from __future__ import annotations

import numpy as np
import pytest

from napari_fewshot.data import Hooks, Plane, Sample
from napari_fewshot.methods import get_method, make_params
from napari_fewshot.methods._looks import (
    CLOSE,
    DETAIL,
    WHOLE,
    detail_side,
    is_thin,
    network_looks,
    width,
)


def strips(size=512, thickness=6, seed=0):
    rng = np.random.default_rng(seed)
    mask = np.zeros((size, size), bool)
    for row in range(30 + 7 * seed, size - thickness, 60):
        mask[row : row + thickness] = True
    image = np.clip(0.4 + 0.3 * mask + rng.normal(0, 0.08, mask.shape), 0, 1)
    return Sample(
        image.astype(np.float32)[..., None],
        labels=mask.astype(np.int32),
        group=str(seed),
    )


@pytest.mark.parametrize("thickness", [2, 6, 20])
def test_the_width_of_a_strip_is_its_width(thickness):
    mask = np.zeros((100, 400), bool)
    mask[40 : 40 + thickness] = True
    assert width(mask) == pytest.approx(thickness, rel=0.05)


def test_thin_is_measured_on_the_closer_look():
    assert is_thin([strips(1024, 20)], 1), "5 pixels at longest side 256"
    assert not is_thin([strips(256, 20)], 1)
    assert not is_thin([strips()], 7), "a class that is not there"


def test_only_thin_structures_are_looked_at_in_detail():
    params = make_params(get_method("incontext").spec.params, {})

    def sides(sample, look="auto"):
        found = network_looks(params, None, [sample], [1], look, "no")
        return [c.params.side for c in found]

    assert sides(strips()) == [WHOLE, DETAIL[0]]
    assert sides(strips(256, 30)) == [WHOLE, CLOSE]
    assert sides(strips(256, 30), "detail") == [DETAIL[0]]


@pytest.mark.parametrize(("size", "side"), [(100, 512), (600, 600), (4000, 736)])
def test_detail_has_bounds(size, side):
    sample = Sample(np.zeros((size, 50, 1), np.float32), labels=np.zeros((size, 50)))
    assert detail_side([sample]) == side


def test_detail_practises_on_large_images_and_predicts():
    method = get_method("incontext")
    params = make_params(method.spec.params, {"look": "detail", "leave_one_out": False})
    seen = []
    hooks = Hooks(lambda progress: seen.append(progress.stage))
    fitted = method.fit([strips(seed=0), strips(seed=1)], [1], params, None, hooks)
    query = strips(seed=2)
    found = fitted.predict(Plane(query.image), Hooks())[1] > 0.5
    truth = query.labels == 1
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.85
    assert any("Practising" in stage for stage in seen)
