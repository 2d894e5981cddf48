"""``benchmark few-shot`` from its arguments to the files it writes."""

from __future__ import annotations

import csv
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

import napari_fewshot as nf
from napari_fewshot.cli import main
from napari_fewshot.cli._benchmark import plane_query, plane_support
from napari_fewshot.cli._fewshot_engines import MethodEngine
from napari_fewshot.cli._fewshot_options import Contender, FewShotOptions
from napari_fewshot.cli._fewshot_plots import draw_plot
from napari_fewshot.cli._fewshot_report import Report, Result
from napari_fewshot.cli._fewshot_tasks import Cell
from napari_fewshot.data import SupportSet
from napari_fewshot.evaluation import EpisodeScore
from napari_fewshot.inference import FitCache

SHAPE = (32, 128)
FAST = ["--model", "filters", "--seeds", "1", "--shots", "1"]
FEW_TREES = ["--param", "pixel.trees=5", "--param", "leave_one_out=no"]
PIXEL = ["--method", "pixel", "--param", "trees=5", "--param", "leave_one_out=no"]


def run(*words) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["benchmark", "few-shot", *map(str, words)])
    return stop.value.code


def discs(seed):
    """Return a noisy image with three discs, their mask and their numbers."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    numbers = np.zeros(SHAPE, np.uint16)
    for i, x in enumerate((22, 62, 104)):
        y, radius = rng.integers(12, 20), rng.uniform(7, 11)
        numbers[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = i + 1
    image = 60 + 90 * (numbers > 0) + rng.normal(0, 15, SHAPE)
    return np.clip(image, 0, 255).astype(np.uint8), numbers


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two data sets of four images, one of which numbers its objects."""
    root = tmp_path_factory.mktemp("data")
    for name in ("plain", "numbered"):
        items = []
        (root / name).mkdir()
        for i in range(4):
            image, numbers = discs(i + 10 * len(name))
            layers = {"image": image, "mask": (numbers > 0).astype(np.uint8)}
            if name == "numbered":
                layers["instances"] = numbers
            for kind, pixels in layers.items():
                tifffile.imwrite(root / name / f"{kind}{i}.tif", pixels)
            items.append({kind: f"{kind}{i}.tif" for kind in layers})
        facts = {"name": name, "classes": {"1": "disc"}, "items": items}
        (root / name / "dataset.json").write_text(json.dumps(facts))
    return root


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    """Ten volumes whose square moves by two pixels from one to the next."""
    root = tmp_path_factory.mktemp("volumes")
    items = []
    for i in range(10):
        labels = np.zeros((6, 24, 48), np.uint8)
        labels[1:5, 6:18, 2 + 2 * i : 18 + 2 * i] = 1
        noise = np.random.default_rng(i).normal(0, 8, labels.shape)
        image = np.clip(50 + 120 * labels + noise, 0, 255).astype(np.uint8)
        tifffile.imwrite(root / f"i{i}.tif", image)
        tifffile.imwrite(root / f"m{i}.tif", labels)
        items.append({"image": f"i{i}.tif", "mask": f"m{i}.tif", "group": str(i)})
    facts = {"name": "moving", "classes": {"1": "square"}, "items": items}
    facts["spacing"] = [7.0, 1.0, 1.5]
    (root / "dataset.json").write_text(json.dumps(facts))
    return root


