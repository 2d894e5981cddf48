"""Files that are taken and refused, images of every kind, and the way to a method."""

import numpy as np
import pytest
import timm
import torch

import napari_fewshot as nf
from napari_fewshot.errors import DataError, ModelError, WeightsError
from napari_fewshot.inference import _embeddings as keeping
from napari_fewshot.io import import_weights, verify_model
from napari_fewshot.models import automatic, installed_models, model_specs, recognise
from napari_fewshot.models._catalogue_dense import CLIP, DENSE, DINOV2, DINOV3
from napari_fewshot.models.dense import _networks
from napari_fewshot.models.dense._identify import Kind, kind


def test_planes_of_every_kind(dinov2, load, image):
    model = load(dinov2)
    found = model.encode(image)
    # 672 x 121 pixels are 48 x 9 cells, the last row of which is filled up.
    assert found.array.shape == (64, 9, 48)
    assert found.array.dtype == np.float32
    assert found.image_shape == (11, 61)
    assert found.valid == (121 / 126, 1.0)
    assert found.stride == (11 / (121 / 14), 61 / 48)
    levels = np.rint(image * 255).astype(np.uint8)
    as_floats = model.encode(levels.astype(np.float32) / 255).array
    np.testing.assert_allclose(model.encode(levels).array, as_floats, atol=1e-4)
    grey = image[..., 0]
    three = model.encode(np.repeat(grey[..., None], 3, 2)).array
    np.testing.assert_array_equal(model.encode(grey).array, three)
    four = np.concatenate([image, 0 * image[..., :1]], 2)
    np.testing.assert_array_equal(model.encode(four).array, found.array)
    tall = model.encode(np.zeros((500, 3), np.uint8)).array
    assert tall.shape == (64, 48, 1)
    with pytest.raises(DataError, match=r"one plane .* \(2, 3, 4, 5\)"):
        model.encode(np.zeros((2, 3, 4, 5)))


def test_a_plane_may_be_stopped_between_blocks(dinov2, load, image):
    seen = []
    load(dinov2).encode(image, lambda *numbers: seen.append(numbers))
    assert seen == [(0, 2), (1, 2)]


def test_features_before_the_norm(dinov2, load, image):
    model = load(dinov2)
    before = model.before_norm()
    normed = model.network.module.norm(
        torch.from_numpy(before.encode(image).array).permute(1, 2, 0)
    )
    np.testing.assert_allclose(
        normed.permute(2, 0, 1).detach(), model.encode(image).array, atol=1e-4
    )
    # Else one would be found in the cache in place of the other.
    assert keeping.key_of(model, image) != keeping.key_of(before, image)


def test_sixteen_bits_on_request(dinov2, load, image):
    assert automatic("dinov2/vits14", "cpu", "bf16") == ("cpu", "bf16")
    full, half = load(dinov2), load(dinov2, precision="bf16")
    assert (full.precision, half.precision) == ("fp32", "bf16")
    one, other = (m.encode(image).array.ravel() for m in (full, half))
    assert not np.array_equal(one, other)
    assert np.corrcoef(one, other)[0, 1] > 0.999


def test_blank_features_tell_position_alone(dinov2, load):
    model = load(dinov2)
    blank = model.blank_features((11, 61))
    assert blank.shape == (64, 9, 48)
    assert blank.std(axis=(1, 2)).max() > 1e-3
    np.testing.assert_array_equal(blank, model.blank_features((22, 122)))
    kept = keeping.KeepingEncoder(model).blank_features((11, 61))
    np.testing.assert_array_equal(kept, blank.astype(np.float16))


MAKES = {"s": (384, 12), "b": (768, 12), "l": (1024, 24)}


