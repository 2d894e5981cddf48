"""Files and folders: what is loaded, recognised, installed, and what is refused."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.models.clip import tiny

from napari_fewshot.errors import ModelError, WeightsError
from napari_fewshot.io import import_weights, remove_model, verify_model
from napari_fewshot.models import (
    get_model_spec,
    installed_text_models,
    load_text_model,
    recognise,
)
from napari_fewshot.models.clip import _identify
from napari_fewshot.models.clip._makes import BIOMED_MAKE, build, make_of

BIN = "open_clip_pytorch_model.bin"


def load(folder, name="biomedclip"):
    return load_text_model(name, folder, device="cpu")


def vector(model):
    return model.encode_text(["a photo of a cell"])


def changed(folder, change):
    """Change the tensors of a folder's file in place."""
    state = torch.load(folder / BIN)
    torch.save(change(state) or state, folder / BIN)
    return folder


WRAPPED = {
    "plain": lambda s: s,
    "state_dict": lambda s: {"state_dict": s, "epoch": 3, "name": "x"},
    "module": lambda s: {
        "epoch": 3,
        "state_dict": {f"module.{k}": t for k, t in s.items()},
    },
    "stale": lambda s: (
        s | {"text.transformer.embeddings.position_ids": torch.arange(64)[None]}
    ),
    "temperature": lambda s: s | {"logit_scale": s["logit_scale"].reshape(1)},
    "half": lambda s: {k: t.half() for k, t in s.items()},
}


@pytest.mark.parametrize("how", WRAPPED)
@pytest.mark.parametrize("make", ["native", "biomed"])
def test_layouts_of_open_clip(request, copied, make, how):
    folder = request.getfixturevalue(make)
    wanted = vector(load(folder))
    found = vector(load(changed(copied(folder), WRAPPED[how])))
    np.testing.assert_allclose(found, wanted, atol=2e-3 if how == "half" else 1e-6)


@pytest.mark.parametrize("custom", [False, True])
def test_text_tower_under_its_own_name_or_not(native, copied, custom):
    folder = copied(native)
    readers = ("positional", "token_emb", "transformer", "ln_final", "text_proj")
    if custom:
        path = folder / "open_clip_config.json"
        words = json.loads(path.read_text())
        words["model_cfg"]["custom_text"] = True
        path.write_text(json.dumps(words))
    else:
        changed(
            folder,
            lambda s: {
                f"text.{k}" if k.startswith(readers) else k: t for k, t in s.items()
            },
        )
    np.testing.assert_allclose(vector(load(folder)), vector(load(native)), atol=1e-6)


def test_safetensors(native, biomed, copied):
    for n, folder in enumerate((native, biomed)):
        place = copied(folder, f"safe{n}")
        state = torch.load(place / BIN)
        save_file(
            {k: t.contiguous() for k, t in state.items()}, place / "any.safetensors"
        )
        (place / BIN).unlink()
        found = vector(load(place))
        np.testing.assert_allclose(found, vector(load(folder)), atol=1e-6)


def test_layout_of_the_port_of_biomedclip(biomed, copied):
    model = load(biomed)
    plane = np.random.default_rng(0).random((33, 44)).astype(np.float32)
    words, image = vector(model), model.encode(plane).array
    folder = copied(biomed)
    torch.save(tiny.port(torch.load(folder / BIN)), folder / "pytorch_model.bin")
    (folder / BIN).unlink()
    # Its own configuration is that of no text tower.
    (folder / "config.json").write_text(
        '{"model_type": "clip", "auto_map": {"x": "y"}}'
    )
    state = _identify.plain_names(torch.load(folder / "pytorch_model.bin"))
    assert state.keys() == torch.load(biomed / BIN).keys()
    # A BERT of 32 channels has no published number of heads.
    with pytest.raises(WeightsError, match=r"config\.json"):
        load(folder)
    (folder / "config.json").write_text(json.dumps(tiny.BERT))
    found = load(folder)
    np.testing.assert_allclose(vector(found), words, atol=1e-6)
    np.testing.assert_allclose(found.encode(plane).array, image, atol=1e-6)


