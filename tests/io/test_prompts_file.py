import json

import numpy as np
import pytest

import napari_fewshot as nf
from napari_fewshot.io import open_prompts


def written(tmp_path, content):
    path = tmp_path / "clicks.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_all_fields_are_read(tmp_path):
    given = {
        "points": [[4, 5], [6, 7]],
        "point_labels": [1, 0],
        "boxes": [[1, 2, 8, 9]],
    }
    found = open_prompts(written(tmp_path, {"1": given, "7": {"points": [[2, 3]]}}))
    assert list(found) == [1, 7]
    np.testing.assert_array_equal(found[1].points, given["points"])
    np.testing.assert_array_equal(found[1].point_labels, [1, 0])
    np.testing.assert_array_equal(found[1].boxes, given["boxes"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"1": {"points": [[1, 2]]', "can't be read as JSON.*look like"),
        ("[1, 2]", "no prompts by class"),
        ({"lung": {"points": [[1, 2]]}}, "'lung' is not the number of a class"),
        ({"1": {"point": [[1, 2]]}}, "any of points, point_labels"),
        ({"1": [[1, 2]]}, "must be an object"),
        ({"1": {"points": "here"}}, "class 1"),
        ({"1": {"points": [[1, 2]], "point_labels": [1, 0]}}, "1 points and 2 labels"),
    ],
)
def test_bad_files_say_what_they_should_be(tmp_path, content, words):
    with pytest.raises((nf.DataError, nf.PromptError), match=words) as raised:
        open_prompts(written(tmp_path, content))
    assert "clicks.json" in str(raised.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(nf.DataError, match=r"No such file.*Check its name"):
        open_prompts(tmp_path / "nothing.json")
