"""``benchmark text`` from its arguments to the files it writes."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests import tiny_clip
from tests.models.clip.tiny import write_native

import napari_fewshot as nf
from napari_fewshot.cli import main
from napari_fewshot.cli._text_engines import TextEngine
from napari_fewshot.cli._text_options import TextOptions
from napari_fewshot.cli._text_report import TextReport
from napari_fewshot.io import open_image

SHAPE = (64, 96)
QUICK = ["--original", "--bounds", "none", "--sensitivity", "0"]


def run(*words) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["benchmark", "text", *map(str, words)])
    return stop.value.code


def picture(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


def disc(seed):
    """Return a noisy image with a bright disc, and its mask."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    y, x = rng.integers(20, 44), rng.integers(20, 76)
    mask = (rows - y) ** 2 + (columns - x) ** 2 < 13**2
    image = np.clip(60 + 120 * mask + rng.normal(0, 10, SHAPE), 0, 255)
    return image.astype(np.uint8), mask


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A CLIP that has learnt nothing."""
    return write_native(tmp_path_factory.mktemp("clip") / "native")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    items = []
    for i in range(5):
        image, mask = disc(i)
        picture(root / f"discs/images/{i}.png", image)
        picture(root / f"discs/masks/{i}.png", mask)
        item = {"image": f"images/{i}.png", "mask": f"masks/{i}.png"}
        items.append({**item, "group": "aabcd"[i]})
    facts = {
        "classes": {"1": "bright_disc"},
        "text_prompts": {"1": ["round blob", "bright disc"]},
        "items": items,
    }
    (root / "discs" / "dataset.json").write_text(json.dumps(facts))
    return root


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    root = tmp_path_factory.mktemp("tasks")
    for split, seeds in (("test", range(2)), ("val", range(5, 9))):
        for i in seeds:
            image, mask = disc(i)
            picture(root / f"tumour/{split}_images/{i}.png", image)
            picture(root / f"tumour/{split}_masks/{i}.png", 255 * mask)
    return root


def dice(p, r):
    both, size = np.sum(p & r), p.sum() + r.sum()
    return 1.0 if size == 0 else 2 * both / size


def test_rows_are_what_users_get(folder, weights, tmp_path, capsys):
    out = {k: tmp_path / f"t.{k}" for k in ("json", "csv", "md")}
    files = ["--json", out["json"], "--csv", out["csv"], "--markdown", out["md"]]
    words = ["--method", "maskclip,sclip", "--checkpoint", weights, "--original"]
    words += ["--param", "presence=no", "--bounds", "random-phrase,whole-box"]
    assert run(folder, *words, *files) == 0
    table = json.loads(out["json"].read_text())
    expected, heats = {}, {}
    for method in ("maskclip", "sclip"):
        how = {"method": method, "checkpoint": weights, "presence": False}
        for i in range(5):
            image, mask = disc(i)
            found = nf.segment(image, text="round blob", **how)
            expected[method, i] = dice(found.labels == 1, mask)
            heat = nf.where(image, "round blob", **how)[1].maps["heat map"]
            heats[method, i] = dice(heat > 0.5, mask)
    for row in table["rows"]:
        mine = [v for (m, _), v in expected.items() if m == row["method"]]
        assert row["dice"] == pytest.approx(np.mean(mine))
        assert row["dice_std"] == pytest.approx(np.std(mine, ddof=1))
        coarse = [v for (m, _), v in heats.items() if m == row["method"]]
        assert row["coarse_dice"] == pytest.approx(np.mean(coarse))
        assert (row["phrase"], row["mode"], row["n_queries"]) == (
            "round blob",
            "leak-free",
            5,
        )
        assert 0 <= row["nsd_2d"] <= row["nsd_slab"] <= 1
        assert row["random_dice"] is not None
        assert row["model"] == f"open_clip/{weights.name}"
    compared = {c["method"]: c for c in table["compared"]}
    assert compared["maskclip"]["dice"] == table["rows"][0]["dice"]
    assert table["macro"]["dice"] == table["rows"][0]["dice"]
    assert [b["method"] for b in table["bounds"]] == ["whole-box"]
    assert table["bounds"][0]["mode"] == "bound"
    (pair,) = table["significance"]
    assert (pair["first"], pair["second"], pair["n"]) == ("maskclip", "sclip", 5)
    phrases = {(s["method"], s["phrase"]) for s in table["sensitivity"]}
    assert ("maskclip", "bright disc") in phrases
    assert len(phrases) == 4
    digests = table["manifest"]["discs"]["images/3"]
    for kind in ("image", "mask"):
        path = folder / "discs" / f"{kind}s" / "3.png"
        assert digests[kind] == hashlib.sha256(path.read_bytes()).hexdigest()
    sha = set(table["environment"]["weights_sha256"].values())
    assert len(sha) == 1
    with out["csv"].open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 2 * 2 * 5
    typed = [r for r in lines if (r["method"], r["asked"]) == ("sclip", "typed")]
    each = {r["image"]: float(r["dice"]) for r in typed}
    assert each["images/2"] == pytest.approx(expected["sclip", 2])
    page = out["md"].read_text()
    assert "**leak-free**" in page
    assert "| whole-box |" in page
    said = capsys.readouterr().out
    assert "p (Holm)" in said
    assert "leak-free: phrases fixed, settings fixed" in said


def test_a_run_goes_on_where_it_stopped(folder, weights, tmp_path, capsys):
    path = tmp_path / "t.json"
    words = ["--checkpoint", weights, *QUICK, "--no-maps", "--json", path]
    assert run(folder, *words, "--limit", "2") == 0
    assert len(path.with_suffix(".jsonl").read_text().splitlines()) == 2
    first = json.loads(path.read_text())["rows"][0]
    assert "auc" not in first
    assert run(folder, *words, "--resume") == 0
    assert "going on: 2 images are known" in capsys.readouterr().out
    lines = path.with_suffix(".jsonl").read_text().splitlines()
    assert len(lines) == 5
    assert run(folder, *words, "--resume") == 0
    kept = path.with_suffix(".jsonl").read_text().splitlines()
    # The same seconds: nothing was done again.
    assert [json.loads(k) for k in kept] == [json.loads(k) for k in lines]
    # Other phrases are another question.
    assert run(folder, *words, "--resume", "--prompt-mode", "name") == 0
    assert len(path.with_suffix(".jsonl").read_text().splitlines()) == 10


def test_settings_chosen_on_three_labelled_images(folder, weights, tmp_path, capsys):
    path = tmp_path / "t.json"
    words = ["--method", "m2ib", "--checkpoint", weights, *QUICK, "--json", path]
    words += ["--hparams", "val3", "--grid", "beta=0.1,2", "--grid", "layer=8"]
    words += ["--param", "steps=2", "--param", "samples=1"]
    assert run(folder, *words) == 0
    table = json.loads(path.read_text())
    (row,) = table["rows"]
    chosen = row["chosen"]
    assert row["mode"] == "paper"
    assert "3 labelled" in table["conditions"]["labels_used"][0]
    assert "labels are used" in capsys.readouterr().out
    assert (chosen["settings"], chosen["layer"]) == (2, 8)
    assert row["params"]["beta"] == chosen["beta"]
    # No image that was seen while choosing is scored, nor its twin of the same group.
    lines = path.with_suffix(".jsonl").read_text().splitlines()
    tried = [json.loads(line) for line in lines]
    val = {k["image"] for k, _ in tried if k["what"] == "val"}
    scored = {k["image"] for k, _ in tried if k["what"] == "typed"}
    assert val == set(chosen["images"])
    groups = dict(zip((f"images/{i}" for i in range(5)), "aabcd", strict=True))
    assert len({groups[v] for v in val}) == 3
    assert scored
    assert not {groups[v] for v in val} & {groups[s] for s in scored}
    means = {}
    for key, score in tried:
        if key["what"] == "val":
            found = means.setdefault(key["params"]["beta"], [])
            found.append(score["figures"]["dice"][0])
    best = max(means, key=lambda b: np.mean(means[b]))
    assert chosen["dice"] == pytest.approx(np.mean(means[best]))
    assert np.mean(means[chosen["beta"]]) == pytest.approx(np.mean(means[best]))


def test_the_level_of_the_choice_is_that_of_the_map(weights):
    """With a fixed cut, 0.5 of what is shown is this share of the map's range."""
    image, _ = disc(3)
    how = {"method": "surgery", "checkpoint": weights, "cut": "fixed"}
    low, high = (
        nf.where(image, "round blob", **how, level=level)[1].maps["heat map"]
        for level in (0.3, 0.6)
    )
    # Below both levels the rescaling is linear, so the range can be read off.
    assert (high > 0.5).sum() < (low > 0.5).sum()
    assert not ((high > 0.5) & ~(low > 0.5)).any()
    # Linear on both sides of the level: 0 at the least value, 0.5 at the level. So 0.5
    # of the lower cut is 0.25 of the higher one, which puts 0.5 at twice the level.
    assert np.array_equal(low > 0.5, high > 0.25) or (
        ((low > 0.5) != (high > 0.25)).mean() < 0.01
    )


