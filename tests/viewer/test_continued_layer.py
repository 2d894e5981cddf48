"""A part of a huge result is made anew: its layer shows the rest all the time."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

import napari_fewshot as nf
from napari_fewshot.data import Continued
from napari_fewshot.session import _collect
from napari_fewshot.viewer import _result_layer
from napari_fewshot.viewer._binding import Binding

pytestmark = pytest.mark.gui
REGION = (32, 40, 64, 100)


@pytest.fixture
def bound(qapp, monkeypatch, blob_pair):
    monkeypatch.setattr(_collect, "MAX_IN_MEMORY", 1000)
    monkeypatch.setattr(_collect, "CHUNK", 16)
    monkeypatch.setattr(_result_layer, "COARSEST", 16)
    image, labels = blob_pair(4, (96, 128))
    viewer = ViewerModel()
    session = nf.Session(method="prototype", model="filters", autosave=False)
    binding = Binding(viewer, session)
    session.add_support(image, labels)
    yield viewer, session, binding, np.stack([image, image])
    binding.close()
    session.close()


def begin(bound):
    viewer, session, binding, stack = bound
    binding.set_query(viewer.add_image(stack))
    binding.start()
    first = session.prediction.labels
    assert not isinstance(first, Continued)
    return first, np.array(first[...])


@pytest.mark.parametrize("large", [False, True])
def test_the_layer_shows_what_stays(bound, large, monkeypatch):
    if large:
        monkeypatch.setattr(_result_layer, "MAX_PLANE", 64 * 64)
    _, session, binding, _ = bound
    first, before = begin(bound)
    # Nothing is an object now: what is made anew is empty.
    session.set_method(params={"min_area": 1e6})
    session.segment(wait=False, planes=[1], region=REGION)
    layer, labels = binding.result_layer, session.prediction.labels
    assert isinstance(labels, Continued)
    expected = before.copy()
    expected[1, 32:64, 40:100] = 0
    assert (expected != before).any()
    np.testing.assert_array_equal(np.asarray(labels), expected)
    if large:
        assert layer.multiscale
        assert layer.data[0] is labels
        np.testing.assert_array_equal(layer.data[1], expected[:, 4::8, 4::8])
    else:
        assert layer.data is labels
        # A brush writes, but not into the version before.
        layer.paint((1, 3, 3), 5)
        assert labels[1, 3, 3] == 5
    np.testing.assert_array_equal(first[...], before)
    binding.flush()
    while session.prediction.labels is not first:
        session.undo()
    shown = binding.result_layer.data
    np.testing.assert_array_equal(shown[0] if large else shown[...], before)
    if large:
        np.testing.assert_array_equal(shown[1], before[:, 4::8, 4::8])
