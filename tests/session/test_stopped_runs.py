"""What a run had found when it stopped is a result like any other."""

import numpy as np
import pytest

import napari_fewshot as nf
from napari_fewshot.data import Image, SupportSet
from napari_fewshot.inference import PlaneResult, SegmentRequest
from napari_fewshot.session._collect import Collector
from napari_fewshot.session._partial import partial_prediction, prediction_of


@pytest.fixture
def request_(blob_pair):
    image, labels = blob_pair(0)
    stack = np.stack([blob_pair(i)[0] for i in range(4)])
    support = SupportSet([nf.Support(image, labels, classes={1: "disc"})])
    return SegmentRequest(Image.from_array(stack, axes="zyx"), support, method="pixel")


def result(plane, score, shape):
    labels = np.zeros(shape, np.int32)
    labels[: 5 + plane] = 1
    return PlaneResult(plane, labels, {1: score})


def test_planes_that_were_done_are_a_result(request_):
    query = request_.query
    collector = Collector(query)
    assert partial_prediction(request_, collector, "Stopped.", "process") is None
    for plane, score in ((2, 0.9), (0, 0.5)):
        collector.add(result(plane, score, query.plane_shape))
    found = prediction_of(nf.Cancelled("Stopped."), request_, collector, "process")
    assert found.classes == {1: "disc"}
    assert found.scores[1] == pytest.approx(0.7)
    low, high = found.score_intervals[1]
    assert 0.5 <= low < high <= 0.9
    assert found.present == {1: True}
    assert np.isnan(found.plane_scores[1]).tolist() == [False, True, False, True]
    assert found.provenance["planes_done"] == 2
    assert found.provenance["stopped"] == "Stopped."
    assert found.provenance["notes"] == ["2 of 4 planes were done. Stopped."]
    assert np.asarray(found.labels[2]).any()
    assert not np.asarray(found.labels[1]).any()


def test_a_cancelled_session_keeps_them_and_undo_takes_them_back(blob_pair):
    session = nf.Session(method="pixel", executor="process")
    image, labels = blob_pair(0)
    session.add_support(image, labels)
    session.set_query(np.stack([blob_pair(i)[0] for i in range(40)]), axes="zyx")
    session.plane_finished.connect(lambda _: session.cancel())
    with pytest.raises(nf.Cancelled):
        session.segment()
    found = session.prediction
    assert 1 <= found.provenance["planes_done"] < 40
    assert len(session.worst_first()) == found.provenance["planes_done"]
    rows = session.accept()
    assert len(rows) == found.provenance["planes_done"]
    session.undo()
    session.undo()
    assert session.prediction is None
    session.close()


def test_a_part_of_a_large_plane_is_told_as_such(request_):
    query = request_.query
    collector = Collector(query)
    part = np.ones((10, 12), np.int32)
    collector.add(PlaneResult(1, part, {1: 0.8}, region=(20, 30, 30, 42)))
    found = partial_prediction(request_, collector, "Stopped.", "process")
    notes = found.provenance["notes"]
    assert notes == ["A part was done, of 1 of 4 planes. Stopped."]
    assert found.present == {1: True}
    assert int(np.asarray(found.labels[1]).sum()) == 120