def test_several_methods_on_the_same_episodes(folder, tmp_path, capsys):
    out = {k: tmp_path / f"t.{k}" for k in ("json", "csv", "png")}
    files = ["--json", out["json"], "--csv", out["csv"], "--plot", out["png"]]
    words = ["--method", "pixel,prototype,pixel", *FAST, *FEW_TREES, *files]
    assert run(folder, *words) == 0
    table = json.loads(out["json"].read_text())
    names = [(c["method"], c["model"]) for c in table["compared"]]
    assert names == [("pixel", "none"), ("prototype", "filters")]
    assert len(table["rows"]) == 4
    assert all(row["dice"] > 0.6 for row in table["rows"])
    named = {"method": "pixel", "model": "none"}
    assert table["compared"][0] == {**named, **table["macro"]}
    (pair,) = table["significance"]
    assert (pair["first"], pair["second"], pair["n"]) == (
        "pixel",
        "prototype, filters",
        2,
    )
    assert 0.5 <= pair["p"] == pair["p_holm"] <= 1
    assert table["failed"] == []
    with out["csv"].open() as file:
        lines = list(csv.DictReader(file))
    keys = ("dataset", "shots", "group", "query")
    by_method = {
        m: [tuple(r[k] for k in keys) for r in lines if r["method"] == m]
        for m in ("pixel", "prototype")
    }
    assert by_method["pixel"] == by_method["prototype"]
    mine = [float(r["dice"]) for r in lines if r["method"] == "pixel"]
    assert table["macro"]["dice"] == pytest.approx(np.mean(mine))
    with Image.open(out["png"]) as picture:
        assert picture.size[0] == 900
    said = capsys.readouterr().out
    assert "p (Holm)" in said


def test_parameters_of_volumes_and_tiles_act_as_for_users():
    image, numbers = discs(1)
    support = SupportSet([plane_support(image, numbers > 0, "0")])
    stack = np.stack([discs(seed)[0] for seed in (2, 2, 3)])
    query = nf.data.Image.from_array(stack, axes="zyx")
    params = {"trees": 5, "leave_one_out": False}
    count = {}
    for more in ({}, {"largest_volume": True}, {"tile": 40, "instances": "components"}):
        engine = MethodEngine("pixel", "auto", {**params, **more})
        found = engine.segment(support, query)
        assert found.masks.shape == stack.shape
        count[tuple(more)] = ndimage.label(found.masks)[1]
    assert count["largest_volume",] == 1 < count[()]
    assert found.instances.shape == stack.shape
    assert set(np.unique(found.instances[found.masks])) >= {1, 2, 3}


def test_expected_against_true_dice(tmp_path):
    image, numbers = discs(1)
    support = SupportSet([plane_support(image, numbers > 0, "0")])
    for leave_one_out in (True, False):
        params = {"trees": 5, "leave_one_out": leave_one_out}
        engine = MethodEngine("pixel", "auto", params)
        expected = engine.segment(support, plane_query(discs(2)[0])).expected
        assert len(expected) == leave_one_out
        assert all(0.5 < e <= 1 for e in expected)
    contender = Contender("pixel", "none", {})
    options = FewShotOptions()
    report = Report([contender], options)
    told = [((0.5, 0.7), (0.5, 0.5)), ((0.8, 0.8), (0.9, 0.7)), ((0.2,), (0.3,))]
    scores = [
        EpisodeScore("d", "c", 1, "0", ("q",) * len(e), {"dice": true}, e)
        for e, true in told
    ]
    scores.append(EpisodeScore("d", "c", 1, "0", ("q",), {"dice": (0.0,)}))
    report.add(Result(contender, Cell("d", "c", 1, ()), scores))
    found = report.table()["macro"]["estimate"]
    assert found["n"] == 3
    assert found["mae"] == pytest.approx(0.2 / 3)
    wanted = np.corrcoef([0.6, 0.8, 0.2], [0.5, 0.8, 0.3])[0, 1]
    assert found["correlation"] == pytest.approx(wanted)
    assert found["queries"]["n"] == 5
    assert found["queries"]["mae"] == pytest.approx(0.5 / 5)
    (line,) = report.lines(report.table())
    assert f"estimate: correlation {wanted:.2f}, mean error 0.067" in line
    draw_plot(tmp_path / "e.png", report.results, "dice")
    with Image.open(tmp_path / "e.png") as picture:
        # With a second panel.
        assert picture.size[0] == 1650


