"""The command line: what it writes, how it resumes, how it fails."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import tifffile

import napari_fewshot as nf
from napari_fewshot.cli import main

FAST = ["--method", "pixel", "--param", "trees=10", "--param", "leave_one_out=no"]


@pytest.fixture
def folder(tmp_path, blob_pair):
    for number in range(4):
        image, labels = blob_pair(number)
        tifffile.imwrite(tmp_path / f"c{number}.tif", image)
        (tmp_path / "truth").mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / "truth" / f"c{number}.tif", labels.astype(np.uint8))
    return tmp_path


def call(*words):
    with pytest.raises(SystemExit) as stop:
        main([str(w) for w in words])
    return stop.value.code


def segment(folder, *queries, out="out", extra=()):
    support = ["--support", folder / "c0.tif", folder / "truth" / "c0.tif"]
    return call("segment", *queries, *support, *FAST, *extra, "--out", folder / out)


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_segment_writes_labels_provenance_and_report(folder, capsys):
    assert segment(folder, folder / "c1.tif", folder / "c2.tif") == 0
    assert f"2 of 2 written to {folder / 'out'}" in capsys.readouterr().out
    labels = tifffile.imread(folder / "out" / "c1_labels.tif")
    truth = tifffile.imread(folder / "truth" / "c1.tif")
    assert nf.evaluate(labels, truth)["dice"][0] > 0.9
    record = json.loads((folder / "out" / "provenance.json").read_text())
    assert set(record) == {"c1_labels.tif", "c2_labels.tif"}
    assert record["c1_labels.tif"]["method"] == "pixel"
    report = rows(folder / "out" / "report.csv")
    assert [r["status"] for r in report] == ["done", "done"]
    assert float(report[0]["expected dice class 1"]) > 0


def test_a_batch_resumes_and_notices_changes(folder):
    assert segment(folder, folder / "c1.tif") == 0
    before = (folder / "out" / "c1_labels.tif").stat().st_mtime_ns
    assert segment(folder, str(folder / "c[12].tif")) == 0
    assert [r["status"] for r in rows(folder / "out" / "report.csv")] == [
        "done before",
        "done",
    ]
    assert (folder / "out" / "c1_labels.tif").stat().st_mtime_ns == before
    assert segment(folder, folder / "c1.tif", extra=["--param", "seed=3"]) == 0
    assert rows(folder / "out" / "report.csv")[0]["status"] == "done"
    assert segment(folder, folder / "c1.tif", extra=["--param", "seed=3"]) == 0
    assert rows(folder / "out" / "report.csv")[0]["status"] == "done before"
    extra = ["--param", "seed=3", "--overwrite"]
    assert segment(folder, folder / "c1.tif", extra=extra) == 0
    assert rows(folder / "out" / "report.csv")[0]["status"] == "done"


def test_some_fail_the_rest_is_written(folder, capsys):
    (folder / "c9.tif").write_bytes(b"not an image")
    assert segment(folder, folder) == 3
    report = {r["image"]: r for r in rows(folder / "out" / "report.csv")}
    assert report["c9.tif"]["status"] == "failed"
    assert "can't be read" in report["c9.tif"]["message"]
    assert report["c3.tif"]["status"] == "done"
    assert "c9.tif" in capsys.readouterr().err


def test_all_fail(folder):
    (folder / "bad.tif").write_bytes(b"not an image")
    assert segment(folder, folder / "bad.tif") == 1


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        pytest.param(["segment", "nowhere.tif"], 1, "no support yet", id="no-support"),
        pytest.param(["segment", "--support", "a"], 2, "two files", id="half-support"),
        pytest.param(["nothing"], 2, "No such command", id="command"),
        pytest.param(["models", "info", "filtres"], 1, "'filters'", id="model"),
        pytest.param(["segment", "--method", "pixle"], 1, "'pixel'", id="method"),
        pytest.param(["segment", "--param", "seed"], 1, "name=value", id="param"),
        pytest.param(["segment", "--param", "sed=1"], 2, "'seed'", id="unknown-param"),
        pytest.param(["evaluate", "a.tif", "b.tif"], 1, "does not exist", id="missing"),
        pytest.param(["benchmark", "few-shot", "nowhere"], 1, "no data set", id="root"),
    ],
)
def test_errors_are_one_sentence(words, code, text, capsys):
    assert call(*words) == code
    error = capsys.readouterr().err
    assert text in error
    assert "Traceback" not in error


def test_other_evidence_is_refused_with_advice(folder, capsys):
    assert segment(folder, folder / "c1.tif", extra=["--text", "1=cell: a cell"]) == 1
    assert "models download clip" in " ".join(capsys.readouterr().err.split())


def test_prompts_from_a_file(folder, capsys):
    point = np.argwhere(tifffile.imread(folder / "truth" / "c1.tif"))[0].tolist()
    path = folder / "p.json"
    path.write_text(json.dumps({"1": {"points": [point]}}))
    words = ["segment", folder / "c1.tif", "--prompts", path, "--out", folder / "alone"]
    assert call(*words) == 0
    labels = tifffile.imread(folder / "alone" / "c1_labels.tif")
    assert labels[tuple(point)] == 1
    assert segment(folder, folder / "c1.tif", extra=["--prompts", path]) == 0
    path.write_text("{")
    assert segment(folder, folder / "c2.tif", extra=["--prompts", path]) == 1
    assert "read as JSON" in " ".join(capsys.readouterr().err.split())
    path.write_text(json.dumps({"1": {"points": [[4000, 4]]}}))
    assert segment(folder, folder / "c2.tif", extra=["--prompts", path]) == 1


def test_a_project_is_a_support(folder, blob_pair):
    session = nf.Session(method="pixel", autosave=False)
    session.add_support(*blob_pair(0), classes={1: "blob"})
    session.set_query(blob_pair(1)[0])
    path = session.save(folder / "p.fewshot-project")
    code = call("segment", "--project", path, *FAST, "--out", folder / "o")
    assert code == 0
    labels = tifffile.imread(folder / "o" / "query_labels.tif")
    assert nf.evaluate(labels, blob_pair(1)[1])["dice"][0] > 0.9


def test_evaluate_files_and_folders(folder, capsys):
    segment(folder, folder / "c1.tif", folder / "c2.tif")
    html, table = folder / "r.html", folder / "r.json"
    code = call(
        "evaluate", folder / "out", folder / "truth", "--json", table, "--html", html
    )
    assert code == 0
    content = json.loads(table.read_text())
    assert [r["case"] for r in content["rows"]] == ["c1", "c2"]
    assert content["rows"][0]["dice"] > 0.9
    assert "<table" in html.read_text()
    one = ("evaluate", folder / "out" / "c1_labels.tif", folder / "truth" / "c1.tif")
    assert call(*one) == 0
    assert "dice" in capsys.readouterr().out


def test_lists(capsys):
    assert call("methods", "--details") == 0
    assert call("models", "list") == 0
    assert call("models", "info", "filters") == 0
    assert call("models", "download", "filters") == 0
    assert call("models", "verify") == 0
    assert call("--version") == 0
    text = capsys.readouterr().out
    for word in ("template", "min_area", "filters: works", nf.__version__):
        assert word in text


def test_clean_lists_and_removes(home, capsys, monkeypatch, blob_pair):
    session = nf.Session()
    session.add_support(*blob_pair(0))
    session.close()
    (home / "cache").mkdir()
    (home / "cache" / "x").write_text("x")
    assert call("clean", "--yes") == 0
    assert not (home / "cache").exists()
    assert (home / "data").exists(), "projects stay unless --all is given"
    monkeypatch.setattr("builtins.input", lambda *_: "n")
    monkeypatch.setattr("typer.confirm", lambda *_: False)
    assert call("clean", "--all") == 0
    assert (home / "data").exists()
    assert call("clean", "--all", "--yes") == 0
    assert not (home / "data").exists()
    assert "1 saved sessions" in capsys.readouterr().out


def test_help_is_quick_and_needs_nothing_heavy():
    code = (
        "import sys; sys.argv = ['x', '--help']\n"
        "from napari_fewshot.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'numpy', 'torch', 'pandas', 'napari'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
