"""Measured objects: against skimage, against closed forms, in any block size."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from skimage.measure import label, perimeter_crofton, regionprops

import napari_fewshot as nf
from napari_fewshot.evaluation import _measure_pieces
from napari_fewshot.evaluation._measure import measure_objects
from napari_fewshot.evaluation._measure_border import crossing_weights, half_directions


def scene(seed=0, shape=(90, 70), classes=3):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, classes + 1, tuple(-(-n // 6) for n in shape))
    for axis in range(len(shape)):
        coarse = np.repeat(coarse, 6, axis)
    labels = coarse[tuple(slice(0, n) for n in shape)].astype(np.int32)
    return np.where(rng.random(shape) < 0.05, 0, labels)


def ellipsoid(shape, radii, scale):
    grid = np.meshgrid(
        *[(np.arange(n) - n / 2 + 0.31) * s for n, s in zip(shape, scale, strict=True)],
        indexing="ij",
    )
    return sum((g / r) ** 2 for g, r in zip(grid, radii, strict=True)) <= 1


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(_measure_pieces, "BLOCK_PIXELS", 150)


@pytest.mark.parametrize("is_cut", [False, True], ids=["whole", "blocks"])
def test_a_plane_agrees_with_skimage(is_cut, monkeypatch):
    if is_cut:
        monkeypatch.setattr(_measure_pieces, "BLOCK_PIXELS", 150)
    labels = scene()
    image = np.random.default_rng(1).normal(1000, 50, (*labels.shape, 2))
    table = measure_objects(labels, image)
    numbered = label(labels, connectivity=2)
    theirs = regionprops(numbered, image)
    assert len(table) == len(theirs) > 30
    for mine, other in zip(table.to_dict("records"), theirs, strict=True):
        assert mine["label"] == other.label
        assert mine["pixels"] == mine["area"] == other.area
        assert (mine["row"], mine["column"]) == pytest.approx(other.centroid)
        box = [mine[f"{s}_{a}"] for s in ("min", "max") for a in ("row", "column")]
        assert box == list(other.bbox)
        wanted = perimeter_crofton(np.pad(other.image, 1), directions=4)
        assert mine["perimeter"] == pytest.approx(wanted)
        assert mine["major_axis"] == pytest.approx(other.axis_major_length)
        assert mine["minor_axis"] == pytest.approx(other.axis_minor_length, abs=1e-6)
        assert mine["eccentricity"] == pytest.approx(other.eccentricity, abs=1e-6)
        assert mine["solidity"] == pytest.approx(other.solidity)
        for c in (0, 1):
            assert mine[f"mean_{c}"] == pytest.approx(other.intensity_mean[c])
            assert mine[f"min_{c}"] == other.intensity_min[c]
            assert mine[f"max_{c}"] == other.intensity_max[c]
            assert mine[f"std_{c}"] == pytest.approx(other.intensity_std[c])


def test_a_volume_agrees_with_skimage(small_blocks):
    labels, scale = scene(2, (13, 24, 26)), (2.0, 0.5, 0.5)
    labels[0] = 0
    labels[0, 3:9, 3:9] = 4
    image = np.random.default_rng(1).integers(0, 60000, labels.shape).astype(np.uint16)
    table = measure_objects(labels, image, scale)
    theirs = regionprops(label(labels, connectivity=3), image, spacing=scale)
    assert len(table) == len(theirs) > 5
    assert table["solidity"].between(0, 1).all()
    for mine, other in zip(table.to_dict("records"), theirs, strict=True):
        assert mine["volume"] == pytest.approx(other.area)
        place = np.array([mine[a] for a in ("z", "row", "column")])
        assert place * scale == pytest.approx(other.centroid)
        if other.num_pixels > 20:
            assert mine["major_axis"] == pytest.approx(other.axis_major_length)
            assert mine["minor_axis"] == pytest.approx(other.axis_minor_length)
            if min(np.ptp(other.coords, axis=0)) > 1:
                assert mine["solidity"] == pytest.approx(other.solidity)
        assert mine["mean_0"] == pytest.approx(other.intensity_mean)


def test_blocks_change_nothing(monkeypatch):
    labels = scene(5, (17, 20, 22))
    whole = measure_objects(labels, scale=(3, 1, 1))
    monkeypatch.setattr(_measure_pieces, "BLOCK_PIXELS", 1)
    pd.testing.assert_frame_equal(measure_objects(labels, scale=(3, 1, 1)), whole)


@pytest.mark.parametrize("scale", [(1, 1), (2.0, 1.0), (0.3, 0.9)])
def test_perimeter_and_axes_of_an_ellipse(scale):
    radii = (40.0, 25.0)
    shape = tuple(int(2 * r / s) + 6 for r, s in zip(radii, scale, strict=True))
    row = measure_objects(ellipsoid(shape, radii, scale), scale=scale).iloc[0]
    a, b = radii
    ramanujan = np.pi * (3 * (a + b) - np.sqrt((3 * a + b) * (a + 3 * b)))
    assert row["perimeter"] == pytest.approx(ramanujan, rel=0.03)
    assert row["area"] == pytest.approx(np.pi * a * b, rel=0.01)
    assert row["major_axis"] == pytest.approx(2 * a, rel=0.01)
    assert row["minor_axis"] == pytest.approx(2 * b, rel=0.01)
    assert row["eccentricity"] == pytest.approx(np.sqrt(1 - (b / a) ** 2), rel=0.02)
    assert row["solidity"] > 0.97


@pytest.mark.parametrize("scale", [(1, 1, 1), (2.0, 1.0, 1.0)])
def test_surface_and_axes_of_a_ball(scale):
    shape = tuple(int(40 / s) + 6 for s in scale)
    row = measure_objects(ellipsoid(shape, (20,) * 3, scale), scale=scale).iloc[0]
    assert row["surface"] == pytest.approx(4 * np.pi * 400, rel=0.03)
    assert row["volume"] == pytest.approx(4 / 3 * np.pi * 8000, rel=0.02)
    assert row["major_axis"] == pytest.approx(40, rel=0.02)
    assert row["minor_axis"] == pytest.approx(40, rel=0.02)


def test_weights_of_cubic_voxels_are_those_of_the_literature():
    """Lang's weights of the 13 directions: 0.0915556, 0.0739613, 0.0703912."""
    weights = np.array(crossing_weights((1.0, 1.0, 1.0)))
    steps = np.abs(half_directions(3)).sum(axis=1)
    shares = weights / 2 * np.sqrt(steps)
    for count, wanted in ((1, 0.0915556), (2, 0.0739613), (3, 0.0703912)):
        assert shares[steps == count] == pytest.approx(wanted, rel=0.01)
    assert shares.sum() == pytest.approx(1)


