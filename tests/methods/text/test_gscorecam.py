"""gScoreCAM against its formula, channel by channel."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.methods.text.reader import WIDTH, bank_of, biomed, forget, native, picture
from tests.methods.text.reader import rows as words

from napari_fewshot.data import Hooks, Plane
from napari_fewshot.errors import Cancelled, ModelError
from napari_fewshot.methods import get_method
from napari_fewshot.methods.gscorecam import masks_of, steep, weighted
from napari_fewshot.methods.text._relevance import Target, targets_of
from napari_fewshot.methods.text._seen import stem

METHOD = get_method("gscorecam")
MAKES = {
    "class token": lambda: native(3),
    "mean": lambda: native(3, pool_type="avg"),
    "biomed": lambda: biomed(3),
}
# Where patches still matter: with a class token one block before the last.
LAYER = {"class token": 1, "mean": 2, "biomed": 1}


@pytest.fixture(autouse=True)
def nothing_kept():
    forget()


def heat(reader, bank, hooks=None, image=None, **values):
    plane = Plane(picture() if image is None else image)
    params = METHOD.spec.params(**values)
    return METHOD.heat(reader, plane, bank, params, hooks or Hooks())


def blocks_of(visual):
    if hasattr(visual, "trunk"):
        return visual.trunk.blocks, "norm2"
    return visual.transformer.resblocks, "ln_2"


def with_norm(reader, image, layer, change=None):
    """Return logit scale times cosine's image, and tokens after the norm of a block."""
    blocks, name = blocks_of(reader.visual)
    seen = {}

    def swap(module, inputs, output):
        seen["normed"] = output.detach().clone()
        return output if change is None else output + change

    hook = getattr(blocks[layer], name).register_forward_hook(swap)
    try:
        with torch.no_grad():
            return reader.visual(image), seen["normed"]
    finally:
        hook.remove()


def score(reader, images, text):
    cosines = F.normalize(images, dim=-1) @ torch.from_numpy(text)
    return reader.logit_scale * cosines


def by_formula(reader, plane, text, layer, most):
    """Return the map, each channel by itself, gradients by autograd over a hook."""
    x = reader.prepared(plane)
    blocks, name = blocks_of(reader.visual)
    seen = {}

    def keep(module, inputs, output):
        seen["normed"] = output.detach().requires_grad_()
        return seen["normed"]

    hook = getattr(blocks[layer], name).register_forward_hook(keep)
    y = score(reader, reader.visual(x), text).sum()
    hook.remove()
    slope = torch.autograd.grad(y, seen["normed"])[0]
    rows, columns = reader.tower.grid
    active = seen["normed"].detach()[0, 1:].T.reshape(-1, rows, columns)
    steepness = slope[0, 1:].mean(0)
    chosen = steepness.argsort(descending=True)[:most]
    found = []
    for c in chosen:
        up = F.interpolate(
            active[c][None, None], x.shape[2:], mode="bilinear", align_corners=True
        )[0, 0]
        mask = (up - up.min()) / (up.max() - up.min())
        with torch.no_grad():
            found.append(score(reader, reader.visual(x * mask), text).item())
    share = np.exp(np.array(found) - max(found))
    share /= share.sum()
    total = sum(s * active[c].numpy() for s, c in zip(share, chosen, strict=True))
    total = np.maximum(total, 0)
    return (total - total.min()) / (total.max() - total.min())


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("most", [32, 5])
def test_the_map_is_that_of_the_formula(make, most):
    reader, text = MAKES[make](), words(1, 3)
    found = heat(reader, bank_of([text]), channels=most)
    wanted = by_formula(reader, picture(), text[0], LAYER[make], most)
    np.testing.assert_allclose(found.maps[0], wanted, atol=1e-3)
    assert found.kind == "relevance"


@pytest.mark.parametrize("make", MAKES)
def test_steepness_by_finite_differences(make):
    reader, text = MAKES[make](), words(1, 3)
    layer, x = LAYER[make], reader.prepared(picture())
    tokens = stem(reader, picture(), layer)
    target = Target(torch.from_numpy(text), torch.zeros(0, WIDTH), 0.0)
    active, found, pooled = steep(reader.tower, tokens, layer, [target])
    _, normed = with_norm(reader, x, layer)
    np.testing.assert_allclose(active.flatten(1).T, normed[0, 1:].numpy(), atol=1e-5)
    np.testing.assert_allclose(pooled, reader.visual(x)[0].numpy(), atol=1e-5)
    for channel in (0, 7, 19):
        step = torch.zeros_like(normed)
        step[0, 1:, channel] = 0.02
        up, down = (
            (F.normalize(with_norm(reader, x, layer, s)[0]) @ target.positive.T).item()
            for s in (step, -step)
        )
        # All patches moved: the sum of slopes, of which the mean is taken.
        slope = (up - down) / 0.04 / (normed.shape[1] - 1)
        assert found[0, channel].item() == pytest.approx(slope, rel=0.02, abs=1e-7)


