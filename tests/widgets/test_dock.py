"""The dock in a real window: the whole story, and everything that can go wrong."""

from __future__ import annotations

import os
import signal
import sys

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication

import napari_fewshot as nf
from napari_fewshot.viewer._layers import KEY, current_plane
from napari_fewshot.widgets._image_panel import parse_planes

from .conftest import FAST, crash, until

pytestmark = pytest.mark.gui


def run(dock):
    dock.run_panel.segment_button.click()
    until(lambda: not dock.session.is_running, "the segmentation")


def test_it_opens_filled_in(dock):
    state = dock.session.state
    assert state.query.shape == (4, 96, 112)
    assert [row.name for row in state.supports] == ["cells, plane 0"]
    assert dock.support_panel.list.count() == 1
    assert not dock.support_panel.empty.isVisibleTo(dock)
    assert dock.run_panel.status.text().startswith("4 planes")


def test_the_whole_story(dock, viewer, stack):
    run(dock)
    result = dock.binding.result_layer
    assert result.name == "cells - fewshot"
    np.testing.assert_allclose(result.scale, (2, 0.5, 0.5))
    np.testing.assert_allclose(result.translate, (4, 1, 1))
    assert nf.evaluate(result.data[1:], stack[2][1:])["dice"][0] > 0.9
    assert list(result.features["class"]) == ["background", "class 1"]
    assert result.features["area"][1] == (result.data == 1).sum()
    assert result.metadata[KEY]["provenance"]["method"] == "pixel"
    assert dock.results_panel.table.rowCount() == 4
    edited = np.array(result.data[2])
    dock.results_panel.table.selectRow(0)
    dock.accept([2])
    assert dock.session.state.accepted == {2}
    assert dock.support_panel.list.count() == 2
    run(dock)
    np.testing.assert_array_equal(dock.binding.result_layer.data[2], edited)
    dock.undo_button.click()
    dock.undo_button.click()
    assert dock.session.state.accepted == set()


def test_results_are_shown_where_they_are(dock, viewer):
    run(dock)
    dock.results_panel.go_to.emit(3)
    assert dock.binding.plane_shown() == 3
    image = dock.session.state.query
    assert current_plane(viewer, dock.binding.query_layer, image) == 3


def test_only_this_plane(dock, viewer):
    dock.results_panel.go_to.emit(2)
    dock.image_panel.this_plane.setChecked(True)
    assert dock.run_panel.status.text().startswith("1 plane")
    run(dock)
    assert [plane for plane, _ in dock.session.worst_first()] == [2]


def test_painting_on_a_support_updates_it(dock, viewer):
    before = dock.session.state.supports[0].support.label_plane(0).sum()
    viewer.layers["masks"].data_setitem(
        (np.array([0]), np.array([0]), np.array([0])), 1
    )
    until(
        lambda: (
            dock.session.state.supports[0].support.label_plane(0).sum() == before + 1
        ),
        "the brush stroke",
    )
    painted = dock.session.state.supports[0].support.label_plane(0)
    assert painted[0, 0] == 1
    assert painted.sum() == before + 1


def test_painting_a_new_plane_adds_a_row(dock, viewer):
    at = (np.array([3, 3]), np.array([5, 5]), np.array([5, 6]))
    viewer.layers["masks"].data_setitem(at, 1)
    until(lambda: len(dock.session.state.supports) == 2, "the new support")
    painted = dock.session.state.supports[1].support.label_plane(3)
    assert painted[5, [5, 6]].tolist() == [1, 1]


def test_a_brush_stroke_on_a_result_is_a_correction(dock, viewer):
    run(dock)
    dock.results_panel.go_to.emit(1)
    result = dock.binding.result_layer
    result.data_setitem((np.array([1]), np.array([0]), np.array([0])), 1)
    until(lambda: dock.session.state.accepted == {1}, "the correction")
    assert dock.session.state.supports[-1].support.label_plane(1)[0, 0] == 1


