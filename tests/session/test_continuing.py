"""A run over a part keeps what was found elsewhere, and undo brings the part back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import napari_fewshot as nf
from napari_fewshot.data import Continued, Image, Prediction, PromptSet, SupportSet
from napari_fewshot.inference import PlaneResult, SegmentRequest, Summary
from napari_fewshot.session import _collect
from napari_fewshot.session._collect import Collector
from napari_fewshot.session._continuing import collector_of
from napari_fewshot.session._state import Document

FAST = {"leave_one_out": False, "trees": 5, "max_side": 8192, "position": "off"}
REGION = (20, 30, 90, 140)
INSIDE = np.s_[20:90, 30:140]


@pytest.fixture
def session(blob_pair):
    image = blob_pair(5, (130, 200), 20)[0]
    found = nf.Session(method="pixel", autosave=False)
    found.set_query(image)
    found.add_support(*blob_pair(0))
    found.set_method(params={"instances": "components", **FAST})
    yield found
    found.close()


def outside(array):
    kept = np.array(array)
    kept[..., 20:90, 30:140] = -1
    return kept


@pytest.fixture
def stored(monkeypatch):
    """Results of any size are kept on disk, as huge ones are."""
    monkeypatch.setattr(_collect, "MAX_IN_MEMORY", 1000)
    monkeypatch.setattr(_collect, "CHUNK", 32)


@pytest.mark.parametrize("where", ["memory", "disk"])
@pytest.mark.parametrize("tile", [0, 64])
def test_the_rest_stays(session, where, tile, request):
    if where == "disk":
        request.getfixturevalue("stored")
    first = session.segment()
    before, numbers = np.array(first.labels), np.array(first.instances)
    changed = {"instances": "components", **FAST, "largest_only": True, "tile": tile}
    session.set_method(params=changed)
    alone = nf.segment(
        session.state.query,
        session.state.document.support_set(),
        method="pixel",
        region=REGION,
        **changed,
    )
    second = session.segment(region=REGION)
    labels = np.asarray(second.labels)
    assert isinstance(second.labels, np.ndarray if where == "memory" else Continued)
    np.testing.assert_array_equal(outside(labels), outside(before))
    np.testing.assert_array_equal(labels[INSIDE], np.asarray(alone.labels)[INSIDE])
    assert (labels[INSIDE] != before[INSIDE]).any(), "the part did change"
    np.testing.assert_array_equal(outside(second.instances), outside(numbers))
    np.testing.assert_array_equal(np.asarray(second.instances) > 0, labels > 0)
    maps = np.asarray(second.probabilities[1])
    np.testing.assert_array_equal(outside(maps), outside(first.probabilities[1]))
    assert second.provenance["region"] == list(REGION)
    assert "elsewhere the earlier result was kept" in second.provenance["notes"][-1]
    assert session.prediction.labels is second.labels
    # Nothing of the version before was written to.
    np.testing.assert_array_equal(np.asarray(first.labels), before)
    np.testing.assert_array_equal(np.asarray(first.instances), numbers)
    session.undo()
    assert session.prediction.labels is first.labels
    session.redo()
    assert session.prediction.labels is second.labels


def test_objects_over_the_border_keep_their_number(session):
    first = session.segment()
    numbers = np.array(first.instances)
    again = session.segment(region=REGION)
    found = np.asarray(again.instances)
    np.testing.assert_array_equal(again.labels, first.labels)
    crossing = set(np.unique(outside(numbers))) & set(np.unique(numbers[INSIDE]))
    crossing -= {0, -1}
    assert crossing, "the scene has objects over the border"
    for number in crossing:
        own = numbers == number
        np.testing.assert_array_equal(found == number, own)
    within = set(np.unique(found[INSIDE])) - {0} - crossing
    assert within
    assert min(within) > numbers.max(), "objects of the part have new numbers"
    assert len(np.unique(found)) == len(np.unique(numbers))


def test_without_a_result_the_rest_is_empty(session):
    found = session.segment(region=REGION)
    assert not outside(found.labels)[outside(found.labels) >= 0].any()
    assert "region" not in found.provenance
    # Another part: both are there.
    both = session.segment(region=(90, 0, 130, 200))
    np.testing.assert_array_equal(both.labels[:90], found.labels[:90])
    assert both.labels[90:].any()


def test_another_image_or_a_lost_class_begins_anew(session, blob_pair):
    session.segment()
    document = session.state.document
    request = SegmentRequest(document.query, document.support_set(), region=REGION)
    assert type(collector_of(document, request)) is not Collector
    lost = replace(
        document, result=replace(document.result, classes={1: "a", 7: "gone"})
    )
    assert type(collector_of(lost, request)) is Collector
    assert type(collector_of(document, replace(request, region=None))) is Collector
    session.set_query(blob_pair(6, (130, 200), 20)[0])
    found = session.segment(region=REGION)
    assert not outside(found.labels)[outside(found.labels) >= 0].any()


# -- piece by piece ------------------------------------------------------------------

SHAPE = (3, 12, 16)


def document_with(result, **changes):
    image = Image.from_array(np.zeros(SHAPE, np.uint8), axes="zyx")
    classes = Document().classes.merged({1: "cell", 2: "gap"})
    return Document(query=image, classes=classes, result=result, **changes)


def earlier(**changes):
    labels = np.ones(SHAPE, np.int32)
    known = {
        "labels": labels,
        "classes": {1: "cell"},
        "scores": {1: 0.5},
        "plane_scores": {1: np.float32([0.2, 0.4, 0.9])},
        "present": {1: True},
        "provenance": {"method": "panet", "model": "x"},
    }
    return Prediction(**{**known, **changes})


def summary(**changes):
    known = {
        "classes": {1: "cell", 2: "gap"},
        "scores": {1: 0.8},
        "score_intervals": {1: (0.7, 0.9)},
        "present": {1: False},
        "provenance": {"method": "pixel", "notes": ["one"]},
    }
    return Summary(**{**known, **changes})


def gather(document, *results, **options):
    request = SegmentRequest(
        document.query, SupportSet(()), region=(2, 4, 8, 10), **options
    )
    collector = collector_of(document, request)
    for result in results:
        collector.add(result)
    return collector.prediction(summary(), "inline")


def test_parts_that_reach_further_are_cut():
    document = document_with(earlier())
    part = np.full((6, 8), 2, np.int32)
    far = PlaneResult(1, part, {1: 0.7}, region=(9, 0, 15, 8))
    found = gather(document, PlaneResult(1, part, {1: 0.7}, region=(0, 0, 6, 8)), far)
    wanted = np.ones(SHAPE, np.int32)
    wanted[1, 2:6, 4:8] = 2
    np.testing.assert_array_equal(found.labels, wanted)
    np.testing.assert_allclose(found.plane_scores[1], [0.2, 0.7, 0.9])
    assert found.scores[1] == pytest.approx(0.6), "over all planes"
    assert found.classes == {1: "cell", 2: "gap"}
    assert found.present == {1: True}
    assert found.provenance["before"] == {"method": "panet", "model": "x"}
    assert found.provenance["notes"][0] == "one"


def test_a_mask_within_the_region():
    inside = np.zeros((12, 16), bool)
    inside[:5] = True
    whole = np.full((12, 16), 2, np.int32)
    found = gather(
        document_with(earlier()), PlaneResult(0, whole, {1: 0.7}), inside=inside
    )
    wanted = np.ones(SHAPE, np.int32)
    wanted[0, 2:5, 4:10] = 2
    np.testing.assert_array_equal(found.labels, wanted)


def test_clicked_objects_do_not_freeze():
    # The object is painted again after the run; the labels below must be those
    # without it, or it could never be taken away.
    session = nf.Session(method="prototype", model="filters", autosave=False)
    image = np.random.default_rng(0).integers(0, 255, (40, 50)).astype(np.uint8)
    labels = np.zeros((40, 50), np.uint8)
    labels[5:20, 5:20] = 1
    session.set_query(image)
    session.add_support(image, labels)
    plain = np.array(session.segment().labels)
    mask = np.zeros((40, 50), bool)
    mask[30:38, 30:45] = True
    key = session.commit(mask, value=1, plane=0, prompts=PromptSet(mask=mask))
    session.segment(region=(0, 0, 20, 50))
    assert (session.prediction.labels[mask] == 1).all()
    session.remove_object(key)
    np.testing.assert_array_equal(session.prediction.labels[20:], plain[20:])
    session.close()


def test_numbers_without_earlier_ones_and_the_other_way_round():
    numbers = np.zeros((6, 6), np.int32)
    numbers[1:3, 1:3] = 1
    part = PlaneResult(0, (numbers > 0) * 1, {1: 0.5}, numbers, region=(2, 4, 8, 10))
    found = gather(document_with(earlier()), part)
    np.testing.assert_array_equal(found.instances[0, 2:8, 4:10], numbers)
    assert not found.instances[1:].any()
    old = np.full(SHAPE, 9, np.int32)
    found = gather(document_with(earlier(instances=old)), replace(part, instances=None))
    assert not found.instances[0, 2:8, 4:10].any()
    assert (found.instances[1:] == 9).all()
    linked = replace(part, linked=True)
    found = gather(document_with(earlier(instances=old)), linked)
    assert set(np.unique(found.instances[0, 2:8, 4:10])) == {0, 10}
    assert (old == 9).all()


def test_longest_contact_wins_and_numbers_stay_unique():
    labels = np.ones(SHAPE, np.int32)
    old = np.zeros(SHAPE, np.int32)
    old[0, :2], old[0, 8:, :7], old[0, 8:, 7:] = 5, 6, 7
    new = np.ones((6, 6), np.int32)
    new[:, 5] = 2
    part = PlaneResult(
        0, np.ones((6, 6), np.int32), {1: 0.5}, new, region=(2, 4, 8, 10)
    )
    before = earlier(labels=labels, instances=old)
    found = gather(document_with(before), part).instances[0]
    # Object 1 shares 5 pixels with number 5 above, 3 and 2 with those below.
    assert set(np.unique(found[2:8, 4:9])) == {5}
    # Object 2 shares one pixel with 5, which is given away, and one with 7.
    assert set(np.unique(found[2:8, 9])) == {7}
    # Another class is another object.
    labels[0, :2] = 2
    found = gather(document_with(before), part).instances[0]
    assert set(np.unique(found[2:8, 4:9])) == {6}