def test_a_model_that_has_learnt_is_told_from_nonsense(tmp_path):
    ring = tiny_clip.captions.Phrase("ring", ({"shape": "ring"},))
    scenes = [tiny_clip.scene(number) for number in range(1000, 1040)]
    known = [s for s in scenes if all(ring.fits(t) >= 0 for t in s.things)]
    items = []
    for i, scene in enumerate([s for s in known if s.mask(ring).any()][:3]):
        picture(tmp_path / f"rings/i{i}.png", 255 * scene.image)
        picture(tmp_path / f"rings/m{i}.png", scene.mask(ring))
        items.append({"image": f"i{i}.png", "mask": f"m{i}.png"})
    facts = {"classes": {"1": "ring"}, "items": items}
    (tmp_path / "rings" / "dataset.json").write_text(json.dumps(facts))
    folder = tiny_clip.write(tmp_path / "weights")
    words = ["--method", "clearclip", "--checkpoint", folder, "--prompt-mode", "name"]
    words += ["--original", "--bounds", "random-phrase", "--sensitivity", "0"]
    assert run(tmp_path, *words, "--json", tmp_path / "t.json") == 0
    table = json.loads((tmp_path / "t.json").read_text())
    (row,) = table["rows"]
    assert row["n_queries"] == 3
    assert row["auc"] > 0.85
    assert row["best_dice"] > 0.4
    assert row["random_dice"] < 0.15


