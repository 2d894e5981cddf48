"""Fine-tuning a CLIP on captions: what it learns, what it keeps, what it refuses."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.models.clip import tiny

from napari_fewshot.adapt.text import (
    FinetuneSettings,
    Pair,
    as_pairs,
    finetune,
    read_pairs,
    split_pairs,
)
from napari_fewshot.adapt.text._finetune import STATE
from napari_fewshot.data import Hooks
from napari_fewshot.errors import Cancelled, DataError, ModelError, StorageError
from napari_fewshot.models import ModelSpec
from napari_fewshot.models.clip import load
from napari_fewshot.models.text_heads import TrainableClip
from napari_fewshot.models.text_heads._trainable import trained_names

SPEC = ModelSpec("biomedclip", "text", "A tiny one.", "MIT", text="clip")
COLOURS = {"red": (0.9, 0.1, 0.1), "green": (0.1, 0.9, 0.1), "blue": (0.1, 0.1, 0.9)}
SIDES = ("left", "right")
QUICK = FinetuneSettings(epochs=3, batch=6, rate=1e-3, validation=0.25, parts="last")


def picture(colour: str, side: str, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    image = 0.5 + 0.05 * rng.normal(size=(40, 48, 3))
    x = rng.uniform(8, 14) + (24 if side == "right" else 0)
    rows, columns = np.mgrid[:40, :48]
    disc = (rows - rng.uniform(14, 26)) ** 2 + (columns - x) ** 2 < 70
    image[disc] = COLOURS[colour]
    return np.clip(image, 0, 1).astype(np.float32)


def pairs_of(count: int) -> list[Pair]:
    kinds = [(c, s) for c in COLOURS for s in SIDES]
    chosen = [kinds[n % len(kinds)] for n in range(count)]
    return [
        Pair(picture(c, s, n), f"a {c} blob {s}") for n, (c, s) in enumerate(chosen)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.write_native(tmp_path_factory.mktemp("clip") / "native", layers=4)


@pytest.fixture(scope="module")
def clip(folder):
    return load(SPEC, folder, "cpu", "fp32")


def weights(folder):
    model = load(SPEC, folder, "cpu", "fp32")
    return {n: t.clone() for n, t in model.network.state_dict().items()}


def test_held_out_images_find_their_captions(clip, tmp_path):
    settings = FinetuneSettings(
        epochs=7, batch=12, rate=1e-3, validation=0.25, parts="last", blocks=4
    )
    before = clip.network.state_dict()
    before = {n: t.clone() for n, t in before.items()}
    found = finetune(pairs_of(48), clip, tmp_path / "out", settings, Hooks())
    assert found.after["loss"] < found.before["loss"]
    assert found.before["text top 1"] < 0.4
    assert found.after["text top 1"] >= 0.75
    assert found.after["image top 2"] >= found.after["image top 1"]
    assert found.pairs == (36, 12)
    assert "held-out" in found.told
    # The model that was given stays as it is; the folder is one like any other.
    for name, tensor in clip.network.state_dict().items():
        assert torch.equal(tensor, before[name])
    tuned = load(SPEC, found.folder, "cpu", "fp32")
    rows = tuned.encode_text(["a red blob left", "a green blob left"])
    image = tuned.prepared(picture("red", "left", 999))
    with torch.no_grad():
        vector = tuned.network.encode_image(image, normalize=True)[0].numpy()
    assert vector @ rows[0] > vector @ rows[1]
    report = json.loads((tmp_path / "out" / "training.json").read_text())
    assert report["best"] == found.best
    assert len(report["history"]) == len(found.history)


def test_a_tower_of_timm_and_a_bert_are_trained_and_written_too(tmp_path):
    place = tiny.write_biomed(tmp_path / "biomed")
    model = load(SPEC, place, "cpu", "fp32")
    settings = replace(QUICK, epochs=1, batch=4, parts="last", blocks=1)
    found = finetune(pairs_of(8), model, tmp_path / "out", settings, Hooks())
    assert np.isfinite(found.history[1]["loss"])
    clip = TrainableClip(model, "last", 1)
    clip.publish(tmp_path / "copy")
    again = load(SPEC, tmp_path / "copy", "cpu", "fp32")
    phrases = ["a red blob", "cell"]
    assert np.allclose(again.encode_text(phrases), model.encode_text(phrases))
    assert np.allclose(
        again.encode(picture("red", "left", 0)).array,
        model.encode(picture("red", "left", 0)).array,
        atol=1e-6,
    )


def stopping(after):
    calls = []

    def stop():
        calls.append(1)
        return len(calls) > after

    return Hooks(is_cancelled=stop)


@pytest.mark.parametrize("after", [5, 8, 10])
def test_what_was_stopped_ends_like_what_was_not(clip, tmp_path, after):
    whole = finetune(pairs_of(24), clip, tmp_path / "whole", QUICK, Hooks())
    with pytest.raises(Cancelled):
        finetune(pairs_of(24), clip, tmp_path / "cut", QUICK, stopping(after))
    done = []
    hooks = Hooks(on_progress=lambda p: done.append(p.done))
    again = finetune(pairs_of(24), clip, tmp_path / "cut", QUICK, hooks)
    assert done[0] > 0
    assert again.history == whole.history
    assert again.best == whole.best
    own, other = weights(again.folder), weights(whole.folder)
    assert all(torch.equal(own[n], other[n]) for n in own)


def test_a_kill_loses_no_epoch_that_was_finished(clip, tmp_path):
    class Killed(BaseException):
        pass

    def die(progress):
        if progress.done == 7:
            raise Killed

    with pytest.raises(Killed):
        finetune(pairs_of(24), clip, tmp_path / "out", QUICK, Hooks(on_progress=die))
    # The best so far is there, whole, and nothing half-written is.
    weights(tmp_path / "out")
    assert not [p for p in (tmp_path / "out").iterdir() if ".writing" in p.name]
    done = []
    hooks = Hooks(on_progress=lambda p: done.append(p.done))
    again = finetune(pairs_of(24), clip, tmp_path / "out", QUICK, hooks)
    assert done[0] == 6
    whole = finetune(pairs_of(24), clip, tmp_path / "whole", QUICK, Hooks())
    own, other = weights(again.folder), weights(whole.folder)
    assert all(torch.equal(own[n], other[n]) for n in own)


def test_more_epochs_go_on_and_other_settings_are_refused(clip, tmp_path):
    out = tmp_path / "out"
    first = finetune(pairs_of(24), clip, out, replace(QUICK, epochs=1), Hooks())
    more = finetune(pairs_of(24), clip, out, replace(QUICK, epochs=2), Hooks())
    assert more.history[:2] == first.history
    assert len(more.history) == 3
    with pytest.raises(DataError, match="another training"):
        finetune(pairs_of(24), clip, out, replace(QUICK, seed=9), Hooks())
    with pytest.raises(DataError, match="another training"):
        finetune(pairs_of(23), clip, out, QUICK, Hooks())


def test_no_gain_keeps_the_model_and_ends_early(clip, tmp_path):
    # Captions that say nothing of the images can't be learnt for others.
    rng = np.random.default_rng(0)
    pairs = [
        Pair(rng.random((16, 16, 3)).astype(np.float32), f"word {n}") for n in range(24)
    ]
    settings = replace(QUICK, epochs=9, patience=1, rate=0.05)
    found = finetune(pairs, clip, tmp_path / "out", settings, Hooks())
    assert len(found.history) < 10
    if found.folder is None:
        assert "stays as it was" in found.told
        assert not (tmp_path / "out" / "open_clip_model.safetensors").exists()
    losses = [h["loss"] for h in found.history]
    assert found.after["loss"] == min(losses)


def test_only_chosen_parts_change(clip):
    names = [n for n, _ in clip.network.named_parameters()]
    last = trained_names(names, "last", 1)
    assert "visual.transformer.resblocks.3.attn.in_proj_weight" in last
    assert "transformer.resblocks.1.mlp.c_fc.weight" in last
    assert not any(".resblocks.0." in n or ".resblocks.2." in n for n in last)
    assert {"visual.proj", "text_projection", "ln_final.weight"} <= set(last)
    assert "token_embedding.weight" not in last
    assert set(trained_names(names, "projections", 2)) == {
        "visual.proj",
        "text_projection",
    }
    assert set(trained_names(names, "all", 2)) == set(names) - {"logit_scale"}
    biomed = [
        "visual.trunk.blocks.5.attn.qkv.weight",
        "visual.trunk.blocks.4.attn.qkv.weight",
        "visual.trunk.norm.weight",
        "visual.head.proj.weight",
        "text.transformer.encoder.layer.1.output.dense.weight",
        "text.transformer.encoder.layer.0.output.dense.weight",
        "text.transformer.embeddings.word_embeddings.weight",
        "text.proj.0.weight",
    ]
    assert trained_names(biomed, "last", 1) == [biomed[i] for i in (0, 2, 3, 4, 7)]


def test_frozen_parts_stay(clip, tmp_path):
    settings = replace(QUICK, parts="projections", rate=1e-2)
    found = finetune(pairs_of(24), clip, tmp_path / "out", settings, Hooks())
    own, before = weights(found.folder), clip.network.state_dict()
    changed = {n for n in own if not torch.equal(own[n], before[n])}
    assert changed == {"visual.proj", "text_projection"}


def test_progress_tells_the_loss(clip, tmp_path):
    said = []
    hooks = Hooks(on_progress=lambda p: said.append(p))
    finetune(pairs_of(24), clip, tmp_path / "out", replace(QUICK, epochs=1), hooks)
    assert said[0].stage == "Epoch 1"
    assert "loss" in said[-1].stage
    assert said[-1].total == 3
    assert said[-1].seconds_left is not None


# Pairs


def write_table(path, rows, header=("image", "caption")):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def test_a_table_is_read(tmp_path, clip):
    for n in range(6):
        np.save(tmp_path / f"{n}.npy", picture("red", "left", n))
    rows = [(f"{n}.npy", f"blob, number {n} “é”") for n in range(6)]
    pairs = read_pairs(write_table(tmp_path / "pairs.csv", rows))
    assert [p.caption for p in pairs][:2] == [
        "blob, number 0 “é”",
        "blob, number 1 “é”",
    ]
    read = []

    def opened(path):
        read.append(path)
        return np.load(path)

    settings = replace(QUICK, epochs=1, batch=2)
    finetune(pairs, clip, tmp_path / "out", settings, Hooks(), opened)
    assert {p.name for p in read} == {f"{n}.npy" for n in range(6)}


@pytest.mark.parametrize(
    ("rows", "header", "words"),
    [
        ([("a.npy", "x")], ("file", "caption"), "no column 'image'"),
        ([("a.npy", "x")], ("image", "text"), "no column 'caption'"),
        ([("missing.npy", "x")] * 5, ("image", "caption"), "line 2: there is no image"),
        ([("", "x")] * 5, ("image", "caption"), "line 2"),
        ([("a.npy", "  ")] * 5, ("image", "caption"), "number 1 has no caption"),
        ([("a.npy", "x")], ("image", "caption"), "too few"),
        ([("a.npy", "Same"), ("a.npy", "same")] * 3, ("image", "caption"), "the same"),
        ([], ("image", "caption"), "too few"),
        ([("a.npy",)] * 5, ("image", "caption"), "no caption"),
    ],
)
def test_tables_that_teach_nothing_are_refused(tmp_path, rows, header, words):
    np.save(tmp_path / "a.npy", picture("red", "left", 0))
    with pytest.raises(DataError, match=words):
        read_pairs(write_table(tmp_path / "pairs.csv", rows, header))


def test_what_is_no_table_is_refused(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00image,caption\x80")
    with pytest.raises(DataError, match=r"can't be read|no column"):
        read_pairs(tmp_path / "a.csv")
    with pytest.raises(DataError, match="can't be read"):
        read_pairs(tmp_path / "none.csv")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(DataError, match="no column"):
        read_pairs(tmp_path / "empty.csv")


@pytest.mark.parametrize("given", [["ab"] * 5, [1, 2, 3, 4], [("a", "b", "c")] * 4])
def test_what_is_no_pair_is_refused(given):
    with pytest.raises(DataError, match="no image and caption"):
        as_pairs(given)


def test_an_image_is_on_one_side_only():
    image = [picture("red", "left", n) for n in range(8)]
    pairs = [Pair(image[n % 8], f"caption {n}") for n in range(24)]
    training, held_out = split_pairs(pairs, 0.15, 0)
    assert not {p.key for p in training} & {p.key for p in held_out}
    assert len(held_out) == 6
    assert len(training) == 18
    again = split_pairs(pairs, 0.15, 0)[1]
    assert [p.caption for p in again] == [p.caption for p in held_out]
    with pytest.raises(DataError, match="3 images only"):
        split_pairs(pairs[:3], 0.5, 0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch": 1}, "batch of one"),
        ({"rate": 0.0}, "rate"),
        ({"rate": float("nan")}, "rate"),
        ({"temperature": -1.0}, "temperature"),
        ({"hardness": -0.1}, "hardness"),
        ({"epochs": 0}, "epochs"),
        ({"validation": 1.0}, "validation"),
    ],
)
def test_settings_without_sense_are_refused(change, words):
    with pytest.raises(DataError, match=words):
        replace(QUICK, **change)


def test_models_that_are_no_clip_are_refused(tmp_path):
    class Other:
        spec = SPEC

    with pytest.raises(ModelError, match="no CLIP of open_clip"):
        finetune(pairs_of(8), Other(), tmp_path / "out", QUICK, Hooks())


def test_unknown_parts_and_nothing_to_train_are_told(clip):
    with pytest.raises(ModelError, match="Parts: all, last, projections"):
        TrainableClip(clip, "head")


def test_a_rate_that_explodes_is_told(clip, tmp_path):
    with pytest.raises((ModelError, DataError), match=r"diverged|without end"):
        finetune(
            pairs_of(24), clip, tmp_path / "out", replace(QUICK, rate=1e25), Hooks()
        )


def test_a_folder_that_cannot_be_written_is_told(clip, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="can't be written"):
        finetune(pairs_of(8), clip, tmp_path / "file" / "out", QUICK, Hooks())


def test_a_damaged_state_is_told(clip, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / STATE).write_bytes(b"nothing of the kind")
    with pytest.raises(RuntimeError, match="damaged"):
        finetune(pairs_of(8), clip, out, QUICK, Hooks())
