"""Masks from hostile maps, of any plane, and from boxes and objects of a model."""

import numpy as np
import pytest
from scipy.ndimage import binary_fill_holes
from tests.methods.text.planted import (
    CUTS,
    ONE,
    PROMPTS,
    TWO,
    cosines,
    dice,
    disc,
    fitted_for,
    found_for,
    heat_of,
    picture,
    sam,
)

from napari_fewshot.data import Hooks, Plane
from napari_fewshot.errors import Cancelled
from napari_fewshot.methods.text import Heat

__all__ = ["sam"]


@pytest.mark.parametrize("kind", ["cosine", "relevance"])
@pytest.mark.parametrize("cut", CUTS)
def test_a_map_that_is_the_same_everywhere_finds_nothing(kind, cut):
    maps = np.full((1, 8, 8), 0.7, np.float32)
    background = np.full((8, 8), 0.1, np.float32) if kind == "cosine" else None
    found = found_for(Heat(maps, kind, background), picture([ONE]), cut=cut)
    assert found.present == {1: False}
    assert found.maps[1].max() < 0.5
    assert found.heats[1]["heat map"].max() < 0.5


def test_a_probability_may_fill_the_plane():
    plane = picture([ONE])
    found = found_for(Heat(np.full((1, 4, 4), 0.9, np.float32), "probability"), plane)
    assert (found.maps[1] >= 0.5).all()


def test_no_background_and_no_other_class():
    maps, _ = cosines([ONE])
    found = found_for(Heat(maps), picture([ONE]))
    assert dice(found.maps[1] >= 0.5, ONE) >= 0.9


def broken(kind):
    maps, background = cosines([ONE])
    maps = maps.copy()
    if kind == "nan":
        maps[0, :4] = np.nan
        background[3:5] = np.inf
    elif kind == "all nan":
        maps[:] = np.nan
    elif kind == "huge":
        maps *= 1e30
    return Heat(maps, background=background)


@pytest.mark.parametrize("kind", ["nan", "all nan", "huge"])
@pytest.mark.parametrize("cut", CUTS)
def test_numbers_that_are_none(kind, cut):
    found = found_for(broken(kind), picture([ONE]), cut=cut)
    for map_ in (found.maps[1], found.heats[1]["heat map"]):
        assert np.isfinite(map_).all()
        assert 0 <= map_.min() <= map_.max() <= 1
    if kind == "all nan":
        assert not found.present[1]


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (2, 150), (40, 7), (210, 120)])
@pytest.mark.parametrize("grid", [(1, 1), (2, 3), (16, 16)])
@pytest.mark.parametrize(
    ("kind", "cut"), [("cosine", "auto"), ("relevance", "auto"), ("relevance", "crf")]
)
def test_any_plane_and_grid(shape, grid, kind, cut):
    rng = np.random.default_rng(0)
    plane = Plane(rng.random((*shape, 3)).astype(np.float32))
    maps = rng.random((2, *grid)).astype(np.float32)
    background = rng.random(grid).astype(np.float32) if kind == "cosine" else None
    found = found_for(Heat(maps, kind, background), plane, cut=cut)
    assert all(m.shape == shape for m in found.maps.values())
    assert all(h["heat map"].shape == shape for h in found.heats.values())


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (40, 7)])
@pytest.mark.parametrize("prompts", PROMPTS)
def test_small_planes_with_sam(shape, prompts, sam):
    rng = np.random.default_rng(1)
    plane = Plane(rng.random((*shape, 1)).astype(np.float32))
    heat = Heat(rng.random((1, 2, 2)).astype(np.float32), "relevance")
    found = found_for(heat, plane, sam, prompts=prompts)
    assert found.maps[1].shape == shape
    assert np.isfinite(found.maps[1]).all()


def test_thirty_classes():
    places = [(r, c) for r in range(12, 128, 24) for c in range(10, 128, 20)]
    masks = [disc(r, c, 8) for r, c in places[:30]]
    maps, background = cosines(masks, (32, 32))
    found = found_for(Heat(maps, background=background), picture(masks))
    assert len(found.maps) == 30
    assert (
        np.mean([dice(found.maps[i + 1] >= 0.5, m) for i, m in enumerate(masks)]) > 0.9
    )


def test_cancelling_between_classes():
    asked = []

    def stop():
        asked.append(1)
        return len(asked) > 2

    heat = heat_of(TWO)
    with pytest.raises(Cancelled):
        fitted_for(heat).find(picture(TWO), Hooks(is_cancelled=stop))


BOXES = np.array(
    [
        [15, 13, 61, 59],
        [64, 68, 112, 116],
        [16, 14, 60, 58],
        [0, 0, 128, 128],
        [np.nan, 0, 9, 9],
    ]
)


def test_boxes_become_numbered_objects(sam):
    heat = Heat(
        np.full((1, 4, 4), 0.4, np.float32),
        "probability",
        boxes={1: BOXES},
        scores={1: (0.6, 0.9, 0.5, 0.99, 0.9)},
    )
    found = found_for(heat, picture(TWO), sam)
    numbers = found.objects[1]
    assert numbers.dtype == np.int32
    # The double, the whole plane and the broken box are gone.
    assert numbers.max() == 2
    own = [1 + int(np.bincount(numbers[m], minlength=3)[1:].argmax()) for m in TWO]
    assert sorted(own) == [1, 2]
    # In a box alone the tiny SAM draws parts of flat discs, but of these discs.
    for number, truth in zip(own, TWO, strict=True):
        assert truth[numbers == number].mean() > 0.8
        assert dice(binary_fill_holes(numbers == number), truth) >= 0.55
    assert ((found.maps[1] >= 0.5) == (numbers > 0)).all()
    assert found.present == {1: True}


def test_boxes_without_sam_follow_the_map():
    whole = TWO[0] | TWO[1]
    heat = heat_of([whole], "probability", boxes={1: BOXES[:2]})
    found = found_for(heat, picture(TWO))
    assert found.objects[1].max() == 2
    assert dice(found.maps[1] >= 0.5, whole) >= 0.85


def test_no_boxes_are_nothing(sam):
    heat = heat_of([ONE], "probability", boxes={1: np.zeros((0, 4))})
    found = found_for(heat, picture([ONE]), sam)
    assert found.present == {1: False}
    assert not found.objects[1].any()
    assert found.maps[1].max() < 0.5


def test_masks_of_a_model_are_taken_as_they_are():
    masks = np.stack([TWO[0], TWO[1], disc(38, 37, 20), np.zeros_like(ONE)])
    heat = heat_of(
        [TWO[0] | TWO[1]],
        "probability",
        objects={1: masks},
        scores={1: (0.5, 0.8, 0.9, 1.0)},
    )
    numbers = found_for(heat, picture(TWO)).objects[1]
    # The third is nearly the first, and better.
    assert (numbers == 1).sum() == masks[2].sum()
    assert ((numbers == 2) == masks[1]).all()
    assert numbers.max() == 2


def test_a_covered_object_leaves_no_gap_in_the_numbers():
    small = disc(50, 60, 10)
    heat = heat_of(
        [ONE],
        "probability",
        objects={1: np.stack([ONE, small, TWO[1]])},
        scores={1: (0.9, 0.8, 0.7)},
    )
    numbers = found_for(heat, picture([ONE])).objects[1]
    assert np.unique(numbers).tolist() == list(range(int(numbers.max()) + 1))
    assert numbers[88, 92] == 2
