"""Dense maps against loops over tokens, with the weights read from the networks."""

import numpy as np
import pytest
import torch
from tests.methods.text.reader import (
    WIDTH,
    bank_of,
    biomed,
    forget,
    native,
    picture,
    rows,
)

from napari_fewshot.methods import get_method
from napari_fewshot.methods.text._attention import (
    dual_path,
    last_block,
    likeness_attention,
    proxied,
)
from napari_fewshot.methods.text._dense import cosines
from napari_fewshot.methods.text._seen import Seen

TOWERS = {"native": native, "biomed": biomed}


@pytest.fixture(autouse=True)
def nothing_kept():
    forget()


def array(tensor):
    return tensor.detach().double().numpy()


def layer_norm(x, norm):
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + norm.eps)
    return scaled * array(norm.weight) + array(norm.bias)


def parts(reader, block):
    """Return norm, weights of q, k, v and of the output, of a block."""
    visual = reader.visual
    if hasattr(visual, "trunk"):
        b = visual.trunk.blocks[block]
        return b.norm1, b.attn.qkv.weight, b.attn.qkv.bias, b.attn.proj
    b = visual.transformer.resblocks[block]
    return b.ln_1, b.attn.in_proj_weight, b.attn.in_proj_bias, b.attn.out_proj


def attention_by_loops(reader, tokens, block, kind):
    """Return what attention of some kind adds to tokens (T, D), token by token."""
    norm, weight, bias, out = parts(reader, block)
    x = layer_norm(tokens, norm) @ array(weight).T + array(bias)
    count, width = tokens.shape
    q, k, v = x[:, :width], x[:, width : 2 * width], x[:, 2 * width :]
    size = width // reader.tower.heads
    mixed = np.zeros_like(tokens)
    for head in range(reader.tower.heads):
        cut = slice(head * size, (head + 1) * size)
        pairs = {"cs": [(q, q)], "sclip": [(q, q), (k, k)], "surgery": [(v, v)]}
        for a, b in pairs.get(kind, []):
            for i in range(count):
                score = np.array([a[i, cut] @ b[j, cut] for j in range(count)])
                odds = np.exp(score / np.sqrt(size) - (score / np.sqrt(size)).max())
                mixed[i, cut] += (odds / odds.sum()) @ v[:, cut]
        if kind == "values":
            mixed[:, cut] = v[:, cut]
    return mixed @ array(out.weight).T + array(out.bias)


def before_last(reader, image):
    with torch.no_grad():
        x = reader.tower.begin(reader.prepared(image))
        return reader.tower.run(x, 0, reader.tower.depth - 1)


@pytest.mark.parametrize("make", TOWERS.values(), ids=TOWERS)
def test_vanilla_is_the_tower_itself(make):
    reader = make()
    x = reader.prepared(picture())
    tokens = before_last(reader, picture())
    made = reader.tower.project(last_block(reader.tower, tokens, "vanilla"))
    whole = reader.tower.run(reader.tower.begin(x), 0, 3)
    np.testing.assert_allclose(
        array(made), array(reader.tower.project(whole)), atol=1e-5
    )
    np.testing.assert_allclose(array(made[:, 0]), array(reader.visual(x)), atol=1e-5)


@pytest.mark.parametrize("make", TOWERS.values(), ids=TOWERS)
@pytest.mark.parametrize(
    ("variant", "kind"), [("maskclip", "values"), ("clearclip", "cs")]
)
def test_variants_without_residual(make, variant, kind):
    reader = make()
    tokens = before_last(reader, picture())
    found = last_block(reader.tower, tokens, variant)
    wanted = attention_by_loops(reader, array(tokens[0]), 2, kind)
    np.testing.assert_allclose(array(found[0]), wanted, atol=1e-4)


@pytest.mark.parametrize("make", TOWERS.values(), ids=TOWERS)
def test_sclip_keeps_residual_and_perceptron(make):
    reader = make()
    tokens = before_last(reader, picture())
    half = array(tokens[0]) + attention_by_loops(reader, array(tokens[0]), 2, "sclip")
    visual = reader.visual
    block = (
        visual.trunk.blocks[2]
        if hasattr(visual, "trunk")
        else visual.transformer.resblocks[2]
    )
    norm = block.norm2 if hasattr(visual, "trunk") else block.ln_2
    added = block.mlp(torch.from_numpy(layer_norm(half, norm)).float()[None])
    found = last_block(reader.tower, tokens, "sclip")
    np.testing.assert_allclose(array(found[0]), half + array(added[0]), atol=1e-4)


