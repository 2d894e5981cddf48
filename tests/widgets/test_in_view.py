"""Only the part that the canvas shows is segmented, in a real window."""

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication

from .conftest import until

pytestmark = pytest.mark.gui


def test_only_the_part_in_view(viewer, make_dock, blob_pair):
    image, labels = blob_pair(0)
    big = np.tile(image, (12, 10))
    shown = viewer.add_image(big, name="mosaic")
    viewer.add_image(image, name="small")
    viewer.add_labels(labels, name="small masks")
    dock = make_dock()
    panel = dock.image_panel
    panel.choose(viewer.layers["small"])
    assert not panel._form.isRowVisible(panel.in_view)
    dock.session.add_support(image, labels)
    panel.choose(shown)
    assert panel._form.isRowVisible(panel.in_view)
    assert "what was found elsewhere stays" in panel.in_view.toolTip()
    camera = viewer.scene.camera
    camera.center, camera.zoom = (0, 300, 500), 4
    viewer.window.screenshot(canvas_only=True, flash=False)
    (top, left), (bottom, right) = shown.corner_pixels[:, -2:]
    assert 0 < top < bottom < big.shape[0]
    panel.in_view.setChecked(True)
    dock.run_panel.segment_button.click()
    until(lambda: not dock.session.is_running, "the run")
    QApplication.processEvents()
    found = np.asarray(dock.session.prediction.labels) > 0
    inside = np.zeros(big.shape, bool)
    inside[top:bottom, left:right] = True
    assert found[inside].any()
    assert not found[~inside].any()
    panel.in_view.setChecked(False)
    dock.run_panel.segment_button.click()
    until(lambda: not dock.session.is_running, "the whole")
    whole = np.array(dock.session.prediction.labels)
    assert (whole > 0)[~inside].any()
    # What lies elsewhere is kept, on the layer, too, and undo restores the part.
    layer = next(layer for layer in viewer.layers if "fewshot" in layer.name)
    dock.session.set_method(params={"tile": 512})
    panel.in_view.setChecked(True)
    dock.run_panel.segment_button.click()
    until(lambda: not dock.session.is_running, "the part again")
    QApplication.processEvents()
    found = np.asarray(dock.session.prediction.labels)
    np.testing.assert_array_equal(found[~inside], whole[~inside])
    assert (found[inside] > 0).any()
    np.testing.assert_array_equal(np.asarray(layer.data), found)
    dock.session.undo()
    np.testing.assert_array_equal(dock.session.prediction.labels, whole)
