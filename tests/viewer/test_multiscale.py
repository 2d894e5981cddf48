"""Multiscale layers as query and as support: level, place, accept and save."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel

import napari_fewshot as nf
from napari_fewshot.inference import PlaneResult
from napari_fewshot.viewer import _layers, _result_layer
from napari_fewshot.viewer._binding import Binding
from napari_fewshot.viewer._layers import placement
from napari_fewshot.viewer._result_layer import Overview

pytestmark = pytest.mark.gui


def pyramid(array, count, axes=(-2, -1)):
    levels = [array]
    for _ in range(count - 1):
        cut = [slice(None)] * array.ndim
        for axis in axes:
            cut[axis] = slice(None, None, 2)
        levels.append(levels[-1][tuple(cut)])
    return levels


@pytest.fixture
def bound(qapp):
    viewer = ViewerModel()
    session = nf.Session(method="prototype", model="filters", autosave=False)
    binding = Binding(viewer, session)
    yield viewer, session, binding
    binding.close()
    session.close()


def corners(layer, shape):
    """World coordinates of the outer corners of the first and the last pixel."""
    return [
        layer.data_to_world([-0.5] * len(shape)),
        layer.data_to_world([n - 0.5 for n in shape]),
    ]


@pytest.mark.parametrize("level", ["auto", 0, 1, 2])
def test_a_result_lies_on_its_image_at_every_level(bound, blob_pair, level):
    viewer, session, binding = bound
    image, labels = blob_pair(1, (96, 128))
    big = np.kron(image, np.ones((4, 4), np.uint8))
    query = viewer.add_image(
        pyramid(big, 3),
        multiscale=True,
        scale=(0.5, 0.25),
        translate=(7, -3),
        rotate=10,
        name="slide",
    )
    session.add_support(image, labels, scale=(2.0, 1.0), classes={1: "disc"})
    binding.set_query(query, level=level)
    binding.start()
    found = binding.result_layer
    used = 2 if level == "auto" else level
    assert session.state.query.level == used
    assert found.data.shape == pyramid(big, 3)[used].shape
    for mine, there in zip(
        corners(found, found.data.shape), corners(query, big.shape), strict=True
    ):
        assert mine == pytest.approx(there)
    prediction = session.prediction
    assert prediction.provenance["inputs"]["query"]["level"] == used
    assert prediction.labels.shape == found.data.shape
    if level == "auto":
        assert nf.evaluate(found.data, labels)["dice"].iloc[0] > 0.8


def test_the_level_follows_the_supports(bound, blob_pair):
    viewer, session, binding = bound
    image, labels = blob_pair(1, (64, 64))
    big = np.kron(image, np.ones((4, 4), np.uint8))
    query = viewer.add_image(pyramid(big, 3), multiscale=True, scale=(0.25, 0.25))
    binding.set_query(query)
    assert session.state.query.level == 0, "nothing is known yet"
    key = session.add_support(image, labels, scale=(1.0, 1.0))
    assert session.state.query.level == 2
    session.segment()
    session.remove_support(key)
    session.add_support(image, labels, scale=(0.5, 0.5))
    assert session.state.query.level == 1
    session.segment()
    session.accept()
    session.add_support(image, labels, scale=(0.25, 0.25))
    assert session.state.query.level == 1, "what is accepted lies in its pixels"
    session.undo()
    session.undo()
    session.undo()
    assert session.state.query.level == 1


def test_multiscale_layers_as_supports(bound, blob_pair):
    viewer, session, binding = bound
    image, labels = blob_pair(2, (64, 80))
    layer = viewer.add_image(pyramid(image, 3), multiscale=True, scale=(0.5, 0.5))
    small = viewer.add_labels(labels[::2, ::2])
    same = viewer.add_labels(pyramid(labels, 3), multiscale=True)
    odd = viewer.add_labels(labels[:50])
    binding.use_as_support(small, layer)
    binding.use_as_support(same, layer)
    first, second = (row.support for row in session.state.supports)
    assert first.source.label_shape == (32, 40)
    assert first.source.scale == (1.0, 1.0)
    assert second.source.label_shape == (64, 80)
    assert second.source.scale == (0.5, 0.5)
    with pytest.raises(nf.SupportError, match="50 x 80"):
        binding.use_as_support(odd, layer)
    assert _layers.matching_labels(viewer, second.source) == [same]
    binding.set_query(layer)
    binding.start()
    assert binding.result_layer.data.any()
    session.accept()
    assert len(session.state.supports) == 3


def test_a_stack_of_which_every_axis_gets_coarser(bound, blob_pair):
    viewer, session, binding = bound
    image, labels = blob_pair(3, (48, 64))
    stack = np.stack([image] * 8)
    layer = viewer.add_image(
        pyramid(stack, 2, (0, 1, 2)), multiscale=True, axis_labels=("z", "y", "x")
    )
    session.add_support(image, labels)
    binding.set_query(layer, level=1)
    binding.start()
    found = binding.result_layer
    assert found.data.shape == (4, 24, 32)
    for mine, there in zip(
        corners(found, (4, 24, 32)), corners(layer, stack.shape), strict=True
    ):
        assert mine == pytest.approx(there)
    for plane in range(4):
        _layers.show_plane(viewer, layer, session.state.query, plane)
        assert binding.plane_shown() == plane
    viewer.dims.set_point(0, 5)
    assert binding.plane_shown() == 2


def test_odd_shapes_lie_where_the_pixels_are(bound):
    viewer, _, _ = bound
    layer = viewer.add_image(pyramid(np.zeros((101, 67)), 3), multiscale=True)
    # Pixel (3, 5) of level 2 is made of pixels 12 to 15 and 20 to 23 of level 0.
    placed = viewer.add_labels(np.zeros((26, 17), int), **placement(layer, (26, 17)))
    assert placed.data_to_world((3, 5)) == pytest.approx((13.5, 21.5))


def test_large_results_are_multiscale(bound, blob_pair, monkeypatch):
    viewer, session, binding = bound
    monkeypatch.setattr(_result_layer, "MAX_PLANE", 64 * 64)
    monkeypatch.setattr(_result_layer, "COARSEST", 16)
    image, labels = blob_pair(4, (96, 128))
    layer = viewer.add_image(image)
    session.add_support(image, labels)
    binding.set_query(layer)
    binding.start()
    found = binding.result_layer
    assert found.multiscale
    assert [level.shape for level in found.data] == [(96, 128), (12, 16)]
    np.testing.assert_array_equal(found.data[0], session.prediction.labels)
    expected = session.prediction.labels[4::8, 4::8]
    np.testing.assert_array_equal(found.data[1], expected)
    binding.start()
    assert binding.result_layer.multiscale
    small = viewer.add_image(image[:40, :40])
    binding.set_query(small)
    binding.start()
    assert not binding.result_layer.multiscale


@pytest.mark.parametrize("tile", [7, 32, 50])
def test_overviews_follow_tiles(tile):
    labels = np.random.default_rng(0).integers(0, 9, (2, 131, 93)).astype(np.int32)
    whole, parts = Overview(labels), Overview(np.zeros_like(labels))
    assert whole.copies == []
    for overview in (whole, parts):
        overview.factors = [8, 16]
        overview.copies = [np.zeros((2, 17, 12), int), np.zeros((2, 9, 6), int)]
    whole.fill()
    for row in range(0, 131, tile):
        for column in range(0, 93, tile):
            block = labels[1, row : row + tile, column : column + tile]
            parts.add((1,), (row, column), block)
    for one, other in zip(whole.copies, parts.copies, strict=True):
        np.testing.assert_array_equal(one[1], other[1])
        assert not other[0].any()
    np.testing.assert_array_equal(whole.copies[0][0, :16], labels[0, 4::8, 4::8])


def test_a_multiscale_query_is_saved(bound, blob_pair, tmp_path):
    viewer, session, binding = bound
    image, labels = blob_pair(5, (64, 64))
    layer = viewer.add_image(
        pyramid(image, 2), multiscale=True, scale=(0.5, 0.5), units=("um", "um")
    )
    session.add_support(image, labels)
    binding.set_query(layer, level=1)
    binding.start()
    from napari_fewshot.io import save_prediction

    save_prediction(tmp_path / "a.tif", session.prediction, session.state.query)
    assert tifffile.imread(tmp_path / "a.tif").shape == (32, 32)
    session.save(tmp_path / "a.fewshot-project")
    again = nf.Session.load(tmp_path / "a.fewshot-project", autosave=False)
    assert again.state.query.label_shape == (32, 32)
    assert again.state.query.scale == (1.0, 1.0)
    again.close()


def test_a_plane_result_may_be_a_part():
    result = PlaneResult(0, np.ones((4, 4), np.int32), {}, region=(2, 4, 6, 8))
    overview = Overview(np.zeros((16, 16), np.int32))
    overview.factors, overview.copies = [2], [np.zeros((8, 8), int)]
    overview.add((), result.region[:2], result.labels)
    expected = np.zeros((16, 16))
    expected[2:6, 4:8] = 1
    np.testing.assert_array_equal(overview.copies[0], expected[1::2, 1::2])
