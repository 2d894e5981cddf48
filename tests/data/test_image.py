"""`Image` reads any array as a list of planes, and refuses what it can't use."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import zarr

from napari_fewshot.data import Image
from napari_fewshot.errors import DataError


@pytest.mark.parametrize(
    ("shape", "dtype", "axes", "expected"),
    [
        pytest.param((8, 9), "uint8", None, "yx", id="plane"),
        pytest.param((8, 9, 3), "uint8", None, "yxc", id="rgb"),
        pytest.param((8, 9, 4), "uint16", None, "yxc", id="four-channels"),
        pytest.param((8, 9, 4), "float32", None, "zyx", id="float-is-a-stack"),
        pytest.param((5, 8, 9), "uint8", None, "zyx", id="stack"),
        pytest.param((5, 8, 9), "uint8", "tyx", "tyx", id="time"),
        pytest.param((2, 5, 8, 9, 3), "uint8", "tzyxc", "tzyxc", id="5-d"),
    ],
)
def test_axes_follow_the_house_rules(shape, dtype, axes, expected):
    assert Image.from_array(np.zeros(shape, dtype), axes=axes).axes == expected


@pytest.mark.parametrize(
    ("array", "options", "words"),
    [
        pytest.param(np.zeros((2, 3, 4, 8, 9)), {}, "axes=", id="5-d-without-axes"),
        pytest.param(np.zeros((8, 8), complex), {}, "numpy.abs", id="complex"),
        pytest.param(np.zeros((8, 8), bool), {}, "uint8", id="bool"),
        pytest.param(np.zeros((0, 8)), {}, "empty", id="0-pixel"),
        pytest.param(np.zeros((1, 1)), {}, "at least 4 x 4", id="1-pixel"),
        pytest.param(np.zeros(8), {}, "rows and columns", id="1-d"),
        pytest.param(np.zeros((8, 8)), {"axes": "yxc"}, "names 3 axes", id="too-many"),
        pytest.param(np.zeros((8, 8)), {"axes": "xy"}, "must come before", id="xy"),
        pytest.param(np.zeros((8, 8)), {"axes": "qx"}, "letters", id="unknown-letter"),
        pytest.param(np.zeros((8, 8)), {"axes": "zx"}, "no 'y'", id="no-rows"),
        pytest.param(np.zeros((8, 8)), {"scale": (1, 2, 3)}, "per spatial", id="scale"),
        pytest.param(np.zeros((8, 8)), {"scale": (0, 1)}, "positive", id="zero-scale"),
        pytest.param(
            np.zeros((8, 8)), {"channels": [1]}, "no channel", id="no-channels"
        ),
        pytest.param(
            np.zeros((8, 8, 3), "uint8"),
            {"channels": [3]},
            "0 to 2",
            id="channel-range",
        ),
        pytest.param(
            np.zeros((7, 8, 8)), {"axes": "cyx"}, "7 channels", id="too-many-channels"
        ),
        pytest.param(np.full((8, 8), "a"), {}, "dtype", id="strings"),
    ],
)
def test_bad_images_are_refused_with_advice(array, options, words):
    with pytest.raises(DataError, match=words):
        Image.from_array(array, **options)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_not_numbers_are_refused(value):
    array = np.random.default_rng(0).random((3, 8, 8))
    array[1, 2, 2] = value
    image = Image.from_array(array, name="broken")
    assert np.isfinite(image.plane(0)).all()
    with pytest.raises(DataError, match=r"broken.*plane 1.*nan_to_num"):
        image.plane(1)


def test_planes_of_time_depth_and_channels():
    array = np.arange(2 * 3 * 4 * 5 * 6, dtype=np.uint16).reshape(2, 3, 4, 5, 6)
    image = Image.from_array(array, axes="tczyx", channels=[2, 0])
    assert image.n_planes == 8
    assert image.label_shape == (2, 4, 5, 6)
    assert image.leading_shape == (2, 4)
    plane = image.raw_plane(6)
    assert image.plane_index(6) == (1, 2)
    np.testing.assert_array_equal(plane, np.moveaxis(array[1, [2, 0], 2], 0, -1))
    labels = np.zeros(image.label_shape)
    labels[image.label_key(6)] = 1
    assert labels[1, 2].all()
    assert labels.sum() == 30
    assert image.relative_position(6) == pytest.approx(2.5 / 4)


def test_plane_number_is_checked():
    with pytest.raises(DataError, match="has 3 planes"):
        Image.from_array(np.zeros((3, 8, 8))).raw_plane(3)


def test_opacity_is_not_evidence():
    rgba = Image.from_array(np.zeros((8, 8, 4), np.uint8))
    assert rgba.channels == (0, 1, 2)


@pytest.mark.parametrize(
    "dtype", ["uint8", "uint16", "int16", "int32", "float16", "float32", "float64"]
)
def test_any_dtype_is_windowed_to_unit_range(dtype):
    array = np.random.default_rng(0).normal(100, 20, (64, 64)).astype(dtype)
    plane = Image.from_array(array).plane(0)
    assert plane.dtype == np.float32
    assert plane.shape == (64, 64, 1)
    assert plane.min() == 0
    assert plane.max() == 1


class Counting:
    """An array that remembers how much of it was read."""

    def __init__(self, shape):
        self.shape, self.dtype, self.read = shape, np.dtype("uint8"), 0

    def __getitem__(self, key):
        plane = np.full(self.shape[1:], key[0] % 7, np.uint8)
        plane[0, 0] = 255
        self.read += 1
        return plane[key[1:]]


def test_a_long_stack_is_never_read_as_a_whole():
    array = Counting((1000, 32, 32))
    image = Image.from_array(array)
    image.plane(500)
    assert array.read <= 10, "the window must come from a few sampled planes"


def test_lazy_arrays_give_the_same_planes(tmp_path):
    array = np.random.default_rng(0).integers(0, 4000, (5, 20, 30)).astype(np.uint16)
    stored = zarr.create_array(tmp_path / "a.zarr", data=array, chunks=(1, 20, 30))
    wanted = Image.from_array(array).plane(3)
    for lazy in (stored, da.from_array(array, chunks=(1, 10, 10))):
        np.testing.assert_array_equal(Image.from_array(lazy).plane(3), wanted)


def test_fingerprint_covers_pixels_dtype_and_channels():
    array = np.random.default_rng(0).integers(0, 9, (8, 8, 3)).astype(np.uint8)
    base = Image.from_array(array).plane_digest(0)
    changed = array.copy()
    changed[3, 3, 1] += 1
    assert Image.from_array(array.copy()).plane_digest(0) == base
    assert Image.from_array(changed).plane_digest(0) != base
    assert Image.from_array(array, channels=[0]).plane_digest(0) != base
    assert Image.from_array(array.astype(np.int16), axes="yxc").plane_digest(0) != base


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        pytest.param(None, None, id="unknown"),
        pytest.param((2, 0.5, 0.5), (2.0, 0.5, 0.5), id="zyx"),
        pytest.param((9, 2, 0.5, 0.5), (2.0, 0.5, 0.5), id="time-is-dropped"),
        pytest.param(0.5, (0.5, 0.5, 0.5), id="one-number"),
    ],
)
def test_scale_is_per_spatial_axis(scale, expected):
    image = Image.from_array(np.zeros((2, 3, 8, 8)), axes="tzyx", scale=scale)
    assert image.scale == expected