def test_what_users_painted_is_never_written(dock, viewer):
    before = np.array(viewer.layers["masks"].data)
    run(dock)
    dock.accept([0, 1, 2, 3])
    np.testing.assert_array_equal(viewer.layers["masks"].data, before)


def test_an_empty_window_says_what_to_do(make_dock):
    dock = make_dock()
    assert "Open an image" in dock.run_panel.status.text()
    dock.support_panel.paint_button.click()
    assert "Open an image first" in dock.run_panel.message.text()
    dock.run_panel.segment_button.click()
    assert "no image" in dock.run_panel.message.text()


def test_the_paint_button_puts_a_brush_in_the_hand(make_dock, viewer, blob_pair):
    viewer.add_image(blob_pair(0)[0], name="cells", scale=(0.5, 0.5))
    dock = make_dock()
    assert dock.support_panel.empty.isVisibleTo(dock)
    dock.support_panel.paint_button.click()
    layer = viewer.layers["cells labels"]
    assert layer.mode == "paint"
    np.testing.assert_allclose(layer.scale, (0.5, 0.5))
    dock.support_panel.plane_button.click()
    assert "Nothing is painted" in dock.run_panel.message.text()
    layer.data_setitem((np.arange(20), np.arange(20)), 1)
    dock.support_panel.plane_button.click()
    assert len(dock.session.state.supports) == 1


def bad(name):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (32, 32)).astype(np.uint8)
    return {
        "constant": (image * 0 + 3, "constant"),
        "nan": (np.where(image > 250, np.nan, image.astype(float)), "NaN"),
        "bool": (image > 9, "true/false"),
        "five": (rng.random((2, 2, 3, 32, 32)), "axes="),
        "tiny": (image[:1, :1], "at least 4 x 4"),
    }[name]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_bad_images_are_refused_under_the_button(make_dock, viewer, blob_pair):
    dock = make_dock()
    dock.session.add_support(*blob_pair(0))
    for name in ("constant", "nan", "bool", "five", "tiny"):
        image, words = bad(name)
        layer = viewer.add_image(image, name="bad")
        dock.image_panel.refresh()
        dock.image_panel.choose(layer)
        run(dock)
        assert words in dock.run_panel.message.text(), name
        viewer.layers.remove(layer)
    viewer.add_image(blob_pair(1)[0], name="good")
    dock.image_panel.refresh()
    dock.image_panel.choose(viewer.layers["good"])
    run(dock)
    assert dock.session.prediction is not None, "the dock is still usable"


def test_masks_of_another_size_are_refused(make_dock, viewer, blob_pair):
    viewer.add_image(blob_pair(0)[0], name="cells")
    viewer.add_labels(np.ones((8, 8), int), name="small")
    dock = make_dock()
    dock.support_panel.layers_button.click()
    assert "another size (8 x 8)" in dock.run_panel.message.text()


def test_no_support(make_dock, viewer, blob_pair):
    viewer.add_image(blob_pair(0)[0], name="cells")
    dock = make_dock()
    run(dock)
    assert "no support yet" in dock.run_panel.message.text()


def test_cancel_and_go_on(dock, viewer):
    big = np.concatenate([np.asarray(viewer.layers["cells"].data)] * 100)
    viewer.add_image(big, name="long")
    dock.image_panel.refresh()
    dock.image_panel.choose(viewer.layers["long"])
    dock.run_panel.segment_button.click()
    assert dock.run_panel.cancel_button.isEnabled()
    until(lambda: dock.binding.result_layer is not None, "the first plane")
    dock.run_panel.cancel_button.click()
    until(lambda: not dock.session.is_running, "the cancel")
    assert dock.run_panel.segment_button.isEnabled()
    dock.image_panel.choose(viewer.layers["cells"])
    run(dock)
    assert dock.session.prediction is not None


