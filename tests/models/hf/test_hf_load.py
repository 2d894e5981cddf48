"""Folders and files that are no model, another model, or a trap."""

import json
import re
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

import napari_fewshot as nf
from napari_fewshot.models import ModelSpec, hf

pytest.importorskip("transformers")

SPEC = ModelSpec("sam2/hiera_tiny", "", "", "Apache-2.0", 156, url="there")


def load(path, name=SPEC.name):
    return hf.load(ModelSpec(name, "", "", "", url="there"), path, "cpu", "fp32")


@pytest.fixture
def copy(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy"


def change(folder, edit):
    """Edit the tensors of a folder."""
    file = folder / "model.safetensors"
    state = {k: v.clone() for k, v in load_file(file).items()}
    edit(state)
    save_file(state, file)


def test_no_checkpoint_and_no_such_file(tmp_path):
    with pytest.raises(nf.WeightsError, match=r"156 MB, Apache-2.0.*there"):
        hf.load(SPEC, None, "cpu", "fp32")
    with pytest.raises(nf.WeightsError, match="no file or folder nowhere"):
        load(tmp_path / "nowhere")
    with pytest.raises(nf.WeightsError, match="holds no model"):
        load(tmp_path)


def test_the_file_in_a_folder_is_the_folder(folder):
    assert load(folder / "model.safetensors") is load(folder)


def test_sha256_is_of_the_file(folder):
    import hashlib

    file = folder / "model.safetensors"
    assert load(folder).sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_another_family(folder, sam3_folder):
    with pytest.raises(nf.WeightsError, match=r"'sam2_video', which is not sam3/base"):
        load(folder, "sam3/base")
    with pytest.raises(nf.WeightsError, match="'sam3_tracker_video'"):
        load(sam3_folder)


def test_missing_and_unknown_tensors(copy):
    change(copy, lambda state: state.pop("no_object_pointer"))
    with pytest.raises(nf.WeightsError, match=r"1 tensors are missing.*no_object_poi"):
        load(copy)
    change(copy, lambda s: s.update(no_object_pointer=torch.zeros(1, 128)))
    change(copy, lambda s: s.update({"mask_decoder.hf_token.weight": torch.ones(1)}))
    with pytest.raises(nf.WeightsError, match=r"hf_token.*another model"):
        load(copy)


def test_wrong_shapes_and_no_numbers(copy):
    key = "mask_decoder.iou_token.weight"
    change(copy, lambda state: state.update({key: torch.zeros(1, 9)}))
    with pytest.raises(nf.WeightsError, match="another shape"):
        load(copy)
    change(copy, lambda state: state.update({key: torch.full((1, 128), torch.nan)}))
    with pytest.raises(nf.WeightsError, match=r"iou_token.*not numbers"):
        load(copy)


@pytest.mark.parametrize("text", ["{", "[1]", '{"model_type": "bert"}', "{}"])
def test_bad_configurations(copy, text):
    (copy / "config.json").write_text(text)
    with pytest.raises(nf.WeightsError, match=r"config\.json|of the kind"):
        load(copy)


def test_a_configuration_cannot_bring_code(copy):
    """Kernels and remote code that a configuration names are not fetched."""
    told = json.loads((copy / "config.json").read_text())
    told["attn_implementation"] = told["_attn_implementation"] = "evil/kernel"
    told["auto_map"] = {"AutoModel": "evil.Model"}
    (copy / "config.json").write_text(json.dumps(told))
    (copy / "evil.py").write_text("raise SystemExit('ran')")
    assert load(copy).network.config._attn_implementation == "sdpa"
    assert "evil" not in sys.modules


def test_truncated_and_pickled(copy, tmp_path):
    file = copy / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(nf.WeightsError, match="damaged"):
        load(copy)
    file.rename(copy / "pytorch_model.bin")
    with pytest.raises(nf.WeightsError, match=r"pickled \.bin"):
        load(copy)


def test_files_of_other_models(tmp_path):
    path = tmp_path / "other.pt"
    torch.save({"model": {"image_encoder.trunk.pos_embed": torch.zeros(1, 5)}}, path)
    with pytest.raises(nf.WeightsError, match=r"no weights of SAM 2"):
        load(path)
    with pytest.raises(nf.WeightsError, match="from a folder"):
        load(path, "sam3/base")


def test_without_transformers(folder, monkeypatch):
    hf._load._load.cache_clear()
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(nf.ModelError, match=r'pip install "napari-fewshot\[hf\]"'):
        load(folder)


def test_sam3_as_published(sam3_folder, tmp_path):
    """Detector and tracker in one folder, of which the tracker is read."""
    state = {
        re.sub(r"^tracker_model\.(detector_model|tracker_neck)\.", r"\1.", key): tensor
        for key, tensor in load_file(sam3_folder / "model.safetensors").items()
    }
    assert "tracker_neck.fpn_layers.0.proj1.weight" in state
    assert "detector_model.vision_encoder.backbone.layers.0.mlp.fc1.weight" in state
    state["detector_model.text_encoder.scale"] = torch.ones(1)
    save_file(state, tmp_path / "model.safetensors")
    tracker = json.loads((sam3_folder / "config.json").read_text())
    told = {"model_type": "sam3_video", "tracker_config": tracker}
    (tmp_path / "config.json").write_text(json.dumps(told))
    expected = load(sam3_folder, "sam3/base").network.state_dict()
    found = load(tmp_path, "sam3/base").network.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in found)


def test_an_image_only_folder_has_no_memory(sam2, folder, tmp_path):
    transformers = pytest.importorskip("transformers")
    part = transformers.Sam2Model.from_pretrained(folder)
    part.config.model_type = "sam2"
    part.save_pretrained(tmp_path)
    model = load(tmp_path)
    assert model.network.config.model_type == "sam2"
    assert not hasattr(model, "propagate")
    image = torch.zeros(20, 30).numpy()
    expected = load(folder).encode(image)
    assert (model.encode(image).array == expected.array).all()
