"""The dock *Compare* in a real window, with the worker process."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QMimeData, Qt, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QFileDialog

import napari_fewshot as nf
from napari_fewshot.viewer._layers import KEY, image_layers, role
from napari_fewshot.widgets._compare_dock import CompareWidget

from .conftest import until

pytestmark = pytest.mark.gui

METHODS = ["pixel", "template"]


@pytest.fixture
def compare_dock(dock, viewer):
    # `dock` has set quick parameters for the method "pixel".
    dock.image_panel.refresh()
    widget = CompareWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Compare")
    yield widget
    widget.shut_down()


def run(widget):
    widget.choices.methods.check(METHODS)
    widget.run_panel.segment_button.click()
    until(lambda: not widget.session.is_running, "the comparison")


def ours(viewer):
    return [x for x in viewer.layers if role(x) == "compare"]


def labels_of(viewer, name):
    return viewer.layers[f"cells - {name}"]


def state_of(viewer):
    """Return everything about the layers of the user that might be touched."""
    return [
        (
            x.name,
            x.visible,
            x.opacity,
            x.affine.affine_matrix.tolist(),
            x.data.tobytes(),
        )
        for x in viewer.layers
        if KEY not in x.metadata
    ]


def test_side_by_side_then_one_is_used(compare_dock, dock, viewer):
    before = state_of(viewer)
    camera = viewer.scene.camera.center
    assert compare_dock.empty.isVisibleTo(compare_dock)
    assert not compare_dock.use_button.isEnabled()
    run(compare_dock)
    found = dock.session.comparison
    assert set(found.predictions) == set(METHODS)
    assert found.planes == (dock.binding.plane_shown(),), "only the plane that is shown"
    assert dock.session.prediction is None, "the result is not touched"
    # Beside the image: whole steps apart, with a copy of the image under each.
    query = dock.binding.query_layer
    low = [labels_of(viewer, name).extent.world[0][-2:] for name in METHODS]
    under = [
        labels_of(viewer, f"under {name}").extent.world[0][-2:] for name in METHODS
    ]
    np.testing.assert_allclose(low, under)
    first = query.extent.world
    width = (first[1] - first[0])[-1]
    assert low[0][1] - first[0][-1] > width
    assert query.data is labels_of(viewer, "under pixel").data, "pixels are shared"
    layer = labels_of(viewer, "disagreement")
    assert layer.colormap.name == "magma"
    assert tuple(layer.contrast_limits) == (0, 1)
    np.testing.assert_array_equal(layer.data, found.disagreement)
    assert [x.name for x in image_layers(viewer)] == ["cells"], "no query of ours"
    assert state_of(viewer) == before
    # The table: best first, everything in the tooltip.
    table = compare_dock.table
    assert [table.item(row, 0).text() for row in range(2)] == found.best_first
    assert table.selected == found.best_first[0]
    assert "to segment" in table.item(0, 0).toolTip()
    table.select("template")
    compare_dock.use_button.click()
    assert dock.session.state.document.method == "template"
    result = dock.binding.result_layer
    assert result.name == "cells - fewshot"
    np.testing.assert_array_equal(result.data, found.predictions["template"].labels)
    np.testing.assert_allclose(result.translate, query.translate)
    dock.undo_button.click()
    assert dock.session.state.document.method == "pixel"
    compare_dock.clear_button.click()
    assert not ours(viewer)
    assert dock.session.comparison is None
    np.testing.assert_allclose(viewer.scene.camera.center, camera)
    assert state_of(viewer) == before


def test_over_the_image_and_places(compare_dock, dock, viewer):
    compare_dock.choices.whole.setChecked(True)
    compare_dock.beside.setChecked(False)
    run(compare_dock)
    found = dock.session.comparison
    assert found.planes == (0, 1, 2, 3)
    for name in METHODS:
        compare_dock.table.select(name)
        shown = [n for n in METHODS if labels_of(viewer, n).visible]
        assert shown == [name]
        np.testing.assert_allclose(
            labels_of(viewer, name).extent.world, dock.binding.query_layer.extent.world
        )
    compare_dock.go_button.click()
    plane, row, column = found.places()[0]
    assert dock.binding.plane_shown() == plane
    world = dock.binding.query_layer.data_to_world((plane, row, column))
    np.testing.assert_allclose(viewer.scene.camera.center[-2:], world[-2:])
    assert "Place 1 of" in compare_dock.note.text()
    compare_dock.go_button.click()
    assert "Place 2 of" in compare_dock.note.text()
    # Closing the dock takes its layers with it.
    viewer.window.remove_dock_widget(compare_dock)
    assert not ours(viewer)


def test_failures_and_too_few_are_said(compare_dock, dock, viewer):
    compare_dock.choices.methods.check(["pixel"])
    assert "tick at least two" in compare_dock.run_panel.status.text()
    compare_dock.run_panel.segment_button.click()
    assert "Choose two" in compare_dock.run_panel.message.text()
    with pytest.MonkeyPatch.context() as patch:
        pair = [("pixel", "auto"), ("prototype", "sam/vit_b")]
        patch.setattr(compare_dock.choices, "choices", lambda: pair)
        run(compare_dock)
    assert compare_dock.table.item(1, 1).text() == "failed"
    assert "models download" in compare_dock.note.text()
    compare_dock.table.selectRow(1)
    assert not compare_dock.use_button.isEnabled()


def test_cancel_keeps_what_is_finished(compare_dock, dock):
    compare_dock.choices.methods.check([*METHODS, "prototype"])
    compare_dock.choices.whole.setChecked(True)
    session = dock.session
    session.progressed.connect(
        lambda _: session.cancel() if session.comparing[0] else None
    )
    waiting = []
    session.compared.connect(lambda _: waiting.append(table.item(2, 1).text()))
    table = compare_dock.table
    compare_dock.run_panel.segment_button.click()
    until(lambda: not session.is_running, "the stop")
    assert "pixel" in session.comparison.predictions
    assert waiting[0] == "waiting"
    assert table.item(2, 1).text() == "not run"
    assert compare_dock.use_button.isEnabled()


def test_everything_is_in_reach_and_narrow(compare_dock, dock):
    assert compare_dock.minimumSizeHint().width() <= 364
    assert dock.minimumSizeHint().width() <= 364
    parts = [
        compare_dock.choices.concepts.add_button,
        compare_dock.choices.methods,
        compare_dock.choices.models,
        compare_dock.run_panel.segment_button,
        compare_dock.table,
        compare_dock.beside,
        compare_dock.differ,
        compare_dock.use_button,
        compare_dock.go_button,
        compare_dock.clear_button,
    ]
    assert all(part.toolTip() for part in parts)
    chain = [parts[0]]
    while (after := chain[-1].nextInFocusChain()) is not parts[0]:
        chain.append(after)
    reached = [part for part in chain if part in parts]
    assert reached == parts, "Tab goes from top to bottom"
    tabbed = [p.focusPolicy() & Qt.FocusPolicy.TabFocus for p in parts]
    assert all(tabbed)


@pytest.fixture
def concept(tmp_path, blob_pair):
    image, labels = blob_pair(0)
    return nf.save_concept(
        tmp_path / "blobs",
        nf.Support(image, labels, classes={1: "blob"}),
        method="pixel",
        params={"trees": 5, "leave_one_out": False, "context": False},
        assess=False,
    )


def drop(widget, *paths):
    """Drag files over a widget and let go; returns whether it takes them."""
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(p)) for p in paths])
    options = (data, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier)
    at, action = widget.rect().center(), Qt.DropAction.CopyAction
    enter = QDragEnterEvent(at, action, *options)
    widget.dragEnterEvent(enter)
    if enter.isAccepted():
        widget.dropEvent(QDropEvent(at.toPointF(), action, *options))
    return enter.isAccepted()


def test_a_concept_file_is_a_candidate(compare_dock, dock, concept, monkeypatch):
    concepts = compare_dock.choices.concepts
    assert not concepts.table.isVisibleTo(compare_dock)
    height = compare_dock.minimumSizeHint().height()
    monkeypatch.setattr(
        QFileDialog, "getOpenFileNames", lambda *_: ([str(concept)], "")
    )
    concepts.add_button.click()
    assert concepts.table.isVisibleTo(compare_dock)
    assert compare_dock.minimumSizeHint().height() <= height + 26
    assert concepts.table.item(0, 0).text() == "blobs"
    assert concepts.table.item(0, 1).text() == "pixel, 1 support: blob"
    compare_dock.choices.methods.check(["template"])
    assert "2 candidates" in compare_dock.run_panel.status.text()
    compare_dock.run_panel.segment_button.click()
    until(lambda: not compare_dock.session.is_running, "the comparison")
    found = dock.session.comparison
    assert not found.errors
    assert set(found.predictions) == {"template", "concept blobs"}
    compare_dock.table.select("concept blobs")
    compare_dock.use_button.click()
    assert dock.session.state.document.method == "pixel"
    assert [r.name for r in dock.session.state.supports] != ["cells, plane 0"]
    concepts.table.check([])
    assert "tick at least two" in compare_dock.run_panel.status.text()


def test_concept_files_are_dropped(compare_dock, concept, tmp_path):
    concepts, message = compare_dock.choices.concepts, compare_dock.run_panel.message
    other = tmp_path / "b" / "blobs.fewshot"
    other.parent.mkdir()
    other.write_bytes(concept.read_bytes())
    bad = tmp_path / "bad.FEWSHOT"
    bad.write_text("no")
    assert not drop(compare_dock, tmp_path / "image.tif")
    assert drop(compare_dock, concept, bad, other, tmp_path / "image.tif")
    assert concepts.table.checked() == ["blobs", "blobs 2"]
    assert concepts.checked() == [str(concept), str(other)]
    assert "bad.FEWSHOT is damaged" in message.text()
    concepts.table.check(["blobs 2"])
    assert drop(compare_dock, concept), "again: ticked, not doubled"
    assert concepts.table.names() == ["blobs", "blobs 2"]
    assert concepts.table.checked() == ["blobs", "blobs 2"]
    assert not message.text()
    assert str(other) in concepts.table.item(1, 0).toolTip()


def test_the_button_in_results_opens_it(viewer):
    _, dock = viewer.window.add_plugin_dock_widget("napari-fewshot", "Segment")
    dock.results_panel.compare_button.click()
    docked = viewer.window.dock_widgets.values()
    (found,) = [w for w in docked if isinstance(w, CompareWidget)]
    assert found.session is dock.session
    found.shut_down()
    dock.shut_down()
