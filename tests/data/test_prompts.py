"""Prompts are checked when they are made."""

from __future__ import annotations

import numpy as np
import pytest

from napari_fewshot.data import ClassTable, PromptSet, TextPrompt
from napari_fewshot.errors import PromptError, SupportError


def test_points_default_to_positive():
    prompts = PromptSet(points=[[3, 4], [5, 6]])
    np.testing.assert_array_equal(prompts.point_labels, [1, 1])
    assert not prompts.is_empty
    assert PromptSet().is_empty


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param({"points": np.zeros((2, 5))}, "shape", id="5-d-points"),
        pytest.param({"points": [[np.nan, 1]]}, "NaN", id="nan"),
        pytest.param({"points": [[1, 1]], "point_labels": [2]}, "1 .*or 0", id="label"),
        pytest.param({"point_labels": [1]}, "without points", id="labels-alone"),
        pytest.param({"boxes": [[5, 5, 2, 8]]}, "maxima", id="upside-down"),
        pytest.param({"scribbles": np.full((4, 4), 2)}, "-1", id="scribble-values"),
    ],
)
def test_bad_prompts_are_refused(options, words):
    with pytest.raises(PromptError, match=words):
        PromptSet(**options)


def test_text_takes_one_phrase_or_several():
    assert TextPrompt("a nucleus").phrases == ("a nucleus",)
    assert TextPrompt(["a", " b "]).phrases == ("a", "b")
    with pytest.raises(PromptError, match="empty"):
        TextPrompt(["  "])


def test_class_table_keeps_names_and_gives_colours():
    table = ClassTable.from_names({2: "debris", 1: "nucleus"})
    assert list(table.names) == [1, 2]
    assert len({c.colour for c in table}) == 2
    assert table.merged({1: "other", 3: "x"}).names == {
        1: "nucleus",
        2: "debris",
        3: "x",
    }
    with pytest.raises(SupportError, match="start at 1"):
        ClassTable.from_names({0: "background"})


def test_clicks_can_be_taken_back_one_by_one():
    prompts = PromptSet(
        points=[[1, 1], [2, 2], [3, 3]], point_labels=[1, 0, 1], boxes=[0, 0, 9, 9]
    )
    here = prompts.on_plane(0, 1)
    assert here.clicks == 3
    assert here.after(2).positive.tolist() == [[1, 1]]
    assert here.after(2).negative.tolist() == [[2, 2]]
    assert here.after(3).positive.tolist() == [[1, 1], [3, 3]]
    assert here.after(0).clicks == 0
    assert len(here.after(0).boxes) == 1


def test_the_order_of_clicks_is_that_of_their_plane():
    prompts = PromptSet(
        points=[[1, 5, 5], [0, 4, 4], [1, 6, 6]], point_labels=[0, 1, 1]
    )
    assert prompts.on_plane(1, 2).order == (False, True)
    assert prompts.on_plane(1, 2).after(1).negative.tolist() == [[5, 5]]
