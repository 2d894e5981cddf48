"""Robot users and the click protocol: pinned by cases with known answers."""

from __future__ import annotations

import json

import numpy as np
import pytest

from napari_fewshot.cli import main
from napari_fewshot.evaluation import click_curve, clicks_needed, spread_objects
from napari_fewshot.ops import interior_distance, next_click


def disc(centre, radius, shape=(60, 80)):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2


NOTHING = np.zeros((60, 80), bool)


def test_the_first_click_is_in_the_middle():
    assert next_click(NOTHING, disc((30, 40), 12)) == (30, 40, True)


def test_image_borders_count_as_background():
    truth = np.zeros((60, 80), bool)
    truth[:20] = True
    row, _, _ = next_click(NOTHING, truth)
    assert row in (9, 10)


def test_the_next_click_goes_to_the_largest_error():
    large, small = disc((20, 20), 10), disc((40, 60), 6)
    assert next_click(large, large | small)[:2] == (40, 60)
    wrong = disc((45, 20), 8)
    assert next_click(large | small | wrong, large | small) == (45, 20, False)


def test_nothing_to_click_when_all_is_right():
    assert next_click(disc((30, 40), 9), disc((30, 40), 9)) is None


def test_people_click_near_the_middle_repeatably():
    truth = disc((30, 40), 12)
    seen = {
        next_click(NOTHING, truth, np.random.default_rng(seed)) for seed in range(20)
    }
    again = next_click(NOTHING, truth, np.random.default_rng(3))
    assert again == next_click(NOTHING, truth, np.random.default_rng(3))
    assert len(seen) > 5
    depth = interior_distance(truth)
    assert all(depth[r, c] >= 0.5 * depth.max() for r, c, _ in seen)


def test_a_perfect_model_needs_one_click_and_the_curve_is_padded():
    truth = disc((30, 40), 12)
    curve = click_curve(truth, lambda clicks: truth, 5)
    assert curve.dices == (1.0,) * 5
    assert curve.clicks_to(0.8) == 1
    assert clicks_needed(curve, 0.9, 0.8) == 0
    assert clicks_needed(curve, 0.5, 0.8) == 1


def test_a_model_that_draws_what_is_clicked_gets_better():
    truth = disc((30, 40), 12)

    def paint(clicks):
        found = NOTHING.copy()
        for row, column, positive in clicks:
            found[disc((row, column), 5)] = positive
        return found & truth

    curve = click_curve(truth, paint, 6)
    assert list(curve.dices) == sorted(curve.dices)
    assert curve.clicks_to(0.999) == 7


def test_objects_are_spread_over_the_sizes():
    labels = np.zeros((60, 80), int)
    for value, radius in enumerate((1, 3, 5, 7, 9), 1):
        labels[disc((30, 8 + 15 * (value - 1)), radius)] = value
    found = spread_objects(labels, 3)
    assert len(found) == 3
    assert 5 in found or 4 in found
    assert set(spread_objects(labels, 9)) == {1, 2, 3, 4, 5}
    assert spread_objects(NOTHING.astype(int), 3) == []


@pytest.mark.parametrize("method", ["incontext", "random-walker"])
def test_the_click_benchmark_on_real_images(shared_data, tmp_path, method, capsys):
    out = tmp_path / "clicks.json"
    words = ["benchmark", "clicks", str(shared_data), "--datasets", "dsb2018_fluo"]
    with pytest.raises(SystemExit) as stop:
        main([*words, "--clicks", "1,3", "--method", method, "--json", str(out)])
    assert stop.value.code == 0
    table = json.loads(out.read_text())
    row = table["rows"][0]
    assert row["n_objects"] >= 20
    assert 0.2 < row["dice"]["1"] <= 1
    assert row["dice"]["3"] > 0.5
    assert table["macro"]["0"]["dice"]["3"] == pytest.approx(row["dice"]["3"])
    assert "macro" in capsys.readouterr().out
