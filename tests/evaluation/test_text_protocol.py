"""Words, draws, settings, bounds and figures of the text protocol."""

from __future__ import annotations

import numpy as np
import pytest

from napari_fewshot.errors import DataError
from napari_fewshot.evaluation import (
    GRIDS,
    HPARAM_MODES,
    PROMPT_MODES,
    Leak,
    bound_boxes,
    choose_phrases,
    choose_point,
    grid_points,
    mask_figures,
    nsd_slab,
    plain_name,
    random_phrase,
    spread,
    surface_metrics,
    validation_draw,
)

LIST = ("skin lesion", "mole")


def two_squares():
    mask = np.zeros((40, 60), bool)
    mask[5:15, 8:20] = True
    mask[25:35, 40:44] = True
    return mask


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("name", ("skin lesion",)),
        ("template", ("skin lesion",)),
        ("fixed", ("skin lesion",)),
        ("ensemble", LIST),
        ("user", LIST),
        ("oracle", ("a benign mole",)),
    ],
)
def test_what_is_typed(mode, expected):
    by_image = {"a": "a benign mole"}
    assert choose_phrases(mode, "skin_lesion", LIST, by_image, "a") == expected
    assert mode in PROMPT_MODES


def test_phrases_that_are_not_there():
    with pytest.raises(DataError, match=r"no phrase for b.*oracle"):
        choose_phrases("oracle", "x", LIST, {"a": "y"}, "b")
    with pytest.raises(DataError, match="--prompt-mode name"):
        choose_phrases("fixed", "x", (), {}, "b")


def test_names_become_words():
    assert plain_name("left__lung-lobe_ 2") == "left lung lobe 2"


def test_labels_that_were_used_are_named():
    assert Leak("fixed", "fixed").mode == Leak("ensemble", "fixed").mode == "leak-free"
    assert Leak("fixed", "fixed").reasons == ()
    both = Leak("oracle", "val3")
    assert both.mode == "paper"
    assert len(both.reasons) == 2
    assert "subtype" in both.reasons[0]
    assert "3 labelled" in both.reasons[1]
    assert "all labelled" in Leak("name", "val-full").reasons[0]
    assert {"fixed", "val3", "val-full"} == set(HPARAM_MODES)


def test_three_validation_images_whatever_the_order():
    names = [f"{i:03d}" for i in range(50)]
    drawn = [names[i] for i in validation_draw(names)]
    assert len(set(drawn)) == 3
    mixed = names[::-1]
    assert [mixed[i] for i in validation_draw(mixed)] == drawn
    groups = [n[:2] for n in names]
    by_group = [groups[i] for i in validation_draw(names, groups)]
    assert len(set(by_group)) == 3
    assert len(validation_draw(["a", "b"])) == 2
    assert validation_draw([]) == []
    assert len(validation_draw(["a", "b", "c"], ["p", "p", "p"])) == 1


def test_settings_of_the_paper():
    points = grid_points(GRIDS["m2ib"])
    assert len(points) == 27
    assert len({tuple(p.items()) for p in points}) == 27
    assert points[0] == {"beta": 0.1, "var": 0.1, "layer": 7}
    scores = [[0.1, 0.2, 0.3]] * 27
    scores[4] = scores[9] = [0.9, 0.1, 0.2]
    best, mean = choose_point(points, scores)
    assert best == points[4]
    assert mean == pytest.approx(0.4)


def test_random_phrases_are_words_without_meaning():
    phrases = {random_phrase(seed) for seed in range(200)}
    assert len(phrases) == 200
    assert random_phrase(7) == random_phrase(7)
    assert all(len(p.split()) == 2 and p.replace(" ", "").isalpha() for p in phrases)


def test_boxes_that_bound():
    mask = two_squares()
    assert bound_boxes("oracle-box", mask) == [(5, 8, 35, 44)]
    assert bound_boxes("oracle-boxes", mask) == [(5, 8, 15, 20), (25, 40, 35, 44)]
    assert bound_boxes("whole-box", mask) == [(0, 0, 40, 60)]
    assert bound_boxes("centre-box", mask) == [(10, 15, 30, 45)]
    nothing = np.zeros((40, 60), bool)
    assert bound_boxes("oracle-box", nothing) == []
    assert bound_boxes("oracle-boxes", nothing) == []
    assert bound_boxes("centre-box", np.ones((4, 5), bool)) == [(1, 1, 3, 4)]
    dots = np.zeros((40, 40), bool)
    dots[::4, ::4] = True
    dots[1, 0] = True
    boxes = bound_boxes("oracle-boxes", dots)
    assert len(boxes) == 64
    assert boxes[0] == (0, 0, 2, 1)
    with pytest.raises(DataError, match="no bound"):
        bound_boxes("lucky", mask)


def test_figures_of_a_mask():
    truth = two_squares()
    mask = truth.copy()
    mask[25:35, 40:44] = False
    mask[5:15, 18:20] = False
    found = mask_figures(mask, truth)
    hits, size = 100, 120 + 40
    assert found["dice"] == pytest.approx(2 * hits / (hits + size))
    assert found["iou"] == pytest.approx(hits / size)
    assert found["precision"] == 1
    assert found["recall"] == pytest.approx(hits / size)
    # One of two parts is found, at IoU 100 / 120.
    assert found["f1_parts"] == pytest.approx(2 / 3)
    surface = surface_metrics(mask, truth, (1.0, 1.0), 2.0)
    assert found["nsd_2d"] == surface["nsd"]
    assert found["hd95"] == surface["hd95"]
    assert found["nsd_slab"] == nsd_slab(mask, truth, 2.0)


def test_figures_of_nothing():
    truth, nothing = two_squares(), np.zeros((40, 60), bool)
    shared = ("dice", "iou", "nsd_2d", "nsd_slab", "f1_parts")
    both = mask_figures(nothing, nothing)
    assert all(both[n] == 1 for n in shared)
    assert all(np.isnan(both[n]) for n in ("hd95", "precision", "recall"))
    for p, r in ((truth, nothing), (nothing, truth)):
        one = mask_figures(p, r)
        assert all(one[n] == 0 for n in shared)
        assert one["hd95"] == np.inf


def test_spread_over_images():
    values = [0.2, 0.4, 0.9, float("nan"), float("inf")]
    found = spread(values, list("abcde"))
    finite = np.array(values[:3])
    assert found["n"] == 3
    assert found["mean"] == pytest.approx(finite.mean())
    assert found["std"] == pytest.approx(finite.std(ddof=1))
    assert 0.2 <= found["low"] < found["mean"] < found["high"] <= 0.9
    assert found == spread(values, list("abcde"))
    # Images of one group go together: nothing can be resampled.
    alike = spread([0.1, 0.5], ["a", "a"])
    assert alike["mean"] == pytest.approx(0.3)
    assert alike["low"] is None
    assert spread([0.5], ["a"])["std"] is None
    assert spread([], [])["mean"] is None