def test_a_second_segment_is_refused(dock):
    dock.run_panel.segment.emit()
    dock.run_panel.segment.emit()
    assert "already running" in dock.run_panel.message.text()
    until(lambda: not dock.session.is_running, "the first one")
    assert dock.session.prediction is not None


def test_layers_deleted_and_renamed_during_a_run(dock, viewer):
    dock.run_panel.segment.emit()
    viewer.layers["masks"].name = "renamed"
    del viewer.layers["renamed"]
    del viewer.layers["cells"]
    until(lambda: not dock.session.is_running, "the run")
    assert dock.session.prediction is not None, "the work is not lost"


def test_a_deleted_result_comes_back(dock, viewer):
    run(dock)
    del viewer.layers["cells - fewshot"]
    assert dock.binding.result_layer is None
    run(dock)
    assert "cells - fewshot" in viewer.layers


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_worker_is_told_and_nothing_is_lost(dock, viewer, worker):
    big = np.concatenate([np.asarray(viewer.layers["cells"].data)] * 100)
    viewer.add_image(big, name="long")
    dock.image_panel.refresh()
    dock.image_panel.choose(viewer.layers["long"])
    dock.run_panel.segment_button.click()
    until(lambda: dock.binding.result_layer is not None, "the first plane")
    os.kill(worker.pid, signal.SIGKILL)
    until(lambda: not dock.session.is_running, "the crash")
    assert "was restarted" in dock.run_panel.message.text()
    assert len(dock.session.state.supports) == 1
    dock.image_panel.choose(viewer.layers["cells"])
    run(dock)
    assert dock.session.prediction is not None


def test_closing_in_the_middle_of_a_job(dock):
    dock.run_panel.segment.emit()
    dock.shut_down()
    QApplication.processEvents()
    assert not dock.session.is_running


def test_all_selected_layers(make_dock, viewer, blob_pair):
    image, labels = blob_pair(0)
    viewer.add_image(image, name="a")
    viewer.add_labels(labels, name="a masks")
    dock = make_dock()
    viewer.add_image(blob_pair(1)[0], name="b")
    viewer.add_image(blob_pair(2)[0], name="c")
    viewer.layers.selection = {viewer.layers["b"], viewer.layers["c"]}
    dock.image_panel.refresh()
    dock.image_panel.layer.setCurrentIndex(dock.image_panel.layer.count() - 1)
    assert dock.image_panel.is_all_selected
    dock.run_panel.segment.emit()
    until(
        lambda: {"b - fewshot", "c - fewshot"} <= {x.name for x in viewer.layers},
        "both results",
    )
    until(lambda: not dock.session.is_running, "the last run")


