"""Towers taken apart give what open_clip's own towers give."""

import pytest
import timm
import torch
from open_clip.model import _build_vision_tower
from open_clip.timm_model import TimmModel
from tests.models.clip import tiny

from napari_fewshot.errors import ModelError
from napari_fewshot.models.clip import NativeTower, TimmTower, tower_of

NATIVE = {
    "plain": {},
    "quick": {"quick_gelu": True},
    "mean": {"pool_type": "avg"},
    "late norm": {"final_ln_after_pool": True},
    "mean, late norm": {"pool_type": "avg", "final_ln_after_pool": True},
    "no first norm": {"no_ln_pre": True},
    "layer scale": {"ls_init_value": 0.3},
    "sines": {"pos_embed_type": "sin_cos_2d"},
    "patch dropout": {"patch_dropout": 0.5},
    "norms of q and k": {"qk_norm": True},
    "all scales": {
        "block_type": "custom",
        "scale_heads": True,
        "scale_attn_inner": True,
        "scale_attn": True,
        "scale_fc": True,
        "ls_init_value": 0.3,
    },
}
SMALL = {"img_size": 64, "patch_size": 16, "embed_dim": 48, "depth": 3, "num_heads": 3}
TIMM = {
    "plain": {},
    "mean": {"global_pool": "avg"},
    "mean of all": {"global_pool": "avg", "pool_include_prefix": True},
    "greatest": {"global_pool": "max"},
    "pool by attention": {"global_pool": "map", "class_token": False},
    "registers": {"reg_tokens": 4, "no_embed_class": True},
    "no class": {"class_token": False, "global_pool": "avg"},
    "first norm": {"pre_norm": True, "act_layer": "quick_gelu"},
    "norms of q and k": {"qk_norm": True, "init_values": 0.2},
    "inner norms": {"scale_attn_norm": True, "scale_mlp_norm": True},
    "no biases": {"qkv_bias": False},
    "any size": {"dynamic_img_size": True},
}


def stirred(visual):
    """Give all parameters numbers that matter."""
    torch.manual_seed(1)
    with torch.no_grad():
        for tensor in visual.parameters():
            tensor.add_(0.1 * torch.randn_like(tensor))
    return visual.eval().requires_grad_(requires_grad=False)


def native(name="plain"):
    torch.manual_seed(0)
    config = tiny.native_config(layers=3, **NATIVE[name])
    return stirred(
        _build_vision_tower(24, config["vision_cfg"], config.get("quick_gelu", False))
    )


def biomed(name="plain", proj="linear", proj_bias=False):
    """A TimmModel whose trunk has the given make-up."""
    torch.manual_seed(0)
    more = {"class_token": True, **SMALL, **TIMM[name]}
    trunk = timm.models.VisionTransformer(num_classes=0, **more)
    trunk.default_cfg = {"pool_size": None}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("timm.create_model", lambda *_, **__: trunk)
        visual = TimmModel("any", 24, 64, pool="", proj=proj, proj_bias=proj_bias)
    return stirred(visual)


MAKES = [
    *[pytest.param(native, n, id=f"native {n}") for n in NATIVE],
    *[pytest.param(biomed, n, id=f"timm {n}") for n in TIMM],
]


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(("make", "name"), MAKES)
def test_whole_tower_gives_what_the_library_gives(make, name, images):
    visual = make(name)
    tower = tower_of(visual)
    tokens = tower.begin(images)
    rows, columns = tower.grid
    assert tokens.shape == (2, tower.prefix + rows * columns, tower.width)
    last = tower.run(tower.run(tokens, 0, 1), 1, tower.depth)
    torch.testing.assert_close(tower.pooled(last), visual(images), rtol=0, atol=1e-5)
    words = tower.project(last)
    assert words.shape == (2, tokens.shape[1], 24)
    trunk = getattr(visual, "trunk", None)
    if (trunk.global_pool if trunk else visual.pool_type) in ("tok", "token"):
        torch.testing.assert_close(words[:, 0], visual(images), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("make", "name"), MAKES)
