"""The Prompts tab in a real window: click, outline, commit, undo, and bad input."""

from __future__ import annotations

import numpy as np
import pytest
from napari.utils.shortcuts import default_shortcuts
from qtpy.QtGui import QKeySequence

import napari_fewshot as nf
from napari_fewshot.viewer._layers import labels_layers
from napari_fewshot.viewer._prompting import NEGATIVE, POSITIVE, SYMBOLS
from napari_fewshot.widgets._prompt_form import SHORTCUTS

from .conftest import crash, until

pytestmark = pytest.mark.gui


@pytest.fixture
def disc():
    rows, columns = np.mgrid[:96, :112]
    truth = (rows - 48) ** 2 + (columns - 60) ** 2 < 20**2
    image = 40 + 150 * truth + np.random.default_rng(0).normal(0, 5, truth.shape)
    return image.astype(np.uint8), truth


@pytest.fixture
def prompting(viewer, disc, make_dock):
    """A dock on its Prompts tab, over a plane with one disc."""
    viewer.add_image(disc[0], name="disc", scale=(0.5, 0.5), translate=(3, 4))
    dock = make_dock()
    dock.show_tab("prompts")
    return dock


def click(dock, *place):
    """Put a point where a user would click, and wait for the outline."""
    panel = dock.prompt_panel
    before = panel._preview
    panel.layers.layer("points").add(np.array(place, float))
    until(lambda: panel._preview is not before, "the outline")
    return panel._preview


def test_entering_the_tab_makes_layers_over_the_image(prompting, viewer):
    names = {layer.name for layer in viewer.layers}
    assert {"prompts: points", "prompts: boxes", "prompts: scribbles"} <= names
    points = viewer.layers["prompts: points"]
    np.testing.assert_allclose(points.scale, (0.5, 0.5))
    np.testing.assert_allclose(points.translate, (3, 4))
    assert viewer.layers.selection.active == points
    assert str(points.mode) == "add"
    # They are tools, not masks that a user painted.
    assert labels_layers(viewer) == []


def test_a_click_outlines_the_object_and_commit_writes_it(prompting, viewer, disc):
    click(prompting, 48, 60)
    preview = click(prompting, 60, 66)
    assert nf.evaluate(preview.mask.astype(int), disc[1].astype(int))["dice"][0] > 0.6
    shown = viewer.layers["prompts: preview"].data
    np.testing.assert_array_equal(shown == 1, preview.mask)
    prompting.prompt_panel.commit_button.click()
    result = prompting.binding.result_layer
    np.testing.assert_array_equal(result.data == 1, preview.mask)
    np.testing.assert_allclose(result.scale, (0.5, 0.5))
    assert "Committed" in prompting.prompt_panel.status.text()
    assert prompting.prompt_panel.objects.count() == 1
    # The tool stays in hand.
    assert viewer.layers.selection.active == viewer.layers["prompts: points"]


def test_negative_clicks_differ_by_symbol_and_take_away(prompting, viewer):
    first = click(prompting, 48, 60)
    prompting.prompt_panel.toggle_sign()
    second = click(prompting, 48, 75)
    points = viewer.layers["prompts: points"]
    assert [str(s) for s in points.symbol] == [SYMBOLS[POSITIVE], SYMBOLS[NEGATIVE]]
    assert list(points.features["sign"]) == [POSITIVE, NEGATIVE]
    assert list(second.prompts.point_labels) == [1, 0]
    assert second.mask[48, 75] <= first.mask[48, 75]


def test_undo_and_redo_of_prompts(prompting, viewer):
    click(prompting, 48, 60)
    click(prompting, 60, 60)
    layers = prompting.prompt_panel.layers
    layers.undo()
    assert len(viewer.layers["prompts: points"].data) == 1
    layers.undo()
    assert len(viewer.layers["prompts: points"].data) == 0
    until(lambda: not viewer.layers["prompts: preview"].data.any(), "no outline")
    layers.redo()
    layers.redo()
    np.testing.assert_allclose(
        viewer.layers["prompts: points"].data, [[48, 60], [60, 60]]
    )


def test_next_commits_and_begins_anew(prompting, viewer):
    first = click(prompting, 48, 60)
    prompting.prompt_panel.next_button.click()
    assert len(viewer.layers["prompts: points"].data) == 0
    assert not viewer.layers["prompts: preview"].data.any()
    assert prompting.session.state.objects[0].area == first.mask.sum()
    assert not prompting.prompt_panel.commit_button.isEnabled()


def test_discard_leaves_the_result_alone(prompting, viewer):
    click(prompting, 48, 60)
    prompting.prompt_panel.discard()
    assert prompting.session.state.objects == ()
    assert len(viewer.layers["prompts: points"].data) == 0


def test_a_committed_object_is_edited_again(prompting, viewer):
    click(prompting, 48, 60)
    panel = prompting.prompt_panel
    panel.next_object()
    key = prompting.session.state.objects[0].key
    panel.edit(key)
    until(lambda: panel._preview is not None, "the outline")
    np.testing.assert_allclose(viewer.layers["prompts: points"].data, [[48, 60]])
    changed = click(prompting, 60, 60)
    panel.commit()
    rows = prompting.session.state.objects
    assert [row.key for row in rows] == [key]
    np.testing.assert_array_equal(
        prompting.binding.result_layer.data == 1, changed.mask
    )
    panel.objects.setCurrentRow(0)
    panel._remove_selected()
    assert not prompting.binding.result_layer.data.any()
    prompting.undo_button.click()
    assert prompting.binding.result_layer.data.any()


