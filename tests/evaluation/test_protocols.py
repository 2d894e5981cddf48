"""Both benchmark protocols: the very same episodes as the baseline, known floors."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest

from napari_fewshot.cli._benchmark import run_benchmark
from napari_fewshot.errors import DataError
from napari_fewshot.evaluation import (
    Row,
    Volume,
    copy_support,
    episode,
    macro,
    make_pair,
    score_volumes,
)
from tests.conftest import SHARED


@pytest.fixture(scope="module")
def baseline():
    path = SHARED / "tools" / "few_shot_baseline.py"
    if not path.exists():
        pytest.skip("the baseline script is not beside this checkout")
    spec = importlib.util.spec_from_file_location("few_shot_baseline", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("is_ordered", [False, True])
@pytest.mark.parametrize("shots", [1, 5])
def test_the_same_episodes_as_the_baseline(baseline, shots, is_ordered):
    for seed in range(5):
        groups = [str(i // 2) for i in range(24)]
        pairs = [(None, None, g) for g in groups]
        wanted = baseline.episode(pairs, shots, seed, is_ordered)
        found = episode(groups, shots, seed, is_ordered=is_ordered)
        assert found == tuple([int(i) for i in part] for part in wanted)


def test_the_same_images_as_the_baseline(baseline, shared_data):
    folder = shared_data / "dsb2018_fluo"
    facts = json.loads((folder / "dataset.json").read_text())
    image, mask, group = baseline.load_items(folder, facts)[0]
    pair = make_pair(image, mask, 1, group)
    wanted = baseline.fit_longest(baseline.normalise(image))
    np.testing.assert_allclose(pair.image, wanted, atol=1e-4)
    np.testing.assert_array_equal(
        pair.mask, baseline.fit_mask(mask == 1, wanted.shape[:2])
    )


def test_too_few_queries():
    assert episode(["a"] * 4, 2, 0, is_ordered=False) is None
    assert episode([str(i) for i in range(4)], 2, 0, is_ordered=False) is None


def test_macro_is_a_mean_of_means():
    rows = [
        Row("a", "x", 1, dice=0.2, seconds_per_image=1.0),
        Row("a", "y", 1, dice=0.4, seconds_per_image=1.0),
        Row("b", "x", 1, dice=0.9, seconds_per_image=4.0),
        Row("b", "x", 5),
    ]
    found = macro(rows)
    assert found["by_shots"]["1"] == pytest.approx(0.6)
    assert found["seconds_per_image"] == pytest.approx(2.0)
    assert found["rows_without_queries"] == 1


def test_the_benchmark_writes_its_table(shared_data, tmp_path):
    lines = []
    table = run_benchmark(
        shared_data,
        datasets=["dsb2018_fluo"],
        shots=[1],
        seeds=1,
        method="pixel",
        params={"trees": 10, "leave_one_out": False},
        json_path=tmp_path / "t.json",
        echo=lines.append,
    )
    assert lines[-1].startswith("macro")
    written = json.loads((tmp_path / "t.json").read_text())
    assert written["macro"] == table["macro"]
    row = written["rows"][0]
    assert {"dataset", "class", "shots", "dice", "iou", "n_queries"} <= set(row)
    assert row["dice"] > 0.7


@pytest.mark.parametrize("protocol", ["planes", "chaos", "other"])
def test_bad_benchmark_input(tmp_path, protocol):
    with pytest.raises(DataError):
        run_benchmark(tmp_path, protocol=protocol)


def test_copied_masks_of_identical_volumes_are_perfect():
    labels = np.zeros((9, 16, 16), int)
    labels[2:8, 4:9, 4:9] = 1
    volumes = [Volume(str(i), labels.astype(np.float32), labels) for i in range(5)]
    assert score_volumes(volumes, [1], copy_support) == {1: 1.0}
    with pytest.raises(DataError, match="5 scans"):
        score_volumes(volumes[:4], [1], copy_support)


def test_the_floor_of_the_volume_protocol():
    """Copying the support's mask gives 44.2 on CHAOS-T2: a check of the harness."""
    root = SHARED / "volumes" / "chaos_t2"
    if not root.is_dir():
        pytest.skip("the shared volumes are not beside this checkout")
    table = run_benchmark(root, protocol="chaos", method="copy", echo=lambda _: None)
    assert 100 * table["macro"]["dice"] == pytest.approx(44.2, abs=0.3)
    found = {r["class"]: 100 * r["dice"] for r in table["rows"]}
    wanted = {"liver": 58.6, "right_kidney": 38.9, "left_kidney": 44.3, "spleen": 35.2}
    for name, dice in wanted.items():
        assert found[name] == pytest.approx(dice, abs=0.3), name