def test_bert_is_told_by_its_tensors(biomed):
    bert = {**tiny.BERT, "hidden_size": 128, "num_attention_heads": 2}
    state = {
        "text.transformer.embeddings.word_embeddings.weight": torch.zeros(99, 128),
        "text.transformer.embeddings.position_embeddings.weight": torch.zeros(64, 128),
        "text.transformer.embeddings.token_type_embeddings.weight": torch.zeros(2, 128),
        "text.transformer.encoder.layer.0.intermediate.dense.weight": torch.zeros(
            64, 1
        ),
        "text.transformer.encoder.layer.1.attention.self.query.weight": torch.zeros(1),
    }
    config = build(make_of("", biomed), None, state).text.config
    for key in ("hidden_size", "num_hidden_layers", "num_attention_heads"):
        assert getattr(config, key) == bert[key]
    assert (config.vocab_size, config.intermediate_size) == (99, 64)


def test_files_that_do_not_fit_are_refused(native, copied):
    def spoilt(name, change):
        with pytest.raises(WeightsError) as told:
            load(changed(copied(native, name), change))
        return str(told.value)

    def without(state):
        return {k: t for k, t in state.items() if not k.startswith("ln_final")}

    def more(state):
        return state | {"visual.adapter.weight": torch.zeros(2)}

    def wide(state):
        return state | {"visual.proj": torch.zeros(64, 25)}

    def broken(state):
        state["visual.proj"][0, 0] = float("nan")

    assert "2 tensors are missing (such as ln_final.bias" in spoilt("a", without)
    assert "1 tensors are not of it (such as visual.adapter" in spoilt("b", more)
    assert "1 tensors have other shapes (such as visual.proj" in spoilt("c", wide)
    assert "not numbers" in spoilt("d", broken)
    assert "holds no tensors" in spoilt("e", lambda _: {"epoch": 3})


def test_file_of_another_architecture_names_both(tmp_path):
    with torch.device("meta"):
        state = open_clip_state("ViT-B-32")
    path = tmp_path / "weights.pt"
    torch.save({k: torch.zeros(()).expand(t.shape) for k, t in state.items()}, path)
    with pytest.raises(WeightsError, match=r"does not hold ViT-B-16-quick.*ViT-B-32"):
        load_text_model("clip/vit_b_16", path, device="cpu")


def open_clip_state(arch):
    return build(make_of(f"open_clip/{arch}", None), None, {}).state_dict()


def test_architectures_are_told_by_their_shapes():
    for arch in ("ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-L-14-336", "ViT-H-14"):
        assert _identify.described(open_clip_state(arch)) == arch
    assert _identify.described({"visual.conv1.weight": torch.zeros(8, 3, 16, 16)}) == ""


def test_weights_of_openai_are_told_by_their_rounding(tmp_path, monkeypatch):
    monkeypatch.setattr(_identify, "described", lambda _: "ViT-B-16")
    values = torch.randn(8, 3, 16, 16)
    for tensor, name in (
        (values.half().float(), "clip/vit_b_16"),
        (values, "open_clip/ViT-B-16"),
    ):
        torch.save({"visual.conv1.weight": tensor}, tmp_path / "w.pt")
        assert _identify.identify(tmp_path / "w.pt") == name


def test_folders_are_recognised_by_what_they_say(native, copied):
    folder = copied(native, "my model!")
    assert recognise(folder) == "open_clip/my_model"
    path = folder / "open_clip_config.json"
    for make, name in (
        (BIOMED_MAKE, "biomedclip"),
        (make_of("clip/vit_b_16", None).config, "clip/vit_b_16"),
        (make_of("open_clip/ViT-B-16", None).config, "open_clip/ViT-B-16"),
    ):
        path.write_text(json.dumps({"model_cfg": make}))
        assert recognise(folder) == name


