"""`finetune_clip`, `fit_text_head` and the command ``adapt-text``."""

from __future__ import annotations

import csv
import signal

import numpy as np
import pytest
from PIL import Image as Picture
from tests.models.clip import tiny
from tests.models.text_heads import readers

import napari_fewshot as nf
from napari_fewshot.cli._adapt_text import stoppable
from napari_fewshot.cli._app import main
from napari_fewshot.data import Hooks, TextPrompt
from napari_fewshot.errors import Cancelled, DataError, PromptError, SupportError
from napari_fewshot.models.text_heads import load_head
from napari_fewshot.session._adapt_text import finetune_clip, fit_text_head


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.write_native(tmp_path_factory.mktemp("clip") / "native", layers=3)


@pytest.fixture
def table(tmp_path):
    rows = []
    for number in range(8):
        image, _ = readers.scene(number)
        name = f"{number}.png"
        Picture.fromarray((255 * image).astype(np.uint8)).save(tmp_path / name)
        rows.append((name, f"{'red' if number % 2 else 'blue'} disc"))
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "caption"), *rows])
    return tmp_path / "pairs.csv"


@pytest.fixture
def files(tmp_path):
    image, labels = readers.scene(3)
    Picture.fromarray((255 * image).astype(np.uint8)).save(tmp_path / "image.png")
    Picture.fromarray(labels.astype(np.uint8)).save(tmp_path / "mask.png")
    return tmp_path / "image.png", tmp_path / "mask.png"


def run(*words):
    with pytest.raises(SystemExit) as stop:
        main([str(w) for w in words])
    return stop.value.code


QUICK = {"epochs": 1, "batch": 3, "rate": 1e-3, "parts": "last", "validation": 0.25}


def test_a_table_of_pictures_is_learnt_from(table, folder, tmp_path):
    found = finetune_clip(table, tmp_path / "out", checkpoint=folder, **QUICK)
    assert found.pairs == (6, 2)
    assert len(found.history) == 2
    assert (tmp_path / "out" / "training.json").is_file()


def test_stacks_and_unknown_settings_are_refused(folder, tmp_path):
    np.save(tmp_path / "stack.npy", np.zeros((7, 30, 40), np.uint8))
    pairs = [(tmp_path / "stack.npy", f"caption {n}") for n in range(2)]
    pairs += [(readers.scene(n)[0], f"caption {n + 2}") for n in range(4)]
    with pytest.raises(DataError, match="7 planes"):
        finetune_clip(pairs, tmp_path / "out", checkpoint=folder, **QUICK)
    with pytest.raises(TypeError, match="Unknown setting 'epoch'"):
        finetune_clip(pairs, tmp_path / "out", checkpoint=folder, epoch=3)


def test_a_head_is_trained_and_used(files, folder, tmp_path):
    support = nf.Support(*files, classes={1: "red disc", 2: "blue disc"})
    path = tmp_path / "head.safetensors"
    head = fit_text_head(support, checkpoint=folder, steps=4, out=path)
    assert head.classes == {1: ("red disc",), 2: ("blue disc",)}
    assert load_head(path).facts == head.facts
    assert not (tmp_path / "head.safetensors.part").exists()
    image, _ = readers.picture(9)
    found = nf.segment(
        image,
        text={1: "red disc", 5: "something new"},
        method="text-head",
        text_model=folder,
        head=str(path),
    )
    assert found.labels.shape == image.shape[:2]


def test_a_head_that_was_stopped_goes_on(files, folder, tmp_path):
    support = nf.Support(*files)
    text = {1: TextPrompt("red disc"), 2: TextPrompt("blue disc")}
    options = {"checkpoint": folder, "kind": "dynamic", "steps": 8}
    path = tmp_path / "head.safetensors"
    asked = []

    def stop():
        return bool(asked) and asked[-1] >= 5

    hooks = Hooks(lambda p: asked.append(p.done if "Training" in p.stage else 0), stop)
    with pytest.raises(Cancelled):
        fit_text_head(support, text, out=path, hooks=hooks, **options)
    assert not path.exists()
    steps = []
    again = fit_text_head(
        support,
        text,
        out=path,
        hooks=Hooks(lambda p: steps.append(p.done) if "Training" in p.stage else None),
        **options,
    )
    assert steps[0] == 6
    whole = fit_text_head(support, text, **options)
    for a, b in zip(again.module.parameters(), whole.module.parameters(), strict=True):
        assert (a == b).all()


def test_supports_without_names_need_words(files, folder):
    with pytest.raises(PromptError, match="have no names"):
        fit_text_head(nf.Support(*files), checkpoint=folder)
    with pytest.raises(SupportError, match="no support"):
        fit_text_head([], {1: "ring"}, checkpoint=folder)
    with pytest.raises(PromptError, match="1 supports and 2 modalities"):
        fit_text_head(
            nf.Support(*files), {1: "a"}, checkpoint=folder, modalities=["CT", "MR"]
        )


def test_commands(table, files, folder, tmp_path, capsys):
    out = tmp_path / "tuned"
    words = ["adapt-text", "clip", table, "--out", out, "--checkpoint", folder]
    words += ["--epochs", 1, "--batch", 3, "--parts", "projections", "--rate", "1e-3"]
    assert run(*words) == 0
    assert "held-out" in capsys.readouterr().out
    head = tmp_path / "mine"
    words = ["adapt-text", "head", "--support", *files, "--text", "1=red disc"]
    words += ["--out", head, "--checkpoint", folder, "--steps", 2]
    assert run(*words, "--modality", "microscopy") == 0
    said = capsys.readouterr().out
    assert f"head={head}.safetensors" in said
    assert load_head(f"{head}.safetensors").classes == {1: ("red disc",)}


def test_commands_tell_what_is_wrong(table, files, folder, tmp_path, capsys):
    words = ["adapt-text", "clip", tmp_path / "none.csv", "--out", tmp_path / "out"]
    assert run(*words, "--checkpoint", folder) == 1
    assert "can't be read" in capsys.readouterr().err
    words = ["adapt-text", "head", "--support", *files, "--text", "1=red"]
    words += ["--out", tmp_path / "h", "--checkpoint", folder, "--kind", "magic"]
    assert run(*words) == 1
    assert "Kinds: query" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_interrupt_stops_between_steps():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), stoppable() as hooks:
        hooks.check()
        signal.raise_signal(signal.SIGINT)
        hooks.check()
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(KeyboardInterrupt), stoppable():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