def test_figures_of_a_map_outlive_its_saturation(weights):
    image, _ = disc(3)
    engine = TextEngine("maskclip", "auto", TextOptions(checkpoint=weights))
    query = open_image(image)
    far = np.full(SHAPE, 0.25, np.float32)
    far[:3] = 0.5
    spread = engine.order(query, ("round blob",), {}, far)
    assert len(np.unique(spread)) > 0.2 * spread.size
    assert np.mean(spread > 0.5) == pytest.approx(0.5, abs=0.05)
    assert engine.order(query, ("round blob",), {}, spread) is spread


def test_tasks_with_a_phrase_per_image(task, weights, tmp_path):
    prompts, path = tmp_path / "p3.json", tmp_path / "t.json"
    prompts.write_text(json.dumps({"0.png": "dark lesion", "1.png": "bright tumour"}))
    words = ["--checkpoint", weights, "--prompts", prompts, *QUICK, "--json", path]
    assert run(task, *words, "--prompt-mode", "oracle") == 0
    table = json.loads(path.read_text())
    (row,) = table["rows"]
    assert (row["phrase"], row["mode"], row["n_queries"]) == ("per image", "paper", 2)
    assert "subtype" in table["conditions"]["labels_used"][0]
    assert list(table["manifest"]["tumour"]) == ["0", "1"]
    lines = path.with_suffix(".jsonl").read_text().splitlines()
    asked = [json.loads(line)[0]["phrases"] for line in lines]
    assert asked == [["dark lesion"], ["bright tumour"]]
    prompts.write_text(json.dumps({"0.png": "dark lesion"}))
    assert run(task, *words, "--prompt-mode", "oracle") == 1


