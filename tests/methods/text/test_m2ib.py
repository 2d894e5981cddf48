"""The bottleneck against closed forms, finite differences and the published code."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.methods.text.reader import WIDTH, bank_of, biomed, forget, native, picture
from tests.methods.text.reader import rows as words

from napari_fewshot.data import Hooks, Plane
from napari_fewshot.errors import Cancelled, ModelError
from napari_fewshot.methods import get_method
from napari_fewshot.methods import m2ib as module
from napari_fewshot.methods.m2ib import information, layer_of, let_through
from napari_fewshot.methods.text._relevance import Target, rescaled
from napari_fewshot.methods.text._tail import pooled_tail, reads_patches

METHOD = get_method("m2ib")


@pytest.fixture(autouse=True)
def nothing_kept():
    forget()


def params(**values):
    return METHOD.spec.params(**{"steps": 4, "samples": 3, **values})


def heat(reader, bank, image=None, hooks=None, **values):
    plane = Plane(picture() if image is None else image)
    return METHOD.heat(reader, plane, bank, params(**values), hooks or Hooks())


@pytest.mark.parametrize("var", [0.1, 1.0, 2.5])
def test_information_is_the_divergence_of_two_normal_distributions(var):
    generator = torch.Generator().manual_seed(0)
    features = 3 * torch.randn(5, 7, generator=generator, dtype=torch.float64)
    share = torch.rand(5, 7, generator=generator, dtype=torch.float64)
    normal = torch.distributions.Normal
    read = normal(share * features, var**0.5 * (1 - share))
    noise = normal(torch.zeros_like(features), var**0.5)
    wanted = torch.distributions.kl_divergence(read, noise)
    torch.testing.assert_close(information(features, share, var), wanted)


def test_gradient_of_information_by_finite_differences():
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    alpha = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    alpha.requires_grad_()

    def cost(a):
        return information(features, torch.sigmoid(a), 0.3).mean()

    (found,) = torch.autograd.grad(cost(alpha), alpha)
    for place in np.ndindex(3, 4):
        step = torch.zeros(3, 4, dtype=torch.float64)
        step[place] = 1e-5
        slope = (cost(alpha + step) - cost(alpha - step)) / 2e-5
        assert found[place].item() == pytest.approx(slope.item(), rel=1e-4, abs=1e-9)


def test_information_is_finite_where_everything_is_let_through():
    found = information(torch.ones(2), torch.ones(2), 1.0)
    assert torch.isfinite(found).all()
    np.testing.assert_allclose(found, 0.5 * (-np.log(1e-12)), rtol=1e-5)


def literal(reader, image, text, layer, beta, var, steps, samples, seed):
    """The published procedure, every block anew each step; noise of the paper's kind.

    With var = 1 this is what the released code computes: its own variance is never
    used, the prior is the standard normal distribution.
    """
    visual = reader.visual
    x = reader.prepared(image).repeat(samples, 1, 1, 1)
    blocks = (
        visual.trunk.blocks
        if hasattr(visual, "trunk")
        else visual.transformer.resblocks
    )
    generator = torch.Generator().manual_seed(seed)
    state = {}

    def squeeze(module, inputs, output):
        if "alpha" not in state:
            state["alpha"] = torch.full_like(output[:1], 5.0).requires_grad_()
            state["adam"] = torch.optim.Adam([state["alpha"]], lr=1.0)
        share = torch.sigmoid(state["alpha"]).expand(len(output), -1, -1)
        mean, spread = share * output, (1 - share) ** 2
        if var == 1.0:
            state["kl"] = -0.5 * (1 + torch.log(spread) - mean**2 - spread)
        else:
            state["kl"] = -0.5 * (1 + torch.log(spread) - mean**2 / var - spread)
        noise = torch.randn(output.shape, generator=generator)
        return mean + spread.sqrt() * var**0.5 * noise

    hook = blocks[layer].register_forward_hook(squeeze)
    try:
        for _ in range(steps):
            images = visual(x)
            fit = torch.nn.functional.cosine_similarity(
                images, torch.from_numpy(text)[None]
            ).mean()
            loss = beta * state["kl"].mean() - fit
            state["adam"].zero_grad()
            loss.backward()
            shown = state["kl"].detach().clone()
            state["adam"].step()
    finally:
        hook.remove()
    each = torch.nansum(shown.mean(0), -1).numpy()
    return each[reader.tower.prefix :].reshape(reader.tower.grid)


@pytest.mark.parametrize("make", [native, biomed])
@pytest.mark.parametrize("var", [1.0, 0.3])
def test_the_map_is_that_of_the_published_procedure(make, var):
    reader, text = make(4), words(1, 3)
    found = heat(reader, bank_of([text]), layer=1, beta=0.5, var=var, seed=7)
    wanted = literal(reader, picture(), text[0], 1, 0.5, var, 4, 3, 7)
    wanted = (wanted - wanted.min()) / (wanted.max() - wanted.min())
    np.testing.assert_allclose(found.maps[0], wanted, atol=2e-3)
    assert found.kind == "relevance"


def test_every_number_matters():
    reader, bank = native(4), bank_of([words(1, 3)])
    usual = {"layer": 1, "beta": 0.5, "steps": 6}
    base = heat(reader, bank, **usual).maps
    for change in (
        {"var": 0.1},
        {"beta": 2.0},
        {"layer": 2},
        {"steps": 12},
        {"samples": 1},
        {"seed": 1},
    ):
        other = heat(reader, bank, **{**usual, **change}).maps
        assert not np.allclose(base, other, atol=1e-4), change
    np.testing.assert_array_equal(base, heat(reader, bank, **usual).maps)


def test_what_is_learnt_follows_the_phrase_and_costs_little():
    """A head that reads the first two channels of one token: only they stay open."""
    features = torch.ones(1, 4, 6)

    def head(tokens):
        return torch.stack([tokens[:, 2, 0], tokens[:, 2, 1] * 0 + 0.2], 1)

    text = Target(torch.tensor([[1.0, 0.0]]), torch.zeros(0, 2), 0.0)
    found = let_through(features, head, [text], params(steps=40), 1, Hooks())[0]
    assert found.argmax() == 2
    assert found[2] > 1.5 * found[[0, 1, 3]].max()


def test_the_loss_goes_down():
    reader, text = native(4), words(1, 3)
    features = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 65, 32)))
    features = features.float()

    def head(tokens):
        return reader.tower.pooled(reader.tower.run(tokens, 2, 4))

    target = Target(torch.from_numpy(text), torch.zeros(0, WIDTH), 0.0)
    costs = [
        let_through(features, head, [target], params(steps=n, beta=1.0), 2, Hooks())
        .mean()
        .item()
        for n in (1, 5, 10)
    ]
    assert costs[0] > costs[1] > costs[2]


def test_classes_at_once_or_alone_are_the_same(monkeypatch):
    reader = native(4)
    texts = [words(2, 3), words(1, 4), words(1, 5)]
    together = heat(reader, bank_of(texts)).maps
    for number, text in enumerate(texts):
        alone = heat(reader, bank_of([text])).maps[0]
        np.testing.assert_allclose(together[number], alone, atol=1e-4)
    # Little memory: one class and one draw of noise at a time.
    monkeypatch.setattr(module, "MOST_NUMBERS", 1)
    np.testing.assert_allclose(heat(reader, bank_of(texts)).maps, together, atol=1e-4)


def test_blocks_below_the_bottleneck_run_once():
    reader = native(4)
    heat(reader, bank_of([words(1, 3)]), layer=2, steps=5, samples=3)
    # Three blocks once, then the last one: once for the plane, 4 steps of 3 draws.
    assert reader.tower.images == 1
    assert reader.tower.blocks == 3 + 1 + 4 * 3
    heat(reader, bank_of([words(1, 4)]), layer=2, steps=5, samples=3)
    assert reader.tower.images == 1


def test_what_it_is_not_changes_the_map():
    reader, text = native(4), words(1, 3)
    plain = heat(reader, bank_of([text])).maps
    against = heat(reader, bank_of([text], [words(1, 9)])).maps
    assert not np.allclose(plain, against, atol=1e-3)
    for_nothing = heat(reader, bank_of([text], [words(1, 9)]), contrast=0.0).maps
    np.testing.assert_array_equal(plain, for_nothing)


def test_fit_is_the_best_phrase_less_the_best_of_what_it_is_not():
    images, target = words(4, 1) * 3, (words(3, 2), words(2, 3))
    found = Target(*map(torch.from_numpy, target), 0.5).fit(torch.from_numpy(images))
    for image, value in zip(words(4, 1), found.numpy(), strict=True):
        best = max(image @ t for t in target[0])
        wanted = best - 0.5 * max(image @ t for t in target[1])
        assert value == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(
    ("depth", "wanted"), [(12, 7), (24, 14), (8, 5), (2, 0), (1, 0)]
)
def test_automatic_layer(depth, wanted):
    assert layer_of(-1, depth, "x") == wanted


def test_a_block_that_is_not_there():
    with pytest.raises(ModelError, match=r"reader has 4 blocks.*0 to 3"):
        heat(native(4), bank_of([words(1)]), layer=4)
    assert np.isfinite(heat(native(4), bank_of([words(1)]), layer=3).maps).all()


def test_cancelling_between_draws(monkeypatch):
    monkeypatch.setattr(module, "MOST_NUMBERS", 1)
    reader, asked = native(4), []

    def stop():
        asked.append(reader.tower.blocks)
        return len(asked) > 6

    with pytest.raises(Cancelled):
        heat(reader, bank_of([words(1)]), hooks=Hooks(is_cancelled=stop))
    assert len(asked) == 7


def test_noise_of_the_process_is_left_alone():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    heat(native(3, seed=5), bank_of([words(1)]))
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), wanted)
    state = torch.get_rng_state()
    let_through(
        torch.ones(1, 3, 4),
        lambda t: t[:, 0],
        [Target(torch.ones(1, 4), torch.zeros(0, 4), 0.0)],
        SimpleNamespace(beta=1.0, var=1.0, steps=3, samples=2, seed=0),
        1,
        Hooks(),
    )
    assert torch.equal(torch.get_rng_state(), state)


def test_rescaling_of_maps():
    maps = np.array([[[1.0, 3.0]], [[2.0, 2.0]], [[np.nan, np.nan]], [[np.nan, 4.0]]])
    np.testing.assert_array_equal(
        rescaled(maps), [[[0, 1]], [[0, 0]], [[0, 0]], [[0, 0]]]
    )
    assert (rescaled(np.full((1, 2, 2), 0.1) + 1e-12) == 0).all()
    with_hole = rescaled(np.array([[[np.inf, 1.0, 2.0, 3.0]]]))
    np.testing.assert_allclose(with_hole, [[[0, 0, 0.5, 1]]])


def test_progress_counts_steps_of_all_groups(monkeypatch):
    told = []
    heat(native(3), bank_of([words(1, 1), words(1, 2)]), hooks=Hooks(told.append))
    assert [(p.done, p.total) for p in told] == [(0, 4), (1, 4), (2, 4)]
    told.clear()
    monkeypatch.setattr(module, "MOST_NUMBERS", 1)
    heat(native(3), bank_of([words(1, 1), words(1, 2)]), hooks=Hooks(told.append))
    done = [0, 1, 2, 4, 5, 6]
    assert [(p.done, p.total) for p in told] == [(d, 8) for d in done]


@pytest.mark.parametrize(
    ("reader", "patches"),
    [
        pytest.param(lambda: native(3), False, id="class-token"),
        pytest.param(lambda: native(3, pool_type="avg"), True, id="mean"),
        pytest.param(lambda: biomed(3), False, id="biomed"),
        pytest.param(lambda: biomed(3, reg_tokens=4), False, id="registers"),
    ],
)
def test_the_end_of_the_tower_is_the_towers_own(reader, patches):
    reader = reader()
    tower, x = reader.tower, reader.prepared(picture())
    tokens = tower.run(tower.begin(x), 0, 1).repeat(2, 1, 1)
    assert reads_patches(tower, tokens) is patches
    wanted = reader.visual(x)[0]
    for first, start in ((1, tokens), (3, tower.run(tokens, 1, 3))):
        found = pooled_tail(tower, start, first, patches=patches)
        torch.testing.assert_close(found[0], wanted, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(found[1], wanted, atol=1e-5, rtol=1e-4)
