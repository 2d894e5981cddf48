"""The Prompts tab with a promptable model, objects in several views, and repair."""

from __future__ import annotations

import numpy as np
import pytest
from napari.utils.shortcuts import default_shortcuts
from qtpy.QtGui import QKeySequence

import napari_fewshot as nf
from napari_fewshot.viewer._drawing import NEGATIVE
from napari_fewshot.widgets._prompt_form import SHORTCUTS

from .conftest import crash, until

pytestmark = pytest.mark.gui


@pytest.fixture
def sam_dock(viewer, blob_pair, make_dock, tiny_sam):
    viewer.add_image(blob_pair(1)[0], name="cells", scale=(0.5, 0.5))
    dock = make_dock()
    dock.session.set_method(model="sam/vit_b", checkpoint=tiny_sam)
    dock.show_tab("prompts")
    return dock


def click(dock, *points):
    layer = dock.prompt_panel.layers.layer("points")
    for point in points:
        layer.add(point)


def outlined(dock, previous=None):
    panel = dock.prompt_panel
    until(lambda: panel._preview not in (None, previous), "an outline")
    return panel._preview


def test_three_masks_are_stepped_through_and_committed(sam_dock):
    panel = sam_dock.prompt_panel
    assert panel.models.currentData() == "sam/vit_b"
    click(sam_dock, [40, 40])
    first = outlined(sam_dock)
    assert panel.offer.text().startswith("Mask 1 of 3")
    assert panel.candidate_button.isVisibleTo(panel)
    assert panel.minimumSizeHint().width() <= 340
    panel.next_candidate()
    second = panel._preview
    np.testing.assert_array_equal(second.mask, first.candidates[1])
    assert panel.offer.text().startswith("Mask 2 of 3")
    shown = panel.layers.layer("preview").data.astype(bool)
    np.testing.assert_array_equal(shown, second.mask)
    panel.commit()
    row = sam_dock.session.state.objects[0]
    assert row.prompts.candidate == 1
    # Editing it again brings the same choice back.
    panel.discard()
    panel.edit(row.key)
    again = outlined(sam_dock)
    np.testing.assert_array_equal(again.mask, second.mask)


def test_every_box_is_an_object_of_its_own(sam_dock, viewer):
    panel = sam_dock.prompt_panel
    panel.choose_tool("boxes")
    boxes = panel.layers.layer("boxes")
    boxes.add_rectangles([[5, 5], [40, 40]])
    boxes.add_rectangles([[50, 60], [90, 100]])
    until(
        lambda: panel._preview is not None and panel._preview.instances is not None,
        "two objects",
    )
    assert "2 objects" in panel.status.text()
    panel.commit()
    rows = sam_dock.session.state.objects
    assert [r.number for r in rows] == [1, 2]
    assert rows[1].prompts.boxes.tolist() == [[50.5, 60.5, 90.5, 100.5]]
    panel.view.setCurrentIndex(panel.view.findData("objects"))
    panel.view.activated.emit(1)
    layer = viewer.layers["cells - objects"]
    assert set(np.unique(layer.data)) == {0, 1, 2}
    assert tuple(layer.scale) == (0.5, 0.5)
    sam_dock.session.undo()
    assert not layer.data.any()


def test_a_lasso_is_a_first_guess_and_survives_undo(sam_dock):
    panel = sam_dock.prompt_panel
    panel.choose_tool("lasso")
    shapes = panel.layers.layer("boxes")
    assert shapes.mode == "add_polygon_lasso"
    shapes.add_polygons([[10, 10], [10, 40], [40, 40], [40, 10]])
    first = outlined(sam_dock)
    assert first.prompts.mask[20, 20]
    assert first.prompts.boxes is None
    assert not first.prompts.mask[60, 60]
    panel.set_sign(NEGATIVE)
    shapes.add_polygons([[60, 60], [60, 90], [90, 90], [90, 60]])
    second = outlined(sam_dock, first)
    assert second.prompts.scribbles[70, 70] == -1
    panel.layers.undo()
    until(lambda: panel._preview.prompts.scribbles is None, "the step back")
    np.testing.assert_array_equal(panel._preview.prompts.mask, first.prompts.mask)
    panel.layers.redo()
    until(lambda: panel._preview.prompts.scribbles is not None, "the step forth")
    again = panel._preview.prompts.scribbles
    np.testing.assert_array_equal(again, second.prompts.scribbles)


def test_a_label_is_repaired_in_its_layer_and_taken_back(sam_dock, viewer, blob_pair):
    panel = sam_dock.prompt_panel
    labels = blob_pair(1)[1] * 17
    labels[:10, :10] = 5
    mine = viewer.add_labels(labels.copy(), name="mine", scale=(0.5, 0.5))
    mine.selected_label = 9
    panel.repair.click()
    assert "Label 9" in sam_dock.run_panel.message.text()
    mine.selected_label = 17
    viewer.layers.selection.active = mine
    panel.repair.click()
    found = outlined(sam_dock)
    np.testing.assert_array_equal(found.prompts.mask, labels == 17)
    panel.commit()
    assert (mine.data[found.mask & (labels != 5)] == 17).all()
    assert (mine.data == 5).sum() == 100
    assert sam_dock.session.state.objects == ()
    mine.undo()
    np.testing.assert_array_equal(mine.data, labels)


def test_without_live_it_outlines_when_asked(sam_dock):
    panel = sam_dock.prompt_panel
    panel.live.setChecked(False)
    click(sam_dock, [40, 40])
    until(lambda: not sam_dock.session._previewer.is_busy, "encoding")
    assert panel._preview is None
    assert panel.outline_button.isEnabled()
    panel.outline_button.click()
    assert outlined(sam_dock).mask.any()


def test_prompts_that_were_not_committed_come_back(sam_dock, make_dock, tiny_sam):
    click(sam_dock, [40, 40], [20, 90])
    outlined(sam_dock)
    crash(sam_dock.session)
    fresh = make_dock()
    fresh.recover_bar.open_button.click()
    kept = fresh.prompt_panel.prompts()
    np.testing.assert_array_equal(kept.points, [[40, 40], [20, 90]])


def test_committed_objects_come_back_over_the_same_image(sam_dock, make_dock):
    mask = np.zeros((96, 112), bool)
    mask[10:20, 10:20] = True
    sam_dock.session.commit(mask, prompts=nf.PromptSet(points=[[15, 15]]))
    crash(sam_dock.session)
    fresh = make_dock()
    fresh.recover_bar.open_button.click()
    row = fresh.session.state.objects[0]
    assert row.prompts.points.tolist() == [[15, 15]]
    assert fresh.session.object_labels(0)[15, 15] == 1


def test_every_shortcut_is_printed_and_none_is_naparis(sam_dock):
    taken = {
        QKeySequence(str(key)).toString()
        for keys in default_shortcuts.values()
        for key in keys
    }
    tip = sam_dock.prompt_panel.help.toolTip()
    for keys, text in SHORTCUTS.values():
        assert QKeySequence(keys).toString() not in taken
        assert text in tip