def test_pieces_that_meet_late_are_one(small_blocks):
    """A fork whose prongs join in the last row; another class does not join."""
    labels = np.zeros((60, 9), int)
    labels[:, [1, 4, 7]] = 1
    labels[-1, 1:8] = 1
    labels[:58, 5] = 2
    table = measure_objects(labels)
    assert table["pixels"].tolist() == [59 * 3 + 7, 58]
    assert table["class_value"].tolist() == [1, 2]


def test_given_objects_keep_their_numbers_and_take_the_class_below():
    labels = np.zeros((30, 30), int)
    labels[2:10, 2:20] = 2
    objects = np.zeros((30, 30), int)
    objects[2:10, 2:10], objects[2:10, 10:20] = 70_000_000, 5
    table = measure_objects(labels, instances=objects, classes={2: "cell"})
    assert table["label"].tolist() == [5, 70_000_000]
    assert table["class"].tolist() == ["cell", "cell"]
    assert table["pixels"].tolist() == [80, 64]
    # Touching objects have their own whole outline.
    alone = measure_objects(objects == 5)
    assert table["perimeter"][0] == pytest.approx(alone["perimeter"][0])
    assert len(measure_objects(objects, instances="labels")) == 2


def test_a_series_has_a_row_per_time():
    labels = np.zeros((3, 20, 20), np.uint8)
    labels[0, 2:5, 2:5] = labels[2, 2:8, 2:8] = 1
    image = np.arange(1200.0).reshape(3, 20, 20)
    table = measure_objects(labels, image, axes="tyx")
    assert table["t"].tolist() == [0, 2]
    assert table["area"].tolist() == [9, 36]
    assert table["mean_0"][1] == pytest.approx(image[2, 2:8, 2:8].mean())


