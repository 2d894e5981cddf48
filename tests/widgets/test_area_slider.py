"""The slider of the target's size in a real window: the mask follows, nothing runs."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_fewshot.widgets._area_slider import AS_FOUND, percent_of, step_of

from .conftest import until

pytestmark = pytest.mark.gui


@pytest.fixture
def plane_dock(viewer, blob_pair, make_dock):
    (image, mask), (query, _) = blob_pair(3), blob_pair(4)
    viewer.add_image(query, name="query")
    dock = make_dock()
    dock.session.set_method("panet", "filters", params={"leave_one_out": False})
    dock.session.add_support(image, mask.astype(np.uint8))
    return dock


def layer_of(dock):
    return dock.binding.result_layer


def segment(dock):
    dock.run_panel.segment_button.click()
    until(
        lambda: not dock.session.is_running and dock.session.prediction is not None,
        "the run",
    )


def test_it_is_there_for_methods_that_take_a_size(plane_dock):
    area = plane_dock.how_panel.area
    assert area.isVisibleTo(plane_dock.how_panel)
    assert area.slider.toolTip()
    assert area.number.text() == AS_FOUND
    plane_dock.session.set_method("pixel")
    assert not area.isVisibleTo(plane_dock.how_panel)
    assert plane_dock.minimumSizeHint().width() <= 364


def test_the_mask_follows_the_slider_and_the_keys(plane_dock):
    segment(plane_dock)
    area = plane_dock.how_panel.area
    first = np.array(plane_dock.session.prediction.labels)
    started = []
    start = plane_dock.session._runner.start
    plane_dock.session._runner.start = lambda *a, **k: started.append(a)
    for percent in (4.0, 25.0):
        area.slider.setValue(step_of(percent))
        share = 100 * (np.asarray(layer_of(plane_dock).data) > 0).mean()
        assert share == pytest.approx(percent, abs=1)
    assert area.number.text() == "25 %"
    area.slider.setFocus()
    QTest.keyClick(area.slider, Qt.Key.Key_Right)
    assert area.slider.value() == step_of(25.0) + 1
    area.slider.setValue(0)
    assert area.number.text() == AS_FOUND
    assert np.array_equal(np.asarray(layer_of(plane_dock).data), first)
    assert not started
    plane_dock.session._runner.start = start


def test_dragging_draws_at_once_and_letting_go_tells_the_rest(plane_dock):
    segment(plane_dock)
    area = plane_dock.how_panel.area
    area.slider.setSliderDown(True)
    for percent in (9.0, 36.0):
        area.slider.setValue(step_of(percent))
        share = 100 * (np.asarray(layer_of(plane_dock).data) > 0).mean()
        assert share == pytest.approx(percent, abs=1)
    form = plane_dock.how_panel.form
    assert form._controls["target_area"].value() == 0
    area.slider.setSliderDown(False)
    assert form._controls["target_area"].value() == 36.0
    plane_dock.session.undo()
    assert area.number.text() == AS_FOUND


def test_the_form_and_the_slider_agree(plane_dock):
    form, area = plane_dock.how_panel.form, plane_dock.how_panel.area
    form._controls["target_area"].setValue(9.0)
    assert percent_of(area.slider.value()) == pytest.approx(9, abs=0.5)
    assert plane_dock.session.state.document.params["target_area"] == 9.0
    area.slider.setValue(step_of(16.0))
    assert form._controls["target_area"].value() == 16.0
    plane_dock.session.undo()
    assert form._controls["target_area"].value() == 9.0


@pytest.mark.parametrize("percent", [0, 0.0025, 1, 16, 64, 98.01])
def test_steps_and_percent_match(percent):
    assert percent_of(step_of(percent)) == pytest.approx(percent, abs=0.01)
