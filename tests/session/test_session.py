"""`Session`: every verb, undo, accept, projects and scripts."""

from __future__ import annotations

import shlex

import numpy as np
import pytest

import napari_fewshot as nf
from napari_fewshot.data import Support

FAST = {"leave_one_out": False, "trees": 10}


@pytest.fixture
def stack(blob_pair):
    pairs = [blob_pair(seed) for seed in range(3, 7)]
    return np.stack([p[0] for p in pairs]), np.stack([p[1] for p in pairs])


@pytest.fixture
def session(blob_pair, stack, tmp_path):
    session = nf.Session(method="pixel", project=tmp_path / "a.fewshot-project")
    session.set_method(params=FAST)
    session.add_support(*blob_pair(0), name="first", classes={1: "blob"})
    session.set_query(stack[0], name="cells")
    yield session
    session.close()


def test_segment_tells_and_returns(session, stack):
    seen = {"planes": [], "states": [], "predicted": [], "progress": []}
    session.plane_finished.connect(lambda r: seen["planes"].append(r.plane))
    session.state_changed.connect(lambda s: seen["states"].append(s.running))
    session.predicted.connect(seen["predicted"].append)
    session.progressed.connect(seen["progress"].append)
    prediction = session.segment(wait=True)
    assert seen["planes"] == [0, 1, 2, 3]
    assert seen["states"][0] is True
    assert seen["states"][-1] is False
    assert len(seen["predicted"]) == 1
    assert seen["progress"]
    table = nf.evaluate(prediction.labels, stack[1])
    assert table["dice"][0] > 0.9
    assert session.state.classes.names == {1: "blob"}


def test_same_as_the_function(session, stack, blob_pair):
    alone = nf.segment(stack[0], nf.Support(*blob_pair(0)), method="pixel", **FAST)
    np.testing.assert_array_equal(session.segment().labels, alone.labels)


def test_accepted_planes_teach_and_are_kept(session, stack):
    first = session.segment()
    edited = np.array(first.labels)
    edited[2] = stack[1][2]
    (key,) = session.accept([2], labels=edited)
    state = session.state
    assert state.accepted == {2}
    row = next(r for r in state.supports if r.key == key)
    assert row.accepted_plane == 2
    second = session.segment()
    np.testing.assert_array_equal(second.labels[2], stack[1][2])
    assert np.isnan(second.plane_scores[1][2]), "an accepted plane is not redone"
    session.undo()
    assert session.prediction is not second, "undo brings the result before back"
    assert session.state.accepted == {2}
    session.undo()
    assert session.state.accepted == set()
    assert len(session.state.supports) == 1
    session.redo()
    assert session.state.accepted == {2}


def test_accept_everything_then_nothing_is_left(session):
    session.segment()
    assert len(session.accept()) == 4
    with pytest.raises(nf.DataError, match="accepted already"):
        session.segment()


def test_reject_clears_the_plane_and_the_support(session):
    session.segment()
    session.accept([1])
    session.reject([1])
    assert session.state.accepted == set()
    assert not session.prediction.labels[1].any()
    assert session.prediction.labels[0].any()


def test_worst_first(session):
    session.segment()
    order = session.worst_first()
    assert len(order) == 4
    assert [s for _, s in order] == sorted(s for _, s in order)


def test_refine_gives_the_mask_as_a_prompt(session):
    prediction = session.segment()
    prompt = session.refine(1)
    np.testing.assert_array_equal(prompt.mask, prediction.labels[1] == 1)


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(lambda s, p: s.add_support(*p, name="second"), id="add"),
        pytest.param(lambda s, p: s.remove_support(1), id="remove"),
        pytest.param(lambda s, p: s.mute_support(1), id="mute"),
        pytest.param(lambda s, p: s.set_classes({1: "nucleus"}), id="classes"),
        pytest.param(lambda s, p: s.set_query(p[0]), id="query"),
        pytest.param(lambda s, p: s.set_method("template"), id="method"),
        pytest.param(lambda s, p: s.set_text("a cell"), id="text"),
        pytest.param(lambda s, p: s.set_prompts(nf.PromptSet([[1, 2]])), id="prompts"),
        pytest.param(
            lambda s, p: s.update_support(1, Support(*p, name="new")), id="update"
        ),
    ],
)
def test_every_edit_can_be_undone(session, blob_pair, edit):
    before = session.state.document
    edit(session, blob_pair(8))
    after = session.state.document
    assert after != before
    session.undo()
    assert session.state.document is before
    session.redo()
    assert session.state.document is after