@pytest.mark.parametrize("spec", [*DINOV2, *DINOV3[:3], *CLIP], ids=lambda s: s.name)
def test_every_size_is_recognised_and_counted(spec):
    """The published shapes, as the networks that we build for them have them."""
    family, name = spec.name.split("/")
    width, depth = MAKES[name.split("_")[1] if family == "clip" else name[3]]
    patch = 14 if "14" in name else 16
    registers = 4 if "reg4" in name or family == "dinov3" else 0
    grid = {"dinov2": 37, "dinov3": 0, "clip": 224 // patch}[family]
    make = Kind(family, width, depth, 4 * width, patch, registers, grid)
    module = _networks.Transformer(make, qkv_bias=family != "dinov3").module
    if family != "clip":
        assert kind(module.state_dict(), "file") == make
    assert make.name == spec.name
    if family != "clip":
        count = sum(p.numel() for p in module.parameters())
        assert count * 4e-6 == pytest.approx(spec.size_mb, rel=0.01)


def test_recognise_reads_names_and_shapes(dinov2, write):
    with pytest.raises(WeightsError, match="64 channels and 2 blocks, which is no pub"):
        recognise(dinov2)
    few = {f"blocks.{n}.ls1.gamma": torch.zeros(384) for n in range(12)}
    few["cls_token"], few["pos_embed"] = torch.zeros(1, 1, 384), torch.zeros(1, 17, 384)
    few["patch_embed.proj.weight"] = torch.zeros(384, 3, 14, 14)
    few["blocks.0.mlp.fc1.weight"] = torch.zeros(1, 384)
    assert recognise(write(few, "few.pth")) == "dinov2/vits14"
    with pytest.raises(WeightsError):
        recognise(write({"other": torch.zeros(1)}))


def test_the_catalogue_names_what_is_downloaded():
    assert {s.name for s in DENSE} <= {s.name for s in model_specs()}
    for spec in DENSE:
        assert spec.download_url.endswith(spec.file)
        # These are given to whoever has agreed to their own licence.
        assert ("DINOv3" in spec.licence) == (not spec.download_url)


def test_wrong_files_are_refused(hugging, dinov2, write, load, tmp_path):
    state = hugging("Dinov2").state_dict()
    for name in ("dinov2/vits14_reg4", "dinov3/vits16", "clip/vit_b_16"):
        with pytest.raises(WeightsError, match=r"dinov2/vit\?14, not of " + name):
            load(dinov2, name)
    with pytest.raises(WeightsError, match="tensors are missing"):
        load(dinov2, "timm/test_resnet")
    lost = {k: t for k, t in state.items() if not k.startswith("layernorm")}
    with pytest.raises(WeightsError, match=r"2 tensors are missing.*norm\.weight"):
        load(write(lost))
    nans = {**state, "layernorm.bias": torch.full((64,), torch.nan)}
    with pytest.raises(WeightsError, match=r"norm\.bias holds values that are not num"):
        load(write(nans))
    swiglu = {k.replace("fc1", "weights_in"): t for k, t in state.items()}
    with pytest.raises(WeightsError, match="gated perceptrons"):
        load(write(swiglu))
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(WeightsError, match="damaged or no weights file"):
        load(tmp_path / "text.pth")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(WeightsError, match="holds 0 safetensors files"):
        load(empty)
    with pytest.raises(ModelError, match="has no network 'resnet5'"):
        load(dinov2, "timm/resnet5")
    with pytest.raises(ModelError, match="no convolutional network"):
        load(dinov2, "timm/test_vit")


def test_a_folder_of_hugging_face_is_imported_and_verified(hugging, tmp_path, image):
    hugging("Dinov2").save_pretrained(tmp_path / "dino")
    record = import_weights(tmp_path / "dino", "dinov2/vits14")
    assert set(record.files) == {"config.json", "model.safetensors"}
    assert "dinov2/vits14" in installed_models()
    assert verify_model("dinov2/vits14").startswith("hash and load are right")
    assert nf.load_model("dinov2/vits14").encode(image).array.shape == (64, 9, 48)


def test_a_method_runs_on_it_and_encodes_a_plane_once(dinov2, blob_pair, monkeypatch):
    # A short side keeps the test quick; cells stay what they are.
    image, labels = (a[:24] for a in blob_pair(1))
    other, _ = blob_pair(2)
    support = nf.SupportSet([nf.Support(image, labels, classes={1: "blob"})])

    def run():
        return nf.segment(
            other[:24],
            support,
            method="prototype",
            model="dinov2/vits14",
            checkpoint=dinov2,
            device="cpu",
            leave_one_out=False,
        )

    first = run()
    assert first.labels.shape == (24, 112)
    assert first.provenance["model"] == "dinov2/vits14"
    assert len(first.provenance["weights_sha256"]) == 64
    assert keeping.get_cache().usage().models["dinov2/vits14"] >= 2
    # From here on nothing may be computed: every plane is kept.
    monkeypatch.setattr(_networks.Transformer, "__call__", None)
    np.testing.assert_array_equal(run().labels, first.labels)


def test_any_convolutional_network_of_timm_is_installed(write, load, image):
    network = timm.create_model("test_resnet", num_classes=0)
    path = write(network.state_dict())
    import_weights(path, "timm/test_resnet")
    table = nf.list_models().set_index("name")
    assert table.loc["timm/test_resnet", "installed"]
    found = nf.load_model("timm/test_resnet").encode(image)
    np.testing.assert_array_equal(
        found.array, load(path, "timm/test_resnet").encode(image).array
    )
