"""Concepts in use: the same labels as before, merged classes, one step of undo."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest

import napari_fewshot as nf
from napari_fewshot.data import ClassTable
from napari_fewshot.io import write_concept
from napari_fewshot.session._concepts import match_classes, weights_note

FAST = {"trees": 10, "leave_one_out": False}


@pytest.fixture
def supports(blob_pair):
    names = {1: "cell"}
    return [nf.Support(*blob_pair(i), classes=names, name=f"s{i}") for i in (0, 1)]


@pytest.fixture
def path(tmp_path, supports):
    return nf.save_concept(
        tmp_path / "cells", supports, method="pixel", params=FAST, assess=False
    )


@pytest.fixture
def session(blob_pair):
    made = nf.Session(autosave=False)
    made.set_query(blob_pair(5)[0])
    return made


def test_a_concept_segments_like_its_supports(path, supports, blob_pair):
    query = blob_pair(5)[0]
    wanted = nf.segment(query, supports, method="pixel", **FAST)
    for support in (str(path), nf.load_concept(path)):
        found = nf.segment(query, support)
        np.testing.assert_array_equal(found.labels, wanted.labels)
        assert found.classes == {1: "cell"}
        assert found.provenance["params"]["trees"] == 10
        assert (
            found.provenance["inputs"]["support_fingerprints"]
            == wanted.provenance["inputs"]["support_fingerprints"]
        )


def test_what_is_given_wins(path, blob_pair):
    query = blob_pair(5)[0]
    found = nf.segment(query, path, trees=12)
    assert found.provenance["params"]["trees"] == 12
    assert found.provenance["params"]["leave_one_out"] is False
    other = nf.segment(query, path, method="prototype", model="filters")
    assert other.provenance["method"] == "prototype"
    assert other.provenance["params"]["leave_one_out"] is True


def test_a_long_stack_segments_like_before(tmp_path, blob_pair):
    planes = [blob_pair(i) for i in range(6)]
    image = np.stack([p[0] for p in planes])
    labels = np.zeros(image.shape, np.uint8)
    labels[4] = planes[4][1]
    support = nf.Support(image, labels, scale=(3, 1, 1), name="stack")
    path = nf.save_concept(
        tmp_path / "z", support, method="pixel", params=FAST, assess=False
    )
    wanted = nf.segment(image, support, method="pixel", **FAST)
    np.testing.assert_array_equal(nf.segment(image, path).labels, wanted.labels)


def test_scores_are_kept(tmp_path, supports):
    path = nf.save_concept(
        tmp_path / "x", supports, method="pixel", params={"trees": 10}
    )
    found = nf.load_concept(path)
    assert set(found.support_scores) == {"s0", "s1"}
    low, high = found.score_intervals[1]
    assert 0.5 < low <= found.scores[1] <= high
    assert found.provenance["method"] == "pixel"


def test_bad_arguments_write_nothing(tmp_path, supports):
    with pytest.raises(TypeError, match="trees"):
        nf.save_concept(tmp_path / "x", supports, method="pixel", params={"treees": 3})
    with pytest.raises(nf.ModelError, match="did you mean"):
        nf.save_concept(tmp_path / "x", supports, model="filterz")
    assert not list(tmp_path.iterdir())


def test_a_session_shares_what_it_knows(session, supports, tmp_path):
    for support in supports:
        session.add_support(support)
    session.set_classes({1: "cell"}, {1: "#aabbcc"})
    session.mute_support(session.add_support(supports[0].image, negative=True))
    session.set_method("pixel", params={"trees": 10})
    session.segment()
    found = nf.load_concept(session.save_concept(tmp_path / "x", author="me"))
    assert [s.name for s in found.support] == ["s0", "s1"]
    assert (found.colours, found.author) == ({1: "#aabbcc"}, "me")
    assert set(found.support_scores) == {"s0", "s1"}
    mean = np.mean([s[1] for s in found.support_scores.values()])
    assert found.scores[1] == pytest.approx(mean)
    session.set_method("template")
    stale = nf.load_concept(session.save_concept(tmp_path / "y"))
    assert not stale.scores, "those of another method say nothing"


def test_loading_is_one_step_of_undo(session, path):
    before = session.state.document
    notes = session.load_concept(path)
    assert notes == ["2 supports added."]
    state = session.state
    assert [row.name for row in state.supports] == ["s0", "s1"]
    assert state.classes.names == {1: "cell"}
    assert (state.document.method, state.document.params) == ("pixel", FAST)
    # What is here already is not added again.
    again = session.load_concept(path)
    assert again[:2] == ["0 supports added.", "2 were here already."]
    assert len(session.state.supports) == 2
    session.undo()
    assert (session.segment().labels == 1).any()
    session.undo()
    session.undo()
    assert session.state.document is before


def test_numbers_that_are_taken_are_exchanged(session, supports, tmp_path, blob_pair):
    image, labels = blob_pair(3)
    two = labels.copy()
    two[:, 56:] *= 2
    # 2 is "cell" in the file and 1 here; 1 is "gap" there and nothing here.
    session.add_support(supports[0])
    params = {**FAST, "min_area": {1: 5.0, 2: 3.0}}
    path = nf.save_concept(
        tmp_path / "two",
        nf.Support(image, two, classes={1: "gap", 2: "cell"}, name="two"),
        method="pixel",
        params=params,
        colours={1: "#010203"},
        assess=False,
    )
    notes = session.load_concept(path)
    assert notes[1:] == [
        "Class 'gap' has number 3 here (1 in the file).",
        "Class 'cell' has number 1 here (2 in the file).",
    ]
    state = session.state
    assert state.classes.names == {1: "cell", 3: "gap"}
    assert state.classes.colours[3] == "#010203"
    assert state.document.params["min_area"] == {3: 5.0, 1: 3.0}
    support = state.supports[1].support
    found = support.label_plane(0)
    np.testing.assert_array_equal(found == 3, two == 1)
    np.testing.assert_array_equal(found == 1, two == 2)
    assert support.classes == {3: "gap", 1: "cell"}
    assert set(np.unique(session.segment().labels)) <= {0, 1, 3}


@pytest.mark.parametrize(
    ("here", "there", "wanted"),
    [
        ({}, {1: "a", 2: "b"}, {1: 1, 2: 2}),
        ({1: "b"}, {1: "a", 2: "b"}, {1: 3, 2: 1}),
        ({1: "x", 3: "a"}, {1: "a", 2: "c", 3: "d"}, {1: 3, 2: 2, 3: 4}),
        ({5: "a"}, {1: "a"}, {1: 5}),
    ],
)
def test_matching_classes(here, there, wanted):
    assert match_classes(ClassTable.from_names(here), there) == wanted


def test_placeholders_make_room(session, path):
    session.set_classes({1: "class 1"})
    session.load_concept(path)
    assert session.state.classes.names == {1: "cell"}


def test_a_newer_method_or_model_leaves_the_supports_usable(session, path, tmp_path):
    concept = nf.load_concept(path)
    strange = replace(concept, method="telepathy", model="oracle/xl")
    notes = session.load_concept(write_concept(tmp_path / "new", strange))
    assert "oracle/xl" in notes[1]
    assert "telepathy" in notes[2]
    assert (session.state.document.method, len(session.state.supports)) == ("auto", 2)
    odd = replace(concept, params={"trees": "many"})
    assert "trees" in session.load_concept(odd)[-1]


def test_other_weights_are_told(path, caplog, blob_pair):
    concept = replace(nf.load_concept(path), model="incontext/small")
    assert weights_note(concept) == ""
    other = replace(concept, weights_sha256="ab" * 32)
    assert "not those that the concept was made with" in weights_note(other)
    with caplog.at_level(logging.WARNING):
        nf.segment(blob_pair(5)[0], other)
    assert "results may differ" in caplog.text
    assert "models" in weights_note(replace(concept, model="sam/vit_b"))


def test_a_bad_file_changes_nothing(session, tmp_path):
    before = session.state.document
    (tmp_path / "bad.fewshot").write_bytes(b"PK\x03\x04 no")
    with pytest.raises(nf.DataError, match="damaged"):
        session.load_concept(tmp_path / "bad.fewshot")
    with pytest.raises(nf.SupportError, match="no support"):
        session.save_concept(tmp_path / "empty")
    assert session.state.document is before
    assert [p.name for p in tmp_path.iterdir()] == ["bad.fewshot"]


def test_a_loaded_concept_survives_a_crash(path, tmp_path, blob_pair):
    session = nf.Session(project=tmp_path / "p")
    session.load_concept(path)
    session.flush()
    again = nf.Session.load(tmp_path / "p", autosave=False)
    session.close()
    before, after = session.state.supports[1], again.state.supports[1]
    np.testing.assert_array_equal(
        before.support.label_plane(0), after.support.label_plane(0)
    )
    assert again.state.document.params == FAST
