"""Tiles: blending, rules about objects and stitching, against whole planes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_fewshot.data import Image, Lattice, Support, SupportSet
from napari_fewshot.errors import DataError, StorageError
from napari_fewshot.inference import SegmentRequest
from napari_fewshot.inference.tiles import (
    Blend,
    Components,
    Parts,
    Rules,
    _supports,
    cut_supports,
    plan_tiles,
    settle,
    stitch,
)
from napari_fewshot.inference.tiles._plan import window_size
from napari_fewshot.inference.tiles._stitch import same_objects
from napari_fewshot.inference.tiles._supports import painted_regions
from napari_fewshot.inference.tiles._tiled import connected_objects
from napari_fewshot.methods import CommonParams
from napari_fewshot.ops import probabilities_to_labels, split_instances


def cut(array, region):
    return array[region[0] : region[2], region[1] : region[3]]


def smooth(rng, shape, sigma=1.5):
    """Return a map with many parts and holes, some at seams."""
    noise = ndimage.gaussian_filter(rng.normal(size=shape), sigma)
    return (0.45 + noise / noise.std() * 0.2).clip(0, 1).astype(np.float32)


@pytest.mark.parametrize("seed", range(6))
def test_blending_windows_of_one_map_gives_that_map(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(40, 120, 2).tolist())
    lattice = Lattice.of(shape, (32, 40), overlap=12)
    whole = {1: smooth(rng, shape), 3: smooth(rng, shape)}
    blend = Blend(lattice, range(lattice.count), range(lattice.count))
    done = {}
    for window in rng.permutation(lattice.count).tolist():
        region = lattice.window(window)
        for cell in blend.add(window, {v: cut(m, region) for v, m in whole.items()}):
            done[cell] = blend.maps(cell)
            blend.take(cell)
    assert sorted(done) == list(range(lattice.count))
    assert blend.held == 0, "windows that nobody needs are kept"
    for cell, maps in done.items():
        for value, found in maps.items():
            wanted = cut(whole[value], lattice.cell(cell))
            np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_blending_changes_over_without_a_step():
    lattice = Lattice.of((64, 200), (64, 80), overlap=32)
    blend = Blend(lattice, range(lattice.count), range(lattice.count))
    row = np.zeros(200, np.float32)
    for window in range(lattice.count):
        flat = np.full(lattice.size, window % 2, np.float32)
        for cell in blend.add(window, {1: flat}):
            region = lattice.cell(cell)
            row[region[1] : region[3]] = blend.maps(cell)[1][0]
            blend.take(cell)
    assert np.abs(np.diff(row)).max() <= 1 / lattice.ramp[1] + 1e-6
    assert row.min() == 0
    assert row.max() == 1


def test_the_order_of_windows_does_not_change_a_bit():
    rng = np.random.default_rng(3)
    lattice = Lattice.of((90, 90), (40, 40), overlap=12)
    maps = {w: {1: rng.random((40, 40), np.float32)} for w in range(lattice.count)}

    def run(order):
        blend = Blend(lattice, order, range(lattice.count))
        found = np.zeros((90, 90), np.float32)
        for window in order:
            for cell in blend.add(window, maps[window]):
                cut(found, lattice.cell(cell))[...] = blend.maps(cell)[1]
                blend.take(cell)
        return found

    forward = run(list(range(lattice.count)))
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(lattice.count).tolist()
        np.testing.assert_array_equal(run(order), forward)


@pytest.mark.parametrize("seed", range(12))
def test_rules_do_what_they_do_on_a_whole_plane(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(40, 90, 2).tolist())
    size = tuple(rng.integers(14, 40, 2).tolist())
    lattice = Lattice.of(shape, size)
    maps = {v: smooth(rng, shape) for v in (1, 2, 5)}
    limits = {
        "min_area": int(rng.integers(0, 20)),
        "max_area": {1: 60.0, 2: 0.0} if seed % 2 else 0.0,
        "largest_only": seed % 4 == 3,
    }
    fill = {1: True, 2: bool(seed % 3), 5: False}
    wanted = probabilities_to_labels(maps, fill_holes=fill, **limits)
    raw = probabilities_to_labels(maps, fill_holes=False)
    assert (wanted != raw).any(), "the rules change nothing: no test"
    found = np.zeros(shape, np.int32)
    cells = range(lattice.count)

    def read(cell):
        return cut(raw, lattice.cell(cell))

    rules = Rules(fill=fill, **limits)
    for cell, labels, _ in settle(lattice, cells, read, [1, 2, 5], rules):
        cut(found, lattice.cell(cell))[...] = labels
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("corners", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_components_are_those_of_the_whole_mask(seed, corners):
    rng = np.random.default_rng(seed)
    mask = rng.random((61, 73)) < (0.45 if corners else 0.55)
    lattice = Lattice.of(mask.shape, (20, 17))
    cells = range(lattice.count)
    parts = Components(lattice, cells, corners=corners, firsts=True)
    for cell in rng.permutation(lattice.count).tolist():
        parts.add(cell, cut(mask, lattice.cell(cell)))
    parts.close()
    shape = np.ones((3, 3)) if corners else None
    truth, count = ndimage.label(mask, shape)
    assert len(parts.sizes) == count
    for cell in range(lattice.count):
        here = cut(mask, lattice.cell(cell))
        roots, wanted = parts.roots(cell, here), cut(truth, lattice.cell(cell))
        assert ((roots < 0) == (wanted == 0)).all()
        for root in np.unique(roots[roots >= 0]).tolist():
            (number,) = np.unique(wanted[roots == root])
            assert parts.sizes[root] == (truth == number).sum()
            assert parts.first[root] == np.flatnonzero(truth == number)[0]
            rim = np.ones(mask.shape, bool)
            rim[1:-1, 1:-1] = False
            assert parts.outer[root] == (rim & (truth == number)).any()


@pytest.mark.parametrize("seed", range(4))
def test_connected_objects_are_numbered_as_on_a_whole_plane(seed):
    rng = np.random.default_rng(seed)
    labels = probabilities_to_labels(
        {v: smooth(rng, (70, 80)) for v in (1, 2)}, fill_holes=False
    )
    lattice = Lattice.of(labels.shape, (24, 30))
    found = np.zeros(labels.shape, np.int32)

    def read(cell):
        return cut(labels, lattice.cell(cell))

    for cell, numbers in connected_objects(lattice, range(lattice.count), read, [1, 2]):
        cut(found, lattice.cell(cell))[...] = numbers
    np.testing.assert_array_equal(found, split_instances(labels, "components"))


def touching_discs(rng, shape, count, radius):
    """Return discs numbered 1..N that touch but do not overlap."""
    found = np.zeros(shape, np.int32)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    centres = rng.uniform(radius, np.array(shape) - radius, (count, 2))
    away = np.stack([np.hypot(rows - y, columns - x) for y, x in centres])
    nearest = away.argmin(0)
    found[away.min(0) < radius] = nearest[away.min(0) < radius] + 1
    return found


@pytest.mark.parametrize("seed", range(5))
def test_objects_over_seams_become_one(seed):
    rng = np.random.default_rng(seed)
    truth = touching_discs(rng, (160, 200), 60, 9)
    lattice = Lattice.of(truth.shape, (64, 64), overlap=32)

    def labels(cell):
        return (cut(truth, lattice.cell(cell)) > 0).astype(np.int32)

    def objects(cell):
        here = cut(truth, lattice.zone(cell))
        old, numbers = np.unique(here, return_inverse=True)
        # Every window counts in its own way.
        order = np.random.default_rng(cell).permutation(np.arange(1, len(old)))
        table = np.concatenate([[0], order])[: len(old)]
        kinds = np.ones(len(old), int)
        kinds[0] = 0
        return table[numbers.reshape(here.shape)].astype(np.int32), kinds

    found = np.zeros(truth.shape, np.int32)
    for cell, numbers in stitch(lattice, range(lattice.count), labels, objects):
        cut(found, lattice.cell(cell))[...] = numbers
    assert ((found > 0) == (truth > 0)).all()
    count = len(np.unique(truth[truth > 0]))
    assert found.max() == len(np.unique(found[found > 0])), "numbers have gaps"
    assert abs(found.max() - count) <= max(1, 0.01 * count)
    # Every object of the truth has one number, but for slivers at a seam.
    split = sum(
        len(np.unique(found[truth == n])) > 1 for n in range(1, truth.max() + 1)
    )
    assert split <= 1


def test_parts_that_no_window_saw_as_objects_are_objects_too():
    labels = np.zeros((60, 90), np.int32)
    labels[10:20, 5:85] = 1  # crosses all seams
    labels[40:44, 40:44] = 2
    lattice = Lattice.of(labels.shape, (60, 40), overlap=12)

    def read(cell):
        return cut(labels, lattice.cell(cell))

    found = np.zeros(labels.shape, np.int32)
    for cell, numbers in stitch(lattice, range(lattice.count), read, lambda cell: None):
        cut(found, lattice.cell(cell))[...] = numbers
    np.testing.assert_array_equal(found, split_instances(labels))


def test_same_objects_are_each_others_best():
    a, b = np.zeros((10, 20), int), np.zeros((10, 20), int)
    a[:, :10], a[:, 10:] = 1, 2
    b[:, :9], b[:, 9:] = 7, 3
    assert {tuple(p) for p in same_objects(a, b)} == {(1, 7), (2, 3)}
    b[:, :] = 5  # one that swallowed both belongs to the larger one only
    a[:, 12:] = 0
    assert {tuple(p) for p in same_objects(a, b)} == {(1, 5)}
    assert len(same_objects(a, np.zeros_like(a))) == 0


def test_parts_survive_and_forget(tmp_path):
    folder = tmp_path / "out.zarr.parts"
    parts = Parts(folder, "key")
    array = np.arange(12).reshape(3, 4)
    parts.put("c", 2, 11, labels=array)
    parts.note("2-11", {"x": 1})
    parts.note("2-11", {"x": 2})
    again = Parts(folder, "key")
    assert again.numbers("c") == [(2, 11)]
    assert again.facts == {"2-11": {"x": 2}}
    np.testing.assert_array_equal(again.get("c", 2, 11)["labels"], array)
    # Another request begins anew.
    other = Parts(folder, "another")
    assert other.numbers("c") == []
    assert not other.facts
    other.remove()
    assert not folder.exists()


def test_damaged_parts_count_as_missing(tmp_path):
    parts = Parts(tmp_path / "p", "key")
    parts.put("c", 0, 1, labels=np.ones(5))
    file = next((tmp_path / "p").glob("c-*"))
    content = file.read_bytes()
    for broken in (content[:-4], b"", b"hello", content[:10] + b"x" + content[11:]):
        file.write_bytes(broken)
        assert parts.get("c", 0, 1) is None
        assert not parts.has("c", 0, 1)
    with (tmp_path / "p" / "facts.jsonl").open("a") as facts:
        facts.write('["0-1", {"a"')
    again = Parts(tmp_path / "p", "key")
    assert not again.facts
    again.note("0-2", {})
    assert list(Parts(tmp_path / "p", "key").facts) == ["0-2"]


def test_folders_with_other_files_are_left_alone(tmp_path):
    (tmp_path / "thesis.docx").write_text("years")
    with pytest.raises(StorageError, match=r"thesis\.docx"):
        Parts(tmp_path, "key")
    assert (tmp_path / "thesis.docx").exists()


def request_for(shape, support_shape, *, scales=(None, None), **options):
    labels = np.zeros(support_shape, np.int32)
    labels[2:9, 2:9] = 1
    image = np.random.default_rng(0).integers(0, 255, support_shape, dtype=np.uint8)
    query = Image.from_array(
        np.lib.stride_tricks.as_strided(image, shape, (0,) * len(shape)),
        scale=scales[0],
    )
    support = SupportSet([Support(image, labels, scale=scales[1])])
    return SegmentRequest(query, support, method="pixel", **options)


@pytest.mark.parametrize(
    ("shape", "support", "scales", "wanted"),
    [
        ((512, 512), (96, 96), (None, None), None),
        ((2048, 2048), (256, 256), (None, None), None),
        ((2000, 4000), (2048, 2048), (None, None), None),
        ((4000, 4000), (96, 96), (None, None), (256, 256)),
        ((4000, 4000), (512, 700), (None, None), (512, 700)),
        ((600, 9000), (512, 512), (None, None), (600, 512)),
        ((4000, 4000), (200, 200), ((0.5, 0.5), (2.0, 2.0)), (800, 800)),
        ((4000, 4000), (200, 200), ((0.5, 0.5), (2000.0, 2000.0)), (256, 256)),
    ],
)
def test_windows_follow_what_the_supports_show(shape, support, scales, wanted):
    request = request_for(shape, support, scales=scales)
    assert window_size(request, CommonParams()) == wanted


def test_a_wished_tile_is_taken():
    request = request_for((500, 300), (96, 96))
    assert window_size(request, CommonParams(tile=128)) == (128, 128)
    assert window_size(request, CommonParams(tile=400)) == (400, 300)
    assert window_size(request, CommonParams(tile=512)) is None


def test_the_nearest_windows_come_first():
    request = request_for((500, 500), (96, 96), params={"tile": 128}, first=(430, 60))
    plan = plan_tiles(request)
    top, left, bottom, right = plan.lattice.cell(plan.numbers[0])
    assert top <= 430 < bottom
    assert left <= 60 < right
    assert sorted(plan.numbers) == list(range(plan.lattice.count))


@pytest.mark.parametrize(
    "where",
    [
        {"region": (0, 0, 600, 10)},
        {"region": (-1, 0, 5, 10)},
        {"region": (9, 9, 9, 20)},
        {"inside": np.ones((3, 3))},
        {"inside": np.zeros((500, 500))},
    ],
)
def test_places_that_are_not_on_the_image_are_refused(where):
    request = request_for((500, 500), (96, 96), params={"tile": 128}, **where)
    with pytest.raises(DataError):
        plan_tiles(request)


@pytest.mark.parametrize(
    ("shape", "spots"),
    [
        ((300, 400), [(50, 60)]),
        ((300, 400), [(0, 0), (299, 399)]),
        ((300, 400), [(10, 390), (20, 380)]),
        ((90, 400), [(5, 200)]),
        ((300, 400), []),
    ],
)
def test_pieces_show_what_is_painted(shape, spots):
    labels = np.zeros(shape, np.int32)
    for y, x in spots:
        labels[max(0, y - 4) : y + 5, max(0, x - 4) : x + 5] = 1
    shown = np.zeros(shape, bool)
    for region in painted_regions(labels, 100):
        top, left, bottom, right = region
        assert 0 <= top < bottom <= shape[0]
        assert 0 <= left < right <= shape[1]
        assert bottom - top == min(100, shape[0])
        assert right - left == 100
        cut(shown, region)[...] = True
    assert (labels[~shown] == 0).mean() == 1
    assert shown.any()


def test_supports_on_large_planes_are_cut(monkeypatch):
    monkeypatch.setattr(_supports, "MOST_PIXELS", 200 * 200)
    monkeypatch.setattr(_supports, "SIDE", 64)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 200, (260, 300, 3), dtype=np.uint8)
    labels = np.zeros((260, 300), np.uint8)
    labels[240:250, 280:290] = 255
    large = Support(image, labels, axes="yxc", scale=(2, 2), name="slide")
    small = Support(image[:50, :60], labels[:50, :60] + 1, axes="yxc")
    cut_up = cut_supports(SupportSet([large, small]))
    assert cut_up[-1] is small
    assert len(cut_up) == 2
    piece = cut_up[0]
    assert piece.name == "slide (part 1)"
    assert piece.label_values == (1,)
    assert (piece.label_plane(0) == 1).sum() == 100
    assert piece.source.window == large.source.window
    assert piece.source.pixel_size == (2, 2)
    assert piece.source.plane_shape == (64, 64) or min(piece.source.plane_shape) >= 64
    only_small = SupportSet([small])
    assert cut_supports(only_small) is only_small
