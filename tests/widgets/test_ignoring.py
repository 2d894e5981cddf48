"""Pixels of a support that nobody knows, marked in the dock with a brush."""

from __future__ import annotations

import numpy as np
import pytest

import napari_fewshot as nf
from napari_fewshot.data import IGNORED
from napari_fewshot.viewer._layers import labels_layers, role
from napari_fewshot.widgets._support_panel import thumbnail

pytestmark = pytest.mark.gui


def choose(dock, text, row=0):
    """Choose an action of the menu of a row."""
    panel = dock.support_panel
    panel.list.clearSelection()
    panel.list.item(row).setSelected(True)
    actions = {a.text(): a for a in panel.row_menu().actions()}
    assert actions["Mark pixels to ignore"].toolTip()
    actions[text].trigger()


def test_marked_pixels_are_not_learnt_from(dock, viewer, stack):
    viewer.dims.set_point(0, 8)
    choose(dock, "Mark pixels to ignore")
    layer = viewer.layers.selection.active
    assert (layer.name, layer.mode) == ("masks \u00b7 ignore", "paint")
    assert role(layer) == "ignore"
    assert layer not in labels_layers(viewer), "it is no mask of a support"
    masks = viewer.layers["masks"]
    np.testing.assert_allclose(layer.extent.world, masks.extent.world)
    assert dock.binding.plane_shown() == 0, "the plane of the support is shown"
    before = dock.session.state.supports[0].support
    assert before.ignore is None
    layer.brush_size = 10
    layer.paint((0, 20, 30), 1)
    dock.binding.flush()
    (row,) = dock.session.state.supports
    marked = np.asarray(layer.data[0]) != 0
    assert marked.any()
    found = row.support.label_plane(0)
    np.testing.assert_array_equal(found == IGNORED, marked)
    np.testing.assert_array_equal(found[~marked], stack[1][0][~marked])
    np.testing.assert_array_equal(masks.data, stack[1], "the masks stay as painted")
    # Marks can be seen in the list, and undo takes them back.
    image = thumbnail(row.support).toImage()
    assert image != thumbnail(before).toImage()
    dock.undo_button.click()
    assert dock.session.state.supports[0].support.ignore is None
    # Again from the menu: the same layer, not another one.
    viewer.layers.selection.active = masks
    choose(dock, "Mark pixels to ignore")
    assert viewer.layers.selection.active.unique_id == layer.unique_id
    assert sum(role(x) == "ignore" for x in viewer.layers) == 1


def test_painting_on_keeps_the_marks_and_projects_too(dock, viewer, tmp_path):
    choose(dock, "Mark pixels to ignore")
    layer = viewer.layers.selection.active
    layer.brush_size = 6
    layer.paint((0, 20, 30), 1)
    masks = viewer.layers["masks"]
    masks.paint((0, 0, 0), 1)
    dock.binding.flush()
    found = dock.session.state.supports[0].support.label_plane(0)
    assert found[0, 0] == 1
    assert found[20, 30] == IGNORED
    path = dock.session.save(tmp_path / "a.fewshot-project")
    back = nf.Session.load(path, autosave=False)
    np.testing.assert_array_equal(back.state.supports[0].support.label_plane(0), found)
    back.close()
    # Without the layer everything is known again.
    viewer.layers.remove(layer)
    dock.binding.flush()
    assert dock.session.state.supports[0].support.ignore is None


def test_a_new_plane_brings_its_marks(dock, viewer):
    choose(dock, "Mark pixels to ignore")
    layer = viewer.layers.selection.active
    layer.data[2, 5:9, 5:9] = 1
    masks = viewer.layers["masks"]
    masks.paint((2, 30, 30), 1)
    dock.binding.flush()
    rows = dock.session.state.supports
    assert len(rows) == 2
    assert (rows[1].support.label_plane(2) == IGNORED).sum() == 16
    assert rows[0].support.ignore is None


def test_supports_without_a_layer_and_nothing_left(dock, viewer, blob_pair):
    dock.session.add_support(*blob_pair(1), name="file")
    choose(dock, "Mark pixels to ignore", row=1)
    assert "painted in this window" in dock.run_panel.message.text()
    assert not any(role(x) == "ignore" for x in viewer.layers)
    choose(dock, "Mark pixels to ignore")
    layer = viewer.layers.selection.active
    layer.data = np.ones_like(layer.data)
    dock.binding.flush()
    assert "is ignored" in dock.run_panel.message.text()
    assert dock.session.state.supports[0].support.ignore is None
