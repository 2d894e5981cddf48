"""The same weights in every layout give the features of who published them."""

import re

import numpy as np
import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer

from napari_fewshot.models.dense._frame import Fitting, prepared

HALF = "attention.attention."  # of a name in DINOv2


def read_by(model, image):
    """What the network of a model reads."""
    fitting = Fitting(image.shape[:2], model.side, model.preset.step)
    return prepared(image, fitting, model.preset)


def same(model, image, tokens):
    """Compare an embedding with patch tokens (N, C)."""
    array = model.encode(image).array
    tokens = tokens.detach().numpy().T.reshape(array.shape)
    np.testing.assert_allclose(array, tokens, atol=1e-4)
    assert array.std() > 0.1


def meta_names(state, registers):
    """Rename tensors of transformers to Meta's, as its converter did backwards."""
    found = {}
    for key, tensor in state.items():
        key = key.removeprefix("embeddings.").removeprefix("encoder.")
        key = re.sub(r"patch_embeddings(\.projection)?\.", "patch_embed.proj.", key)
        key = key.replace("position_embeddings", "pos_embed")
        key = key.replace("register_tokens", registers)
        key = re.sub(r"^layer\.", "blocks.", key)
        key = re.sub(r"layer_scale(\d)\.lambda1", r"ls\1.gamma", key)
        key = re.sub(r"attention\.(output\.dense|o_proj)", "attn.proj", key)
        key = key.replace("up_proj", "fc1").replace("down_proj", "fc2")
        key = key.replace("layernorm", "norm")
        found[key] = tensor
    for part in ("weight", "bias"):
        for number in range(2):
            block = f"blocks.{number}.attention."
            names = [k for k in found if re.match(rf"{block}.*{part}$", k)]
            three = {n.replace(HALF, "").split(".")[-2][0]: found.pop(n) for n in names}
            three.setdefault("k", torch.zeros_like(three["q"]))
            stacked = torch.cat([three[p] for p in "qkv"])
            found[f"blocks.{number}.attn.qkv.{part}"] = stacked
    return found


@pytest.mark.parametrize("kind", ["Dinov2", "Dinov2WithRegisters"])
def test_dinov2_in_three_layouts(hugging, write, load, image, kind):
    network = hugging(kind)
    more = 4 * (kind != "Dinov2")
    name = "dinov2/vits14_reg4" if more else "dinov2/vits14"
    state = network.state_dict()
    official = write(meta_names(state, "register_tokens"), "official.pth")
    model = load(write(state), name)
    x = read_by(model, image)
    if not more:
        # Meta resized this table with a tenth of a cell more, and without smoothing.
        table = state["embeddings.position_embeddings"]
        square = table[:, 1:].reshape(1, 4, 4, -1).permute(0, 3, 1, 2)
        grid = [n // 14 for n in x.shape[-2:]]
        factors = [(n + 0.1) / 4 for n in grid]
        cells = F.interpolate(square, scale_factor=factors, mode="bicubic")
        resized = torch.cat([table[:, :1], cells.flatten(2).transpose(1, 2)], 1)
        network.embeddings.interpolate_pos_encoding = lambda *_: resized
    tokens = network(x).last_hidden_state[0, 1 + more :]
    same(model, image, tokens)
    same(load(official, name), image, tokens)
    timms = VisionTransformer(
        img_size=56,
        patch_size=14,
        embed_dim=64,
        depth=2,
        num_heads=1,
        init_values=1.0,
        num_classes=0,
        reg_tokens=more,
        no_embed_class=bool(more),
    )
    theirs = timm.models.vision_transformer.checkpoint_filter_fn(
        torch.load(official), timms
    )
    timms.load_state_dict(theirs)
    same(load(write(timms.state_dict(), "timm.safetensors"), name), image, tokens)


def test_dinov2_on_the_grid_that_it_was_trained_on(hugging, write, load):
    network = hugging("Dinov2", image_size=672)
    square = np.random.default_rng(1).random((672, 672), np.float32)
    model = load(write(network.state_dict()))
    x = read_by(model, square)
    same(model, square, network(x).last_hidden_state[0, 1:])


def test_dinov3_in_three_layouts(hugging, write, load, image):
    network = hugging(
        "DINOv3ViT", patch_size=16, num_register_tokens=4, intermediate_size=128
    )
    state, name = network.state_dict(), "dinov3/vits16"
    state = {k.removeprefix("model."): t for k, t in state.items()}
    model = load(write(state), name)
    tokens = network(read_by(model, image)).last_hidden_state[0, 5:]
    same(model, image, tokens)
    meta = meta_names(state, "storage_tokens")
    meta["rope_embed.periods"] = torch.ones(16)
    meta["blocks.0.attn.qkv.bias_mask"] = torch.ones(192)
    same(load(write(meta, "meta.pth"), name), image, tokens)
    timms = Eva(
        img_size=64,
        patch_size=16,
        embed_dim=64,
        depth=2,
        num_heads=1,
        mlp_ratio=2,
        init_values=1.0,
        num_classes=0,
        num_reg_tokens=4,
        use_abs_pos_emb=False,
        use_rot_pos_emb=True,
        rope_type="dinov3",
        use_fc_norm=False,
    )
    timms.load_state_dict(timm.models.eva.checkpoint_filter_fn(meta, timms))
    same(load(write(timms.state_dict(), "timm.safetensors"), name), image, tokens)


def test_clip_as_open_clip_computes_it(write, load, image):
    def tower(side):
        return open_clip.transformer.VisionTransformer(
            side,
            16,
            64,
            layers=2,
            heads=1,
            mlp_ratio=4,
            output_dim=32,
            act_layer=open_clip.transformer.QuickGELU,
            output_tokens=True,
        ).eval()

    torch.manual_seed(0)
    small = tower(64)
    for tensor in small.parameters():
        torch.nn.init.normal_(tensor, std=0.2)
    state = {f"visual.{k}": t for k, t in small.state_dict().items()}
    path = write({**state, "logit_scale": torch.ones(())}, "open_clip_model.pth")
    model = load(path, "clip/vit_b_16")
    square = np.random.default_rng(0).random((30, 30), np.float32)
    large = torch.nn.Module()
    large.visual = tower(768)
    open_clip.model.resize_pos_embed(state, large)
    large.load_state_dict(state)
    _, tokens = large.visual(read_by(model, square))
    same(model, square, tokens[0])


def convnext_names(state):
    """Rename tensors of timm to Meta's, which has matrices where timm has filters."""
    found = {}
    for key, tensor in state.items():
        key = re.sub(r"^stem\.", "downsample_layers.0.", key)
        key = key.replace(".blocks.", ".")
        key = re.sub(r"stages\.(\d)\.downsample", r"downsample_layers.\1", key)
        key = key.replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")
        key = key.replace("head.norm", "norm")
        flat = tensor.shape[2:] == (1, 1) and "pwconv" in key
        found[key] = tensor.flatten(1) if flat else tensor
    return found


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext"])
def test_a_network_of_timm_gives_its_map_of_sixteen_pixels(write, load, image, name):
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=0).eval()
    model = load(write(network.state_dict()), f"timm/{name}")
    x = read_by(model, image)
    maps = network.forward_intermediates(x, intermediates_only=True)
    (expected,) = [m for m in maps if m.shape[-1] == 48]
    found = model.encode(image).array
    np.testing.assert_allclose(found, expected[0].detach(), atol=1e-4)
    if name == "test_convnext":
        path = write(convnext_names(network.state_dict()), "meta.pth")
        theirs = load(path, f"timm/{name}").encode(image).array
        np.testing.assert_allclose(theirs, found, atol=1e-4)
