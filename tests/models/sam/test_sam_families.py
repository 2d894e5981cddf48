"""Families beside SAM: their layers from the formulas, and independent packages."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from timm.models.tiny_vit import TinyVit

import napari_fewshot as nf
from napari_fewshot.models.sam import identify
from napari_fewshot.models.sam._adapters import Bottleneck, ConvAdapter
from napari_fewshot.models.sam._decoder import DecoderConfig, MaskDecoder
from napari_fewshot.models.sam._frame import Frame
from napari_fewshot.models.sam._hq import HqMaskDecoder
from napari_fewshot.models.sam._presets import SAM
from napari_fewshot.models.sam._tiny_vit import TinyConfig
from napari_fewshot.models.sam._tiny_vit import TinyVit as TinyEncoder
from napari_fewshot.models.sam._unet import ClickUnet

CLOSE = {"rtol": 1e-4, "atol": 1e-4}
POINTS = {"points": [[30, 40], [70, 20]], "point_labels": [1, 0]}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def linear(state, name, x):
    return F.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))


def norm(state, name, x, eps=1e-5):
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    return F.layer_norm(x, x.shape[-1:], weight, bias, eps)


def norm_2d(state, name, x):
    return norm(state, name, x.permute(0, 2, 3, 1), 1e-6).permute(0, 3, 1, 2)


def mlp(state, name, x, depth):
    for layer in range(depth):
        x = linear(state, f"{name}.layers.{layer}", x)
        x = F.relu(x) if layer < depth - 1 else x
    return x


def attention(state, name, q, k, v, share=None):
    parts = [
        linear(state, f"{name}.{n}_proj", t) for n, t in (("q", q), ("k", k), ("v", v))
    ]
    q, k, v = (p.reshape(*p.shape[:2], 8, -1).transpose(1, 2) for p in parts)
    weights = torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, -1)
    found = weights @ v if share is None else (weights * share) @ v
    joined = found.transpose(1, 2).reshape(*parts[0].shape[:2], -1)
    return linear(state, f"{name}.out_proj", joined)


def enlarge(state, name, x, layers):
    """Transposed convolutions with a normalisation and GELU after the first ones."""
    for layer in layers:
        here = f"{name}.{layer}"
        if state[f"{here}.weight"].ndim == 1:
            x = norm_2d(state, here, x)
        else:
            x = F.conv_transpose2d(
                x, state[f"{here}.weight"], state[f"{here}.bias"], stride=2
            )
            continue
        x = F.gelu(x)
    return x


@pytest.fixture(scope="module")
def sparse(meta):
    """Prompts of Meta's encoder for `POINTS` on a plane of 90 x 130 in 256 pixels."""
    places = torch.tensor([[[40.0, 30], [20, 70]]]) * torch.tensor(
        [256 / 130, 177 / 90]
    )
    return places.float(), torch.tensor([[1, 0]])


# HQ-SAM


def hq_state(early, seed=5):
    shapes = {
        "hf_token.weight": (1, 256),
        "hf_mlp.layers.0.weight": (256, 256),
        "hf_mlp.layers.0.bias": (256,),
        "hf_mlp.layers.1.weight": (256, 256),
        "hf_mlp.layers.1.bias": (256,),
        "hf_mlp.layers.2.weight": (32, 256),
        "hf_mlp.layers.2.bias": (32,),
        "compress_vit_feat.0.weight": (early, 256, 2, 2),
        "compress_vit_feat.0.bias": (256,),
        "compress_vit_feat.1.weight": (256,),
        "compress_vit_feat.1.bias": (256,),
        "compress_vit_feat.3.weight": (256, 32, 2, 2),
        "compress_vit_feat.3.bias": (32,),
        "embedding_encoder.0.weight": (256, 64, 2, 2),
        "embedding_encoder.0.bias": (64,),
        "embedding_encoder.1.weight": (64,),
        "embedding_encoder.1.bias": (64,),
        "embedding_encoder.3.weight": (64, 32, 2, 2),
        "embedding_encoder.3.bias": (32,),
        "embedding_maskfeature.0.weight": (64, 32, 3, 3),
        "embedding_maskfeature.0.bias": (64,),
        "embedding_maskfeature.1.weight": (64,),
        "embedding_maskfeature.1.bias": (64,),
        "embedding_maskfeature.3.weight": (32, 64, 3, 3),
        "embedding_maskfeature.3.bias": (32,),
    }
    generator = seeded(seed)
    return {
        f"mask_decoder.{k}": 0.2 * torch.randn(shape, generator=generator)
        for k, shape in shapes.items()
    }


