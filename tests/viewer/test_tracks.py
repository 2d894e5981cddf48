"""Linked objects as a Tracks layer: where, of what, and when there are none."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("napari")
from napari.components import ViewerModel

import napari_fewshot as nf
from napari_fewshot.data import Prediction
from napari_fewshot.errors import DataError
from napari_fewshot.session import Session
from napari_fewshot.session._edits import with_result
from napari_fewshot.viewer._binding import Binding
from napari_fewshot.viewer._tracks import has_tracks, show_tracks

PLACE = {"scale": (3.0, 0.5, 0.5), "translate": (1.0, 10.0, 20.0)}
UNITS = ("second", "micrometer", "micrometer")


@pytest.fixture
def film():
    """A square that moves and one that splits at time 2."""
    planes = np.zeros((4, 32, 40), np.int32)
    for t in range(4):
        planes[t, 2 + t : 9 + t, 3:11] = 1
        planes[t, 20:28, 20:34] = 2
    planes[2:, 20:28, 26:28] = 0
    planes[2:, 20:28, 28:34] = 3
    return planes


@pytest.fixture
def binding(film, qapp):
    viewer = ViewerModel()
    layer = viewer.add_image(
        film.astype(np.uint8), name="film", axis_labels="tyx", units=UNITS, **PLACE
    )
    session = Session(autosave=False)
    found = Binding(viewer, session)
    found.set_query(layer)
    yield found
    found.close()
    session.close()


def give(binding, labels, tracks, instances=None):
    """Let a result arrive, as from a run."""
    result = Prediction(labels, {1: "cell"}, tracks=tracks, instances=instances)
    result.provenance["method"] = "pixel"
    session = binding.session
    session._push(with_result(session.state.document, result))


def linked(film, axes="tyx", **options):
    return nf.link_instances(film, axes, **options)


def test_tracks_lie_on_the_objects(binding, film):
    found = linked(film, divisions=True)
    give(binding, (film > 0).astype(np.int32), found.tracks, found.instances)
    layer = show_tracks(binding)
    image = binding.query_layer
    assert layer.name == "film - fewshot - tracks"
    np.testing.assert_allclose(layer.scale, image.scale)
    assert layer.units == image.units
    for number, *point in layer.data:
        at = tuple(np.round(point).astype(int))
        assert found.instances[at] == number
        np.testing.assert_allclose(
            layer.data_to_world(point), image.data_to_world(point)
        )
    assert layer.graph == found.tracks.graph
    assert layer.graph, "one of them splits"


def test_a_second_time_replaces_the_first_and_keeps_its_name(binding, film):
    found = linked(film)
    give(binding, (film > 0).astype(np.int32), found.tracks)
    first = show_tracks(binding)
    first.name = "mine"
    active = binding.query_layer
    binding.viewer.layers.selection.active = active
    give(binding, (film == 1).astype(np.int32), linked(film * (film == 1)).tracks)
    second = show_tracks(binding)
    kinds = [type(x).__name__ for x in binding.viewer.layers]
    assert kinds.count("Tracks") == 1
    assert second.name == "mine"
    assert set(second.data[:, 0]) == {1}
    assert binding.viewer.layers.selection.active is active


def test_without_linked_objects_it_says_what_to_do(binding, film):
    with pytest.raises(DataError, match=r"no linked objects\. Choose link"):
        show_tracks(binding)
    give(binding, (film > 0).astype(np.int32), None)
    assert not has_tracks(binding.session.prediction)
    with pytest.raises(DataError, match="no linked objects"):
        show_tracks(binding)
    empty = linked(np.zeros_like(film))
    give(binding, np.zeros_like(film), empty.tracks)
    assert not has_tracks(binding.session.prediction)


def test_depth_alone_of_a_series_of_volumes_is_refused(qapp, film):
    volume = np.stack([film, film])
    viewer, session = ViewerModel(), Session(autosave=False)
    binding = Binding(viewer, session)
    binding.set_query(viewer.add_image(volume.astype(np.uint8), axis_labels="tzyx"))
    give(
        binding, (volume > 0).astype(np.int32), linked(volume, "tzyx", link="z").tracks
    )
    with pytest.raises(DataError, match="link=auto"):
        show_tracks(binding)
    give(binding, (volume > 0).astype(np.int32), linked(volume, "tzyx").tracks)
    assert show_tracks(binding).ndim == 4
    binding.close()


def test_time_after_depth_is_refused(qapp, film):
    volume = np.stack([film, film])
    viewer, session = ViewerModel(), Session(autosave=False)
    binding = Binding(viewer, session)
    binding.set_query(viewer.add_image(volume.astype(np.uint8), axis_labels="ztyx"))
    give(binding, (volume > 0).astype(np.int32), linked(volume, "ztyx").tracks)
    with pytest.raises(DataError, match="time as its first axis"):
        show_tracks(binding)
    binding.close()


def test_depth_is_a_track_too(qapp, film):
    viewer, session = ViewerModel(), Session(autosave=False)
    binding = Binding(viewer, session)
    binding.set_query(viewer.add_image(film.astype(np.uint8), axis_labels="zyx"))
    give(binding, (film > 0).astype(np.int32), linked(film, "zyx").tracks)
    layer = show_tracks(binding)
    assert layer.ndim == 3
    assert tuple(layer.axis_labels) == ("z", "y", "x")
    binding.close()