def test_one_method_keeps_its_keys_and_an_interrupted_run_goes_on(
    folder, tmp_path, capsys
):
    out = tmp_path / "one.json"
    words = [folder, *PIXEL, "--shots", 1, "--seeds", 2, "--json", out]
    assert run(*words) == 0
    table = json.loads(out.read_text())
    assert set(table) == {"rows", "macro", "environment"}
    assert list(table["rows"][0]) == [
        "dataset",
        "class",
        "shots",
        "dice",
        "iou",
        "seconds_per_image",
        "fit_seconds",
        "query_seconds",
        "n_queries",
    ]
    assert (table["environment"]["method"], table["environment"]["model"]) == (
        "pixel",
        "auto",
    )
    journal = out.with_suffix(".jsonl")
    lines = journal.read_text().splitlines(keepends=True)
    assert len(lines) == 4
    # Killed while the last line was written.
    journal.write_text("".join(lines[:3]) + lines[3][:40])
    out.unlink()
    capsys.readouterr()
    assert run(*words, "--resume") == 0
    assert "3 episodes are known" in capsys.readouterr().out
    again = json.loads(out.read_text())
    # Seconds, too: nothing of the first data set was done again.
    assert again["rows"][0] == table["rows"][0]
    assert [r["dice"] for r in again["rows"]] == [r["dice"] for r in table["rows"]]
    assert len(journal.read_text().splitlines()) == 4
    # Other parameters are another benchmark.
    assert run(*words, "--resume", "--param", "seed=3") == 0
    assert len(journal.read_text().splitlines()) == 8


def test_who_cant_run_is_left_out_and_named(folder, capsys):
    words = [folder, "--datasets", "plain", "--device", "cuda:97", "--shots", 1]
    few = ["--seeds", 1, "--param", "leave_one_out=no"]
    assert run(*words, *few, "--method", "pixel,incontext") == 0
    said = capsys.readouterr().out
    assert "incontext                n/a" in said
    assert "failed: " in said
    assert run(*words, "--method", "incontext") == 1
    assert "cuda:97" in capsys.readouterr().err


def test_single_objects(folder, tmp_path):
    out = tmp_path / "o.json"
    words = ["--protocol", "instances", "--shots", 1, "--seeds", 1, "--json", out]
    few = ["--param", "pixel.trees=5", "--param", "pixel.leave_one_out=no"]
    few += ["--method", "pixel,forest"]
    plot = ["--plot", tmp_path / "o.svg"]
    assert run(folder, *words, *few, *plot) == 0
    table = json.loads(out.read_text())
    assert [r["dataset"] for r in table["rows"]] == ["numbered"] * 2
    for row in table["rows"]:
        assert row["ap"] <= row["ap50"] <= 1
        assert row["ap50"] > 0.8
    assert table["macro"]["ap50"] == table["rows"][0]["ap50"]
    assert "AP at IoU 0.5" in (tmp_path / "o.svg").read_text()
    assert run(folder, *words, *few, "--datasets", "plain") == 1


@pytest.mark.parametrize(
    ("words", "dices"),
    [
        # Shifts of 4 and 2 pixels of 16 to the support, in every fold but the last.
        (["--support-rule", "extra_scan"], [0.75, 0.875] * 4 + [0, 0]),
        # The third of two scans and the extra one is the extra one.
        (["--support-rule", "index_2"], [0.75, 0.875] * 4 + [0, 0]),
        # Six slices, four of them with the square.
        (["--episode", "EP2"], [8 / 10 * d for d in [0.75, 0.875] * 4 + [0, 0]]),
    ],
)
def test_copied_masks_of_volumes(volumes, tmp_path, words, dices, capsys):
    out = tmp_path / "v.json"
    rest = ["--protocol", "chaos", "--method", "copy", "--hd95", "--json", out]
    assert run(volumes, *rest, *words) == 0
    table = json.loads(out.read_text())
    assert table["macro"]["dice"] == pytest.approx(np.mean(dices))
    assert table["macro"]["by_shots"] == {"1": table["macro"]["dice"]}
    flags = table["macro"]["flags"]
    assert words[1] in (flags["support_rule"], flags["episode"])
    assert words[1] in capsys.readouterr().out
    sliced = [0.75, 0.875] * 4 + [0, 0]
    assert table["rows"][0]["slice_dice"] == pytest.approx(np.mean(sliced))
    assert table["macro"]["hd95"] >= 3.0
    assert table["rows"][0]["n_queries"] == 10
    assert run(volumes, *rest, *words, "--limit-volumes", 1) == 0
    assert json.loads(out.read_text())["rows"][0]["n_queries"] == 5