def test_numbers_far_from_zero_keep_their_digits():
    image = np.full((50, 50), 1e8)
    image[10:20, 10:20] += np.arange(100).reshape(10, 10) * 0.01
    labels = np.zeros((50, 50), bool)
    labels[10:20, 10:20] = True
    row = measure_objects(labels, image).iloc[0]
    assert row["std_0"] == pytest.approx(image[labels].std(), rel=1e-6)


@pytest.mark.parametrize("shape", [(20, 20), (5, 20, 20)])
def test_empty_labels_give_an_empty_table_with_columns(shape):
    image = np.zeros(shape)
    empty = measure_objects(np.zeros(shape, int), image)
    labels = np.zeros(shape, int)
    labels[..., 3:9, 3:9] = 1
    full = measure_objects(labels, image)
    assert len(empty) == 0
    assert list(empty.columns) == list(full.columns)
    assert not full.isna().any().any()


@pytest.mark.parametrize("ndim", [2, 3])
def test_points_and_lines(ndim):
    """Degenerate objects have numbers, too, and no warning."""
    labels = np.zeros((9,) * ndim, int)
    labels[(4,) * ndim] = 1
    labels[(0,) * (ndim - 1)] = 2
    diagonal = np.zeros((9,) * ndim, int)
    np.fill_diagonal(diagonal, 1)
    for table in (measure_objects(labels), measure_objects(diagonal)):
        assert not table.isna().any().any()
        assert table["solidity"].between(0, 1).all()
    point = measure_objects(labels).query("class_value == 1").iloc[0]
    assert point["major_axis"] == 0
    assert point["eccentricity"] == 0


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"labels": np.full((9, 9), 0.5)}, "whole numbers"),
        ({"labels": np.full((9, 9), -1)}, "whole numbers"),
        ({"labels": np.full((9, 9), np.nan)}, "whole numbers"),
        ({"labels": np.zeros((2, 2, 9, 9, 9), int)}, "axis is which"),
        ({"labels": np.zeros((9, 9), int), "axes": "zyx"}, "axis is which"),
        ({"labels": np.zeros((9, 9), int), "scale": (1, 2, 3)}, "pixel sizes"),
        ({"labels": np.zeros((9, 9), int), "scale": (0, 1)}, "pixel sizes"),
        ({"labels": np.zeros((9, 9), int), "image": np.zeros((9, 8))}, "one image"),
        (
            {"labels": np.zeros((9, 9), int), "instances": np.zeros((9, 8), int)},
            "one image",
        ),
        ({"labels": np.zeros((9, 9), int), "instances": "all"}, "no array"),
    ],
)
def test_what_does_not_fit_is_refused(kwargs, text):
    with pytest.raises(nf.DataError, match=text):
        measure_objects(**kwargs)


def test_a_large_store_is_read_in_parts(tmp_path, monkeypatch):
    import zarr

    path = tmp_path / "labels.zarr"
    store = zarr.create_array(path, shape=(40, 64, 64), chunks=(1, 64, 64), dtype="i4")
    store[5:35, 20:30, 20:30] = 3
    read = []
    real = _measure_pieces.Frame.read

    def watched(self, *spans):
        found = real(self, *spans)
        read.append(found.size)
        return found

    monkeypatch.setattr(_measure_pieces, "BLOCK_PIXELS", 3 * 64 * 64)
    monkeypatch.setattr(_measure_pieces.Frame, "read", watched)
    table = nf.measure(path, scale=(2, 1, 1))
    assert table["volume"].tolist() == [6000]
    assert table.attrs["scale"] == [2, 1, 1]
    assert max(read) <= 3 * 64 * 64


def test_a_prediction_is_measured_with_its_names(blob_pair):
    image, labels = blob_pair(0)
    support = nf.Support(image, labels, classes={1: "blob"})
    found = nf.segment(
        image,
        support,
        method="pixel",
        leave_one_out=False,
        trees=5,
        instances="components",
        scale=(0.5, 0.5),
    )
    table = nf.measure(found, image)
    assert set(table["class"]) == {"blob"}
    assert len(table) == found.instances.max()
    assert table["area"].sum() == pytest.approx(0.25 * (found.labels > 0).sum())
