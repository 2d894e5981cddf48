"""Weights files: layouts that are recognised, and bad ones."""

import pickle
import re
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import napari_fewshot as nf
from napari_fewshot.models._registry import get_model_spec
from napari_fewshot.models.sam import choose, convert, identify
from napari_fewshot.models.sam import load as load_file
from napari_fewshot.models.sam._configs import vit_config
from napari_fewshot.models.sam._files import read_state

IMAGE = np.random.default_rng(0).integers(0, 255, (90, 130, 3), dtype=np.uint8)


def load(path, name="sam/vit_b"):
    return nf.load_model(name, checkpoint=path, device="cpu", precision="fp32")


# Meta's names to those of transformers, read off its SamModel.
NAMES = (
    # Of tied tensors safetensors keeps one, under either name.
    (r".*gaussian_matrix", "prompt_encoder.shared_embedding.positional_embedding"),
    (r"^image_encoder\.", "vision_encoder."),
    (r"patch_embed\.proj\.", "patch_embed.projection."),
    (r"^(vision_encoder)\.blocks\.(\d+)\.norm(\d)", r"\1.layers.\2.layer_norm\3"),
    (r"^(vision_encoder)\.blocks\.", r"\1.layers."),
    (r"neck\.0\.", "neck.conv1."),
    (r"neck\.1\.", "neck.layer_norm1."),
    (r"neck\.2\.", "neck.conv2."),
    (r"neck\.3\.", "neck.layer_norm2."),
    (r"point_embeddings\.", "point_embed."),
    (r"mask_downscaling\.0\.", "mask_embed.conv1."),
    (r"mask_downscaling\.1\.", "mask_embed.layer_norm1."),
    (r"mask_downscaling\.3\.", "mask_embed.conv2."),
    (r"mask_downscaling\.4\.", "mask_embed.layer_norm2."),
    (r"mask_downscaling\.6\.", "mask_embed.conv3."),
    (r"(transformer\.layers\.\d)\.norm(\d)", r"\1.layer_norm\2"),
    (r"norm_final_attn", "layer_norm_final_attn"),
    (r"output_upscaling\.0\.", "upscale_conv1."),
    (r"output_upscaling\.1\.", "upscale_layer_norm."),
    (r"output_upscaling\.3\.", "upscale_conv2."),
    (r"(_mlps\.\d|_head)\.layers\.0\.", r"\1.proj_in."),
    (r"(_mlps\.\d|_head)\.layers\.2\.", r"\1.proj_out."),
    (r"(_mlps\.\d|_head)\.layers\.1\.", r"\1.layers.0."),
)


def hugging_face(state):
    """Rename Meta's names to those of transformers."""
    found = {}
    for key, tensor in state.items():
        new = key
        for pattern, words in NAMES:
            new = re.sub(pattern, words, new)
        found[new] = tensor
    assert len(found) == len(state)
    return found