@pytest.mark.parametrize(
    "words",
    [
        "",
        "[]",
        '{"model_cfg": 3}',
        '{"model_cfg": {"embed_dim": 8, "vision_cfg": {}}}',
        '{"model_cfg": {"embed_dim": "8", "vision_cfg": {}, "text_cfg": {}}}',
        '{"model_cfg": {"embed_dim": 8, "vision_cfg": {"odd": 1}, "text_cfg": {}}}',
        '{"model_cfg": {"embed_dim": 8, "vision_cfg": {"width": 0}, "text_cfg": {}}}',
        '{"model_cfg": {"embed_dim": 8, "vision_cfg": {}, "text_cfg": {}},'
        ' "preprocess_cfg": {"std": [1, 0, 1]}}',
    ],
)
def test_broken_descriptions_are_refused(native, copied, words):
    folder = copied(native)
    (folder / "open_clip_config.json").write_text(words)
    with pytest.raises(WeightsError):
        load(folder)


@pytest.mark.parametrize(
    ("where", "more", "said"),
    [
        ("vision_cfg", {"timm_model_name": "hf-hub:some/body"}, "timm"),
        ("vision_cfg", {"timm_model_name": "no_such_net"}, "no_such_net"),
        ("vision_cfg", {"layers": [1, 1, 1, 1], "width": 8}, "ModifiedResNet"),
        ("multimodal_cfg", {}, "CoCa"),
    ],
)
def test_kinds_that_are_not_supported(native, copied, where, more, said):
    folder = copied(native)
    path = folder / "open_clip_config.json"
    words = json.loads(path.read_text())
    words["model_cfg"].setdefault(where, {}).update(more)
    path.write_text(json.dumps(words))
    with pytest.raises((ModelError, WeightsError), match=said):
        if where == "vision_cfg" and "layers" in more:
            state = build(make_of("", folder), folder, {}).state_dict()
            torch.save(
                {k: torch.zeros(t.shape) for k, t in state.items()}, folder / BIN
            )
        load(folder)


def test_missing_tokenizer_is_named(biomed, copied):
    folder = copied(biomed)
    for name in ("tokenizer.json", "vocab.txt"):
        (folder / name).unlink()
    with pytest.raises(WeightsError, match=r"tokenizer\.json and tokenizer_config"):
        load(folder)


def test_damaged_tokenizer_is_named(biomed, copied):
    folder = copied(biomed)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(WeightsError, match="tokenizer"):
        load(folder)


def test_vocabulary_alone_is_a_tokenizer(biomed, copied):
    folder = copied(biomed)
    (folder / "tokenizer.json").unlink()
    np.testing.assert_allclose(vector(load(folder)), vector(load(biomed)), atol=1e-6)


def test_text_tower_of_unknown_make_needs_its_configuration(biomed, copied):
    folder = copied(biomed)
    (folder / "config.json").unlink()
    changed(folder, lambda s: {k: t for k, t in s.items() if "token_type" not in k})
    with pytest.raises(WeightsError, match=r"tiny-bert-of-medicine.*config\.json"):
        load(folder)


def test_what_is_not_there(tmp_path):
    with pytest.raises(WeightsError, match="no file or folder"):
        load(tmp_path / "nothing.pt")
    with pytest.raises(WeightsError, match="0 weights files"):
        load(tmp_path)
    (tmp_path / "a.pt").write_bytes(b"not weights")
    with pytest.raises(WeightsError, match="damaged or no weights"):
        load(tmp_path / "a.pt", "clip/vit_b_16")
    with pytest.raises(ModelError, match="did you mean open_clip/ViT-B-16"):
        load(tmp_path / "a.pt", "open_clip/ViT-B-17")


