"""What can go wrong while a phrase is read, in a real window."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication

from napari_fewshot.viewer._layers import role
from tests import tiny_clip

from .conftest import until

pytestmark = pytest.mark.gui
PHRASE = "green box"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_clip.write(tmp_path_factory.mktemp("models") / "tiny-clip")


@pytest.fixture
def dock(viewer, make_dock, folder):
    """A dock on a stack that takes a while to read, with a phrase typed."""
    scene = (255 * tiny_clip.scene(7).image).round().astype(np.uint8)
    viewer.add_image(np.stack([scene] * 60), name="scenes", rgb=True)
    found = make_dock()
    found.show_tab("text")
    how = {"decoder": "map", "presence": False}
    found.session.set_text(None, checkpoint=folder, params=how)
    line = found.text.panel.rows.phrase
    line.setText(PHRASE)
    line.editingFinished.emit()
    return found


def finished(dock):
    heat = dock.text.panel.heat
    while dock.session.is_running or heat._wants_check:
        QApplication.processEvents()
        time.sleep(0.005)
    QApplication.processEvents()


def begun(dock):
    dock.run_panel.segment_button.click()

    def has_plane():
        layer = dock.binding.result_layer
        return layer is not None and np.asarray(layer.data[0]).any()

    until(has_plane, "the first plane")
    assert dock.session.is_running


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_worker_is_told_and_the_phrase_stays(dock, worker):
    begun(dock)
    os.kill(worker.pid, signal.SIGKILL)
    until(lambda: not dock.session.is_running, "the crash")
    assert "was restarted" in dock.run_panel.message.text()
    assert dock.text.panel.rows.phrase.text() == PHRASE
    assert dock.session.state.document.text[1].phrases == (PHRASE,)
    dock.text.panel.heat.show_button.click()
    finished(dock)
    assert [x for x in dock.binding.viewer.layers if role(x) == "where"]


def test_a_cancelled_run_keeps_what_was_found(dock):
    begun(dock)
    dock.run_panel.cancel_button.click()
    until(lambda: not dock.session.is_running, "the cancel")
    assert dock.text.panel.rows.phrase.text() == PHRASE
    assert np.asarray(dock.binding.result_layer.data[0]).any()
    assert "of 60 planes were done. Stopped" in dock.run_panel.status.text()
    done = len(dock.session.worst_first())
    assert 1 <= done < 60
    dock.session.undo()
    assert dock.session.prediction is None


def test_the_image_is_removed_while_it_is_read(dock, viewer):
    begun(dock)
    viewer.layers.remove("scenes")
    until(lambda: not dock.session.is_running, "the end")
    finished(dock)
    # The phrase waits for the next image.
    assert dock.text.panel.rows.phrase.text() == PHRASE
    viewer.add_image(np.zeros((64, 64), np.uint8), name="next")
    dock.image_panel.refresh()
    QApplication.processEvents()
    assert dock.image_panel.layer.currentText() == "next"


def test_the_map_is_removed_by_hand(dock, viewer):
    heat = dock.text.panel.heat
    heat.show_button.click()
    finished(dock)
    (layer,) = [x for x in viewer.layers if role(x) == "where"]
    viewer.layers.remove(layer)
    heat.slider.setValue(70)
    QApplication.processEvents()
    heat.show_button.click()
    finished(dock)
    assert [x for x in viewer.layers if role(x) == "where"]


def test_a_model_folder_that_vanished_is_told(dock, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "gone")
    dock.session.set_text({1: PHRASE}, checkpoint=copy)
    shutil.rmtree(copy)
    dock.run_panel.segment_button.click()
    until(lambda: not dock.session.is_running, "the failure")
    assert "gone" in dock.run_panel.message.text()
    assert dock.text.panel.rows.phrase.text() == PHRASE