def test_negative_and_muted_supports(session, blob_pair):
    image, _ = blob_pair(1)
    session.add_support(image * 0 + 60, negative=True, name="nothing here")
    assert session.state.supports[-1].is_negative
    session.mute_support(1)
    with pytest.raises(nf.SupportError, match="any foreground"):
        session.segment()


def test_what_went_wrong_is_told_and_the_session_goes_on(session):
    errors = []
    session.failed.connect(errors.append)
    session.set_text("a cell")
    session.segment(wait=False)
    assert isinstance(errors[0], nf.WeightsError)
    session.undo()
    assert session.segment().present[1]


def test_without_a_query(tmp_path, blob_pair):
    session = nf.Session(autosave=False)
    session.add_support(*blob_pair(0))
    with pytest.raises(nf.DataError, match="no image to segment"):
        session.segment()
    with pytest.raises(nf.DataError, match="no result"):
        session.accept()
    with pytest.raises(nf.DataError, match="no support 99"):
        session.remove_support(99)


def test_a_saved_session_gives_the_same_labels(session, tmp_path):
    session.add_support(
        np.random.default_rng(0).integers(0, 255, (3, 96, 112)).astype(np.uint8),
        np.zeros((3, 96, 112), int),
        name="negative stack",
    )
    session.segment()
    session.accept([3])
    wanted = session.segment()
    folder = session.save(tmp_path / "study.fewshot-project")
    assert not list(folder.rglob("*.pkl"))
    loaded = nf.Session.load(folder, autosave=False)
    assert loaded.state.classes.names == {1: "blob"}
    assert loaded.state.accepted == {3}
    np.testing.assert_array_equal(loaded.segment().labels, wanted.labels)


def test_the_autosave_follows_every_edit(session):
    session.set_classes({1: "nucleus", 2: "debris"})
    session.remember_draft("painting", np.eye(5))
    session.flush()
    loaded = nf.Session.load(session.state.project, autosave=False)
    assert loaded.state.classes.names == {1: "nucleus", 2: "debris"}
    np.testing.assert_array_equal(loaded.drafts["painting"], np.eye(5))


def test_a_crash_is_offered_and_a_closed_session_is_not(blob_pair, monkeypatch):
    crashed, closed = nf.Session(), nf.Session()
    for one in (crashed, closed):
        one.add_support(*blob_pair(0))
        one.flush()
    closed.close()
    assert nf.Session.recoverable() == [], "this very process still works on it"
    # The project claims to be open in a process that is gone.
    path = crashed.state.project / "project.json"
    import os

    path.write_text(
        path.read_text().replace(f'"open": {os.getpid()}', '"open": 999999')
    )
    (info,) = nf.Session.recoverable()
    assert info.path == crashed.state.project
    assert info.supports == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("{", "can be read", id="truncated"),
        pytest.param('{"version": 99}', "newer version", id="newer"),
        pytest.param('{"version": 1}', "damaged", id="incomplete"),
        pytest.param("[]", "can be read", id="other"),
    ],
)
def test_bad_projects_are_refused(tmp_path, text, words):
    (tmp_path / "project.json").write_text(text)
    with pytest.raises(nf.DataError, match=words):
        nf.Session.load(tmp_path)


def test_a_project_may_not_point_outside(session):
    session.flush()
    path = session.state.project / "project.json"
    name = next((session.state.project / "arrays").glob("*.npy")).name
    path.write_text(path.read_text().replace(name, "../../secret.npy"))
    with pytest.raises(nf.DataError, match="outside its folder"):
        nf.Session.load(session.state.project, autosave=False)


def test_a_folder_that_can_not_be_written_is_told_once(tmp_path, blob_pair):
    (tmp_path / "file").write_text("")
    session = nf.Session(project=tmp_path / "file" / "p.fewshot-project")
    errors = []
    session.failed.connect(errors.append)
    session.add_support(*blob_pair(0))
    session.flush()
    session.set_classes({1: "x"})
    session.flush()
    assert [type(e) for e in errors] == [nf.StorageError]
    assert len(session.state.supports) == 1, "work goes on in memory"
    session.close()


def test_python_script_repeats_the_session(session):
    wanted = session.segment()
    space: dict[str, object] = {}
    exec(session.script("python"), space)
    np.testing.assert_array_equal(space["labels"], wanted.labels)


def test_cli_script_is_a_command(session):
    words = shlex.split(session.script("cli"))
    assert words[:2] == ["napari-fewshot", "segment"]
    assert "--project" in words
    with pytest.raises(nf.ModelError, match="'cli'"):
        session.script("matlab")