def test_boxes_and_scribbles(prompting, viewer, disc):
    panel = prompting.prompt_panel
    panel.choose_tool("boxes")
    assert str(viewer.layers["prompts: boxes"].mode) == "add_rectangle"
    boxes = viewer.layers["prompts: boxes"]
    boxes.add_rectangles(np.array([[27, 39], [27, 81], [69, 81], [69, 39]], float))
    until(lambda: panel._preview is not None, "the outline of the box")
    np.testing.assert_allclose(panel._preview.prompts.boxes, [[27.5, 39.5, 69.5, 81.5]])
    inside = panel._preview.mask & disc[1]
    assert inside.sum() > 0.5 * disc[1].sum()
    panel.discard()
    panel.choose_tool("scribbles")
    scribbles = viewer.layers["prompts: scribbles"]
    scribbles.data_setitem((np.full(20, 48), np.arange(50, 70)), 1)
    until(lambda: panel._preview is not None, "the outline of the scribble")
    assert panel._preview.prompts.scribbles.sum() == 20


def test_prompts_in_a_stack_belong_to_their_plane(dock, viewer):
    dock.show_tab("prompts")
    dock.prompt_panel.helped.setChecked(False)
    dock._go_to(2)
    preview = click(dock, 2, 48, 56)
    assert preview.plane == 2
    # Moving on commits what is outlined: nothing is lost.
    dock._go_to(3)
    assert [row.plane for row in dock.session.state.objects] == [2]
    assert len(viewer.layers["prompts: points"].data) == 0
    assert not dock.binding.result_layer.data[3].any()
    assert dock.results_panel.table.item(0, 1).text() == "by hand"
    dock.prompt_panel.step_plane(-1)
    assert dock.binding.plane_shown() == 2


def test_refine_starts_from_what_was_found(dock, viewer):
    dock.run_panel.segment_button.click()
    until(lambda: not dock.session.is_running, "the segmentation")
    dock.results_panel.table.selectRow(0)
    dock.results_panel.refine_button.click()
    assert dock.is_prompting
    until(lambda: dock.prompt_panel._preview is not None, "the outline")
    assert dock.prompt_panel._preview.prompts.mask.any()


def test_a_run_keeps_committed_objects(dock, viewer):
    dock.show_tab("prompts")
    dock.prompt_panel.helped.setChecked(False)
    dock._go_to(1)
    mask = click(dock, 1, 48, 56).mask
    dock.prompt_panel.commit()
    dock.run_panel.segment_button.click()
    until(lambda: not dock.session.is_running, "the segmentation")
    assert (dock.binding.result_layer.data[1][mask] == 1).all()


def test_nothing_to_commit_is_said(prompting):
    prompting.prompt_panel.commit()
    assert "nothing to commit" in prompting.run_panel.message.text()


def test_without_an_image_the_tab_says_so(make_dock):
    dock = make_dock()
    dock.show_tab("prompts")
    assert "Open an image" in dock.prompt_panel.status.text()


def test_deleting_a_managed_layer_is_harmless(prompting, viewer):
    viewer.layers.remove(viewer.layers["prompts: points"])
    prompting.prompt_panel.choose_tool("points")
    assert click(prompting, 48, 60).mask.any()


def test_classes_from_the_tab(prompting):
    panel = prompting.prompt_panel
    panel.add_class.click()
    assert panel.value == 2
    click(prompting, 48, 60)
    panel.commit()
    assert set(np.unique(prompting.binding.result_layer.data)) == {0, 2}


def test_shortcuts_work_only_on_the_tab_and_shadow_none_of_naparis(prompting):
    panel = prompting.prompt_panel
    assert all(s.isEnabled() for s in panel._shortcuts)
    prompting.show_tab("supports")
    assert not any(s.isEnabled() for s in panel._shortcuts)
    taken = {
        QKeySequence(str(key)).toString()
        for keys in default_shortcuts.values()
        for key in keys
    }
    ours = {QKeySequence(keys).toString() for keys, _ in SHORTCUTS.values()}
    assert not ours & taken
    assert len(taken) > 20
    for _, text in SHORTCUTS.values():
        assert text


def test_the_tab_fits_the_width(prompting):
    assert prompting.prompt_panel.minimumSizeHint().width() <= 340
    for button in prompting.prompt_panel.tools.values():
        assert button.toolTip()


def test_committed_objects_are_recovered_after_a_crash(make_dock, blob_pair, viewer):
    crashed = nf.Session()
    crashed.set_query(blob_pair(0)[0], name="lost")
    mask = np.zeros((96, 112), bool)
    mask[10:20, 10:20] = True
    crashed.commit(mask)
    crash(crashed)
    dock = make_dock()
    assert dock.recover_bar.isVisibleTo(dock)
    dock.recover_bar.open_button.click()
    np.testing.assert_array_equal(viewer.layers["lost - recovered"].data == 1, mask)
