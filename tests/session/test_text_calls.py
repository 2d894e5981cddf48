"""Text with what people add to it: a level, clicks that refuse, a lone phrase."""

import numpy as np
import pytest
from scipy import ndimage
from tests import tiny_clip

import napari_fewshot as nf
from napari_fewshot.inference._prompted import REFUSED, without_refused


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_clip.write(tmp_path_factory.mktemp("models") / "tiny-clip")


@pytest.fixture(scope="module")
def scene():
    return (255 * tiny_clip.scene(7).image).round().astype(np.uint8)


def green(scene, folder, **more):
    how = {"checkpoint": folder, "decoder": "map", "presence": False}
    return nf.segment(scene, text="green box", **how, **more)


def test_a_level_with_a_point_is_where_maps_are_cut(scene, folder):
    areas = [int((green(scene, folder, level=v).labels == 1).sum()) for v in (0.2, 0.9)]
    assert areas[0] > areas[1] > 0
    with pytest.raises(nf.DataError, match="no level 3"):
        green(scene, folder, level=3)
    with pytest.raises(nf.DataError, match="whole number"):
        nf.segment(scene, (scene, np.ones(scene.shape[:2], int)), level=0.5)


def test_a_click_that_refuses_removes_its_object_alone(scene, folder):
    before = np.asarray(green(scene, folder).labels) == 1
    parts, count = ndimage.label(before, np.ones((3, 3)))
    assert count > 1
    inside = ndimage.center_of_mass(ndimage.binary_erosion(parts == 1, iterations=2))
    refuse = nf.PromptSet(points=[inside], point_labels=[0])
    after = np.asarray(green(scene, folder, prompts=refuse).labels) == 1
    assert not after[parts == 1].any()
    np.testing.assert_array_equal(after[parts > 1], True)
    beside = np.argwhere(~ndimage.binary_dilation(before, iterations=5))[0]
    refuse = nf.PromptSet(points=[beside], point_labels=[0])
    same = np.asarray(green(scene, folder, prompts=refuse).labels) == 1
    np.testing.assert_array_equal(same, before)


def test_objects_are_clicked_away_one_by_one():
    probability = np.full((20, 30), 0.2, np.float32)
    probability[2:6, 2:6] = 0.9
    probability[10:15, 20:28] = 0.8
    found = without_refused(probability, np.array([[3.0, 3.0], [18.0, 1.0]]))
    assert (found[2:6, 2:6] == np.float32(REFUSED)).all()
    found[2:6, 2:6] = 0.9
    np.testing.assert_array_equal(found, probability)
    beyond = without_refused(probability, np.array([[400.0, -9.0]]))
    np.testing.assert_array_equal(beyond, probability)


def test_a_lone_phrase_is_ranked_by_itself(scene, folder):
    table = nf.rank_phrases(scene, "green box", checkpoint=folder)
    assert list(table["phrase"]) == ["green box"]
