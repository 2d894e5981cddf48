"""Policies, numbers and the safe-keeping of objects made click by click."""

from __future__ import annotations

import numpy as np
import pytest

import napari_fewshot as nf


@pytest.fixture
def session(blob_pair):
    found = nf.Session(autosave=False)
    found.set_query(np.stack([blob_pair(i)[0] for i in range(3)]))
    return found


def square(top, left, size=10):
    mask = np.zeros((96, 112), bool)
    mask[top : top + size, left : left + size] = True
    return mask


def test_policies_say_which_pixels_an_object_gets(session):
    session.commit(square(10, 10), value=1)
    session.commit(square(15, 15), value=2)
    assert (session.prediction.labels[0] == 2).sum() == 75
    session.undo()
    session.commit(square(15, 15), value=2, policy="overwrite")
    assert (session.prediction.labels[0] == 2).sum() == 100
    session.undo()
    session.commit(square(15, 15), value=1, policy="empty")
    assert session.state.objects[-1].area == 75
    with pytest.raises(nf.DataError, match="overwrite"):
        session.commit(square(15, 15), policy="smear")


def test_an_object_map_numbers_objects_not_classes(session):
    session.commit(square(10, 10), value=2)
    session.commit(square(15, 15), value=2)
    session.commit(square(60, 60), value=1, plane=2)
    numbers = session.object_labels()
    assert numbers.shape == (3, 96, 112)
    assert [(numbers == n).sum() for n in (1, 2, 3)] == [75, 100, 100]
    assert (numbers[2] == 3).any()
    # What another class takes later is no longer the object's.
    session.commit(square(60, 60, 5), value=3, plane=2, policy="overwrite")
    assert (session.object_labels(2) == 3).sum() == 75


def test_merging_keeps_the_number_of_the_object_that_was_there(session):
    key = session.commit(square(10, 10), value=1)
    session.commit(square(50, 50), value=1)
    assert session.commit(square(20, 10), value=1, policy="merge") == key
    numbers = session.object_labels(0)
    assert (numbers == 1).sum() == 200
    assert len(session.state.objects) == 2
    with pytest.raises(nf.PromptError, match="touches no object"):
        session.commit(square(80, 90), value=1, policy="merge")
    session.undo()
    assert (session.object_labels(0) == 1).sum() == 100


def test_many_objects_are_one_step_of_undo(session):
    keys = session.commit_objects(
        [square(10, 10), square(12, 12, 3), square(50, 50)], value=4, plane=1
    )
    assert len(keys) == 3
    session.undo()
    assert session.state.objects == ()
    with pytest.raises(nf.PromptError):
        session.commit_objects([np.zeros((96, 112), bool)])


def test_a_number_may_be_on_several_planes(session):
    session.commit_objects(
        [square(10, 10), square(11, 11)], plane=[0, 1], numbers=[7, 7]
    )
    numbers = session.object_labels()
    assert [(plane == 7).sum() for plane in numbers] == [100, 100, 0]
    session.commit(square(50, 50))
    assert (session.object_labels(0) == 8).sum() == 100


def test_objects_keep_numbers_prompts_and_choice_on_disk(session, tmp_path):
    prompts = nf.PromptSet(points=[[12, 12]], candidate=2)
    session.commit(square(10, 10), prompts=prompts)
    session.commit_objects([square(40, 40)], numbers=[9])
    pending = nf.PromptSet(boxes=[[1, 2, 30, 40]], points=[[5, 6]], point_labels=[0])
    session.remember_prompts(pending, value=3, plane=2)
    session.save(tmp_path / "s.fewshot-project")
    loaded = nf.Session.load(tmp_path / "s.fewshot-project", autosave=False)
    rows = loaded.state.objects
    assert [r.number for r in rows] == [1, 9]
    assert rows[0].prompts.candidate == 2
    kept = loaded.state.document.pending
    assert (kept.value, kept.plane) == (3, 2)
    np.testing.assert_array_equal(kept.prompts.boxes, [[1, 2, 30, 40]])
    np.testing.assert_array_equal(kept.prompts.point_labels, [0])


def test_remembering_prompts_is_no_step_of_undo(session):
    session.commit(square(10, 10))
    session.remember_prompts(nf.PromptSet(points=[[1, 2]]))
    session.undo()
    assert session.state.objects == ()
    session.redo()
    assert len(session.state.objects) == 1
    session.remember_prompts(None)
    assert session.state.document.pending is None


def test_objects_of_an_earlier_session_come_back(session, blob_pair):
    session.commit(square(10, 10), value=2, plane=1)
    fresh = nf.Session(autosave=False)
    fresh.set_query(np.stack([blob_pair(i)[0] for i in range(3)]))
    fresh.restore_objects(session.state.objects)
    assert (fresh.prediction.labels[1] == 2).sum() == 100
    fresh.undo()
    assert fresh.state.objects == ()


def test_previews_of_a_promptable_model(tiny_sam, blob_pair):
    session = nf.Session(model="sam/vit_b", checkpoint=tiny_sam, autosave=False)
    session.set_query(blob_pair(0)[0])
    seen, progress = [], []
    session.previewed.connect(seen.append)
    session.preview_progressed.connect(progress.append)
    session.warm()
    assert progress
    assert not seen
    session.preview(nf.PromptSet(points=[[40, 40]]))
    assert seen[0].candidates.shape == (3, 96, 112)
    np.testing.assert_array_equal(seen[0].mask, seen[0].candidates[0])
    session.preview(nf.PromptSet(points=[[40, 40]], candidate=1))
    np.testing.assert_array_equal(seen[1].mask, seen[0].candidates[1])
    session.preview(nf.PromptSet(boxes=[[5, 5, 30, 30], [50, 50, 90, 90]]))
    assert seen[2].instances.max() == 2


def test_the_model_and_its_file_are_kept(tiny_sam, tmp_path):
    session = nf.Session(autosave=False)
    session.set_method(model="sam/vit_b", checkpoint=tiny_sam)
    session.save(tmp_path / "s.fewshot-project")
    document = nf.Session.load(tmp_path / "s.fewshot-project").state.document
    assert (document.model, document.checkpoint) == ("sam/vit_b", str(tiny_sam))
    assert "--checkpoint" in session.script("cli")
    session.set_method(model="auto")
    assert session.state.document.checkpoint is None
