"""The size of the target by hand: masks drawn anew, undo, limits, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import napari_fewshot as nf
from napari_fewshot.session._sizing import NOTE, can_redraw, sized_map

RNG = np.random.default_rng(0)
PLAIN = {"fill_holes": False}


@pytest.fixture
def session():
    rows, columns = np.mgrid[:48, :48]
    mask = (rows - 20) ** 2 + (columns - 24) ** 2 < 100
    noise = RNG.normal(0, 8, mask.shape)
    image = np.clip(80 + 90 * mask + noise, 0, 255).astype(np.uint8)
    found = nf.Session(autosave=False)
    # Filling what is inside a ring would make more of it than was asked for.
    found.set_method("repri", "filters", params=PLAIN)
    found.add_support(image, mask.astype(np.uint8))
    found.set_query(np.roll(image, 5, 0))
    yield found
    found.close()


def share(session) -> float:
    return float((np.asarray(session.prediction.labels) > 0).mean() * 100)


def test_masks_follow_without_a_run(session) -> None:
    session.segment()
    runs = []
    session._runner.start = lambda *a, **k: runs.append(a)
    before = np.array(session.prediction.labels)
    last = before
    for percent in (2.0, 5.0, 12.5, 30.0):
        session.set_target_area(percent)
        assert share(session) == pytest.approx(percent, abs=0.6)
        now = np.array(session.prediction.labels)
        assert (now >= last).all() or percent == 2.0
        last = now
    assert not runs
    assert session.state.document.params == {**PLAIN, "target_area": 30.0}
    assert session.prediction.provenance["params"]["target_area"] == 30.0
    assert session.prediction.provenance["notes"].count(NOTE) == 1
    session.set_target_area(0)
    assert "target_area" not in session.state.document.params
    assert np.array_equal(session.prediction.labels, before)


def test_sliding_is_one_step_of_undo(session) -> None:
    session.segment()
    before = np.array(session.prediction.labels)
    for percent in (1, 2, 3, 4):
        session.set_target_area(percent, live=True)
    session.set_target_area(4)
    session.set_target_area(9)
    session.undo()
    assert session.state.document.params == {**PLAIN, "target_area": 4.0}
    session.undo()
    assert session.state.document.params == PLAIN
    assert np.array_equal(session.prediction.labels, before)
    session.redo()
    assert share(session) == pytest.approx(4, abs=0.6)


def test_while_sliding_only_the_labels_are_told(session) -> None:
    session.segment()
    states, labels = [], []
    session.state_changed.connect(states.append)
    session.resized.connect(labels.append)
    for percent in (3, 5, 5, 7):
        session.set_target_area(percent, live=True)
    assert not states
    assert len(labels) == 4
    assert labels[-1] is session.prediction.labels
    session.set_target_area(7)
    assert len(states) == 1


def test_the_next_run_uses_it(session) -> None:
    session.set_target_area(6.0)
    session.segment()
    assert session.prediction.provenance["params"]["target_area"] == 6.0
    assert share(session) == pytest.approx(6, abs=3)
    held = np.array(session.prediction.labels)
    session.set_target_area(0)
    # What would be found without is not known: only the next run tells.
    assert np.array_equal(session.prediction.labels, held)
    assert session.state.document.params == PLAIN


def test_without_a_result_only_the_wish_is_kept(session) -> None:
    session.set_target_area(3)
    assert session.prediction is None
    assert session.state.document.params == {**PLAIN, "target_area": 3.0}


def test_work_by_hand_is_not_drawn_over(session) -> None:
    session.segment()
    mask = np.zeros((48, 48), bool)
    mask[1:5, 1:5] = True
    session.commit(mask)
    assert not can_redraw(session.state.document)
    before = np.array(session.prediction.labels)
    session.set_target_area(40)
    assert np.array_equal(session.prediction.labels, before)


@pytest.mark.parametrize("percent", [-1, 100, float("nan")])
def test_sizes_that_cannot_be_are_refused(session, percent) -> None:
    with pytest.raises(ValueError, match="outside"):
        session.set_target_area(percent)


def test_methods_without_a_size_say_which_have_one(session) -> None:
    session.set_method("pixel")
    with pytest.raises(nf.DataError, match="'repri'"):
        session.set_target_area(5)


def test_the_upper_share_of_a_map_is_taken() -> None:
    values = RNG.permutation(np.linspace(0, 1, 400)).reshape(20, 20)
    probability = values.astype(np.float32)
    for wanted in (0.05, 0.25, 0.9):
        moved = sized_map(probability, wanted)
        inside = moved >= 0.5
        assert inside.mean() == pytest.approx(wanted, abs=0.005)
        assert probability[inside].min() > probability[~inside].max()
    assert sized_map(probability, 0) is probability


def test_certain_maps_shrink_and_grow_evenly() -> None:
    probability = np.zeros((21, 21), np.float32)
    probability[6:15, 6:15] = 1.0
    few = sized_map(probability, 9 / 441) >= 0.5
    assert few.sum() == 9
    assert few[9:12, 9:12].all()
    many = sized_map(probability, 121 / 441) >= 0.5
    assert many[6:15, 6:15].all()
    assert many.sum() == 121
    assert not many[[0, -1]].any()


def test_rings_are_closed_where_holes_are_filled() -> None:
    rows, columns = np.mgrid[:31, :31]
    far = np.hypot(rows - 15, columns - 15)
    ring = np.exp(-(((far - 8) / 3) ** 2)).astype(np.float32)
    for share in (0.3, 0.5):
        inside = sized_map(ring, share, closed=True) >= 0.5
        assert inside.mean() == pytest.approx(share, abs=0.01)
        assert inside[15, 15]
        assert not sized_map(ring, share)[15, 15] >= 0.5


def test_nothing_does_not_grow() -> None:
    nothing = np.full((4, 4), 0.001, np.float32)
    assert not (sized_map(nothing, 0.5) >= 0.5).any()
    assert (sized_map(np.full((4, 4), 0.3, np.float32), 0.5) >= 0.5).sum() == 8
