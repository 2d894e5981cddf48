"""Folders that are no model, another model, incomplete, or a trap."""

import json
import shutil
import socket

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

import napari_fewshot as nf
from napari_fewshot.models import get_model_spec, grounding, hf, model_specs

FOLDERS = {
    "clipseg/rd64": "clipseg_folder",
    "grounding-dino/tiny": "dino_folder",
    "owlv2/base": "owl_folder",
    "sam3-litetext/s0": "lite_folder",
}


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Nothing may ask a network."""

    def refuse(*_):
        raise AssertionError("asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def copy(clipseg_folder, tmp_path):
    shutil.copytree(clipseg_folder, tmp_path / "copy")
    return tmp_path / "copy"


def change(folder, edit):
    """Edit the tensors of a folder."""
    file = folder / "model.safetensors"
    state = {k: v.clone() for k, v in load_file(file).items()}
    edit(state)
    save_file(state, file)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_is_loaded_without_a_network(name, read, request):
    folder = request.getfixturevalue(FOLDERS[name])
    model = read(name, folder)
    assert model.spec.name == name
    assert model.sha256
    assert model.notes == []
    # The weights file of a folder is the folder.
    assert read(name, folder / "model.safetensors") is model


def test_the_folder_of_detector_and_tracker(sam3, concept, image, tmp_path, read):
    """As facebook/sam3 is published: both halves in one file."""
    _network, folder = sam3
    both = tmp_path / "sam3"
    shutil.copytree(folder, both)
    state = load_file(both / "model.safetensors")
    joined = {f"detector_model.{k}": v for k, v in state.items()}
    joined["tracker_model.no_memory_embedding"] = state["text_projection.bias"].clone()
    joined["tracker_neck.x"] = state["text_projection.bias"].clone()
    save_file(joined, both / "model.safetensors")
    inner = json.loads((both / "config.json").read_text())
    told = {"model_type": "sam3_video", "detector_config": inner}
    (both / "config.json").write_text(json.dumps(told))
    found = read("sam3/concept", both).concepts(image, "cell", threshold=0.01)
    alone = concept.concepts(image, "cell", threshold=0.01)
    assert len(alone)
    np.testing.assert_allclose(found.scores, alone.scores, atol=1e-5)


def test_no_checkpoint_no_such_folder_a_file_too_many_paths(
    tmp_path, clipseg_folder, read
):
    with pytest.raises(nf.WeightsError, match=r"600 MB, Apache-2.0.*there"):
        read("clipseg/rd64", None)
    with pytest.raises(nf.WeightsError, match="no file or folder nowhere"):
        read("clipseg/rd64", tmp_path / "nowhere")
    with pytest.raises(nf.WeightsError, match="holds no model"):
        read("clipseg/rd64", tmp_path)
    file = tmp_path / "alone.safetensors"
    shutil.copy(clipseg_folder / "model.safetensors", file)
    with pytest.raises(
        nf.WeightsError, match=r"alone\.safetensors is a file.*tokenizer"
    ):
        read("clipseg/rd64", file)
    with pytest.raises(nf.WeightsError, match="not 3 paths"):
        read("clipseg/rd64", (file, file, file))


def test_another_model(clipseg_folder, dino_folder, read):
    with pytest.raises(nf.WeightsError, match="'clipseg', which is not owlv2/base"):
        read("owlv2/base", clipseg_folder)
    with pytest.raises(nf.WeightsError, match="'grounding-dino', which is not sam3"):
        read("sam3/concept", dino_folder)


def test_the_other_size_of_grounding_dino(dino_folder, tmp_path, read):
    other = tmp_path / "base"
    shutil.copytree(dino_folder, other)
    told = json.loads((other / "config.json").read_text())
    told["backbone_config"]["embed_dim"] = 128
    (other / "config.json").write_text(json.dumps(told))
    with pytest.raises(nf.WeightsError, match="weights of grounding-dino/base"):
        read("grounding-dino/tiny", other)


@pytest.mark.parametrize(
    ("gone", "named"),
    [("merges.txt", "vocab.json and merges.txt"), ("vocab.json", "tokenizer.json or")],
)
def test_files_of_the_tokenizer_are_named(copy, read, gone, named):
    (copy / gone).unlink()
    with pytest.raises(
        nf.WeightsError, match=f"lacks the files of its tokenizer.*{named}"
    ):
        read("clipseg/rd64", copy)


def test_one_file_holds_the_whole_tokenizer(copy, clipseg, read):
    clipseg.processor.tokenizer.save_pretrained(copy)
    for name in ("vocab.json", "merges.txt"):
        (copy / name).unlink(missing_ok=True)
    assert (copy / "tokenizer.json").is_file()
    mine, other = (m._ids("a cell") for m in (clipseg, read("clipseg/rd64", copy)))
    assert mine == other


def test_preparation_of_images_is_missing(copy, read):
    (copy / "preprocessor_config.json").unlink()
    with pytest.raises(nf.WeightsError, match=r"lacks preprocessor_config\.json"):
        read("clipseg/rd64", copy)


@pytest.mark.parametrize("name", ["vocab.json", "preprocessor_config.json"])
def test_damaged_tables(copy, read, name):
    (copy / name).write_text("{")
    with pytest.raises(nf.WeightsError, match="can't be read"):
        read("clipseg/rd64", copy)


def test_a_damaged_config(copy, read):
    (copy / "config.json").write_text("{")
    with pytest.raises(nf.WeightsError, match=r"config\.json can't be read"):
        read("clipseg/rd64", copy)


def test_words_with_random_weights_are_refused(copy, read):
    """Missing tensors would be random: such a tower of words finds nothing."""
    change(copy, lambda s: s.pop("clip.text_model.final_layer_norm.weight"))
    with pytest.raises(
        nf.WeightsError, match=r"1 tensors are missing.*final_layer_norm"
    ):
        read("clipseg/rd64", copy)


def test_too_many_misshapen_and_broken_tensors(copy, read):
    change(copy, lambda s: s.update(other=s["decoder.film_add.bias"].clone()))
    with pytest.raises(nf.WeightsError, match="does not have, for example other"):
        read("clipseg/rd64", copy)
    change(copy, lambda s: (s.pop("other"), s["decoder.film_add.bias"].fill_(np.nan)))
    with pytest.raises(
        nf.WeightsError, match=r"film_add\.bias holds values that are not"
    ):
        read("clipseg/rd64", copy)
    change(
        copy,
        lambda s: s.update(
            {"decoder.film_add.bias": s["decoder.film_add.bias"][:2].clone()}
        ),
    )
    with pytest.raises(nf.WeightsError, match="another shape"):
        read("clipseg/rd64", copy)


def test_no_transformers(copy, read, monkeypatch):
    def missing():
        raise nf.ModelError(f"not here: {hf._load.INSTALL}.")

    monkeypatch.setattr(grounding._load, "_transformers", missing)
    with pytest.raises(nf.WeightsError, match=r"napari-fewshot\[hf\]"):
        read("clipseg/rd64", copy)


def test_code_in_a_folder_is_not_run(copy, read, tmp_path):
    """A table that names a class of its own, as remote code does."""
    told = json.loads((copy / "config.json").read_text())
    told["auto_map"] = {"AutoConfig": "trap.Trap", "AutoModel": "trap.Trap"}
    (copy / "config.json").write_text(json.dumps(told))
    ran = tmp_path / "ran"
    (copy / "trap.py").write_text(f"open({str(ran)!r}, 'w')\nclass Trap: pass\n")
    read("clipseg/rd64", copy)
    assert not ran.exists()


def test_bits_and_devices(clipseg_folder):
    spec = get_model_spec("clipseg/rd64")
    model = grounding.load(spec, clipseg_folder, "cpu", "bf16")
    full = grounding.load(spec, clipseg_folder, "cpu", "fp32")
    image = np.random.default_rng(0).random((40, 40)).astype(np.float32)
    a, b = (m.heat(image, ["a cell"]) for m in (model, full))
    assert a.dtype == np.float32
    assert 0 < np.abs(a - b).max() < 0.1 * np.abs(b).max()
    with pytest.raises(nf.ModelError, match="no precision 'half'"):
        grounding.load(spec, clipseg_folder, "cpu", "half")


def test_every_model_that_reads_is_in_the_catalogue():
    kinds = {
        s.name: s.text for s in model_specs() if s.text in ("heat", "boxes", "concept")
    }
    assert kinds["clipseg/rd64"] == "heat"
    assert {kinds[n] for n in kinds if n.startswith(("grounding", "owl"))} == {"boxes"}
    assert {kinds[n] for n in kinds if "sam3" in n} == {"concept"}
    for name in kinds:
        spec = get_model_spec(name)
        assert spec.licence
        assert spec.citation
        assert spec.url.startswith("https://")
        if spec.base:
            assert get_model_spec(spec.base).text == "concept"


def test_the_installed_folder_has_its_words(clipseg_folder, monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_FEWSHOT_HOME", str(tmp_path))
    from napari_fewshot.io import import_weights

    import_weights(clipseg_folder, "clipseg/rd64")
    model = nf.load_model("clipseg/rd64", device="cpu", precision="fp32")
    assert model.heat(np.zeros((20, 20), np.uint8), ["a cell"]).shape == (1, 64, 64)
    with pytest.raises(nf.ModelError, match="gives no features"):
        model.encode(np.zeros((20, 20), np.uint8))