@pytest.mark.parametrize("make", ["class token", "biomed"])
def test_nothing_of_the_patches_reaches_a_class_token_from_the_last_block(make):
    """Why the published map hardly depends on the phrase."""
    reader = MAKES[make]()
    targets = targets_of(bank_of([words(1, 3)]), 1.0, "cpu")
    last = steep(reader.tower, stem(reader, picture(), 2), 2, targets)[1]
    assert not last.any()
    assert steep(reader.tower, stem(reader, picture(), 1), 1, targets)[1].all()
    chosen = [
        heat(reader, bank_of([words(1, s)]), layer=2, channels=4).maps for s in (3, 4)
    ]
    assert np.isfinite(chosen).all()


def test_no_more_channels_than_there_are():
    reader = native(2)
    few = heat(reader, bank_of([words(1)]), channels=32).maps
    np.testing.assert_array_equal(
        heat(reader, bank_of([words(1)]), channels=4096).maps, few
    )
    assert np.isfinite(heat(reader, bank_of([words(1)]), channels=1).maps).all()


def test_a_new_phrase_looks_only_at_new_channels():
    reader = native(3)
    heat(reader, bank_of([words(1, 1)]), channels=20)
    first = reader.tower.images
    # The plane for two blocks of which one is read, and 20 masked ones.
    assert first == 2 + 20
    again = heat(reader, bank_of([words(1, 1)]), channels=20).maps
    assert reader.tower.images == first
    other = heat(reader, bank_of([words(1, 2), words(1, 1)]), channels=20).maps
    assert first < reader.tower.images < first + 20
    np.testing.assert_array_equal(other[1], again[0])
    forget()
    anew = heat(reader, bank_of([words(1, 2)]), channels=20).maps
    np.testing.assert_allclose(other[0], anew[0], atol=1e-5)


def test_classes_share_masked_planes():
    reader = native(3)
    bank = bank_of([words(1, s) for s in range(6)])
    heat(reader, bank, channels=32)
    assert reader.tower.images == 2 + 32


def test_what_it_is_not_changes_the_map():
    reader, text = native(3), words(1, 3)
    plain = heat(reader, bank_of([text]), channels=8).maps
    against = heat(reader, bank_of([text], [words(1, 9)]), channels=8).maps
    assert not np.allclose(plain, against, atol=1e-3)
    nothing = heat(reader, bank_of([text], [words(1, 9)]), channels=8, contrast=0.0)
    np.testing.assert_allclose(nothing.maps, plain, atol=1e-6)


def test_masks_reach_from_0_to_1_corner_to_corner():
    active = torch.arange(8.0).reshape(2, 2, 2)
    found = masks_of(active, (5, 3))
    assert found.shape == (2, 5, 3)
    for row in range(5):
        for column in range(3):
            wanted = (2 * row / 4 + column / 2) / 3
            assert found[0, row, column].item() == pytest.approx(wanted, abs=1e-6)
    assert not masks_of(torch.ones(1, 2, 2), (4, 4)).any()


def test_weights_are_a_softmax_and_what_is_below_0_is_cut():
    active = torch.tensor([[[1.0, -4.0]], [[3.0, 1.0]]])
    score = torch.tensor([0.0, float(np.log(3))])
    np.testing.assert_allclose(weighted(active, score), [[2.5, 0.0]], atol=1e-6)


def test_a_block_that_is_not_there():
    with pytest.raises(ModelError, match="reader has 3 blocks"):
        heat(native(3), bank_of([words(1)]), layer=3)


def test_progress_and_cancelling_between_looks():
    reader, told = native(3), []
    heat(reader, bank_of([words(1)]), Hooks(told.append), channels=10)
    assert [(p.done, p.total) for p in told] == [(0, 10), (4, 10), (8, 10)]
    forget()
    before = reader.tower.images
    stop = Hooks(is_cancelled=lambda: reader.tower.images >= before + 6)
    with pytest.raises(Cancelled):
        heat(reader, bank_of([words(1)]), stop, channels=10)
    assert reader.tower.images == before + 6