@pytest.mark.parametrize("layout", ["wrapped", "prefixed", "safetensors", "hf"])
def test_layouts_give_the_same_model(meta, weights, tmp_path, layout):
    state, path = meta.state_dict(), tmp_path / "other.pth"
    if layout == "wrapped":
        torch.save({"model": state, "epoch": 3}, path)
    elif layout == "prefixed":
        named = {f"module.{k}": v for k, v in state.items()}
        torch.save({"model_state": named, "step": torch.tensor(1)}, path)
    else:
        held = hugging_face(state) if layout == "hf" else state
        save_file({k: v.contiguous() for k, v in held.items()}, path)
    embedding = load(weights).encode(IMAGE)
    other = load(path)
    again = other.encode(IMAGE)
    np.testing.assert_allclose(embedding.array, again.array, atol=1e-5)
    for a, b in zip(
        load(weights).predict(embedding, points=[[30, 40]]),
        other.predict(again, points=[[30, 40]]),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_medsam_squashes_and_answers_once(weights):
    model = load(weights, "medsam/vit_b")
    embedding = model.encode(IMAGE)
    assert embedding.valid == (1.0, 1.0)
    masks, scores, logits = model.predict(embedding, boxes=[10, 10, 60, 100])
    assert masks.shape == (1, 90, 130)
    assert scores.shape == (1,)
    assert logits.shape == (1, 64, 64)
    with pytest.raises(nf.PromptError, match="takes no mask"):
        model.predict(embedding, mask=logits)
    with pytest.raises(nf.ModelError, match="encode the plane"):
        load(weights).predict(embedding, points=[[1, 1]])


def test_medsam_as_published(meta, weights):
    """Squash, own range to [0, 1], box: the numbers of the published script."""
    from PIL import Image

    size = (256, 256)
    small = Image.fromarray(IMAGE).resize(size, Image.Resampling.BICUBIC)
    x = torch.from_numpy(np.array(small, np.float32)).permute(2, 0, 1)
    x = (x - x.min()) / (x.max() - x.min())
    box = torch.tensor([[20.0, 10, 100, 80]]) / torch.tensor([130, 90, 130, 90]) * 256
    with torch.no_grad():
        encoded = meta.image_encoder(x[None])
        sparse, dense = meta.prompt_encoder(points=None, boxes=box[:, None], masks=None)
        low, _ = meta.mask_decoder(
            image_embeddings=encoded,
            image_pe=meta.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        shown = torch.nn.functional.interpolate(low, (90, 130), mode="bilinear")
    model = load(weights, "medsam/vit_b")
    masks, _, logits = model.predict(model.encode(IMAGE), boxes=[10, 20, 80, 100])
    np.testing.assert_allclose(logits, low[0].numpy(), rtol=1e-4, atol=1e-4)
    assert (masks[0] != (shown[0, 0] > 0).numpy()).mean() < 1e-3


def test_other_frames_and_windows_are_read_off_the_file(weights):
    config = vit_config(read_state(weights))
    assert (config.side, config.window, config.depth) == (256, 14, 3)


class Bomb:
    def __reduce__(self):
        return print, ("boom",)


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


def archive(path):
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr("readme.txt", "hello")


TOKEN = "mask_decoder.iou_token.weight"
DAMAGE = {
    "absent": lambda state, path: None,
    "truncated": lambda state, path: (torch.save(state, path), cut(path, 2**20)),
    "truncated safetensors": lambda state, path: (
        save_file({"a": torch.zeros(1000)}, path),
        cut(path, 200),
    ),
    "bomb": lambda state, path: torch.save({"model": state, "more": Bomb()}, path),
    "old bomb": lambda state, path: path.write_bytes(pickle.dumps(Bomb())),
    "zip": lambda state, path: archive(path),
    "text": lambda state, path: path.write_text("not weights at all, only words"),
    "empty": lambda state, path: path.write_bytes(b""),
    "no tensors": lambda state, path: torch.save({"a": 1}, path),
    "other": lambda state, path: torch.save({"layer.weight": torch.zeros(3)}, path),
    "missing": lambda state, path: torch.save(
        {k: v for k, v in state.items() if k != TOKEN}, path
    ),
    "shape": lambda state, path: torch.save(
        {**state, TOKEN: torch.zeros(2, 256)}, path
    ),
    "nan": lambda state, path: torch.save(
        {**state, TOKEN: torch.full((1, 256), torch.nan)}, path
    ),
}


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("absent", "cannot be read"),
        ("truncated", "damaged"),
        ("truncated safetensors", "damaged"),
        ("bomb", r"could run code.*napari-fewshot models convert \S*bad\.pth$"),
        ("old bomb", r"could run code.*models convert \S*bad\.pth$"),
        ("zip", "damaged or no weights file"),
        ("text", "damaged or no weights file"),
        ("empty", "damaged or no weights file"),
        ("no tensors", "no tensors"),
        ("other", "no weights of SAM"),
        ("missing", "incomplete"),
        ("shape", "another model"),
        ("nan", "not numbers"),
    ],
)
def test_bad_files(meta, tmp_path, capsys, kind, words):
    path = tmp_path / "bad.pth"
    DAMAGE[kind](meta.state_dict(), path)
    with pytest.raises(nf.WeightsError, match=words) as raised:
        load(path)
    assert "bad.pth" in str(raised.value)
    assert "boom" not in capsys.readouterr().out


OTHERS = {
    "image_encoder.trunk.blocks.0.norm1.weight": "SAM 2",
    "sam_mask_decoder.iou_token.weight": "SAM 2",
    "vision_encoder.backbone.blocks.0.norm.weight": "SAM 2 or 3",
    "image_encoder.cnn_encoder.0.weight": "PRISM",
    "prompt_encoder.crop_nets.0.weight": "MCP-MedSAM",
    "mask_decoder.mask_query.weight": "ESP-MedSAM",
    "base_model.model.qkv.lora_A.weight": "peft",
}


@pytest.mark.parametrize("key", OTHERS)
def test_families_that_are_not_loaded(tmp_path, key):
    path = tmp_path / "other.pt"
    torch.save({"model": {key: torch.zeros(2, 2)}}, path)
    for act in (identify, load):
        with pytest.raises(nf.WeightsError, match=OTHERS[key]):
            act(path)


def test_names_without_a_network_behind_them(meta, tmp_path):
    path, state = tmp_path / "odd.pt", meta.state_dict()
    stem = "image_encoder.patch_embed.seq.0.c.weight"
    table = "image_encoder.blocks.1.attn.rel_pos_h"
    lora = "image_encoder.blocks.0.attn.qkv.linear_{}_{}.weight"
    pairs = {
        lora.format(n, m): torch.zeros((4, 64) if n == "a" else (64, 4))
        for n in "ab"
        for m in "qv"
    }
    far = {"image_encoder.blocks.999999999.norm1.weight": torch.zeros(64)}
    for name, held in (
        ("mobilesam/vit_t", {stem: torch.zeros(8, 3, 3, 3)}),
        ("sam/vit_b", {**state, table: torch.zeros(31, 0)}),
        ("sam/vit_b", state | far),
        ("finetunesam/vit_b", state | pairs),
        ("scribbleprompt/unet", {"downs.0.conv.0.weight": torch.zeros(2, 5, 3, 3)}),
        ("samed/vit_b", {"w_a_000": torch.zeros(4, 64)}),
    ):
        torch.save(held, path)
        with pytest.raises(nf.WeightsError, match=r"odd\.pt"):
            load_file(get_model_spec(name), path, "cpu", "fp32")


