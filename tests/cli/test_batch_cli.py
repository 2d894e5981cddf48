"""``segment`` with jobs, formats, measurements, a look ahead, and a page."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import tifffile

from napari_fewshot.cli import main

FAST = ["--method", "pixel", "--param", "trees=5", "--param", "leave_one_out=no"]


@pytest.fixture
def folder(tmp_path, blob_pair):
    (tmp_path / "masks").mkdir()
    for number in range(3):
        image, labels = blob_pair(number, (48, 56), 4)
        tifffile.imwrite(tmp_path / f"c{number}.tif", image)
        tifffile.imwrite(tmp_path / "masks" / f"c{number}.tif", labels.astype("u1"))
    return tmp_path


def call(*words):
    with pytest.raises(SystemExit) as stop:
        main([str(w) for w in words])
    return stop.value.code


def segment(folder, *words):
    support = ["--support", folder / "c0.tif", folder / "masks" / "c0.tif"]
    return call("segment", *words, *support, *FAST, "--out", folder / "out")


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_jobs_with_measurements_and_a_page(folder, capsys):
    jobs = folder / "jobs.csv"
    jobs.write_text("image,well,out\nc1.tif,A01,one.tif\nnone.tif,A02,\nc2.tif,A03,\n")
    assert segment(folder, "--jobs", jobs, "--measure", "--scale", "2,2") == 3
    out = folder / "out"
    report = rows(out / "report.csv")
    assert [r["status"] for r in report] == ["done", "failed", "done"]
    assert [r["well"] for r in report] == ["A01", "A02", "A03"]
    assert (out / "one.tif").is_file()
    measured = rows(out / "measurements.csv")
    assert {r["image"] for r in measured} == {"c1.tif", "c2.tif"}
    whole = sum(float(r["area"]) for r in measured if r["image"] == "c1.tif")
    assert whole == 4 * (tifffile.imread(out / "one.tif") == 1).sum()
    assert "<main>" in (out / "report.html").read_text()
    assert "none.tif" in capsys.readouterr().err
    assert segment(folder, "--jobs", jobs, "--measure", "--scale", "2,2") == 3
    again = rows(out / "report.csv")
    assert [r["status"] for r in again] == ["done before", "failed", "done before"]
    assert again[0]["area class 1"] == report[0]["area class 1"]


def test_wrong_jobs_start_nothing(folder, capsys):
    jobs = folder / "jobs.csv"
    jobs.write_text("image,scale\nc1.tif,\nc2.tif,wide\n")
    assert segment(folder, "--jobs", jobs) == 1
    assert "row 2: scale=wide" in " ".join(capsys.readouterr().err.split())
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("tif", "_labels.tif"),
        ("png", "_labels.png"),
        ("nii", "_labels.nii.gz"),
        ("ome-zarr", "_labels.ome.zarr"),
        ("coco", "_labels.coco.json"),
        ("geojson", "_labels.geojson"),
    ],
)
def test_formats(folder, name, ending):
    from napari_fewshot.io import open_labels

    assert segment(folder, folder / "c1.tif", "--format", name) == 0
    path = folder / "out" / f"c1{ending}"
    assert path.exists()
    if name in ("coco", "geojson"):
        content = json.loads(path.read_text())
        assert content["annotations" if name == "coco" else "features"]
    else:
        assert set(np.unique(open_labels(path)).tolist()) == {0, 1}
    assert segment(folder, folder / "c1.tif", "--format", name) == 0
    assert rows(folder / "out" / "report.csv")[0]["status"] == "done before"


def test_an_unknown_format_is_refused(folder, capsys):
    assert segment(folder, folder / "c1.tif", "--format", "bmp") == 1
    assert "geojson" in capsys.readouterr().err


def test_a_look_ahead_writes_nothing(folder, capsys):
    (folder / "bad.tif").write_bytes(b"")
    queries = [folder / "c1.tif", folder / "bad.tif", folder / "c2.tif"]
    assert segment(folder, *queries, "--dry-run") == 3
    told = capsys.readouterr().out
    assert told.count("1 plane, about") == 2
    assert "bad.tif" in told
    assert "All 3: 2 planes, about" in told
    assert not (folder / "out").exists()
    assert segment(folder, folder / "c1.tif", "--dry-run") == 0


def test_a_part_of_the_image(folder):
    words = ["--region", "0,0,24,56"]
    assert segment(folder, folder / "c1.tif", *words) == 0
    labels = tifffile.imread(folder / "out" / "c1_labels.tif")
    assert not labels[24:].any()
    assert segment(folder, folder / "c1.tif") == 0
    assert rows(folder / "out" / "report.csv")[0]["status"] == "done"
    assert tifffile.imread(folder / "out" / "c1_labels.tif")[24:].any()
    assert segment(folder, folder / "c1.tif", "--region", "0,0,24") == 1
