"""The click benchmark: engines, the whole command, and the files it writes."""

from __future__ import annotations

import csv
import importlib.util
import json

import numpy as np
import pytest
import torch
from PIL import Image

from napari_fewshot.cli import main
from napari_fewshot.cli._benchmark_clicks import run_click_benchmark
from napari_fewshot.cli._click_engines import MethodEngine, PromptedEngine, WalkerEngine
from napari_fewshot.cli._click_options import ClickOptions
from napari_fewshot.cli._click_tasks import Item, choose_tasks, split_limit
from napari_fewshot.data import SupportSet
from napari_fewshot.errors import DataError
from napari_fewshot.evaluation import (
    Interaction,
    Pair,
    click,
    draw_scribbles,
    spread_objects,
    tight_box,
)
from napari_fewshot.models import get_model_spec
from napari_fewshot.models.sam._configs import SamConfig
from napari_fewshot.models.sam._decoder import DecoderConfig
from napari_fewshot.models.sam._model import SamModel, SamNetwork
from napari_fewshot.models.sam._presets import MEDSAM, SAM, SAMMED2D
from napari_fewshot.models.sam._vit import VitConfig

SHAPE = (48, 64)


def disc(centre, radius, shape=SHAPE):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2


NOTHING = np.zeros(SHAPE, bool)
DISC = disc((24, 30), 12)
IMAGE = (0.1 + 0.7 * DISC[..., None]).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set of three small images with two objects each."""
    root = tmp_path_factory.mktemp("data")
    (root / "discs").mkdir()
    items = []
    noise = np.random.default_rng(0)
    for number in range(3):
        truth = disc((16 + number, 16), 8) | disc((30, 45 + number), 11)
        image = np.clip(60 + 120 * truth + noise.normal(0, 60, SHAPE), 0, 255)
        names = f"image{number}.png", f"mask{number}.png"
        for name, pixels in zip(names, (image, truth), strict=True):
            Image.fromarray(pixels.astype(np.uint8)).save(root / "discs" / name)
        items.append({"image": names[0], "mask": names[1]})
    facts = {"name": "discs", "classes": {"1": "disc"}, "items": items}
    (root / "discs" / "dataset.json").write_text(json.dumps(facts))
    return root


def random_sam(preset):
    """A tiny SAM with random weights that records how it is asked."""

    class Recorded(SamModel):
        asked = ()

        def predict(self, embedding, **prompts):
            found = super().predict(embedding, **prompts)
            self.asked = (*self.asked, {**prompts, "answer": found})
            return found

    torch.manual_seed(0)
    config = VitConfig(32, 1, 2, (0,), 64)
    network = SamNetwork(SamConfig(config, DecoderConfig()))
    return Recorded(network, get_model_spec("sam/vit_b"), preset)


def test_sam_gets_all_clicks_and_its_last_logits():
    model = random_sam(SAM)
    open_object, seconds = PromptedEngine(model).open(IMAGE)
    segment, clicks = open_object(), [click(24, 30), click(2, 3, False)]
    masks = [segment(clicks[:1]), segment(clicks)]
    first, second = model.asked
    assert seconds > 0
    assert first["points"].tolist() == [[24, 30]]
    # A single click is ambiguous: candidates, of which the best one counts.
    assert first["multimask"]
    assert first["mask"] is None
    best = first["answer"][1].argmax()
    np.testing.assert_array_equal(masks[0], first["answer"][0][best])
    np.testing.assert_array_equal(second["mask"], first["answer"][2][best])
    assert second["points"].tolist() == [[24, 30], [2, 3]]
    assert second["point_labels"].tolist() == [1, 0]
    assert not second["multimask"]
    # Another object begins from nothing.
    open_object()(clicks)
    assert model.asked[2]["mask"] is None
    assert not model.asked[2]["multimask"]


def test_a_box_is_clear_unless_candidates_come_first():
    for candidates_first in (False, True):
        model = random_sam(SAM)
        engine = PromptedEngine(model, candidates_first=candidates_first)
        segment = engine.open(IMAGE)[0]()
        segment([tight_box(DISC)])
        segment([tight_box(DISC), click(24, 30)])
        box, corrected = model.asked
        assert box["boxes"].tolist() == [11.5, 17.5, 36.5, 42.5]
        assert box["multimask"] == candidates_first
        assert corrected["boxes"].tolist() == box["boxes"].tolist()
        assert not corrected["multimask"]


def test_an_image_is_embedded_once():
    model = random_sam(SAM)
    engine = PromptedEngine(model)
    seconds = engine.open(IMAGE)[1]
    assert engine.open(IMAGE.copy())[1] == seconds
    assert engine.open(IMAGE + 0.1)[1] != seconds


def test_scribbles_become_points():
    model = random_sam(SAM)
    drawn = draw_scribbles(NOTHING, DISC, [], np.random.default_rng(0), first="contour")
    PromptedEngine(model).open(IMAGE)[0]()(drawn)
    (asked,) = model.asked
    inside = DISC[tuple(asked["points"].T)]
    assert len(inside) == 16
    np.testing.assert_array_equal(inside, asked["point_labels"] == 1)


def test_a_model_of_boxes_gets_a_box_of_mask_and_positive_clicks():
    model = random_sam(MEDSAM)
    segment = PromptedEngine(model).open(IMAGE)[0]()
    assert not segment([click(3, 4, False)]).any()
    assert model.asked == ()
    mask = segment([click(10, 20)])
    found = segment([click(10, 20), click(40, 50), click(2, 2, False)])
    first, second = model.asked
    assert first["boxes"].tolist() == [9.5, 19.5, 10.5, 20.5]
    places = np.concatenate([np.argwhere(mask), [[10, 20], [40, 50]]])
    wanted = [*(places.min(0) - 0.5), *(places.max(0) + 0.5)]
    assert second["boxes"].tolist() == wanted
    assert second["points"] is None
    assert second["mask"] is None
    assert found.shape == SHAPE


def test_weights_that_always_give_candidates_are_asked_for_them():
    model = random_sam(SAMMED2D)
    segment = PromptedEngine(model).open(IMAGE)[0]()
    segment([click(24, 30)])
    segment([click(24, 30), click(40, 50)])
    assert [a["multimask"] for a in model.asked] == [True, True]


@pytest.mark.parametrize("engine", ["method", "walker"])
def test_every_kind_of_interaction_is_understood(engine):
    asked = {"method": "incontext", "model": "auto"}
    engines = {"method": MethodEngine(asked, SupportSet([])), "walker": WalkerEngine()}
    open_object, seconds = engines[engine].open(IMAGE)
    assert seconds is None
    row = np.stack([np.full(15, 24), np.arange(23, 38)], axis=1)
    around = np.stack([np.full(60, 5), np.arange(2, 62)], axis=1)
    drawn = [Interaction("scribble", row), Interaction("scribble", around, False)]
    for done in ([click(24, 30)], [tight_box(DISC)], drawn):
        found = open_object()(done)
        assert found.dtype == bool
        assert 2 * (found & DISC).sum() / (found.sum() + DISC.sum()) > 0.7


def test_objects_are_spread_over_the_sizes():
    labels = np.zeros((60, 80), int)
    for value, radius in enumerate((1, 3, 5, 7, 9), 1):
        labels[disc((30, 8 + 15 * (value - 1)), radius, labels.shape)] = value
    found = spread_objects(labels, 3)
    assert len(found) == 3
    assert 5 in found or 4 in found
    assert set(spread_objects(labels, 9)) == {1, 2, 3, 4, 5}
    assert spread_objects(np.zeros((60, 80), int), 3) == []


def test_a_limit_takes_few_objects_of_many_images():
    mask = disc((12, 12), 6) | disc((30, 45), 9)
    items = [Item(str(i), Pair(IMAGE, mask, str(i)), None) for i in range(3)]
    assert len(choose_tasks(items, None, whole=False)) == 6
    few = choose_tasks(items, 4, whole=False)
    assert [t.item.name for t in few] == ["0", "0", "1", "2"]
    assert [t.number for t in choose_tasks(items, 2, whole=True)] == ["all"] * 2
    assert split_limit(5, 3) == [2, 2, 1]
    assert split_limit(None, 2) == [None, None]


def run(*words):
    with pytest.raises(SystemExit) as stop:
        main(["benchmark", "clicks", *map(str, words)])
    return stop.value.code


WALKER = ("--method", "random-walker", "--original")


@pytest.mark.parametrize(
    ("protocol", "steps"),
    [
        ("A", ["1", "2", "3"]),
        ("B", ["1", "3"]),
        ("D", ["0", "1", "2", "3"]),
        ("F", ["1", "2", "3"]),
        ("G", ["0", "5", "10", "20"]),
    ],
)
def test_every_protocol_writes_table_steps_and_curves(
    folder, tmp_path, protocol, steps
):
    table, rows = tmp_path / "t.json", tmp_path / "t.csv"
    plot = tmp_path / ("t.svg" if protocol == "A" else "t.png")
    words = ["--protocol", protocol.lower(), "--json", table, "--csv", rows]
    words += [] if protocol == "G" else ["--max-clicks", "3"]
    words += ["--limit", "3"]
    assert run(folder, *WALKER, *words, "--plot", plot) == 0
    found = json.loads(table.read_text())
    row, mean = found["rows"][0], found["macro"]["0"]
    assert list(row["dice"]) == list(row["iou"]) == steps
    assert row["dice"] == pytest.approx(mean["dice"])
    assert row["n_objects"] == 3
    low, high = row["dice_interval"][steps[-1]]
    assert low - 1e-9 <= row["dice"][steps[-1]] <= high + 1e-9
    assert found["environment"]["protocol"] == protocol
    with rows.open() as file:
        lines = list(csv.DictReader(file))
    last = [float(r["dice"]) for r in lines if r["step"] == steps[-1]]
    assert len(last) == 3
    assert np.mean(last) == pytest.approx(row["dice"][steps[-1]])
    if protocol == "G":
        assert "noc" not in row
    else:
        assert set(row["noc"]) == set(row["failures"])
        assert 0.3 < row["auc"] <= 1
        assert max(int(r["step"]) for r in lines) == 3
    if plot.suffix == ".svg":
        assert "<svg" in plot.read_text()
    else:
        with Image.open(plot) as picture:
            assert picture.size[0] > 400


def test_present_keys_and_thresholds(folder):
    options = ClickOptions(
        method="random-walker", original=True, iou=(0.5, 0.99), dice=(), limit=2
    )
    table = run_click_benchmark(folder, options, echo=lambda line: None)
    row = table["rows"][0]
    old = {"dataset", "class", "supports", "start", "dice", "clicks_to_0.8"}
    assert old | {"seconds_per_click", "n_objects"} <= set(row)
    assert set(row["dice"]) == {"1", "3", "5"}
    assert (row["n_objects"], row["start"]) == (2, 0)
    assert set(row["noc"]) == {"iou@0.5", "iou@0.99"}
    assert row["noc"]["iou@0.5"] <= row["noc"]["iou@0.99"] <= 5
    assert {"start", "dice", "clicks_to_0.8", "datasets"} <= set(table["macro"]["0"])


def test_a_box_first_is_step_zero_and_jitter_changes_clicks(folder, tmp_path):
    texts = []
    for words in ([], ["--jitter"], ["--jitter"]):
        out = tmp_path / "t.csv"
        few = ["--clicks", "0,1,2", "--box", "--limit", "2", "--csv", out]
        assert run(folder, *WALKER, *few, *words) == 0
        rows = list(csv.DictReader(out.read_text().splitlines()))
        texts.append([(r["step"], r["dice"]) for r in rows])
        assert float(rows[0]["dice"]) > 0
        assert float(rows[0]["user_seconds"]) == 3.5
    plain, jittered, again = texts
    assert jittered == again != plain


def test_the_click_benchmark_on_real_images(shared_data, tmp_path, capsys):
    out = tmp_path / "clicks.json"
    words = ["--datasets", "msd_hippocampus", "--limit", "2", "--json", out]
    assert run(shared_data, *words, "--clicks", "1,3") == 0
    table = json.loads(out.read_text())
    row = table["rows"][0]
    # Of each of the two classes one object.
    assert [r["n_objects"] for r in table["rows"]] == [1, 1]
    assert 0.2 < row["dice"]["1"] <= 1
    assert row["dice"]["3"] > 0.5
    mean = np.mean([r["dice"]["3"] for r in table["rows"]])
    assert table["macro"]["0"]["dice"]["3"] == pytest.approx(mean)
    assert "macro" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--protocol", "Z"], "no protocol 'Z'; use one of A, B"),
        (["--iou", "0.8,x"], "--iou holds numbers"),
        (["--dice", "1.5"], "1.5 is not"),
        (["--clicks", "1,two"], "--clicks holds numbers"),
        (["--clicks", "7", "--protocol", "F"], "larger --max-clicks"),
        (["--max-clicks", "0"], "--max-clicks is 0"),
        (["--limit", "0"], "--limit is 0"),
        (["--scribble", "zigzag"], "no scribble 'zigzag'"),
        (["--plot", "curves.bmp"], ".png or .svg"),
        (["--supports", "-1"], "0 or more"),
        (["--supports", "9"], "No object could be scored"),
        (["--datasets", "none"], "holds no data set"),
    ],
)
def test_bad_options_are_named(folder, words, said, capsys):
    assert run(folder, *WALKER, *words) == 1
    assert said in capsys.readouterr().err


def test_a_plot_without_matplotlib_is_refused_before_the_work(folder, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n: None if n == "matplotlib" else find(n)
    )
    options = ClickOptions(method="random-walker", plot_path="curves.png")
    with pytest.raises(DataError, match="pip install matplotlib"):
        run_click_benchmark(folder, options)
