"""Many objects at once: everything on a plane, objects over the planes."""

from __future__ import annotations

import numpy as np
import pytest

import napari_fewshot as nf

LOOSE = {
    "points_per_side": 6,
    "predicted_iou": 0.0,
    "stability": 0.0,
    "overlap": 0.97,
}


@pytest.fixture
def tube():
    """A bright disc that moves from plane to plane, and its masks."""
    rows, columns = np.mgrid[:96, :112]
    masks = np.stack(
        [(rows - 40 - p) ** 2 + (columns - 50 - 2 * p) ** 2 < 14**2 for p in range(9)]
    )
    noise = np.random.default_rng(0).normal(0, 8, masks.shape)
    return np.clip(50 + 140 * masks + noise, 0, 255).astype(np.uint8), masks


@pytest.fixture
def session(tube):
    found = nf.Session(autosave=False)
    found.set_query(tube[0])
    return found


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def test_everything_becomes_objects_in_one_step(session, tiny_sam):
    session.set_method(model="sam/vit_b", checkpoint=tiny_sam)
    session.find_everything(2, value=3, **LOOSE)
    rows = session.state.objects
    assert len(rows) > 1
    assert {(r.plane, r.value) for r in rows} == {(2, 3)}
    assert len({r.number for r in rows}) == len(rows)
    numbers = session.object_labels(2)
    assert set(np.unique(numbers)) - {0} == {r.number for r in rows}
    session.undo()
    assert session.state.objects == ()


def test_everything_in_a_region_and_without_a_model(session, tiny_sam):
    with pytest.raises(nf.WeightsError, match="models list"):
        session.find_everything(2)
    region = np.zeros((96, 112), bool)
    region[:48] = True
    session.set_method(model="sam/vit_b", checkpoint=tiny_sam)
    session.find_everything(2, region=region, **LOOSE)
    found = session.object_labels(2) > 0
    assert found[:48].sum() > found[48:].sum()


def test_objects_are_carried_over_the_planes(session, tube):
    truth = tube[1]
    session.commit(truth[0], plane=0)
    session.commit_objects([truth[8]], plane=8, numbers=[1])
    session.propagate()
    numbers = session.object_labels()
    assert set(np.unique(numbers)) == {0, 1}
    for plane in range(9):
        assert dice(numbers[plane] == 1, truth[plane]) > 0.8
    np.testing.assert_array_equal(numbers[0] == 1, truth[0])
    session.undo()
    assert len(session.state.objects) == 2


def test_a_correction_redoes_only_what_depends_on_it(session, tube):
    truth = tube[1]
    session.commit(truth[0], plane=0)
    session.commit_objects([truth[4], truth[8]], plane=[4, 8], numbers=[1, 1])
    session.propagate()
    before = {r.plane: r for r in session.state.objects}
    with pytest.raises(nf.FewShotError, match="up to date"):
        session.propagate()
    # Correcting a carried object makes it annotated, under the same number.
    session.commit(truth[6], plane=6, key=before[6].key)
    session.propagate()
    after = {r.plane: r for r in session.state.objects}
    assert [p for p in range(9) if after[p] is not before[p]] == [5, 6, 7]
    assert after[6].origin == "prompts"
    assert {r.number for r in after.values()} == {1}


def test_a_time_point_is_carried_on_by_itself(session, tube):
    image, truth = tube
    session.set_query(np.stack([image[:4], image[4:8]]), axes="tzyx")
    session.commit(truth[4], plane=4)
    session.propagate(mode="mask")
    assert {row.plane for row in session.state.objects} <= {4, 5, 6, 7}
    assert len(session.state.objects) > 1


def test_what_cannot_be_followed_is_told(session, blob_pair):
    with pytest.raises(nf.PromptError, match="committed"):
        session.propagate()
    session.set_query(blob_pair(0)[0])
    session.commit(blob_pair(0)[1] == 1)
    with pytest.raises(nf.PromptError, match="one plane"):
        session.propagate()


def test_carried_objects_are_kept_on_disk(session, tube, tmp_path):
    session.commit(tube[1][0], plane=0)
    session.propagate()
    session.save(tmp_path / "s.fewshot-project")
    rows = nf.Session.load(tmp_path / "s.fewshot-project").state.objects
    assert {r.plane: r.origin for r in rows}[0] == "prompts"
    assert "propagated" in {r.origin for r in rows}