def hq_expected(meta, added, embedding, early, places, labels):
    """SAM's own transformer with one more token; the rest from the formulas."""
    decoder, p = meta.mask_decoder, "mask_decoder"
    tokens, dense = meta.prompt_encoder((places, labels), None, None)
    own = (decoder.iou_token.weight, decoder.mask_tokens.weight)
    own = torch.cat([*own, added[f"{p}.hf_token.weight"]])[None]
    read, map_ = decoder.transformer(
        embedding + dense,
        meta.prompt_encoder.get_dense_pe(),
        torch.cat([own, tokens], 1),
    )
    upscaled = decoder.output_upscaling(map_.mT.reshape(embedding.shape))
    masks = [
        torch.einsum(
            "bc,bchw->bhw",
            decoder.output_hypernetworks_mlps[i](read[:, 1 + i]),
            upscaled,
        )
        for i in range(4)
    ]

    fine = enlarge(added, f"{p}.embedding_encoder", embedding, (0, 1, 3))
    fine = fine + enlarge(added, f"{p}.compress_vit_feat", early, (0, 1, 3))
    name = f"{p}.embedding_maskfeature"
    x = F.conv2d(
        upscaled, added[f"{name}.0.weight"], added[f"{name}.0.bias"], padding=1
    )
    x = F.gelu(norm_2d(added, f"{name}.1", x))
    fine = fine + F.conv2d(
        x, added[f"{name}.3.weight"], added[f"{name}.3.bias"], padding=1
    )
    head = mlp(added, f"{p}.hf_mlp", read[:, 5], 3)
    hq = torch.einsum("bc,bchw->bhw", head, fine)
    quality = decoder.iou_prediction_head(read[:, 0])
    return torch.stack([m + hq for m in masks], 1), quality


@torch.no_grad()
def test_hq_sam(meta, tools, tmp_path, picture, sparse):
    added = hq_state(64)
    path = tmp_path / "sam_hq_vit_b.pth"
    torch.save(meta.state_dict() | added, path)
    assert identify(path) == ("hqsam/vit_b", "hqsam/vit_h", "hqsam/vit_l")
    model = tools.load("hqsam/vit_b", path)
    embedding = model.encode(picture)
    seen = {}
    hook = meta.image_encoder.blocks[1].register_forward_hook(
        lambda *given: seen.update(early=given[2])
    )
    image = Frame((90, 130), 256, SAM).image(picture)
    encoded = meta.image_encoder(image)
    hook.remove()
    np.testing.assert_allclose(embedding.array, encoded[0], **CLOSE)
    early = seen["early"].permute(0, 3, 1, 2)
    np.testing.assert_allclose(embedding.extras["early"], early[0], **CLOSE)
    expected, quality = hq_expected(meta, added, encoded, early, *sparse)
    for multimask, part in ((True, slice(1, 4)), (False, slice(0, 1))):
        logits, scores = model.decode(embedding, **POINTS, multimask=multimask)
        # The head adds two maps of large values: compared in their own scale.
        scale = float(expected.std())
        np.testing.assert_allclose(
            logits[0] / scale, expected[0, part] / scale, **CLOSE
        )
        np.testing.assert_allclose(scores[0], quality[0, part], **CLOSE)
    assert expected.std() > 0.1, "the comparison must be able to fail"
    with pytest.raises(nf.ModelError, match="lacks the early features"):
        model.decode(replace(embedding, extras={}), **POINTS)


def test_hq_sam_in_hugging_faces_names(meta, tools, tmp_path, picture):
    """Renamed files give the same masks."""
    from test_sam_files import hugging_face

    added = hq_state(64)
    renamed = {}
    for key, tensor in added.items():
        for old, new in (
            ("hf_token", "hq_token"),
            (r"hf_mlp\.layers\.0", "hq_mask_mlp.proj_in"),
            (r"hf_mlp\.layers\.1", "hq_mask_mlp.layers.0"),
            (r"hf_mlp\.layers\.2", "hq_mask_mlp.proj_out"),
            (r"compress_vit_feat\.0", "compress_vit_conv1"),
            (r"compress_vit_feat\.1", "compress_vit_norm"),
            (r"compress_vit_feat\.3", "compress_vit_conv2"),
            (r"embedding_encoder\.0", "encoder_conv1"),
            (r"embedding_encoder\.1", "encoder_norm"),
            (r"embedding_encoder\.3", "encoder_conv2"),
            (r"embedding_maskfeature\.0", "mask_conv1"),
            (r"embedding_maskfeature\.1", "mask_norm"),
            (r"embedding_maskfeature\.3", "mask_conv2"),
        ):
            key = re.sub(old, new, key)
        renamed[key] = tensor
    results = []
    for number, state in enumerate(
        (meta.state_dict() | added, hugging_face(meta.state_dict()) | renamed)
    ):
        path = tmp_path / f"{number}.safetensors"
        save_file({k: v.contiguous() for k, v in state.items()}, path)
        model = tools.load("hqsam/vit_b", path)
        results.append(model.predict(model.encode(picture), **POINTS)[2])
    np.testing.assert_allclose(results[0], results[1], **CLOSE)


# TinyViT: MobileSAM, LiteMedSAM, HQ-SAM tiny

TINY = {"embed_dims": (16, 24, 40, 64), "depths": (1, 1, 2, 1)}
HEADS, WINDOWS = (1, 2, 2, 4), (3, 3, 5, 3)


def tiny_reference(*, shrinks):
    """timm's TinyViT with the changes of MobileSAM and LiteMedSAM, random."""
    model = TinyVit(num_heads=HEADS, window_sizes=WINDOWS, **TINY)
    model.stages[3].downsample.conv2.conv.stride = (1, 1)
    if not shrinks:
        for conv in (model.patch_embed.conv1, model.patch_embed.conv2):
            old = conv.conv
            conv.conv = torch.nn.Conv2d(
                old.in_channels, old.out_channels, 1, bias=False
            )
    return model.eval()


