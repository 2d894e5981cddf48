"""What the command line says of a run, where its users look first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

import napari_fewshot as nf
from napari_fewshot.cli import main
from napari_fewshot.cli._told import told


@pytest.fixture
def folder(tmp_path, blob_pair):
    for number in range(2):
        image, labels = blob_pair(number)
        tifffile.imwrite(tmp_path / f"c{number}.tif", image)
        tifffile.imwrite(tmp_path / f"m{number}.tif", labels.astype(np.uint8))
    return tmp_path


def call(*words):
    with pytest.raises(SystemExit) as stop:
        main([str(w) for w in words])
    return stop.value.code


def test_one_method_with_its_parameters(capsys):
    assert call("methods", "pixel") == 0
    said = capsys.readouterr().out
    assert "trees" in said
    assert "template" not in said
    assert call("methods", "pixle") == 1
    assert "pixel" in capsys.readouterr().err


def test_a_comparison_prints_its_table(folder, capsys):
    words = ["--support", folder / "c0.tif", folder / "m0.tif"]
    words += ["--methods", "pixel,prototype", "--models", "filters"]
    words += ["--param", "pixel.trees=8", "--out", folder / "out"]
    assert call("compare", folder / "c1.tif", *words) == 0
    said = capsys.readouterr().out
    assert "pixel" in said
    assert "prototype" in said
    assert "expected dice" in said


def test_one_support_is_called_a_rough_guess(folder, capsys):
    quick = ["--method", "pixel", "--param", "trees=8"]
    one = ["--support", folder / "c0.tif", folder / "m0.tif"]
    assert call("check", *one, *quick) == 0
    assert "rough guess" in capsys.readouterr().out
    two = ["--support", folder / "c1.tif", folder / "m1.tif"]
    assert call("check", *one, *two, *quick) == 0
    assert "rough guess" not in capsys.readouterr().out


def test_a_batch_tells_choices_and_what_files_do_not_keep():
    rows = [
        {"file": f"{i}.tif", "status": "done", "expected dice a": 0.5, "message": m}
        for i, m in enumerate(["Numbers are not kept.", "Numbers are not kept.", ""])
    ]
    rows.append({"file": "x.tif", "status": "failed", "message": "It is damaged."})
    choices = ["network + pixel", "network + pixel", "template"]
    records = {
        f"{i}.tif": {"method": "auto", "choice": c, "notes": ["Rescaled."]}
        for i, c in enumerate(choices)
    }
    lines = told(rows, records, Path("out")).splitlines()
    assert lines == [
        "3 of 4 written to out, expected Dice 0.50.",
        "auto used network + pixel (2 images).",
        "auto used template (1 image).",
        "Rescaled.",
        "Numbers are not kept.",
    ]
    same = {name: {**record, "choice": "pixel"} for name, record in records.items()}
    assert "auto used pixel." in told(rows, same, Path("out")).splitlines()
    other = {name: {**record, "method": "pixel"} for name, record in records.items()}
    assert "used" not in told(rows, other, Path("out"))


def test_file_names_are_no_labels(tmp_path):
    labels = np.zeros((8, 8), np.uint8)
    for name in ("mask.png", tmp_path / "mask.png"):
        with pytest.raises(nf.DataError, match="name of a file"):
            nf.evaluate(labels, name)