def test_rgb_and_multiscale(make_dock, viewer, blob_pair):
    image, labels = blob_pair(0)
    colour = np.stack([image, image // 2, 255 - image], axis=-1)
    viewer.add_image([colour, colour[::2, ::2]], name="slide", multiscale=True)
    viewer.add_labels(labels, name="masks")
    dock = make_dock()
    assert dock.image_panel.level.count() == 3, "auto, and one per level"
    dock.support_panel.layers_button.click()
    run(dock)
    result = dock.binding.result_layer
    assert result.data.shape == labels.shape
    assert nf.evaluate(result.data, labels)["dice"][0] > 0.9


def test_names_colours_and_forms(dock):
    dock.class_panel.table.item(0, 1).setText("nucleus")
    assert dock.session.state.classes.names == {1: "nucleus"}
    dock.session.set_classes({1: "nucleus"}, {1: "#00ff00"})
    run(dock)
    colours = dock.binding.result_layer.colormap.color_dict
    np.testing.assert_allclose(colours[1], (0, 1, 0, 1))
    dock.how_panel.method.setCurrentText("template")
    assert dock.session.state.document.method == "template"
    control = dock.how_panel.form._controls["reach"]
    assert "share of the frame" in control.toolTip()
    control.setValue(0.5)
    assert dock.session.state.document.params == {"reach": 0.5}
    dock.how_panel.reset.click()
    assert dock.session.state.document.params == {}


def test_muting_and_removing(dock):
    dock.support_panel.list.item(0).setSelected(True)
    dock.support_panel.mute_selected()
    assert dock.session.state.supports[0].muted
    dock.support_panel.list.item(0).setSelected(True)
    dock.support_panel.remove_selected()
    assert dock.session.state.supports == ()
    dock.undo_button.click()
    assert len(dock.session.state.supports) == 1


def test_a_plane_with_nothing_on_it(dock):
    dock.results_panel.go_to.emit(2)
    dock.support_panel.nothing_here.emit()
    row = dock.session.state.supports[-1]
    assert row.is_negative
    assert row.support.used_planes == (2,)
    assert "nothing here" in dock.support_panel.list.item(1).text()
    run(dock)
    assert dock.session.prediction is not None


def test_files_and_folders(make_dock, viewer, blob_pair, tmp_path):
    import tifffile

    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    image, labels = blob_pair(0)
    tifffile.imwrite(tmp_path / "images" / "a.tif", image)
    tifffile.imwrite(tmp_path / "masks" / "a.tif", labels.astype(np.uint8))
    (tmp_path / "images" / "b.tif").write_bytes(b"not an image")
    (tmp_path / "masks" / "b.tif").write_bytes(b"not an image")
    dock = make_dock()
    dock.support_panel.add_folder(tmp_path)
    assert [r.name for r in dock.session.state.supports] == ["a.tif"]
    assert "b.tif can't be read" in dock.run_panel.message.text()


def test_copy_and_save(dock, tmp_path):
    run(dock)
    dock.results_panel.copy("python")
    assert "nf.Session.load" in QApplication.clipboard().text()
    dock.save_result(tmp_path / "labels.tif")
    assert (tmp_path / "labels.tif").stat().st_size > 0


def test_a_crashed_session_is_offered_and_opened(make_dock, blob_pair, monkeypatch):
    crashed = nf.Session(method="pixel")
    crashed.set_method(params=FAST)
    crashed.add_support(*blob_pair(0), name="lost and found", classes={1: "cell"})
    crash(crashed)
    dock = make_dock()
    assert dock.recover_bar.isVisibleTo(dock)
    dock.recover_bar.open_button.click()
    assert [r.name for r in dock.session.state.supports] == ["lost and found"]
    assert dock.session.state.classes.names == {1: "cell"}


def test_it_fits(dock, viewer):
    for theme in ("dark", "light"):
        viewer.theme = theme
        dock.resize(360, 700)
        QApplication.processEvents()
        assert dock.minimumSizeHint().width() <= 364, theme
        assert dock.run_panel.segment_button.isVisibleTo(dock)


def test_every_control_has_a_tooltip(dock):
    from qtpy.QtWidgets import QAbstractButton, QComboBox, QLineEdit

    silent = [
        type(w).__name__ + ":" + getattr(w, "text", lambda: "")()
        for kind in (QAbstractButton, QComboBox, QLineEdit)
        for w in dock.findChildren(kind)
        if not w.toolTip()
        and not w.objectName().startswith("qt_")
        and w.parent().__class__.__name__
        not in (
            "QTableWidget",
            "QTabBar",
            "QSpinBox",
            "QDoubleSpinBox",
            "QComboBoxPrivateContainer",
        )
    ]
    assert not silent, silent


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("3-5, 8", [3, 4, 5, 8], id="both"),
        pytest.param(" 2 2 ", [2], id="twice"),
    ],
)
def test_plane_texts(text, expected):
    assert parse_planes(text, 10) == expected


@pytest.mark.parametrize("text", ["", "a", "12", "3--4"])
def test_bad_plane_texts(text):
    with pytest.raises(nf.DataError):
        parse_planes(text, 10)