def published_names(state):
    """timm's names to those of the files."""
    found = {}
    for key, tensor in state.items():
        new = re.sub(r"\.conv\.weight", ".c.weight", key)
        new = re.sub(r"patch_embed\.conv1\.", "patch_embed.seq.0.", new)
        new = re.sub(r"patch_embed\.conv2\.", "patch_embed.seq.2.", new)
        new = re.sub(
            r"stages\.(\d)\.downsample",
            lambda m: f"layers.{int(m[1]) - 1}.downsample",
            new,
        )
        new = new.replace("stages.", "layers.").replace("head.norm", "norm_head")
        found[f"image_encoder.{new}".replace("head.fc.", "head.")] = tensor
    return found


def tiny_state(meta, tools, *, shrinks):
    encoder = tiny_reference(shrinks=shrinks)
    tools.randomise(encoder.state_dict(), 3)
    # Networks this narrow hardly mix anything with weights as small.
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.ndim > 1:
                parameter.mul_(5)
    state = published_names(encoder.state_dict())
    if not shrinks:
        state = {k: v for k, v in state.items() if "head." not in k}
    neck = {
        "image_encoder.neck.0.weight": 0.2 * torch.randn(256, 64, 1, 1),
        "image_encoder.neck.1.weight": torch.ones(256),
        "image_encoder.neck.1.bias": torch.zeros(256),
        "image_encoder.neck.2.weight": 0.05 * torch.randn(256, 256, 3, 3),
        "image_encoder.neck.3.weight": torch.ones(256),
        "image_encoder.neck.3.bias": torch.zeros(256),
    }
    rest = {
        k: v for k, v in meta.state_dict().items() if not k.startswith("image_encoder.")
    }
    return encoder, state | neck | rest


@torch.no_grad()
def tiny_features(encoder, state, x):
    """Embedding, and what enters the third stage (its merging included)."""
    x = encoder.patch_embed(x)
    for number, stage in enumerate(encoder.stages):
        if number == 2:
            early = stage.downsample(x)
        x = stage(x)
    p = "image_encoder.neck"
    x = norm_2d(state, f"{p}.1", F.conv2d(x, state[f"{p}.0.weight"]))
    x = F.conv2d(x, state[f"{p}.2.weight"], padding=1)
    return norm_2d(state, f"{p}.3", x), early


def test_mobile_sam(meta, tools, tmp_path, picture):
    encoder, state = tiny_state(meta, tools, shrinks=True)
    path = tmp_path / "mobile_sam.pt"
    torch.save(state, path)
    assert identify(path) == ("mobilesam/vit_t",)
    model = tools.load("mobilesam/vit_t", path, side=256)
    embedding = model.encode(picture)
    expected, _ = tiny_features(
        encoder, state, Frame((90, 130), 256, SAM).image(picture)
    )
    assert embedding.array.shape == (256, 16, 16)
    np.testing.assert_allclose(embedding.array, expected[0], **CLOSE)
    assert expected.std() > 0.1, "the comparison must be able to fail"
    assert model.predict(embedding, **POINTS)[0].shape == (3, 90, 130)
    seen = []
    model.encode(picture, lambda stage, stages: seen.append((stage, stages)))
    assert seen == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert tools.load("microsam/vit_t_lm", path).side == 1024


def test_hq_sam_tiny(meta, tools, tmp_path, picture):
    encoder, state = tiny_state(meta, tools, shrinks=True)
    path = tmp_path / "sam_hq_vit_tiny.pth"
    torch.save(state | hq_state(40), path)
    assert identify(path) == ("hqsam/vit_tiny",)
    model = tools.load("hqsam/vit_tiny", path, side=256)
    embedding = model.encode(picture)
    x = Frame((90, 130), 256, SAM).image(picture)
    expected, early = tiny_features(encoder, state, x)
    np.testing.assert_allclose(embedding.array, expected[0], **CLOSE)
    np.testing.assert_allclose(embedding.extras["early"], early[0], **CLOSE)
    assert model.predict(embedding, **POINTS)[0].shape == (3, 90, 130)


def test_lite_medsam(meta, tools, tmp_path):
    """Longest side and padding, area means, own range; a 4th of the frame's side."""
    encoder, state = tiny_state(meta, tools, shrinks=False)
    path = tmp_path / "lite_medsam.pth"
    torch.save(state, path)
    assert identify(path) == ("medsam/lite",)
    model = tools.load("medsam/lite", path, side=64)
    image = np.random.default_rng(0).integers(20, 200, (96, 128), dtype=np.uint8)
    embedding = model.encode(image)
    small = np.rint(image.reshape(48, 2, 64, 2).mean((1, 3)))
    small = (small - small.min()) / (small.max() - small.min())
    x = torch.zeros(1, 3, 64, 64)
    x[..., :48, :] = torch.from_numpy(small)
    expected, _ = tiny_features(encoder, state, x)
    assert embedding.array.shape == (256, 16, 16)
    assert embedding.valid == (0.75, 1.0)
    np.testing.assert_allclose(embedding.array, expected[0], **CLOSE)
    masks, _, logits = model.predict(embedding, boxes=[10, 20, 60, 100])
    assert logits.shape == (1, 64, 64)
    shown = F.interpolate(
        torch.from_numpy(logits)[None, ..., :48, :], (96, 128), mode="bilinear"
    )
    assert (masks[0] == (shown[0, 0] > 0).numpy()).all()
    with pytest.raises(nf.PromptError, match="takes boxes only"):
        model.predict(embedding, **POINTS)