@pytest.mark.parametrize("make", TOWERS.values(), ids=TOWERS)
def test_surgery_adds_up_values_of_values_of_the_towers_own_tokens(make):
    reader = make(4)
    with torch.no_grad():
        start = reader.tower.begin(reader.prepared(picture()))
        start = reader.tower.run(start, 0, 1)
        second, own = dual_path(reader.tower, start, 1)
    path, tokens = array(start[0]), start
    visual = reader.visual
    blocks = (
        visual.trunk.blocks
        if hasattr(visual, "trunk")
        else visual.transformer.resblocks
    )
    for number in range(1, 4):
        path = path + attention_by_loops(reader, array(tokens[0]), number, "surgery")
        tokens = blocks[number](tokens)
    np.testing.assert_allclose(array(second[0]), path, atol=2e-4)
    np.testing.assert_allclose(array(own), array(tokens), atol=1e-5)


def test_surgery_parts_its_paths_six_blocks_before_the_end():
    method = get_method("surgery")
    assert [method.begins(d) for d in (12, 24, 6, 4)] == [6, 18, 0, 0]


def test_likeness_attention_by_loops():
    features = np.random.default_rng(0).standard_normal((7, 5)).astype(np.float32)
    features += 0.7
    found = likeness_attention(torch.from_numpy(features), 1.2, 3.0).numpy()
    alike = np.zeros((7, 7))
    for i in range(7):
        for j in range(7):
            a, b = features[i], features[j]
            alike[i, j] = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    scores = 3.0 * (alike - 1.2 * alike.mean())
    odds = np.where(scores < 0, 0, np.exp(scores))
    np.testing.assert_allclose(found, odds / odds.sum(1, keepdims=True), atol=1e-5)
    assert (found == 0).any()


def test_likeness_of_a_plane_without_contrast_is_no_nan():
    found = likeness_attention(torch.ones(6, 4), 1.2, 3.0)
    np.testing.assert_array_equal(found.numpy(), np.eye(6, dtype=np.float32))
    assert torch.isfinite(likeness_attention(torch.zeros(6, 4), 1.2, 3.0)).all()


def test_proxied_on_a_finer_grid_by_loops():
    reader = native(2, patch=16)
    tower, shape = reader.tower, (6, 5)
    tokens = before_last(reader, picture())
    features = torch.randn(9, *shape, generator=torch.Generator().manual_seed(1))
    found = array(proxied(tower, tokens, features, 1.2, 3.0)[0])
    _, weight, bias, out = parts(reader, 1)
    width = weight.shape[1]
    norm = parts(reader, 1)[0]
    x = layer_norm(array(tokens[0]), norm) @ array(weight).T + array(bias)
    values = x[1:, 2 * width :].reshape(4, 4, width)
    attention = array(likeness_attention(features.flatten(1).T, 1.2, 3.0))

    def at(centre, size):
        low = int(np.floor(centre))
        near = [min(max(low, 0), size - 1), min(max(low + 1, 0), size - 1)]
        return near, np.clip(centre, 0, size - 1) - np.clip(low, 0, size - 1)

    fine = np.zeros((*shape, width))
    for i in range(shape[0]):
        for j in range(shape[1]):
            (a, b), p = at((i + 0.5) * 4 / shape[0] - 0.5, 4)
            (c, d), q = at((j + 0.5) * 4 / shape[1] - 0.5, 4)
            upper = (1 - q) * values[a, c] + q * values[a, d]
            lower = (1 - q) * values[b, c] + q * values[b, d]
            fine[i, j] = (1 - p) * upper + p * lower
    wanted = attention @ fine.reshape(-1, width)
    wanted = wanted @ array(out.weight).T + array(out.bias)
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_cosines_take_the_best_phrase_and_tell_where_nothing_is_named():
    rng = np.random.default_rng(0)
    cells = rng.standard_normal((3, 4, WIDTH)).astype(np.float32)
    cells /= np.linalg.norm(cells, axis=-1, keepdims=True)
    bank = bank_of([rows(3, 1), rows(1, 2)], [None, rows(2, 3)])
    found = cosines(Seen(cells, rows(1)[0]), bank)
    for i in range(3):
        for j in range(4):
            assert found[0, i, j] == pytest.approx(
                max(cells[i, j] @ r for r in rows(3, 1)), abs=1e-6
            )
            assert found[3, i, j] == pytest.approx(
                max(cells[i, j] @ r for r in rows(2, 3)), abs=1e-6
            )
            assert found[4, i, j] == pytest.approx(
                max(cells[i, j] @ r for r in rows(3, 100)), abs=1e-6
            )
    assert (found[2] == -1).all()