def test_files_that_run_code_are_refused(native, copied):
    class Evil:
        def __reduce__(self):
            return print, ("code ran",)

    folder = copied(native)
    torch.save({"state_dict": Evil()}, folder / BIN)
    with pytest.raises(WeightsError, match="could run code"):
        load(folder)


def test_nothing_installed_tells_two_ways():
    with pytest.raises(WeightsError) as told:
        load_text_model()
    for word in ("models download clip/vit_b_16", "FOLDER --model biomedclip", "MIT"):
        assert word in str(told.value)
    with pytest.raises(WeightsError, match="biomedclip is not installed"):
        load_text_model("biomedclip")
    assert installed_text_models() == ()


def test_installed_checked_used_and_removed(native, biomed):
    wanted = vector(load(biomed))
    assert import_weights(native, "open_clip/mine").name == "open_clip/mine"
    assert import_weights(native).name == "open_clip/tiny_native"
    assert import_weights(biomed, "biomedclip").source == "import"
    assert installed_text_models()[0] == "biomedclip"
    assert "open_clip/mine" in installed_text_models()
    assert "hash and load are right" in verify_model("biomedclip")
    model = load_text_model(device="cpu")
    assert model.spec.name == "biomedclip"
    np.testing.assert_array_equal(vector(model), wanted)
    remove_model("biomedclip")
    assert load_text_model(device="cpu").spec.name.startswith("open_clip/")
    with pytest.raises(WeightsError):
        load_text_model("biomedclip")


def test_fine_tuned_file_takes_the_tokenizer_that_is_installed(
    biomed, tmp_path, monkeypatch
):
    from napari_fewshot.models.clip import _load

    path = tmp_path / "alone.pt"
    torch.save(tiny.port(torch.load(biomed / BIN)), path)
    spec = get_model_spec("biomedclip")
    assert _load._tokenizer_folder(spec, path) is None
    with pytest.raises(WeightsError, match="tokenizer of BiomedCLIP is missing"):
        load(path)
    import_weights(biomed, "biomedclip")
    assert (_load._tokenizer_folder(spec, path) / "vocab.txt").is_file()


def test_nothing_is_looked_up_elsewhere(biomed, copied, monkeypatch):
    asked = []

    def refuse(*given, **_):
        asked.append(given)
        raise OSError("no network")

    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)
    folder = copied(biomed)
    path = folder / "open_clip_config.json"
    words = json.loads(path.read_text())
    words["model_cfg"]["vision_cfg"]["timm_model_pretrained"] = True
    words["model_cfg"]["text_cfg"]["hf_model_pretrained"] = True
    path.write_text(json.dumps(words))
    assert np.isfinite(vector(load(folder))).all()
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").unlink()
    with pytest.raises(WeightsError):
        load(folder)
    assert asked == []


def test_without_transformers_only_native_models_are_read(native, biomed, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    assert vector(load(native)).shape == (1, 24)
    with pytest.raises(ModelError, match=r"napari-fewshot\[hf\]"):
        load(biomed, "open_clip/other")


def test_a_changed_file_is_read_again(native, copied):
    folder = copied(native)
    before = vector(load(folder))
    changed(folder, lambda s: s | {"text_projection": s["text_projection"].flip(0)})
    assert not np.allclose(vector(load(folder)), before, atol=1e-3)


def test_facts_are_complete():
    for name in ("biomedclip", "clip/vit_b_16", "clip/vit_b_32", "clip/laion_vit_b_16"):
        spec = get_model_spec(name)
        assert spec.text == "clip"
        assert spec.licence == "MIT"
        assert spec.size_mb > 500
        assert spec.citation
    free = get_model_spec("open_clip/ViT-B-16-SigLIP")
    assert (free.text, free.needs_download) == ("clip", True)
    assert make_of("open_clip/ViT-B-16-SigLIP", None).mean == (0.5, 0.5, 0.5)
    assert make_of("clip/laion_vit_l_14", None).mean == (0.5, 0.5, 0.5)
