"""Comparing methods and models: what differs, what fails, what is taken over."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

import napari_fewshot as nf
from napari_fewshot.data import Hooks, Image, Prediction
from napari_fewshot.inference._compare import disagreement
from napari_fewshot.session import Comparison
from napari_fewshot.session._comparison import Tallies, make_candidates

FAST = {
    "pixel": {"trees": 5, "leave_one_out": False},
    "template": {"leave_one_out": False},
}
SMALL = {"shape": (48, 56), "count": 3}


@pytest.fixture
def session(blob_pair, tmp_path):
    session = nf.Session(project=tmp_path / "a.fewshot-project")
    session.add_support(*blob_pair(0, **SMALL), classes={1: "blob"})
    session.set_query(np.stack([blob_pair(seed, **SMALL)[0] for seed in (3, 4, 5)]))
    yield session
    session.close()


def test_disagreement_is_the_share_of_pairs_that_differ():
    rng = np.random.default_rng(0)
    labels = [rng.integers(0, 3, (7, 9)).astype(np.int32) for _ in range(4)]
    found = disagreement(labels)
    assert found.dtype == np.float32
    for at in np.ndindex(7, 9):
        votes = [x[at] for x in labels]
        differ = [a != b for a, b in combinations(votes, 2)]
        assert found[at] == pytest.approx(np.mean(differ))
    assert disagreement(labels[:1]).max() == 0


def test_agreement_and_places_of_known_labels():
    truth = np.zeros((2, 64, 64), np.int32)
    truth[:, 10:20, 10:20] = 1
    moved = truth.copy()
    moved[1, 10:20, 10:20] = 0
    moved[1, 50:60, 50:60] = 1
    tallies, done = Tallies(), {}
    for name, labels in (("pixel", truth), ("template", moved)):
        for plane in range(2):
            others = {n: p.labels[plane] for n, p in done.items()}
            tallies.add(name, plane, labels[plane], others)
        done[name] = Prediction(labels, classes={1: "a"}, scores={1: 0.5})
    query = Image.from_array(np.zeros((2, 64, 64), np.uint8))
    names = make_candidates(["pixel", "template"])
    found = Comparison(query, (0, 1), names, done, {}, tallies)
    dice = nf.evaluate(truth, moved)["dice"][0]
    assert found.pair_dice("template", "pixel") == pytest.approx(dice)
    np.testing.assert_array_equal(found.disagreement, truth != moved)
    assert {place[0] for place in found.places()} == {1}
    _, row, column = found.places()[0]
    assert (truth != moved)[1, row - 8 : row + 8, column - 8 : column + 8].any()
    assert found.table["area a"].tolist() == [200, 200]


def test_a_candidate_is_what_segment_gives_and_a_failure_does_not_stop_the_others(
    blob_pair,
):
    query, support = blob_pair(4, **SMALL)[0], nf.Support(*blob_pair(0, **SMALL))
    stages = []
    found = nf.compare(
        query,
        support,
        ["pixel", ("prototype", "sam/vit_b"), "template"],
        params=FAST,
        hooks=Hooks(lambda p: stages.append((p.stage, p.done / p.total))),
    )
    assert list(found.predictions) == ["pixel", "template"]
    assert isinstance(found.errors["prototype (sam/vit_b)"], nf.WeightsError)
    alone = nf.segment(query, support, method="pixel", **FAST["pixel"])
    np.testing.assert_array_equal(found.predictions["pixel"].labels, alone.labels)
    row = found.table.set_index("name").loc["template"]
    other = found.predictions["template"].labels
    dice = nf.evaluate(other, alone.labels)["dice"][0]
    assert row["dice with pixel"] == pytest.approx(dice)
    assert row["area class 1"] == (other == 1).sum()
    assert row["seconds to learn"] > 0
    assert found.table["status"].tolist() == ["done", "done", "failed"]
    assert "models download" in found.table["message"].iloc[-1]
    shares = [share for _, share in stages]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert stages[0][0].startswith("pixel: ")


def test_all_failed_cancelled_or_too_few(blob_pair):
    image = blob_pair(4, **SMALL)[0]
    with pytest.raises(nf.SupportError, match="no support yet"):
        nf.compare(image, None, ["pixel", "template"])
    with pytest.raises(nf.DataError, match="Choose two"):
        nf.compare(image, blob_pair(0, **SMALL), ["pixel", "pixel"])
    with pytest.raises(nf.ModelError, match="'pixel'"):
        nf.compare(image, blob_pair(0, **SMALL), ["pixle", "template"])
    with pytest.raises(nf.ModelError, match="did you mean 'pixel'"):
        wrong = {"pixle": {"trees": 3}}
        pair = blob_pair(0, **SMALL)
        nf.compare(image, pair, ["pixel", "template"], params=wrong)
    with pytest.raises(nf.Cancelled):
        hooks = Hooks(is_cancelled=lambda: True)
        nf.compare(image, blob_pair(0, **SMALL), ["pixel", "template"], hooks=hooks)


def test_models_are_for_methods_that_use_one():
    found = make_candidates(["pixel", "prototype"], ["filters", "incontext/small"])
    assert [c.name for c in found] == [
        "pixel",
        "prototype (filters)",
        "prototype (incontext/small)",
    ]


def test_the_result_stays_until_one_is_used(session):
    session.set_method("template")
    session.segment(planes=[0, 1])
    session.accept([1])
    before = session.prediction
    told = []
    session.compared.connect(lambda c: told.append(list(c.predictions)))
    found = session.compare(["pixel", "template"], params=FAST)
    assert told == [["pixel"], ["pixel", "template"]]
    assert session.prediction is before
    assert found.planes == (0, 2), "accepted planes are not compared"
    assert not found.disagreement[1].any()
    used = session.use("pixel")
    document = session.state.document
    assert (document.method, document.params) == ("pixel", FAST["pixel"])
    assert document.result is used
    np.testing.assert_array_equal(used.labels[1], before.labels[1])
    np.testing.assert_array_equal(used.labels[2], found.predictions["pixel"].labels[2])
    used.labels[2] = 5
    assert found.predictions["pixel"].labels.max() < 5, "a brush must not reach it"
    session.undo()
    assert session.state.document.method == "template"
    assert session.prediction is before
    session.flush()
    project = session.state.project
    session.close()
    again = nf.Session.load(project, autosave=False)
    assert again.comparison is None
    assert again.state.document.method == "template"


def test_what_can_not_be_used_says_why(session, blob_pair):
    with pytest.raises(nf.DataError, match="Nothing was compared"):
        session.use("pixel")
    session.compare(["pixel", ("prototype", "sam/vit_b")], [0], params=FAST)
    with pytest.raises(nf.DataError, match="failed"):
        session.use("prototype (sam/vit_b)")
    with pytest.raises(nf.DataError, match="Compared were: pixel"):
        session.use("template")
    session.set_query(blob_pair(9, **SMALL)[0])
    with pytest.raises(nf.DataError, match="another one now"):
        session.use("pixel")


def test_large_stacks_are_compared_lazily(session, monkeypatch):
    found = session.compare(["pixel", "template"], params=FAST)
    monkeypatch.setattr("napari_fewshot.session._comparison.MAX_IN_MEMORY", 10)
    lazy = replace(found).disagreement
    assert not isinstance(lazy, np.ndarray)
    eager = [found.disagreement_plane(plane) for plane in range(3)]
    np.testing.assert_array_equal(np.asarray(lazy), eager)


def test_planes_in_tiles_are_counted_once_and_stopped_between_tiles(blob_pair):
    image, _ = blob_pair(0, shape=(150, 170), count=12)
    support = nf.Support(*blob_pair(1, shape=(64, 64), count=4))
    params = {name: {**given, "tile": 64} for name, given in FAST.items()}
    found = nf.compare(image, [support], list(FAST), params=params)
    for name in FAST:
        prediction = found.predictions[name]
        assert prediction.provenance["tiles"]["grid"] != [1, 1]
        area = found.table.set_index("name").loc[name, "area class 1"]
        assert area == (np.asarray(prediction.labels) == 1).sum()
    one, other = (found.predictions[name].labels for name in FAST)
    dice = nf.evaluate(one, other)["dice"][0]
    assert found.pair_dice(*FAST) == pytest.approx(dice)
    assert found.disagreement.max() <= 1
    assert found.disagreement.sum() == (one != other).sum()

    seen = []
    hooks = Hooks(seen.append, lambda: len(seen) > 3)
    with pytest.raises(nf.errors.Cancelled):
        nf.compare(image, [support], list(FAST), params=params, hooks=hooks)
    assert len(seen) < 10
