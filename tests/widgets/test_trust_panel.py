"""Check supports in a real window: what is said before a run, and after it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from napari.utils.shortcuts import default_shortcuts
from qtpy.QtGui import QKeySequence

from napari_fewshot.viewer._actions import check_supports
from napari_fewshot.widgets._prompt_form import SHORTCUTS
from napari_fewshot.widgets._trust_bar import SHORTCUT
from napari_fewshot.widgets._trust_marks import BADGES, with_badge

from .conftest import until

pytestmark = pytest.mark.gui

QUICK = {"trees": 5}
SMALL = (48, 56), 4


@pytest.fixture
def filled(dock, blob_pair):
    """A dock with three supports: one is a copy, one has the wrong mask."""
    session = dock.session
    session.remove_support(session.state.supports[0].key)
    for name, seed, mask in (("a", 3, 3), ("b", 4, 4), ("a again", 3, 3), ("c", 5, 6)):
        image, _ = blob_pair(seed, *SMALL)
        session.add_support(image, blob_pair(mask, *SMALL)[1], name=name)
    session.set_method("pixel", params=QUICK)
    return dock


def check(dock):
    dock.trust.bar.button.click()
    assert dock.run_panel.cancel_button.isEnabled(), "it can be cancelled"
    until(lambda: not dock.session.is_running, "the check")


def rows_of(dock):
    items = [dock.support_panel.list.item(i) for i in range(4)]
    return {item.text().split("\n")[0]: item for item in items}


def score_cell(dock):
    return dock.class_panel.table.item(0, 4)


def test_scores_are_there_before_any_run(filled):
    assert score_cell(filled).text() == ""
    assert "Check supports" in score_cell(filled).toolTip()
    check(filled)
    session = filled.session
    assert session.prediction is None
    expected = session.expectation
    assert score_cell(filled).text().startswith(f"{expected.scores[1]:.2f}")
    low, high = expected.intervals[1]
    assert f"between {low:.2f} and {high:.2f}" in score_cell(filled).toolTip()
    # Words and a sign, not colour alone; the tooltip says what to do.
    rows = rows_of(filled)
    assert "= teaches nothing new" in rows["a again"].text()
    assert "Mute it" in rows["a again"].toolTip()
    assert "! disagrees" in rows["c"].text()
    assert "check its mask" in rows["c"].toolTip()
    assert "=" not in rows["b"].text()
    assert "!" not in rows["b"].text()
    found = filled.trust.bar.found.text()
    assert "1 disagrees" in found
    assert "1 teaches nothing new" in found
    # It holds for these supports only.
    session.mute_support(session.state.supports[-1].key)
    assert session.expectation is None
    assert score_cell(filled).text() == ""
    assert not filled.trust.bar.found.isVisibleTo(filled)


def test_the_newer_answer_is_shown(filled):
    session = filled.session
    filled.image_panel.this_plane.setChecked(True)
    filled.run_panel.segment_button.click()
    until(lambda: session.prediction is not None, "the run")
    assert "on this image" in score_cell(filled).toolTip()
    check(filled)
    assert "to expect of a run" in score_cell(filled).toolTip()


def test_the_command_checks_and_needs_supports(filled, viewer):
    session = filled.session
    session.edit_supports({row.key: None for row in session.state.supports})
    filled.trust.bar.check.emit()
    assert "no support yet" in filled.run_panel.message.text()
    _, other = viewer.window.add_plugin_dock_widget("napari-fewshot", "Segment")
    other.session.set_method("pixel", params=QUICK)
    check_supports(viewer)
    until(lambda: not other.session.is_running, "the check")
    assert other.session.expectation is not None
    assert "One support" in other.trust.bar.found.text()
    other.shut_down()


def test_an_unknown_pixel_size_is_asked_for(filled):
    session, question = filled.session, filled.trust.bar.question
    # The query is 0.5 wide; supports from arrays have no size.
    assert question.isVisibleTo(filled)
    assert "4 supports" in question.line.text()
    steps = session._history._at
    question.same_button.click()
    sizes = {row.support.source.pixel_size for row in session.state.supports}
    assert sizes == {(0.5, 0.5)}
    assert session._history._at == steps + 1, "one step of undo"
    assert not question.isVisibleTo(filled)
    session.undo()
    question.pixels_button.click()
    assert session.state.document.params == {**QUICK, "match_scale": False}
    assert not question.isVisibleTo(filled)
    # The form of the method knows nothing of it and must not forget it.
    filled.how_panel.change.click()
    filled.how_panel.form._controls["trees"].setValue(12)
    assert session.state.document.params == {"trees": 12, "match_scale": False}
    session.undo()
    session.undo()
    question.set_size((0.25, 0.25))
    assert session.state.supports[0].support.source.pixel_size == (0.25, 0.25)


def test_the_query_may_be_the_one_without_a_size(filled):
    session, question = filled.session, filled.trust.bar.question
    known = session.state.supports[0]
    session.edit_supports({known.key: replace(known.support, scale=(0.3, 0.3))})
    query = session.state.query
    session.set_query(replace(query, scale=None))
    assert query.name in question.line.text()
    assert question.same_button.text() == "As the supports"
    question.same_button.click()
    assert session.state.query.pixel_size == (0.3, 0.3)
    assert session.state.query.array is query.array
    session.undo()
    assert session.state.query.scale is None


def test_results_mark_the_odd_plane_and_the_one_that_teaches_most(filled):
    session, panel = filled.session, filled.results_panel
    session.set_method(params={**QUICK, "leave_one_out": False})
    filled.run_panel.segment_button.click()
    until(lambda: session.prediction is not None, "the run")
    document = session.state.document
    found = replace(
        document.result,
        plane_novelty=np.array([0.2, 0.4, 1.7, 0.1], np.float32),
        suggested=2,
    )
    session._push(replace(document, result=found))
    cells = {panel.table.item(r, 0).text(): panel.table.item(r, 2) for r in range(4)}
    assert "unlike the supports" in cells["2"].text()
    assert "1.7 times" in cells["2"].toolTip()
    assert [cells[p].text() for p in "013"] == ["", "", ""]
    assert "Plane 2 would teach most" in panel.suggestion.text()
    panel.suggest_button.click()
    assert filled.binding.plane_shown() == 2
    filled.accept([2])
    assert not panel.suggest_button.isVisibleTo(filled)


def test_the_shortcut_is_free_and_the_dock_narrow(filled):
    wanted = QKeySequence(SHORTCUT).toString()
    taken = {
        QKeySequence(str(key)).toString()
        for keys in default_shortcuts.values()
        for key in keys
    }
    mine = {QKeySequence(keys[0]).toString() for keys in SHORTCUTS.values()}
    assert wanted not in taken | mine
    assert filled.minimumSizeHint().width() <= 364
    question = filled.trust.bar.question
    buttons = (question.set_button, question.same_button, question.pixels_button)
    for control in (filled.trust.bar.button, *buttons):
        assert control.toolTip()


def test_a_badge_is_drawn_in_the_corner(filled):
    picture = filled.support_panel._icons
    filled.support_panel.show_state(filled.session.state)
    plain = next(iter(picture.values()))[1]
    assert with_badge(plain, "") is plain
    for sign, (ground, _) in BADGES.items():
        marked = with_badge(plain, sign).toImage()
        colours = {
            marked.pixelColor(x, y).name()
            for x in range(marked.width() - 20, marked.width())
            for y in range(marked.height() - 20, marked.height())
        }
        assert ground in colours
