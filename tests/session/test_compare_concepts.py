"""Concepts as candidates: their supports, their numbers of classes, saved when used."""

from __future__ import annotations

import numpy as np
import pytest

import napari_fewshot as nf
from napari_fewshot.session import load_concept, save_concept
from napari_fewshot.session._contenders import make_contenders

FAST = {"trees": 5, "leave_one_out": False, "context": False}
SMALL = {"shape": (48, 56), "count": 3}


@pytest.fixture
def blobs(blob_pair, tmp_path):
    """A file whose class 2 is called blob, learnt by `pixel`."""
    image, labels = blob_pair(0, **SMALL)
    return save_concept(
        tmp_path / "blobs",
        nf.Support(image, 2 * labels, classes={2: "blob"}),
        method="pixel",
        params={**FAST, "min_area": {2: 4.0}},
        assess=False,
    )


@pytest.fixture
def ground(blob_pair, tmp_path):
    """A file that calls class 1 what is none."""
    image, labels = blob_pair(0, **SMALL)
    supports = nf.Support(image, (labels == 0).astype(np.uint8), classes={1: "ground"})
    return save_concept(
        tmp_path / "ground", supports, method="pixel", params=FAST, assess=False
    )


def test_a_concept_brings_its_supports_and_gets_the_numbers_of_the_others(
    blobs, blob_pair
):
    query, _ = blob_pair(5, **SMALL)
    image, labels = blob_pair(1, **SMALL)
    own = nf.Support(image, labels, classes={1: "blob"})
    found = nf.compare(query, own, ["pixel", blobs], params={"pixel": FAST})
    assert [c.name for c in found.candidates] == ["pixel", "concept blobs"]
    assert found.classes == {1: "blob"}
    theirs = found.predictions["concept blobs"]
    assert theirs.provenance["params"]["min_area"] == {"1": 4.0}
    alone = nf.segment(query, support=blobs)
    assert np.array_equal(np.asarray(theirs.labels) * 2, alone.labels)
    mine = nf.segment(query, own, method="pixel", **FAST)
    assert np.array_equal(found.predictions["pixel"].labels, mine.labels)


def test_without_supports_methods_learn_from_the_first_concept(
    blobs, ground, blob_pair
):
    query, _ = blob_pair(5, **SMALL)
    found = nf.compare(
        query, None, [load_concept(blobs), ground, "pixel"], params={"pixel": FAST}
    )
    assert [c.name for c in found.candidates] == ["pixel", "concept", "concept ground"]
    assert found.classes == {1: "ground", 2: "blob"}
    assert set(np.unique(found.predictions["pixel"].labels)) == {0, 2}
    assert set(np.unique(found.predictions["concept ground"].labels)) == {0, 1}


def test_concepts_of_one_name_are_told_apart(blobs, tmp_path):
    concept = load_concept(blobs)
    found = make_contenders([concept, concept, blobs, str(blobs)])
    names = [c.name for c in found]
    assert names == ["concept", "concept 2", "concept blobs", "concept blobs 2"]


def test_too_few_and_damaged(blobs, tmp_path, blob_pair):
    with pytest.raises(nf.DataError, match="concept files, or more"):
        make_contenders([blobs])
    bad = tmp_path / "bad.fewshot"
    bad.write_bytes(b"no zip")
    with pytest.raises(nf.DataError, match=r"bad\.fewshot"):
        nf.compare(blob_pair(5, **SMALL)[0], None, [bad, blobs])
    with pytest.raises(nf.DataError, match=r"no\.fewshot"):
        nf.compare(blob_pair(5, **SMALL)[0], None, [tmp_path / "no.fewshot", blobs])


def test_one_of_them_is_saved_as_a_concept(blobs, blob_pair, tmp_path):
    query, _ = blob_pair(5, **SMALL)
    params = {"panet": {"leave_one_out": True}}
    found = nf.compare(query, None, [blobs, ("panet", "filters")], params=params)
    path = save_concept(
        tmp_path / "better", found.concept("panet (filters)"), author="me"
    )
    saved = load_concept(path)
    assert (saved.method, saved.model, saved.author) == ("panet", "filters", "me")
    assert saved.classes == {2: "blob"}
    assert 0 < saved.scores[2] <= 1
    again = nf.segment(query, support=path)
    assert np.array_equal(again.labels, found.predictions["panet (filters)"].labels)
    with pytest.raises(nf.DataError, match="was not compared"):
        found.concept("pixel")


def test_using_a_concept_takes_its_supports_over(blobs, blob_pair, tmp_path):
    session = nf.Session(autosave=False)
    image, labels = blob_pair(1, **SMALL)
    session.add_support(image, labels, classes={1: "blob"})
    session.set_query(blob_pair(5, **SMALL)[0])
    session.set_method("pixel", params=FAST)
    before = session.state.document
    session.compare(["pixel", blobs])
    assert session.state.document.rows == before.rows
    session.use("concept blobs")
    document = session.state.document
    assert len(document.rows) == 1
    assert document.rows[0].key not in {row.key for row in before.rows}
    assert document.rows[0].support.label_values == (1,)
    path = session.save_concept(tmp_path / "used")
    assert load_concept(path).params["min_area"] == {1: 4.0}
    held = np.array(session.prediction.labels)
    session.segment()
    assert np.array_equal(session.prediction.labels, held)
    for _ in range(5):
        if session.state.document.rows == before.rows:
            break
        session.undo()
    assert session.state.document.params == before.params
    session.close()


def test_an_empty_session_compares_concepts(blobs, ground, blob_pair):
    session = nf.Session(autosave=False)
    session.set_query(blob_pair(5, **SMALL)[0])
    found = session.compare([blobs, ground])
    assert set(found.predictions) == {"concept blobs", "concept ground"}
    session.use("concept blobs")
    assert session.state.document.classes.names[2] == "blob"
    assert session.state.document.method == "pixel"
    session.close()
