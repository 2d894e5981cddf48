"""``concept save, info, verify`` and ``segment --concept``."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import tifffile

import napari_fewshot as nf
from napari_fewshot.cli import main


@pytest.fixture
def folder(tmp_path, blob_pair):
    for number in range(4):
        image, labels = blob_pair(number)
        tifffile.imwrite(tmp_path / f"c{number}.tif", image)
        tifffile.imwrite(tmp_path / f"m{number}.tif", labels.astype(np.uint8))
    return tmp_path


def call(*words):
    with pytest.raises(SystemExit) as stop:
        main([str(w) for w in words])
    return stop.value.code


def save(folder, *extra):
    pairs = [w for i in (0, 1) for w in ("--support", f"c{i}.tif", f"m{i}.tif")]
    pairs = [folder / w if w.endswith(".tif") else w for w in pairs]
    how = ["--method", "pixel", "--param", "trees=10", "--class", "1=cell"]
    out = folder / "cells.fewshot"
    assert call("concept", "save", *pairs, *how, *extra, "--out", out) == 0
    return out


def test_save_info_verify(folder, capsys):
    path = save(folder, "--author", "A. Person", "--scale", "0.5,0.5")
    assert "cells.fewshot is written" in capsys.readouterr().out
    assert call("concept", "info", path) == 0
    told = capsys.readouterr().out
    for words in ("A. Person", "pixel", "trees=10", "cell, expected Dice", "0.5 x 0.5"):
        assert words in told
    bad = folder / "bad.fewshot"
    bad.write_bytes(path.read_bytes()[:-100])
    assert call("concept", "verify", path) == 0
    assert call("concept", "verify", path, bad) == 3
    assert call("concept", "verify", bad) == 1
    assert call("concept", "info", bad) == 1
    assert "bad.fewshot is damaged" in capsys.readouterr().err


def test_many_files_need_one_fit(folder, caplog):
    path = save(folder, "--no-assess", "--no-thumbnails")
    out = folder / "out"
    queries = [folder / "c2.tif", folder / "c3.tif"]
    assert call("segment", *queries, "--concept", path, "--out", out) == 0
    records = json.loads((out / "provenance.json").read_text())
    assert [r["params"]["trees"] for r in records.values()] == [10, 10]
    # A fit that was found in the cache was not assessed again.
    assert records["c3_labels.tif"]["seconds"]["assess"] == 0
    truth = tifffile.imread(folder / "m3.tif")
    found = tifffile.imread(out / "c3_labels.tif")
    assert nf.evaluate(found, truth)["dice"][0] > 0.9
    assert call("segment", *queries, "--concept", path, "--out", out) == 0
    with (out / "report.csv").open() as file:
        assert [r["status"] for r in csv.DictReader(file)] == ["done before"] * 2


def test_what_is_typed_wins(folder):
    path = save(folder, "--no-assess")
    query = [folder / "c2.tif", "--concept", path, "--out", folder / "out"]
    assert call("segment", *query, "--param", "seed=3") == 0
    record = json.loads((folder / "out" / "provenance.json").read_text())
    assert record["c2_labels.tif"]["params"]["trees"] == 10
    assert record["c2_labels.tif"]["params"]["seed"] == 3
    extra = ["--method", "prototype", "--support", folder / "c3.tif", folder / "m3.tif"]
    assert call("segment", *query, *extra) == 0
    record = json.loads((folder / "out" / "provenance.json").read_text())
    assert record["c2_labels.tif"]["method"] == "prototype"
    assert len(record["c2_labels.tif"]["inputs"]["supports"]) == 3


def test_a_project_becomes_a_concept(folder, blob_pair):
    session = nf.Session(autosave=False)
    session.add_support(*blob_pair(0), classes={1: "cell"}, name="a")
    session.set_method("pixel", params={"trees": 10})
    session.save(folder / "p.fewshot-project")
    words = ["--project", folder / "p.fewshot-project", "--no-assess"]
    assert call("concept", "save", *words, "--out", folder / "x") == 0
    found = nf.load_concept(folder / "x.fewshot")
    assert (found.method, found.classes) == ("pixel", {1: "cell"})


def test_nothing_to_save(folder, capsys):
    assert call("concept", "save", "--out", folder / "x") == 1
    assert "There is no support yet" in capsys.readouterr().err
    assert call("segment", folder / "c2.tif", "--concept", folder / "no.fewshot") == 1
    assert "is no file" in capsys.readouterr().err
