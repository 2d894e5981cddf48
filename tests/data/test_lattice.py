"""Windows of planes: they cover everything, and their weights add up to one."""

from __future__ import annotations

import numpy as np
import pytest

from napari_fewshot.data import (
    Image,
    Lattice,
    PromptSet,
    WindowedImage,
    WindowedPrompts,
)
from napari_fewshot.errors import DataError

RNG = np.random.default_rng(7)
CASES = [
    (tuple(RNG.integers(5, 400, 2).tolist()), tuple(RNG.integers(4, 130, 2).tolist()))
    for _ in range(30)
]


@pytest.mark.parametrize(("shape", "size"), CASES)
def test_windows_lie_on_the_plane_and_cells_tile_it(shape, size):
    lattice = Lattice.of(shape, size)
    covered = np.zeros(shape, int)
    total = np.zeros(shape, np.float64)
    for number in range(lattice.count):
        top, left, bottom, right = lattice.window(number)
        assert (bottom - top, right - left) == lattice.size
        assert 0 <= top < bottom <= shape[0]
        assert 0 <= left < right <= shape[1]
        cell, zone = lattice.cell(number), lattice.zone(number)
        for inner, outer in ((cell, zone), (zone, (top, left, bottom, right))):
            assert outer[0] <= inner[0] < inner[2] <= outer[2]
            assert outer[1] <= inner[1] < inner[3] <= outer[3]
        covered[cell[0] : cell[2], cell[1] : cell[3]] += 1
        weight = lattice.weights(number, (0, 0, *shape))
        shown = np.argwhere(weight > 0)
        low, high = shown.min(0), shown.max(0)
        assert (low >= zone[:2]).all()
        assert (high < zone[2:]).all(), "a window counts where it sees nothing"
        total += weight
    assert (covered == 1).all(), "cells overlap or leave gaps"
    np.testing.assert_allclose(total, 1.0, atol=1e-6)


@pytest.mark.parametrize(("shape", "size"), CASES[:10])
def test_touching_finds_what_brute_force_finds(shape, size):
    lattice = Lattice.of(shape, size)
    rng = np.random.default_rng(shape[0])
    for _ in range(5):
        (top, bottom), (left, right) = (
            sorted(rng.choice(n + 1, 2, replace=False).tolist()) for n in shape
        )
        region = (top, left, bottom, right)
        cells, zones = set(), set()
        for number in range(lattice.count):
            c, z = lattice.cell(number), lattice.zone(number)
            if max(c[0], top) < min(c[2], bottom) and max(c[1], left) < min(
                c[3], right
            ):
                cells.add(number)
            if max(z[0], top) < min(z[2], bottom) and max(z[1], left) < min(
                z[3], right
            ):
                zones.add(number)
        assert set(lattice.touching(region)) == cells
        assert set(lattice.touching(region, ramps=True)) == zones


def test_only_neighbours_share_pixels_that_count():
    lattice = Lattice.of((300, 500), (96, 128))
    for number in range(lattice.count):
        region = lattice.cell(number)
        others = {w for w in range(lattice.count) if lattice.weights(w, region).any()}
        assert number in others
        assert others <= set(lattice.around(number))


def test_a_plane_that_fits_is_one_window():
    lattice = Lattice.of((60, 80), (200, 200))
    assert lattice.count == 1
    assert lattice.window(0) == lattice.cell(0) == lattice.zone(0) == (0, 0, 60, 80)
    assert (lattice.weights(0, (0, 0, 60, 80)) == 1).all()


def test_the_wished_overlap_is_kept():
    lattice = Lattice.of((1000, 1000), (128, 128), overlap=40)
    assert max(np.diff(lattice.rows)) <= 128 - 40 + 1


@pytest.mark.parametrize(("size", "overlap"), [((0, 10), None), ((20, 20), 15)])
def test_impossible_windows_are_refused(size, overlap):
    with pytest.raises(DataError):
        Lattice.of((100, 100), size, overlap)


class Counted:
    """An array that notes the most pixels that were read at once."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.most = 0

    def __getitem__(self, key):
        found = self.array[key]
        self.most = max(self.most, found.size)
        return found


@pytest.mark.parametrize("axes", ["yx", "yxc", "cyx", "zyx", "tyx", "zcyx", "tzyxc"])
def test_windows_show_what_the_plane_shows(axes):
    sizes = {"t": 2, "z": 3, "c": 3, "y": 90, "x": 110}
    array = RNG.integers(0, 255, [sizes[a] for a in axes], dtype=np.uint8)
    counted = Counted(array)
    base = Image.from_array(counted, axes=axes, scale=None)
    lattice = Lattice.of(base.plane_shape, (40, 48))
    image = WindowedImage.over(base, lattice)
    assert image.n_planes == base.n_planes * lattice.count
    counted.most = 0
    for number in (0, lattice.count - 1, image.n_planes - 1, image.n_planes // 2):
        plane, window = image.split(number)
        top, left, bottom, right = lattice.window(window)
        np.testing.assert_array_equal(
            image.raw_plane(number), base.raw_plane(plane)[top:bottom, left:right]
        )
        np.testing.assert_allclose(
            image.plane(number), base.plane(plane)[top:bottom, left:right], atol=1e-6
        )
        assert image.relative_position(number) == base.relative_position(plane)
    counted.most = 0
    image.plane(1)
    assert counted.most <= 40 * 48 * 3, "more than a window was read"


def test_large_planes_are_sampled_in_blocks(monkeypatch):
    from napari_fewshot.data import _image

    monkeypatch.setattr(_image, "MAX_WHOLE_PIXELS", 10_000)
    monkeypatch.setattr(_image, "MAX_WINDOW_PIXELS", 5_000)
    array = RNG.normal(100, 20, (900, 700)).astype(np.float32)
    counted = Counted(array)
    low, high = Image.from_array(counted).window
    assert counted.most < 1000, "the plane was read as a whole"
    wanted = np.percentile(array, (0.5, 99.5))
    np.testing.assert_allclose((low, high), wanted, rtol=0.1)


def test_prompts_move_with_their_window():
    lattice = Lattice.of((200, 300), (80, 80))
    scribbles = np.zeros((200, 300), np.int8)
    scribbles[100:103, 40:90] = -1
    given = PromptSet(
        points=[(10, 20), (120, 250), (199, 299)],
        point_labels=[1, 0, 1],
        boxes=[(30, 40, 120, 60)],
        scribbles=scribbles,
    )
    prompts = WindowedPrompts(given=given, lattice=lattice, n_base=1)
    found = set()
    for number in range(lattice.count):
        top, left, bottom, right = lattice.window(number)
        here = prompts.on_plane(number, lattice.count)
        corner = np.array([top, left])
        for signs, points in ((1, here.positive), (0, here.negative)):
            found |= {(*(p + corner).tolist(), signs) for p in points}
            assert ((points >= -0.5) & (points < 79.5)).all()
        assert len(here.order) == here.clicks
        np.testing.assert_array_equal(here.scribbles, scribbles[top:bottom, left:right])
        overlaps = top < 120 and bottom > 30 and left < 60 and right > 40
        assert len(here.boxes) == overlaps
        if overlaps:
            box = here.boxes[0] + np.tile(corner, 2)
            assert (box[:2] >= (30, 40)).all()
            assert (box[2:] <= (120, 60)).all()
    assert found == {(10, 20, 1), (120, 250, 0), (199, 299, 1)}
    assert not prompts.is_empty
    assert not prompts.is_negative