def test_all_val_images_need_a_split(task, folder, weights, tmp_path, capsys):
    path = tmp_path / "t.json"
    words = ["--checkpoint", weights, *QUICK, "--prompt-mode", "name", "--no-maps"]
    words += ["--hparams", "val-full", "--grid", "flips=no,yes"]
    words += ["--method", "maskclip"]
    assert run(task, *words, "--json", path) == 0
    (row,) = json.loads(path.read_text())["rows"]
    assert sorted(row["chosen"]["images"]) == ["5", "6", "7", "8"]
    assert run(folder, *words) == 1
    assert "has no val images" in capsys.readouterr().err


def test_bounds_are_ordered(folder, weights, tmp_path):
    path = tmp_path / "t.json"
    bounds = "oracle-box,oracle-boxes,centre-box"
    words = ["--checkpoint", weights, "--sensitivity", "0", "--no-maps", "--limit", "1"]
    assert run(folder, *words, "--bounds", bounds, "--json", path) == 0
    found = {b["method"]: b["dice"] for b in json.loads(path.read_text())["bounds"]}
    assert found["oracle-box"] > 0.9
    assert found["oracle-boxes"] > 0.9
    assert found["centre-box"] < found["oracle-box"] - 0.1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "persam"], "does not read text"),
        (["--method", "clearclp"], "did you mean 'clearclip'"),
        (["--prompt-mode", "oracle"], "needs --prompts"),
        (["--hparams", "val3"], "No settings of text"),
        (["--param", "steps"], "name=value"),
        (["--param", "beta=2"], "Unknown parameter 'beta'"),
        (["--datasets", "nowhere"], "no data set"),
        (["--bounds", "hope"], "--bounds has no 'hope'"),
        (["--checkpoint", "nowhere"], "does not exist"),
    ],
)
def test_what_cannot_be_run(folder, words, message, capsys):
    assert run(folder, *words) != 0
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told


def test_no_model_is_installed(folder, capsys):
    assert run(folder) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_a_report_without_results():
    report = TextReport([], TextOptions())
    assert report.is_empty


@pytest.fixture(scope="module")
def with_weights():
    path = Path(__file__).parents[2] / "benchmarks" / "with_weights.py"
    spec = importlib.util.spec_from_file_location("with_weights_text", path)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(importlib.sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        yield module


def test_the_plan_names_what_is_missing(with_weights, folder, capsys):
    assert with_weights.main(["text", "--data", str(folder)]) == 1
    said = capsys.readouterr().out
    assert "skipped model clip/vit_b_16: not installed. Get" in said
    assert "no model that reads text is installed" in said
    assert with_weights.main(["text", "--models", "sam/vit_b,magic"]) == 1
    said = capsys.readouterr().out
    assert "sam/vit_b: it does not read text" in said
    assert "magic: there is none" in said


def test_the_whole_protocol_runs_for_whoever_has_weights(
    with_weights, folder, task, weights, tmp_path, capsys
):
    with pytest.raises(SystemExit) as stop:
        main(["models", "import", str(weights), "--model", "clip/vit_b_16"])
    assert stop.value.code == 0
    prompts = tmp_path / "p2.json"
    prompts.write_text(json.dumps({"tumour": {"1": ["tumour", "bright disc"]}}))
    words = f"text --data {folder} --tasks {task} --prompts {prompts} --limit 1"
    more = f"--models clip/vit_b_16 --methods maskclip --out {tmp_path}"
    assert with_weights.main([*words.split(), *more.split()]) == 0
    said = capsys.readouterr().out
    assert "skipped tasks, oracle phrases: give --oracle-prompts" in said
    steps = ("text_fixed", "text_name", "text_template", "text_ensemble", "tasks_name")
    for step in (*steps, "tasks_fixed_fixed", "tasks_ensemble_fixed"):
        table = json.loads((tmp_path / f"{step}.json").read_text())
        assert table["rows"][0]["model"] == "clip/vit_b_16"
        assert table["rows"][0]["mode"] == "leak-free"
        assert (tmp_path / f"{step}.md").read_text().startswith("# Text benchmark")
    asked = [
        json.loads((tmp_path / f"text_{step}.json").read_text())["rows"][0]["params"]
        for step in ("name", "template")
    ]
    assert [p["templates"] for p in asked] == ["none", "medical"]
