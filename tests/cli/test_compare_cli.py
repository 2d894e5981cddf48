"""``compare``: what it writes, and its exit codes."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import tifffile

import napari_fewshot as nf
from napari_fewshot.cli import main
from napari_fewshot.session import load_concept, save_concept

FAST = ["--param", "pixel.trees=5", "--param", "pixel.leave_one_out=no"]
FAST += ["--param", "template.leave_one_out=no"]


@pytest.fixture
def folder(tmp_path, blob_pair):
    for number in range(2):
        image, labels = blob_pair(number, shape=(48, 56), count=3)
        tifffile.imwrite(tmp_path / f"c{number}.tif", image)
        tifffile.imwrite(tmp_path / f"c{number}_labels.tif", labels.astype(np.uint8))
    return tmp_path


def call(folder, *words):
    support = ["--support", folder / "c0.tif", folder / "c0_labels.tif"]
    with pytest.raises(SystemExit) as stop:
        words = ["compare", *words, *support, *FAST, "--out", folder / "out"]
        main([str(word) for word in words])
    return stop.value.code


def test_it_writes_labels_disagreement_and_table(folder):
    assert call(folder, folder / "c1.tif", "--methods", "pixel,template") == 0
    out = folder / "out"
    found = [tifffile.imread(out / f"c1_{m}_labels.tif") for m in ("pixel", "template")]
    differ = tifffile.imread(out / "c1_disagreement.tif")
    assert differ.dtype == np.float32
    np.testing.assert_array_equal(differ, found[0] != found[1])
    table = pd.read_csv(out / "comparison.csv").set_index("name")
    assert table.loc["pixel", "area class 1"] == (found[0] == 1).sum()
    assert table.loc["template", "file"] == "c1_template_labels.tif"
    record = json.loads((out / "provenance.json").read_text())
    assert record["c1_pixel_labels.tif"]["method"] == "pixel"


def test_what_fails_is_in_the_table(folder, capsys):
    words = ["--methods", "pixel,prototype", "--models", "sam/vit_b"]
    assert call(folder, folder / "c1.tif", *words) == 3
    table = pd.read_csv(folder / "out" / "comparison.csv").set_index("name")
    assert table.loc["prototype (sam/vit_b)", "status"] == "failed"
    assert "models download" in capsys.readouterr().err
    (folder / "bad.tif").write_bytes(b"no image")
    assert call(folder, folder / "bad.tif", "--methods", "pixel,template") == 1
    assert call(folder, folder / "c1.tif", "--methods", "pixel") == 1
    assert call(folder, folder / "c1.tif", "--param", "seed=3") == 1
    assert "method.name=value" in capsys.readouterr().err


@pytest.fixture
def blobs(folder):
    image = tifffile.imread(folder / "c0.tif")
    labels = tifffile.imread(folder / "c0_labels.tif")
    return save_concept(
        folder / "blobs",
        nf.Support(image, labels, classes={1: "blob"}),
        method="pixel",
        params={"trees": 5},
    )


def run(*words):
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in ("compare", *words)])
    return stop.value.code


def test_a_concept_is_compared_and_the_better_one_saved(folder, blobs, capsys):
    query, out = folder / "c1.tif", ["--out", folder / "out"]
    how = ["--methods", "prototype", "--models", "filters"]
    saved = folder / "mine.fewshot"
    assert run(query, "--concept", blobs, *how, *out, "--save", saved) == 0
    table = pd.read_csv(folder / "out" / "comparison.csv")
    assert set(table["name"]) == {"concept blobs", "prototype (filters)"}
    best = table.loc[table["expected dice"].idxmax(), "name"]
    assert f"{best} is saved: {saved}" in capsys.readouterr().out
    assert load_concept(saved).classes == {1: "blob"}
    chosen = ["--use", "prototype (filters)", "--save", saved]
    assert run(query, "--concept", blobs, *how, *out, *chosen) == 0
    assert load_concept(saved).method == "prototype"


def test_what_cannot_be_saved_says_so_first(folder, blobs, capsys):
    query, out = folder / "c1.tif", ["--out", folder / "none"]
    given = [query, "--concept", blobs, "--methods", "pixel", *out]
    assert run(*given, "--use", "pixel") == 1
    assert "Give --save FILE" in capsys.readouterr().err
    assert run(*given, "--use", "magic", "--save", folder / "x") == 1
    assert "concept blobs" in capsys.readouterr().err
    assert not (folder / "none").exists()
