"""``check`` and ``explain``, and the calls behind them."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import tifffile

import napari_fewshot as nf
from napari_fewshot.cli import main
from napari_fewshot.cli._explain import write_evidence
from napari_fewshot.data import PromptSet
from napari_fewshot.inference import Evidence
from napari_fewshot.io import open_prompts

SHAPE = (48, 56)


@pytest.fixture
def folder(tmp_path, blob_pair):
    # c2 is a copy of c0.
    for number, seed in enumerate((0, 1, 0)):
        image, labels = blob_pair(seed, shape=SHAPE, count=4)
        tifffile.imwrite(tmp_path / f"c{number}.tif", image)
        tifffile.imwrite(tmp_path / f"c{number}_mask.tif", labels.astype(np.uint8))
    stack = np.stack([blob_pair(s, shape=SHAPE, count=4)[0] for s in (5, 6)])
    tifffile.imwrite(tmp_path / "stack.tif", stack)
    return tmp_path


def call(*words):
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    return stop.value.code


def supports(folder, *numbers):
    words = []
    for n in numbers:
        words += ["--support", folder / f"c{n}.tif", folder / f"c{n}_mask.tif"]
    return words


def test_check_writes_what_to_expect(folder, capsys):
    path = folder / "out" / "check.csv"
    words = ["--method", "pixel", "--param", "trees=5", "--class", "1=cell"]
    assert call("check", *supports(folder, 0, 1, 2), *words, "--csv", path) == 0
    table = pd.read_csv(path)
    assert list(table["support"]) == ["c0.tif", "c1.tif", "c2.tif", "all"]
    assert set(table["name"]) == {"cell"}
    redundant = dict(zip(table["support"], table["redundant"], strict=True))
    assert redundant["c2.tif"]
    assert not redundant["c0.tif"]
    expected = table.iloc[-1]
    assert 0 <= expected["low"] <= expected["dice"] <= expected["high"] <= 1
    assert table["low"][:3].isna().all()
    printed = capsys.readouterr().out
    assert "teaches nothing new" in printed
    assert (
        f"expected Dice                  cell             {expected['dice']:.2f}"
        in (printed)
    )


def test_check_and_session_say_the_same(blob_pair):
    pairs = [blob_pair(seed, shape=SHAPE, count=4) for seed in (0, 1)]
    table = nf.check_supports(pairs, "pixel", trees=5, query=pairs[0][0], scale=0.5)
    session = nf.Session(method="pixel", autosave=False)
    session.set_method(params={"trees": 5})
    for image, labels in pairs:
        session.add_support(image, labels)
    found = session.check_supports()
    session.close()
    assert table.query("support == 'all'")["dice"].item() == found.scores[1]
    assert "The pixel size of support 1 is not known" in table.attrs["notes"][0]
    half = [nf.Support(*pair, scale=0.5) for pair in pairs]
    told = nf.check_supports(half, "pixel", trees=5)
    assert not told.attrs["notes"]


def test_what_can_not_be_checked_is_said(folder, capsys):
    assert call("check", "--method", "pixel") == 1
    assert "no support" in capsys.readouterr().err
    assert call("check", *supports(folder, 0), "--param", "tree=5") == 2
    assert "did you mean" in capsys.readouterr().err
    assert (
        call("explain", folder / "stack.tif", *supports(folder, 0), "--plane", 7) == 1
    )
    assert "Plane 7" in capsys.readouterr().err


def test_explain_writes_maps_that_are_those_of_the_call(folder, blob_pair, capsys):
    words = ["--method", "persam", "--model", "filters", "--param", "decoder=map"]
    words += ["--param", "leave_one_out=no", "--plane", 1, "--out", folder / "out"]
    assert call("explain", folder / "stack.tif", *supports(folder, 0), *words) == 0
    written = [line.split("/")[-1] for line in capsys.readouterr().out.split()]
    support = folder / "c0.tif", folder / "c0_mask.tif"
    options = {"decoder": "map", "leave_one_out": False}
    stack = folder / "stack.tif"
    found = nf.explain(stack, support, "persam", "filters", plane=1, **options)[1]
    for name, values in found.maps.items():
        file = f"stack_plane1_class1_{name}.tif"
        assert file in written
        saved = tifffile.imread(folder / "out" / file)
        assert saved.dtype == np.float32
        np.testing.assert_allclose(saved, values, atol=1e-5)
    # What segment reads are the very points that the method made.
    read = open_prompts(folder / "out" / "stack_plane1_prompts.json")[1]
    np.testing.assert_allclose(read.points[:, 1:], found.prompts.points)
    assert (read.points[:, 0] == 1).all()
    assert read.planes(2) == (1,)


@pytest.mark.parametrize("plane", [None, 3])
def test_prompts_and_candidates_survive_the_files(tmp_path, plane):
    masks = np.zeros((2, *SHAPE), bool)
    masks[0, 3:9, 4:8] = True
    given = PromptSet(
        points=[[1.5, 2], [3, 4]], point_labels=[1, 0], boxes=[[1, 2, 8, 9]]
    )
    evidence = Evidence({"raw map": np.ones(SHAPE, np.float32)}, given, masks, (1, 0))
    files = write_evidence(tmp_path, tmp_path / "a.png", {2: evidence}, plane)
    stem = "a" if plane is None else "a_plane3"
    names = ("class2_raw-map.tif", "class2_candidates.tif", "prompts.json")
    assert [path.name for path in files] == [f"{stem}_{name}" for name in names]
    saved = tifffile.imread(files[1])
    assert saved.dtype == np.uint8
    np.testing.assert_array_equal(saved > 0, masks)
    read = open_prompts(files[2])[2].on_plane(plane or 0, 1 if plane is None else 5)
    np.testing.assert_allclose(read.positive, [[1.5, 2]])
    np.testing.assert_allclose(read.negative, [[3, 4]])
    np.testing.assert_allclose(read.boxes, [[1, 2, 8, 9]])
    assert "boxes" in json.loads(files[2].read_text())["2"]