def test_block_rebuilt_from_its_parts_is_the_block(make, name, images):
    tower = tower_of(make(name))
    tokens = tower.run(tower.begin(images), 0, 1)
    q, k, v = tower.qkv(tokens, 1)
    wanted = (2, tower.heads, tokens.shape[1], tower.width // tower.heads)
    assert q.shape == k.shape == v.shape == wanted
    weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
    middle = tokens + tower.merged(weights @ v, 1)
    torch.testing.assert_close(middle, tower.attended(tokens, 1), rtol=0, atol=1e-5)
    rebuilt = middle + tower.perceptron(tower.normed(middle, 1), 1)
    torch.testing.assert_close(rebuilt, tower.run(tokens, 1, 2), rtol=0, atol=1e-5)


@pytest.mark.parametrize("proj", ["linear", "mlp"])
def test_heads_of_timm_towers(proj, images):
    visual = biomed(proj=proj, proj_bias=True)
    tower = TimmTower(visual)
    last = tower.run(tower.begin(images), 0, tower.depth)
    torch.testing.assert_close(tower.pooled(last), visual(images), rtol=0, atol=1e-5)
    torch.testing.assert_close(
        tower.project(last)[:, 0], visual(images), rtol=0, atol=1e-5
    )


def test_mean_of_projected_patches_is_the_image_where_the_model_pools_by_mean(images):
    tower = NativeTower(native("mean"))
    last = tower.run(tower.begin(images), 0, tower.depth)
    torch.testing.assert_close(tower.project(last)[:, 1:].mean(1), tower.pooled(last))


@pytest.mark.parametrize("make", [native, biomed])
def test_gradients_flow_but_not_into_weights(make, images):
    visual = make()
    tower = tower_of(visual)
    tokens = tower.begin(images).requires_grad_()
    middle = tower.run(tokens, 0, 2)
    q, k, v = tower.qkv(middle, 2)
    found = tower.merged((q @ k.transpose(-1, -2)).softmax(-1) @ v, 2)
    found = tower.attended(middle + found, 2)
    found = found + tower.perceptron(tower.normed(found, 2), 2)
    (tower.pooled(found).sum() + tower.project(found).square().sum()).backward()
    assert tokens.grad.abs().min() > 0
    assert all(p.grad is None for p in visual.parameters())


@pytest.mark.parametrize("make", [native, biomed])
def test_gradient_is_that_of_differences(make, images):
    tower = tower_of(make().double())
    start = tower.begin(images.double())
    step = torch.randn(start.shape, dtype=torch.float64)

    def image(tokens):
        return tower.pooled(tower.run(tokens, 0, tower.depth)).sum()

    tokens = start.clone().requires_grad_()
    image(tokens).backward()
    slope = (tokens.grad * step).sum().item()
    up, down = (image(start + s * 1e-5 * step).item() for s in (1, -1))
    assert slope == pytest.approx((up - down) / 2e-5, rel=1e-6)


@pytest.mark.parametrize("make", [native, biomed])
def test_sixteen_bits_within_the_context_come_out_as_floats(make, images):
    visual = make()
    tower = tower_of(visual)
    tower.context = lambda: torch.autocast("cpu", torch.bfloat16)
    tokens = tower.begin(images)
    last = tower.run(tokens, 0, tower.depth)
    for found in (tokens, last, *tower.qkv(tokens, 0), tower.project(last)):
        assert found.dtype == torch.float32
    cosine = torch.cosine_similarity(tower.pooled(last), visual(images))
    assert cosine.min() > 0.99
    assert not torch.equal(tower.pooled(last), visual(images))


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("ModifiedResNet", {"layers": [1, 1, 1, 1], "width": 8, "head_width": 8}),
        ("ResNet", {"timm_model_name": "test_resnet", "timm_pool": ""}),
    ],
)
def test_networks_without_patches_are_refused(name, config):
    visual = _build_vision_tower(24, {"image_size": 64, **config})
    with pytest.raises(ModelError, match=name):
        tower_of(visual)


def test_towers_that_pool_by_a_native_attention_are_refused():
    config = tiny.native_config(attentional_pool=True, attn_pooler_heads=2)
    with pytest.raises(ModelError, match="pools by attention"):
        tower_of(_build_vision_tower(24, config["vision_cfg"]))


def test_towers_with_other_attention_are_refused():
    visual = biomed()
    visual.trunk.blocks[0].attn.gate = torch.nn.Linear(48, 48)
    with pytest.raises(ModelError, match="plain vision"):
        tower_of(visual)
