"""Windows: where they lie, how maps are joined, and what they are good for."""

import numpy as np
import pytest
from tests.methods.text.reader import bank_of, forget, native, picture, rows

from napari_fewshot.data import Hooks, Plane
from napari_fewshot.errors import Cancelled
from napari_fewshot.methods import get_method
from napari_fewshot.methods.text import _dense, _windows
from napari_fewshot.methods.text._windows import Blend, Layout, bell, lay_out, starts


@pytest.fixture(autouse=True)
def nothing_kept():
    forget()


@pytest.mark.parametrize("total", [4, 5, 7, 8, 11, 30])
@pytest.mark.parametrize("window", [1, 3, 4])
def test_windows_cover_everything_and_overlap_by_half(total, window):
    if window > total:
        return
    found = starts(total, window)
    assert found[0] == 0
    assert found[-1] == total - window
    assert (np.diff(found) > 0).all()
    assert (np.diff(found) <= max(1, window // 2)).all()


@pytest.mark.parametrize(
    ("shape", "windows", "wanted"),
    [
        pytest.param((64, 64), "on", None, id="as-large-as-the-model"),
        pytest.param((30, 40), "on", None, id="smaller"),
        pytest.param((190, 190), "auto", None, id="not-much-larger"),
        pytest.param((192, 192), "auto", (24, 24), id="large"),
        pytest.param((999, 999), "off", None, id="off"),
        pytest.param((128, 128), "on", (16, 16), id="twice"),
        pytest.param((1000, 1000), "auto", (24, 24), id="auto-is-three-sides"),
        pytest.param((9999, 9999), "on", (128, 128), id="on-is-sixteen-sides"),
        pytest.param((128, 640), "auto", (8, 40), id="long"),
        pytest.param((20, 90), "auto", (8, 32), id="small-but-long"),
        pytest.param((1, 40), "on", (8, 128), id="a-line"),
    ],
)
def test_number_of_windows_is_bounded(shape, windows, wanted):
    found = lay_out(shape, 64, (8, 8), windows)
    assert (None if found is None else found.canvas) == wanted


def test_crops_cover_the_plane_and_lie_where_their_cells_do():
    layout = lay_out((130, 201), 64, (8, 8), "on")
    image = np.arange(130 * 201, dtype=np.float32).reshape(130, 201, 1)
    seen = np.zeros((130, 201), bool)
    for place in layout.places:
        crop = layout.crop(image, place)
        top, left = divmod(int(crop[0, 0, 0]), 201)
        seen[top : top + crop.shape[0], left : left + crop.shape[1]] = True
        cell = np.array(layout.shape) / np.array(layout.canvas)
        assert abs(top - place[0] * cell[0]) <= 1
        assert abs(left - place[1] * cell[1]) <= 1
        assert np.abs(np.array(crop.shape[:2]) - cell * 8).max() <= 2
    assert seen.all()


def test_blending_by_loops():
    layout = Layout((70, 90), (6, 7), (4, 4), ((0, 0), (2, 0), (2, 3), (0, 3)))
    maps = np.random.default_rng(0).random((4, 2, 4, 4)).astype(np.float32)
    blend = Blend(layout, 2)
    for part, place in zip(maps, layout.places, strict=True):
        blend.add(part, place)
    found = blend.mean()
    for k in range(2):
        for r in range(6):
            for c in range(7):
                total = weight = 0.0
                for part, (top, left) in zip(maps, layout.places, strict=True):
                    i, j = r - top, c - left
                    if 0 <= i < 4 and 0 <= j < 4:
                        w = (
                            np.sin(np.pi * (i + 0.5) / 4)
                            * np.sin(np.pi * (j + 0.5) / 4)
                        ) ** 2
                        total, weight = total + w * part[k, i, j], weight + w
                assert found[k, r, c] == pytest.approx(total / weight, abs=1e-6)
    assert bell((1, 1)) == 1


def test_equal_maps_stay_equal_also_on_another_grid():
    layout = lay_out((300, 200), 64, (8, 8), "on")
    blend = Blend(layout, 1)
    for place in layout.places:
        blend.add(np.full((1, 5, 6), 0.25, np.float32), place)
    np.testing.assert_allclose(blend.mean(), 0.25, atol=1e-6)


def heat(reader, image, bank, hooks=None, name="maskclip", **values):
    method = get_method(name)
    params = method.spec.params(**values)
    return method.heat(reader, Plane(image), bank, params, hooks or Hooks())


def test_a_plane_through_windows_is_the_mean_of_whole_and_blend():
    reader, image = native(2), picture(0, (128, 96, 1))
    bank = bank_of([rows(1, 1), rows(2, 2)], [rows(1, 3)])
    found = heat(reader, image, bank, windows="on")
    whole = heat(reader, image, bank, windows="off")
    layout = lay_out((128, 96), 64, (8, 8), "on")
    total, weight = np.zeros((2, *layout.canvas)), np.zeros(layout.canvas)
    for top, left in layout.places:
        part = heat(reader, layout.crop(image, (top, left)), bank, windows="off").maps
        bells = np.outer(*[np.sin(np.pi * (np.arange(8) + 0.5) / 8) ** 2] * 2)
        total[:, top : top + 8, left : left + 8] += part * bells
        weight[top : top + 8, left : left + 8] += bells
    large = _windows.resized(whole.maps, layout.canvas)
    np.testing.assert_allclose(found.maps, (large + total / weight) / 2, atol=1e-5)
    np.testing.assert_allclose(found.fits, whole.fits, atol=1e-6)
    assert (found.negative[1] == -1).all()
    assert found.background.shape == layout.canvas


def test_a_small_thing_on_a_large_plane_is_found_through_windows_only():
    reader = native(2)
    image = np.full((512, 512, 1), 0.2, np.float32)
    image[300:306, 132:138] = 1.0
    # The word lies where a bright thing lies when it is seen from nearby.
    near = np.full((64, 64, 1), 0.2, np.float32)
    near[24:30, 24:30] = 1.0
    cells = get_method("maskclip")._seen(reader, [near], None)[0].cells
    word = cells[3, 3] - cells.reshape(-1, cells.shape[-1]).mean(0)
    bank = bank_of([(word / np.linalg.norm(word))[None]])
    contrast = {}
    for windows in ("on", "off"):
        maps = heat(reader, image, bank, windows=windows).maps[0]
        spread = np.median(np.abs(maps - np.median(maps))) + 1e-4
        contrast[windows] = (maps.max() - np.median(maps)) / spread
        if windows == "on":
            row, column = np.unravel_index(maps.argmax(), maps.shape)
            assert abs((row + 0.5) / len(maps) - 303 / 512) < 2 / len(maps)
            assert abs((column + 0.5) / len(maps) - 135 / 512) < 2 / len(maps)
    assert contrast["on"] > 1.5 * contrast["off"]


@pytest.mark.parametrize("name", ["maskclip", "surgery", "proxy"])
def test_all_dense_maps_take_windows(name):
    reader, image = native(2), picture(0, (70, 80, 1))
    bank = bank_of([rows(1, 1), rows(1, 2)])
    found = heat(reader, image, bank, name=name, windows="on")
    fine = 2 if name == "proxy" else 1
    assert found.maps.shape == (2, round(8.75 * fine), 10 * fine)
    assert np.isfinite(found.maps).all()


def test_progress_and_cancelling_between_windows():
    reader, image, told = native(2), picture(0, (256, 256, 1)), []
    heat(reader, image, bank_of([rows(1)]), Hooks(told.append), windows="on")
    assert [p.done for p in told] == list(range(49))
    assert {p.total for p in told} == {49}
    forget()
    before = reader.tower.images
    stop = Hooks(is_cancelled=lambda: reader.tower.images >= before + 5)
    with pytest.raises(Cancelled):
        heat(reader, image, bank_of([rows(1)]), stop, windows="on")
    assert reader.tower.images == before + 5


def test_a_new_phrase_costs_no_window():
    reader, image = native(2), picture(0, (128, 128, 1))
    heat(reader, image, bank_of([rows(1, 1)]), windows="on")
    before = reader.tower.images
    assert before == 1 + 9
    heat(reader, image, bank_of([rows(1, 2)]), windows="on")
    assert reader.tower.images == before


def test_windows_at_once_are_the_same_as_one_by_one(monkeypatch):
    reader, image = native(2), picture(0, (128, 128, 1))
    one = heat(reader, image, bank_of([rows(1, 1)]), windows="on").maps
    forget()
    reader.device = "meta"
    monkeypatch.setattr(_dense, "AT_ONCE", 4)
    many = heat(reader, image, bank_of([rows(1, 1)]), windows="on").maps
    np.testing.assert_allclose(one, many, atol=1e-5)
