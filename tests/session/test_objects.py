"""Previews and committed objects without a window."""

from __future__ import annotations

import numpy as np
import pytest

import napari_fewshot as nf


@pytest.fixture
def session(blob_pair):
    found = nf.Session(autosave=False)
    found.set_query(np.stack([blob_pair(i)[0] for i in range(3)]))
    return found


def box(top, left, size=10):
    mask = np.zeros((96, 112), bool)
    mask[top : top + size, left : left + size] = True
    return mask


def test_a_preview_changes_nothing_but_tells(session):
    seen = []
    session.previewed.connect(seen.append)
    session.preview(nf.PromptSet(points=[[40, 40]]), plane=1)
    assert [(p.plane, p.value) for p in seen] == [(1, 1)]
    assert seen[0].mask.shape == (96, 112)
    assert session.prediction is None
    assert not session.state.can_undo or session.state.objects == ()


def test_a_wrong_preview_is_told(session):
    errors = []
    session.failed.connect(errors.append)
    session.preview(nf.PromptSet(points=[[4000, 40]]), plane=1)
    assert isinstance(errors[0], nf.PromptError)


def test_supports_help_a_preview_if_wanted(session, blob_pair):
    image, labels = blob_pair(9)
    session.add_support(image, labels)
    seen = []
    session.previewed.connect(seen.append)
    point = np.argwhere(blob_pair(0)[1])[0]
    for supports in (True, False):
        session.preview(nf.PromptSet(points=[point]), supports=supports)
    truth = blob_pair(0)[1] == 1
    both = [2 * (p.mask & truth).sum() / (p.mask.sum() + truth.sum()) for p in seen]
    assert both[0] > both[1]


def test_commit_undo_redo(session):
    key = session.commit(box(10, 10), value=2, plane=1)
    assert (session.prediction.labels[1] == 2).sum() == 100
    assert session.state.classes.names[2] == "class 2"
    assert session.state.objects[0].key == key
    assert session.state.objects[0].area == 100
    session.undo()
    assert session.prediction is None
    session.redo()
    assert (session.prediction.labels[1] == 2).sum() == 100


def test_objects_do_not_take_each_others_pixels_unless_told(session):
    session.commit(box(10, 10), value=1)
    session.commit(box(15, 10), value=2)
    assert (session.prediction.labels[0] == 1).sum() == 100
    assert (session.prediction.labels[0] == 2).sum() == 50
    session.undo()
    session.commit(box(15, 10), value=2, overwrite=True)
    assert (session.prediction.labels[0] == 2).sum() == 100
    with pytest.raises(nf.PromptError, match="replace what is there"):
        session.commit(box(15, 10), value=3)
    with pytest.raises(nf.PromptError, match="nothing to commit"):
        session.commit(np.zeros((96, 112), bool))


def test_removing_an_object_brings_back_what_it_covered(session):
    session.commit(box(10, 10), value=1)
    key = session.commit(box(15, 10), value=2, overwrite=True)
    session.remove_object(key)
    assert (session.prediction.labels[0] == 1).sum() == 100
    assert not (session.prediction.labels == 2).any()
    with pytest.raises(nf.DataError, match="no object"):
        session.remove_object(key)


def test_an_object_is_exchanged_by_its_key(session):
    key = session.commit(box(10, 10))
    assert session.commit(box(40, 40, 5), key=key) == key
    assert (session.prediction.labels[0] == 1).sum() == 25
    assert len(session.state.objects) == 1


def test_objects_survive_a_run_and_a_restart(session, blob_pair, tmp_path):
    session.add_support(*blob_pair(9))
    session.set_method("pixel", params={"trees": 10, "leave_one_out": False})
    empty = box(0, 100, 6)
    given = nf.PromptSet(points=[[2, 103]], point_labels=[1])
    session.commit(empty, plane=1, prompts=given)
    session.segment()
    assert (session.prediction.labels[1][empty] == 1).all()
    folder = session.save(tmp_path / "study.fewshot-project")
    again = nf.Session.load(folder, autosave=False)
    row = again.state.objects[0]
    np.testing.assert_array_equal(row.prompts.points, [[2, 103]])
    assert (row.plane, row.area) == (1, 36)
    assert (again.prediction.labels[1][empty] == 1).all()
    assert again.commit(box(50, 50)) > row.key


def test_a_plane_of_committed_objects_becomes_a_support(session):
    session.commit(box(10, 10), plane=2)
    assert [plane for plane, _ in session.worst_first()] == [2]
    session.accept([2])
    assert session.state.supports[0].support.label_plane(2).sum() == 100