def test_families_told_by_shapes_that_are_not_loaded(meta, tmp_path):
    path = tmp_path / "other.pt"
    patches = "image_encoder.patch_embed.proj.weight"
    place = "image_encoder.pos_embed"
    for key, rank, what in ((patches, 5, "SAM-Med3D"), (place, 3, "EfficientSAM")):
        torch.save({**meta.state_dict(), key: torch.zeros([1] * rank)}, path)
        with pytest.raises(nf.WeightsError, match=what):
            identify(path)
    held = {"encoder_dict": {}, "decoder_dict": {}, "feature_dict": {}}
    torch.save(held, path)
    with pytest.raises(nf.WeightsError, match="3DSAM-adapter"):
        identify(path)


def test_wrong_size_names_the_right_model(wide):
    with pytest.raises(nf.WeightsError, match=r"of sam/vit_b, .*, not of sam/vit_l"):
        load(wide, "sam/vit_l")


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("sam_vit_b_01ec64.pth", "sam/vit_b"),
        ("medsam_vit_b.pth", "medsam/vit_b"),
        ("MedSAMix-M.pth", "medsamix/vit_b"),
        ("medicosam_vit_b.pt", "medicosam/vit_b"),
        ("vit_b_lm.pt", "microsam/vit_b_lm"),
        ("vit_b_em_organelles.pt", "microsam/vit_b_em"),
        ("vit_b_histopathology.pt", "microsam/vit_b_histopathology"),
        ("ScribblePrompt_sam_v1_vit_b_res128.pt", "scribbleprompt/vit_b"),
        # Names of other shapes decide nothing.
        ("mobile_sam.pt", None),
        ("cellsam_vit_b.pt", None),
        ("vit_b_embedder.pt", None),
        ("ft-sam_b.pth", None),
        ("best.pt", None),
    ],
)
def test_same_shapes_are_told_by_the_file_name(wide, tmp_path, name, model):
    path = tmp_path / name
    path.symlink_to(wide)
    if model is not None:
        assert identify(path) == (model,)
        assert choose(path) == model
        return
    assert identify(path)[0] == "sam/vit_b"
    assert len(identify(path)) == 9
    with pytest.raises(nf.WeightsError, match=r"sam/vit_b, .*medsam/vit_b.*model="):
        choose(path)


def test_training_files_of_micro_sam(meta, tmp_path):
    path = tmp_path / "best.pt"
    named = {f"sam.{k}": v for k, v in meta.state_dict().items()}
    torch.save({"model_state": named, "decoder_state": {"a": torch.zeros(1)}}, path)
    model = load(path, "medicosam/vit_b")
    assert model.preset.imagenet
    assert model.encode(IMAGE).model == "medicosam/vit_b"


def test_a_pickle_is_converted(meta, weights, tmp_path, capfd):
    path, out = tmp_path / "train.pth", tmp_path / "new" / "train.safetensors"
    state = {f"module.{k}": v for k, v in meta.state_dict().items()}
    torch.save({"model": state, "more": Bomb()}, path)
    assert convert(path, out) == out
    assert "boom" not in capfd.readouterr().out, "it ran in this process"
    assert [p.name for p in out.parent.iterdir()] == ["train.safetensors"]
    expected = read_state(weights)
    found = read_state(out)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[k], expected[k]) for k in found)


def test_what_cannot_be_converted_leaves_nothing(tmp_path):
    out = tmp_path / "new.safetensors"
    out.write_text("old")
    path = tmp_path / "bad.pth"
    with pytest.raises(nf.WeightsError, match="no weights file"):
        convert(path, out)
    torch.save({"epoch": 3}, path)
    with pytest.raises(nf.WeightsError, match="holds no tensors"):
        convert(path, out)
    assert out.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2


def test_without_a_file_the_way_to_get_one_is_named():
    with pytest.raises(nf.WeightsError, match=r"375 MB, Apache-2\.0.*https://"):
        load_file(get_model_spec("sam/vit_b"), None, "cpu", "fp32")


def test_precision_and_device(weights):
    with pytest.raises(nf.ModelError, match="precision"):
        nf.load_model("sam/vit_b", weights, "cpu", "int3")
    with pytest.raises(nf.ModelError, match="bf16"):
        nf.load_model("sam/vit_b", weights, "cpu", "fp16")
    model = nf.load_model("sam/vit_b", weights, "cpu", "bf16")
    exact = load(weights).encode(IMAGE).array
    rough = model.encode(IMAGE).array
    assert rough.dtype == np.float32
    assert 0 < np.abs(rough - exact).mean() < 0.1 * exact.std()