# SAM-Med2D


@torch.no_grad()
def test_sam_med2d(meta, tools, tmp_path):
    dim, state, generator = 64, {}, seeded(7)
    shapes = {
        "channel.0.weight": (16, dim),
        "channel.2.weight": (dim, 16),
        "spatial.0.weight": (dim, dim, 3, 3),
        "spatial.2.weight": (dim, dim, 4, 4),
        "norm.weight": (dim,),
        "norm.bias": (dim,),
    }
    for block in range(3):
        for key, shape in shapes.items():
            name = f"image_encoder.blocks.{block}.Adapter.{key}"
            state[name] = 0.1 * torch.randn(shape, generator=generator)
    path = tmp_path / "sam-med2d_b.pth"
    torch.save({"model": meta.state_dict() | state, "epoch": 1}, path)
    assert identify(path) == ("sammed2d/vit_b",)
    model = tools.load("sammed2d/vit_b", path)

    def adapter(block, x):
        p = f"image_encoder.blocks.{block}.Adapter."
        x = x.permute(0, 3, 1, 2)
        gate = F.relu(x.mean((2, 3)) @ state[f"{p}channel.0.weight"].T)
        gate = torch.sigmoid(gate @ state[f"{p}channel.2.weight"].T)
        s = F.conv2d(
            gate[..., None, None] * x, state[f"{p}spatial.0.weight"], None, 2, 1
        )
        s = F.conv_transpose2d(F.relu(s), state[f"{p}spatial.2.weight"], None, 2, 1)
        return norm(state, f"{p}norm", (x + F.relu(s)).permute(0, 2, 3, 1))

    image = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    embedding = model.encode(image)
    rows, columns = (np.arange(256) * n // 256 for n in (300, 400))
    x = torch.from_numpy(image[rows][:, columns].astype(np.float32)).permute(2, 0, 1)
    x = ((x - meta.pixel_mean) / meta.pixel_std)[None]
    encoder = meta.image_encoder
    tokens = encoder.patch_embed(x) + encoder.pos_embed
    for number, block in enumerate(encoder.blocks):
        before = {}
        hook = block.norm2.register_forward_hook(
            lambda *given, before=before: before.update(h=given[2])
        )
        tokens = block(tokens)
        hook.remove()
        tokens = tokens + adapter(number, before["h"])
    expected = encoder.neck(tokens.permute(0, 3, 1, 2))
    np.testing.assert_allclose(embedding.array, expected[0], **CLOSE)
    past = np.random.default_rng(1).normal(0, 3, (64, 64)).astype(np.float32)
    logits, _ = model.decode(embedding, boxes=[30, 40, 200, 300], mask=past)
    box = torch.tensor([[40.0, 30, 300, 200]]) * torch.tensor([0.64, 256 / 300] * 2)
    sparse, dense = meta.prompt_encoder(
        None, box, torch.sigmoid(torch.from_numpy(past))[None, None]
    )
    low, _ = meta.mask_decoder(
        expected, meta.prompt_encoder.get_dense_pe(), sparse, dense, True
    )
    np.testing.assert_allclose(logits, low, **CLOSE)
    assert model.wants_candidates(3, boxes=True, mask=True)


def test_small_planes_are_not_enlarged_for_sam_med2d(weights, tools, picture):
    """As in its training: as they are, in zeros."""
    model = tools.load("sammed2d/vit_b", weights)
    frame = Frame((90, 130), 256, model.preset)
    x = frame.image(picture)[0]
    levels = torch.from_numpy(picture[..., 1].astype(np.float32))
    torch.testing.assert_close(x[1, :90, :130], (levels - 116.28) / 57.12)
    assert not x[:, 90:].any()
    assert not x[:, :, 130:].any()
    assert frame.points([[30, 40]], None)[0].tolist() == [[[40.0, 30.0]]]
    low = np.zeros((1, 64, 64), np.float32)
    low[0, 5:10, 20:30] = 1
    shown = model.restore(low, (90, 130))[0] > 0.5
    assert shown[21:39, 81:119].all()
    assert 780 < shown.sum() <= 20 * 40, "corners are rounded"


# ScribblePrompt


def unet_state(width=6, levels=4):
    generator, state = seeded(2), {}

    def conv(name, out, channels, kernel=3):
        shape = (out, channels, kernel, kernel)
        state[f"{name}.conv.0.weight"] = 0.2 * torch.randn(shape, generator=generator)
        state[f"{name}.conv.0.bias"] = 0.1 * torch.randn(out, generator=generator)
        if kernel > 1:
            state[f"{name}.conv.1.weight"] = torch.rand(1, generator=generator)

    for level in range(levels):
        conv(f"downs.{level}", width, width if level else 5)
        conv(f"ups.{2 * level + 1}", width, 2 * width)
    conv("bottleneck", width, width)
    conv("final_conv", 1, width, 1)
    return state


def unet_expected(state, x, levels=4):
    def conv(name, x):
        weight = state[f"{name}.conv.0.weight"]
        x = F.conv2d(
            x, weight, state[f"{name}.conv.0.bias"], padding=weight.shape[-1] // 2
        )
        slope = state.get(f"{name}.conv.1.weight")
        return x if slope is None else torch.where(x > 0, x, slope * x)

    skips = []
    for level in range(levels):
        x = conv(f"downs.{level}", x)
        skips.append(x)
        x = F.max_pool2d(x, 2)
    x = conv("bottleneck", x)
    for level in range(levels):
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        x = conv(f"ups.{2 * level + 1}", torch.cat([skips.pop(), x], 1))
    return conv("final_conv", x)


def test_scribbleprompt_unet(tools, tmp_path):
    state = unet_state()
    path = tmp_path / "weights.pt"
    torch.save(state, path)
    assert identify(path) == ("scribbleprompt/unet",)
    model = tools.load("scribbleprompt/unet", path)
    image = np.random.default_rng(0).integers(30, 190, (64, 256), dtype=np.uint8)
    embedding = model.encode(image)
    grey = torch.from_numpy((image - image.min()) / np.ptp(image)).float()[None, None]
    grey = F.interpolate(grey, (128, 128), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(embedding.array, grey[0], atol=1e-6)
    past = np.random.default_rng(1).normal(0, 2, (128, 128)).astype(np.float32)
    x = torch.zeros(1, 5, 128, 128)
    x[:, :1] = grey
    x[0, 1, 20:80, 5:100] = 1
    x[0, 2, 41, 60] = 1
    x[0, 3, 100, 20] = 1
    x[0, 4] = torch.from_numpy(past)
    expected = unet_expected(state, x)
    logits, scores = model.decode(
        embedding,
        points=[[20.5, 120], [50, 41]],
        point_labels=[1, 0],
        boxes=[10, 10, 40, 200],
        mask=past,
    )
    np.testing.assert_allclose(logits, expected, **CLOSE)
    assert 0 < scores[0, 0] < 1
    masks, _, _ = model.predict(embedding, points=[[20, 120]])
    assert masks.shape == (1, 64, 256)
    many = model.predict(embedding, boxes=[[1, 1, 20, 30], [10, 10, 40, 200]])[2]
    one = model.predict(embedding, boxes=[10, 10, 40, 200])[2]
    np.testing.assert_allclose(many[1], one, **CLOSE)
    with pytest.raises(nf.PromptError, match="no prompt"):
        model.predict(embedding)


def test_two_clicks_on_one_pixel_count_once(tools, tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(unet_state(), path)
    model = tools.load("scribbleprompt/unet", path)
    embedding = model.encode(np.eye(128, dtype=np.float32))
    both = model.decode(embedding, points=[[4, 5], [4, 5]], point_labels=[1, 0])
    last = model.decode(embedding, points=[[4, 5]], point_labels=[0])
    np.testing.assert_array_equal(both[0], last[0])


def test_scribbleprompt_sam(meta, weights, tools):
    """Grey, own range, squashed without smoothing; answers by way of the frame."""
    model = tools.load("scribbleprompt/vit_b", weights)
    image = np.random.default_rng(0).integers(30, 190, (300, 400), dtype=np.uint8)
    embedding = model.encode(np.stack([image] * 3, -1))
    grey = torch.from_numpy((image - image.min()) / np.ptp(image)).float()[None, None]
    x = F.interpolate(grey, (256, 256), mode="bilinear", align_corners=False)
    with torch.no_grad():
        expected = meta.image_encoder(meta.preprocess(255 * x.repeat(1, 3, 1, 1)))
    np.testing.assert_allclose(embedding.array, expected[0], **CLOSE)
    low = np.random.default_rng(1).normal(0, 1, (1, 64, 64)).astype(np.float32)
    full = meta.postprocess_masks(torch.from_numpy(low)[None], (256, 256), (300, 400))
    np.testing.assert_allclose(model.restore(low, (300, 400)), full[0], **CLOSE)


# LoRA and adapters


class Updated(torch.nn.Module):
    """A joint layer whose queries and values are updated, by the formula."""

    def __init__(self, layer, a_q, b_q, a_v, b_v):
        super().__init__()
        self.layer, self.tensors = layer, (a_q, b_q, a_v, b_v)

    def forward(self, x):
        a_q, b_q, a_v, b_v = self.tensors
        found = self.layer(x)
        q = x @ a_q.T @ b_q.T
        v = x @ a_v.T @ b_v.T
        return found + torch.cat([q, torch.zeros_like(q), v], -1)


class Added(torch.nn.Module):
    def __init__(self, layer, a, b):
        super().__init__()
        self.layer, self.a, self.b = layer, a, b

    def forward(self, x):
        return self.layer(x) + x @ self.a.T @ self.b.T


def low_rank(generator, dim, count=2):
    """A (4, dim) and B (dim, 4), ``count`` times."""
    return [
        0.2 * torch.randn(shape, generator=generator)
        for _ in range(count)
        for shape in ((4, dim), (dim, 4))
    ]


@torch.no_grad()
def without_prompt(sam, image, preset, shape, first):
    """Meta's SAM as the published scripts call it: no prompt, every class."""
    x = Frame(shape, sam.image_encoder.img_size, preset).image(image)
    encoded = sam.image_encoder(x)
    tokens, dense = sam.prompt_encoder(None, None, None)
    code = sam.prompt_encoder.get_dense_pe()
    low, quality = sam.mask_decoder.predict_masks(encoded, code, tokens, dense)
    return encoded, low[:, first:], quality[:, first:]


def test_finetune_sam_lora(tools, tmp_path, picture):
    sam = tools.reference(128, seed=4, masks=4)
    state, generator = sam.state_dict(), seeded(8)
    for number in (0, 2):
        parts = low_rank(generator, 64)
        names = ("linear_a_q", "linear_b_q", "linear_a_v", "linear_b_v")
        p = f"image_encoder.blocks.{number}.attn.qkv"
        for end in ("weight", "bias"):
            state[f"{p}.qkv.{end}"] = state.pop(f"{p}.{end}")
        state |= {f"{p}.{n}.weight": t for n, t in zip(names, parts, strict=True)}
        attn = sam.image_encoder.blocks[number].attn
        attn.qkv = Updated(attn.qkv, *parts)
    for which, inner in (("self_attn", 256), ("cross_attn_token_to_image", 128)):
        p = f"mask_decoder.transformer.layers.1.{which}.v_proj"
        a = 0.2 * torch.randn(4, 256, generator=generator)
        b = 0.2 * torch.randn(inner, 4, generator=generator)
        for end in ("weight", "bias"):
            state[f"{p}.proj.{end}"] = state.pop(f"{p}.{end}")
        state |= {f"{p}.w_a.weight": a, f"{p}.w_b.weight": b}
        attn = getattr(sam.mask_decoder.transformer.layers[1], which)
        attn.v_proj = Added(attn.v_proj, a, b)
    path = tmp_path / "checkpoint_best.pth"
    torch.save(state, path)
    assert identify(path) == ("finetunesam/vit_b",)
    model = tools.load("finetunesam/vit_b", path)
    assert model.classes == 3
    embedding = model.encode(picture)
    encoded, low, quality = without_prompt(sam, picture, model.preset, (90, 130), 1)
    np.testing.assert_allclose(embedding.array, encoded[0], **CLOSE)
    logits, scores = model.decode(embedding)
    np.testing.assert_allclose(logits, low, **CLOSE)
    np.testing.assert_allclose(scores, quality, **CLOSE)
    masks = model.predict(embedding)[0]
    shown = F.interpolate(low, (90, 130), mode="bilinear")[0].argmax(0).numpy()
    assert (masks.argmax(0) == shown).mean() > 0.999
    assert (masks.sum(0) == 1).all(), "every pixel is of one class"


def test_finetune_sam_adapters(tools, tmp_path, picture):
    sam = tools.reference(128, seed=4, masks=3)
    state, generator = sam.state_dict(), seeded(9)

    def bottleneck(name, dim):
        for layer, shape in (("D_fc1", (dim // 4, dim)), ("D_fc2", (dim, dim // 4))):
            state[f"{name}.{layer}.weight"] = 0.3 * torch.randn(
                shape, generator=generator
            )
            state[f"{name}.{layer}.bias"] = 0.1 * torch.randn(
                shape[0], generator=generator
            )

    for which in ("Space_Adapter", "MLP_Adapter", "Depth_Adapter"):
        bottleneck(f"image_encoder.blocks.1.{which}", 64)
    for which in ("Adapter", "MLP_Adapter"):
        bottleneck(f"mask_decoder.transformer.layers.0.{which}", 256)
    path = tmp_path / "tuned.pth"
    torch.save(state, path)
    assert identify(path) == ("finetunesam/vit_b",)
    model = tools.load("finetunesam/vit_b", path)
    assert model.classes == 2

    def adapter(name, x):
        return linear(state, f"{name}.D_fc2", F.gelu(linear(state, f"{name}.D_fc1", x)))

    block, p = sam.image_encoder.blocks[1], "image_encoder.blocks.1"
    block.attn.register_forward_hook(
        lambda *given: given[2] + adapter(f"{p}.Space_Adapter", given[2])
    )
    block.mlp.register_forward_hook(
        lambda *given: given[2] + 0.5 * adapter(f"{p}.MLP_Adapter", given[1][0])
    )
    layer, d = (
        sam.mask_decoder.transformer.layers[0],
        "mask_decoder.transformer.layers.0",
    )
    for part in (layer.norm2, layer.norm4):
        part.register_forward_pre_hook(
            lambda module, given: given[0] + adapter(f"{d}.Adapter", given[0])
        )
    layer.mlp.register_forward_hook(
        lambda *given: given[2] + 0.5 * adapter(f"{d}.MLP_Adapter", given[1][0])
    )
    encoded, low, _ = without_prompt(sam, picture, model.preset, (90, 130), 1)
    embedding = model.encode(picture)
    np.testing.assert_allclose(embedding.array, encoded[0], **CLOSE)
    np.testing.assert_allclose(model.decode(embedding)[0], low, **CLOSE)


@pytest.fixture(scope="module")
def pair(tools, tmp_path_factory):
    """A SAMed pair: LoRA and decoder of five classes, and the SAM of 256 pixels."""
    folder = tmp_path_factory.mktemp("samed")
    base, tuned = tools.reference(256, seed=1), tools.reference(128, seed=2, masks=5)
    generator, update = seeded(3), {}
    for number, block in enumerate(tuned.image_encoder.blocks):
        parts = low_rank(generator, 64)
        for i in range(2):
            update[f"w_a_{2 * number + i:03d}"] = parts[2 * i]
            update[f"w_b_{2 * number + i:03d}"] = parts[2 * i + 1]
        block.attn.qkv = Updated(block.attn.qkv, *parts)
    for key, tensor in tuned.state_dict().items():
        if "prompt_encoder" in key or "mask_decoder" in key:
            update[key] = tensor
    torch.save(update, folder / "lora.pth")
    torch.save(base.state_dict(), folder / "sam_vit_b.pth")
    return folder / "lora.pth", folder / "sam_vit_b.pth", base, tuned, update


def test_samed(pair, tools, picture):
    lora, path, base, tuned, _ = pair
    assert identify((lora, path)) == ("samed/vit_b",)
    model = tools.load("samed/vit_b", (lora, path), side=256)
    assert model.classes == 5
    # The same encoder with the update, and the decoder of the update.
    for number, block in enumerate(base.image_encoder.blocks):
        if not isinstance(block.attn.qkv, Updated):
            tensors = tuned.image_encoder.blocks[number].attn.qkv.tensors
            block.attn.qkv = Updated(block.attn.qkv, *tensors)
    base.mask_decoder = tuned.mask_decoder
    tuned.prompt_encoder.image_embedding_size = (16, 16)
    tuned.prompt_encoder.input_image_size = (256, 256)
    base.prompt_encoder = tuned.prompt_encoder
    encoded, low, quality = without_prompt(base, picture, model.preset, (90, 130), 0)
    embedding = model.encode(picture)
    np.testing.assert_allclose(embedding.array, encoded[0], rtol=1e-3, atol=1e-3)
    logits, scores = model.decode(embedding)
    np.testing.assert_allclose(logits, low, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(scores, quality, rtol=1e-3, atol=1e-3)
    assert model.predict(embedding)[0].shape == (5, 90, 130)
    for given in ({"points": [[1, 1]]}, {"boxes": [1, 1, 9, 9]}):
        with pytest.raises(nf.PromptError, match="without a prompt"):
            model.predict(embedding, **given)
    with pytest.raises(nf.PromptError, match="takes no mask"):
        model.predict(embedding, mask=np.zeros((64, 64)))


def test_pairs_that_do_not_fit(pair, wide, tools, tmp_path):
    lora, base, _, _, update = pair
    with pytest.raises(nf.WeightsError, match=r"checkpoint=\(lora, base\)"):
        tools.load("samed/vit_b", lora)
    with pytest.raises(nf.WeightsError, match=r"updates 3 blocks.*has 2"):
        tools.load("samed/vit_b", (lora, wide))
    with pytest.raises(nf.WeightsError, match="no plain SAM"):
        tools.load("samed/vit_b", (lora, lora))
    damaged = tmp_path / "damaged.pth"
    torch.save({k: v for k, v in update.items() if k != "w_b_003"}, damaged)
    with pytest.raises(nf.WeightsError, match="w_b_003"):
        tools.load("samed/vit_b", (damaged, base))


# H-SAM


def two_way(state, p, tokens, image, code, share=None):
    """H-SAM's blocks: tokens read the image, then each other."""
    start = tokens
    turned = None if share is None else share.mT
    for layer in range(2):
        b = f"{p}.layers.{layer}"
        q, k = tokens + start, image + code
        read = attention(state, f"{b}.cross_attn_token_to_image", q, k, image, share)
        tokens = norm(state, f"{b}.norm2", tokens + read)
        q = tokens if layer == 0 else tokens + start
        read = attention(state, f"{b}.self_attn", q, q, tokens)
        tokens = read if layer == 0 else tokens + read
        tokens = norm(state, f"{b}.norm1", tokens)
        hidden = F.relu(linear(state, f"{b}.mlp.lin1", tokens))
        tokens = norm(
            state, f"{b}.norm3", tokens + linear(state, f"{b}.mlp.lin2", hidden)
        )
        q, k = tokens + start, image + code
        read = attention(state, f"{b}.cross_attn_image_to_token", k, q, tokens, turned)
        image = norm(state, f"{b}.norm4", image + read)
    read = attention(
        state, f"{p}.final_attn_token_to_image", tokens + start, image + code, image
    )
    return norm(state, f"{p}.norm_final_attn", tokens + read), image


def second_decoder(first, classes, cells):
    """Published names and shapes of the second decoder, random."""
    p, state, generator = "mask_decoder2", {}, seeded(6)
    for key, tensor in first.items():
        if key.startswith("mask_decoder.transformer."):
            shape = list(tensor.shape)
            if ".cross_attn_" in key:
                # Of full width, unlike in the first.
                shape = [256 if n == 128 else n for n in shape]
            new = key.replace("mask_decoder.transformer.", f"{p}.transformer2.")
            state[new] = 0.05 * torch.randn(shape, generator=generator)
        elif key.startswith(("mask_decoder.output_upscaling", "mask_decoder.mask_tok")):
            new = key.replace("mask_decoder.", f"{p}.")
            state[new] = 0.1 * torch.randn(tensor.shape, generator=generator)
    shapes = {
        "skip_connect.0.weight": (64, 32, 2, 2),
        "skip_connect.0.bias": (32,),
        "skip_connect.1.weight": (32,),
        "skip_connect.1.bias": (32,),
        "skip_connect.3.weight": (32, 16, 2, 2),
        "skip_connect.3.bias": (16,),
        "skip_connect.4.weight": (16,),
        "skip_connect.4.bias": (16,),
        "norm1.weight": (cells,),
        "med_sel.0.weight": (1, classes),
    }
    for i in range(classes):
        for layer in range(5):
            out = 16 if layer == 4 else 256
            name = f"output_hypernetworks_mlps2.{i}.layers.{layer}"
            shapes |= {f"{name}.weight": (out, 256), f"{name}.bias": (out,)}
    for key, shape in shapes.items():
        state[f"{p}.{key}"] = 0.1 * torch.randn(shape, generator=generator)
    return state


@torch.no_grad()
def test_h_sam(pair, tools, tmp_path, picture):
    _, path, _, _, update = pair
    second = second_decoder(update, 5, 64)
    lora, state = tmp_path / "hsam.pth", update | second
    torch.save(state, lora)
    assert identify(lora) == ("hsam/vit_b",)
    model = tools.load("hsam/vit_b", (lora, path))
    assert model.side == 128, "8 x 8 cells"
    embedding = model.encode(picture)
    image = torch.from_numpy(embedding.array)[None]
    code = model.network.prompt_encoder.pe_layer.grid(8)
    dense = state["prompt_encoder.no_mask_embed.weight"].reshape(1, 256, 1, 1)
    places, p = code.flatten(2).mT, "mask_decoder"
    tokens = [
        state[f"{p}.{n}_token{s}.weight"] for n, s in (("iou", ""), ("mask", "s"))
    ]
    flat = (image + dense).flatten(2).mT
    read, map_ = two_way(
        state, f"{p}.transformer", torch.cat(tokens)[None], flat, places
    )
    upscaled = F.gelu(
        enlarge(state, f"{p}.output_upscaling", map_.mT.reshape(image.shape), (0, 1, 3))
    )
    heads = [
        mlp(state, f"{p}.output_hypernetworks_mlps.{i}", read[:, 1 + i], 3)
        for i in range(5)
    ]
    rough = torch.einsum("bmc,bchw->bmhw", torch.stack(heads, 1), upscaled)
    small = F.interpolate(rough, (8, 8), mode="bilinear")
    share = torch.softmax(small, 1).flatten(2)[:, None]
    p = "mask_decoder2"
    own = state[f"{p}.mask_tokens.weight"][None]
    read, map_ = two_way(state, f"{p}.transformer2", own, 2 * flat, places, share)
    x = F.gelu(
        enlarge(state, f"{p}.output_upscaling", map_.mT.reshape(image.shape), (0, 1, 3))
    )
    x = enlarge(state, f"{p}.skip_connect", torch.cat([x, upscaled], 1), (0, 1, 3, 4))
    heads = [
        mlp(state, f"{p}.output_hypernetworks_mlps2.{i}", read[:, i], 5)
        for i in range(5)
    ]
    fine = torch.einsum("bmc,bchw->bmhw", torch.stack(heads, 1), x)
    expected = (F.interpolate(rough, (128, 128), mode="bilinear") + fine) / 2
    logits, scores = model.decode(embedding)
    np.testing.assert_allclose(logits, expected, **CLOSE)
    assert expected.std() > 0.01, "the comparison must be able to fail"
    assert scores.shape == (1, 5)
    assert model.predict(embedding)[0].shape == (5, 90, 130)


def test_published_numbers_of_parameters():
    def count(module):
        return sum(p.numel() for p in module.parameters())

    with torch.device("meta"):
        plain = count(MaskDecoder(DecoderConfig()))
        assert plain == 4_058_340
        assert count(HqMaskDecoder(DecoderConfig(early=768))) - plain == 1_071_104
        assert count(ConvAdapter(768)) == 15_042_048
        assert count(Bottleneck(768, skip=True)) == 295_872
        assert count(ClickUnet((192,) * 4)) == 3_991_882
        theirs = TinyVit(
            embed_dims=(64, 128, 160, 320),
            depths=(2, 2, 6, 2),
            num_heads=(2, 4, 5, 10),
            window_sizes=(7, 7, 14, 7),
            num_classes=0,
        )
        ours = TinyEncoder(TinyConfig())
        body = count(ours) - count(ours.neck)
        assert body == count(theirs) - count(theirs.head)
