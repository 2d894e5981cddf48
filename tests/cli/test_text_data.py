"""Folders, phrases and options of ``benchmark text``; nothing is segmented here."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from napari_fewshot.cli._text_data import few, read_white, task_cases, text_sets
from napari_fewshot.cli._text_engines import resized, score_heat, score_mask
from napari_fewshot.cli._text_options import TextOptions, own_words, template_of
from napari_fewshot.cli._text_prompts import phrases_for, read_prompts
from napari_fewshot.errors import DataError, FewShotError, ModelError


def picture(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


@pytest.fixture
def task(tmp_path):
    """A task of three test images, one of them without its object; two val images."""
    rng = np.random.default_rng(0)
    for split, count in (("test", 3), ("val", 2)):
        for i in range(count):
            image = rng.integers(0, 255, (20, 30, 3))
            mask = np.zeros((10, 15))
            mask[2:6, 3 : 9 if i else 3] = 255
            picture(tmp_path / f"breast_us/{split}_images/{i:03d}.png", image)
            picture(tmp_path / f"breast_us/{split}_masks/{i:03d}.png", mask)
    return tmp_path / "breast_us"


@pytest.fixture
def datasets(tmp_path):
    """A data set of two classes; the second is on one image only."""
    rng = np.random.default_rng(1)
    items = []
    for i in range(3):
        labels = np.zeros((24, 32), np.uint8)
        labels[4:10, 4:12] = 1
        if i == 1:
            labels[15:20, 20:28] = 2
        picture(tmp_path / f"two/images/{i}.png", rng.integers(0, 255, (24, 32)))
        picture(tmp_path / f"two/masks/{i}.png", labels)
        items.append({"image": f"images/{i}.png", "mask": f"masks/{i}.png"})
    facts = {
        "classes": {"1": "left_square", "2": "rare"},
        "text_prompts": {"1": ["square", "bright square"]},
        "items": items,
    }
    (tmp_path / "two" / "dataset.json").write_text(json.dumps(facts))
    return tmp_path


def test_a_task_is_paired_by_name(task):
    (found,) = text_sets(task.parent)
    assert (found.dataset, found.class_name, found.value) == (task.name, task.name, 1)
    assert [c.name for c in found.cases] == ["000", "001", "002"]
    assert [c.name for c in found.val] == ["000", "001"]
    image, mask = found.cases[1].read()
    assert image.shape == (20, 30, 3)
    assert (mask.shape, mask.sum()) == ((10, 15), 24)
    assert not found.cases[0].read()[1].any()
    (alone,) = text_sets(task)
    assert [c.files for c in alone.cases] == [c.files for c in found.cases]
    with pytest.raises(DataError, match="no data set"):
        list(text_sets(task.parent, ["other"]))


def test_what_cannot_be_paired_is_named(task):
    extra = task / "test_images" / "zzz.png"
    picture(extra, np.zeros((20, 30, 3)))
    with pytest.raises(DataError, match=r"test_masks lacks 'zzz'"):
        task_cases(task, "test")
    extra.unlink()
    (task / "test_images" / "000.png").rename(task / "test_images" / "0.png")
    with pytest.raises(DataError, match=r"2 files .* lacks '0'"):
        task_cases(task, "test")
    with pytest.raises(DataError, match="missing"):
        task_cases(task, "train")
    picture(task / "val_images" / "000.tif", np.zeros((20, 30)))
    with pytest.raises(DataError, match="'000' twice"):
        task_cases(task, "val")
    (task / "train_images").mkdir()
    (task / "train_masks").mkdir()
    with pytest.raises(DataError, match="no image"):
        task_cases(task, "train")


def test_masks_are_white_on_black(tmp_path):
    grey = np.array([[0, 200, 201, 255]] * 4)
    picture(tmp_path / "grey.png", grey)
    assert read_white(tmp_path / "grey.png")[0].tolist() == [False, False, True, True]
    picture(tmp_path / "colour.png", np.stack([grey] * 3, -1))
    assert read_white(tmp_path / "colour.png").sum() == 8
    picture(tmp_path / "black.png", 0 * grey)
    assert not read_white(tmp_path / "black.png").any()
    picture(tmp_path / "labels.png", grey > 0)
    with pytest.raises(DataError, match=r"labels.png is no mask.*value is 1"):
        read_white(tmp_path / "labels.png")


def test_a_data_set_gives_its_classes(datasets):
    first, second = text_sets(datasets, original=True)
    assert first.phrases == ("square", "bright square")
    assert first.others == ("rare",)
    assert second.others == ("square",)
    assert (second.phrases, second.by_image) == ((), {})
    assert [c.name for c in second.cases] == ["images/1"]
    image, mask = second.cases[0].read()
    assert (image.plane_shape, mask.shape, mask.sum()) == ((24, 32), (24, 32), 40)
    small, _ = text_sets(datasets)
    assert small.cases[0].read()[0].plane_shape == (192, 256)


def test_both_layouts_in_one_folder(datasets, task):
    names = [s.dataset for s in text_sets(task.parent)]
    assert sorted(names) == ["breast_us", "two", "two"]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({"skin": {"1": ["a", "b"]}}, (("a", "b"), {})),
        ({"1": "a"}, (("a",), {})),
        ({"skin lesion": ["a", " "]}, (("a",), {})),
        ({"skin": ["a"]}, (("a",), {})),
        ({"other": {"1": ["a"]}}, ((), {})),
        ({"x.png": "a", "y.png": ["b", "c"]}, ((), {"x": "a", "y": "b"})),
        ({"skin": {"1": {"x.png": "a", "y": "b"}}}, ((), {"x": "a", "y": "b"})),
    ],
)
def test_files_of_phrases(tmp_path, written, expected):
    path = tmp_path / "p.json"
    path.write_text(json.dumps(written))
    assert phrases_for(read_prompts(path), "skin", 1, "skin_lesion") == expected


@pytest.mark.parametrize("text", ["", "[1]", "{}", "{", '"lung"'])
def test_files_that_hold_no_phrases(tmp_path, text):
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"p\.json"):
        read_prompts(path)
    with pytest.raises(DataError, match="can't be read"):
        read_prompts(tmp_path / "missing.json")
    with pytest.raises(DataError, match="A phrase is a text"):
        phrases_for({"skin": {"1": 7}}, "skin", 1, "x")


def test_given_phrases_go_first(datasets):
    prompts = {"two": {"rare": "seldom seen"}}
    first, second = text_sets(datasets, prompts=prompts)
    assert first.phrases == ("square", "bright square")
    assert second.phrases == ("seldom seen",)
    assert first.others == ("seldom seen",)


def test_few_are_spread(task):
    cases = task_cases(task, "test")
    assert [c.name for c in few(cases, 2)] == ["000", "002"]
    assert few(cases, None) == few(cases, 9) == cases


def test_sentences_are_not_put_into_templates():
    assert template_of("name", ["lung"]) == "none"
    assert template_of("template", ["lung"]) == "medical"
    assert template_of("fixed", ["left lung"]) is None
    assert template_of("ensemble", ["lung", "An X-ray of lungs."]) == "none"
    assert template_of("oracle", ["a well defined round mass in a breast scan"]) == (
        "none"
    )


def test_words_for_one_method():
    words = ["level=0.3", "m2ib.beta=2"]
    assert own_words(words, "m2ib", ["m2ib", "clearclip"]) == ["level=0.3", "beta=2"]
    assert own_words(words, "clearclip", ["m2ib", "clearclip"]) == ["level=0.3"]
    with pytest.raises(DataError, match="not scored"):
        own_words(words, "clearclip", ["clearclip"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prompt_mode": "p3"}, "--prompt-mode has no 'p3'"),
        ({"hparams": "best"}, "--hparams has no 'best'"),
        ({"bounds": ["luck"]}, "--bounds has no 'luck'"),
        ({"methods": []}, "at least one method"),
        ({"prompt_mode": "oracle"}, "needs --prompts"),
        ({"resume": True}, "--json"),
        ({"grid": ["beta=1"]}, "--grid is for"),
    ],
)
def test_options_without_meaning(given, message):
    with pytest.raises(DataError, match=message):
        TextOptions(**given).check()


def test_checkpoints_are_looked_for_before_hours_of_work(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        TextOptions(checkpoint=tmp_path / "none").check()
    two = TextOptions(checkpoint=tmp_path, models=["biomedclip", "clip/vit_b_16"])
    with pytest.raises(DataError, match="one --model"):
        two.check()


def test_who_is_scored():
    every = [c.method for c in TextOptions(methods=["all"]).contenders()]
    assert {"m2ib", "clearclip", "maskclip"} <= set(every)
    assert not {"text", "auto", "persam"} & set(every)
    chosen = TextOptions(methods=["m2ib"], hparams="val3").contenders()[0]
    assert chosen.grid["layer"] == (7, 8, 9)
    own = TextOptions(
        methods=["m2ib"], hparams="val3", grid=["beta=0.5,1", "layer=3"]
    ).contenders()[0]
    assert own.grid == {"beta": (0.5, 1.0), "layer": (3,)}
    with pytest.raises(DataError, match="does not read text"):
        TextOptions(methods=["persam"]).contenders()
    with pytest.raises(ModelError, match="did you mean"):
        TextOptions(methods=["clearclp"]).contenders()
    with pytest.raises(DataError, match="No settings of clearclip"):
        TextOptions(methods=["clearclip"], hparams="val3").contenders()
    with pytest.raises(FewShotError, match="not installed"):
        TextOptions(models=["clipseg/rd64"]).contenders()


def test_predictions_are_brought_to_the_size_of_the_truth():
    truth = np.zeros((10, 15), bool)
    truth[2:6, 3:9] = True
    large = np.kron(truth, np.ones((2, 2), bool))
    assert score_mask(large, truth)["dice"] == 1
    assert np.array_equal(resized(resized(truth, (20, 30)), (10, 15)), truth)
    heat = np.where(large, 0.9, 0.2).astype(np.float32)
    figures = score_heat(heat, heat, truth)
    assert figures["coarse_dice"] == figures["best_dice"] == figures["auc"] == 1
    assert figures["pointing"] == figures["coarse_nsd_2d"] == 1
    weak = score_heat(heat / 2, heat, truth)
    assert (weak["coarse_dice"], weak["auc"]) == (0, 1)