def test_one_fit_per_support_slice(volumes, monkeypatch, tmp_path):
    fits = []
    put = FitCache.put

    def counted(self, key, fit):
        fits.append(key)
        put(self, key, fit)

    monkeypatch.setattr(FitCache, "put", counted)
    out = tmp_path / "v.json"
    words = ["--protocol", "chaos", "--method", "template", "--json", out]
    assert run(volumes, *words, "--param", "leave_one_out=no") == 0
    table = json.loads(out.read_text())
    # Five folds with three support slices each, for ten queries of three chunks.
    assert len(fits) == len(set(fits)) == 15
    assert table["macro"]["dice"] > 0.6
    assert table["macro"]["estimate"]["n"] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--protocol", "magic"], "planes, instances"),
        (["--method", "copy"], "--protocol chaos"),
        (["--shots", "0"], "1 or more"),
        (["--shots", "x"], "numbers"),
        (["--resume"], "--json"),
        (["--method", "pixle"], "'pixel'"),
        (["--method", "prototype", "--model", "sam/vit_b"], "not installed"),
        (["--method", "pixel", "--param", "template.seed=1"], "not scored"),
        (["--episode", "EP3"], "EP1 or EP2"),
        (["--support-rule", "best"], "index_2"),
        (["--limit-volumes", "0"], "1 or more"),
        (["--plot", "a.txt"], ".png or .svg"),
        (["--shots", "5", *PIXEL], "Nothing could be scored"),
    ],
)
def test_bad_options_are_named(folder, words, said, capsys):
    assert run(folder, *words) == 1
    assert said in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("protocol", ["planes", "instances", "chaos"])
def test_a_folder_without_data(tmp_path, protocol, capsys):
    assert run(tmp_path, "--protocol", protocol) == 1
    assert "dataset.json" in capsys.readouterr().err


@pytest.fixture(scope="module")
def with_weights():
    path = Path(__file__).parents[2] / "benchmarks" / "with_weights.py"
    spec = importlib.util.spec_from_file_location("with_weights", path)
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(importlib.sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        yield module


def test_the_plan_of_the_published_comparison(with_weights, folder, volumes, capsys):
    words = ["--data", str(folder), "--chaos", str(volumes), "--dry-run"]
    assert with_weights.main(words) == 0
    said = capsys.readouterr().out
    assert "skipped model sam/vit_b: not installed. Get it with" in said
    assert "1/5 planes" in said
    assert "5/5 chaos_ep2" in said
    assert with_weights.main(["--chaos", "nowhere", "--dry-run"]) == 1
    said = capsys.readouterr().out
    assert "data sets: give --data" in said
    assert "nowhere is no folder" in said
    assert with_weights.main(["--models", "sam/vit_b,magic"]) == 1
    assert "magic: there is none" in capsys.readouterr().out


def test_the_published_comparison_runs_and_goes_on(
    with_weights, folder, tmp_path, capsys
):
    words = f"--data {folder} --out {tmp_path} --models filters --methods prototype"
    more = "--datasets plain --seeds 1 --shots 1"
    for _ in range(2):
        assert with_weights.main([*words.split(), *more.split()]) == 0
        table = json.loads((tmp_path / "planes.json").read_text())
        compared = [c["method"] for c in table["compared"]]
        assert compared == ["prototype", "forest"]
    said = capsys.readouterr().out
    assert "skipped instances: no data set numbers its objects" in said
    assert "going on: 2 episodes are known" in said
