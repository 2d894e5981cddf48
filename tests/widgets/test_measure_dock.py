"""Measuring in the window: a table that sorts, leads to objects, and is saved."""

from __future__ import annotations

import threading

import numpy as np
import pandas as pd
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QFileDialog

import napari_fewshot as nf
from napari_fewshot.viewer import _actions
from napari_fewshot.viewer._layers import KEY
from napari_fewshot.viewer._measured import Wanted
from napari_fewshot.widgets._measure_dock import EMPTY, MeasureWidget, _summary
from napari_fewshot.widgets._measure_table import (
    MeasureModel,
    MeasureTable,
    _decimals,
    say_value,
    title_of,
)

from .conftest import until

pytestmark = pytest.mark.gui
DOWN = Qt.SortOrder.DescendingOrder


@pytest.fixture
def cells():
    """Squares of several sizes, of two classes, far apart."""
    labels = np.zeros((90, 120), np.int32)
    for number, side in enumerate((5, 12, 8, 20, 3)):
        top, left = 4 + 30 * (number // 3), 6 + 40 * (number % 3)
        labels[top : top + side, left : left + side] = 1 + number % 2
    return labels


@pytest.fixture
def frame(cells):
    return nf.measure(cells, cells * 7.5, (0.5, 0.5), {1: "large", 2: "small"})


@pytest.fixture
def panel(viewer, cells):
    """A dock over one image and its labels."""
    viewer.add_image(cells * 7.5, name="cells", scale=(0.5, 0.5), units=("um", "um"))
    viewer.add_labels(cells, name="masks", scale=(0.5, 0.5), units=("um", "um"))
    panel = MeasureWidget(viewer)
    viewer.window.add_dock_widget(panel, name="Measure", area="bottom")
    yield panel
    panel.shut_down()


def measured(panel):
    until(lambda: not panel._task.is_running, "the measurement")
    return panel.table.model()


def column(model, name):
    at = model.columns.index(name)
    return [model.index(row, at).data() for row in range(model.rowCount())]


# -- the table -----------------------------------------------------------------------


def test_titles_have_units():
    assert title_of("area", "micrometer") == "area (\u00b5m\u00b2)"
    assert title_of("volume", "nanometer") == "volume (nm\u00b3)"
    assert title_of("surface", "px") == "surface (px\u00b2)"
    assert title_of("major_axis", "furlong") == "major axis (furlong)"
    assert title_of("perimeter", "") == "perimeter"
    assert title_of("pixels", "micrometer") == "pixels"
    assert title_of("mean_0", "") == "mean intensity"
    assert title_of("std_2", "", is_grey=False) == "std, channel 2"


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (float("nan"), 1, ""),
        (12, 0, "12"),
        (1234567, 0, "1,234,567"),
        (0.0, 2, "0.00"),
        (12.345, 1, "12.3"),
        (1e-9, 3, "1e-09"),
        (3e12, 1, "3e+12"),
        ("nucleus", 0, "nucleus"),
    ],
)
def test_numbers_are_short(value, decimals, text):
    assert say_value(value, decimals) == text


def test_a_column_has_as_many_decimals_as_it_needs():
    assert _decimals(np.array([1, 2])) == 0
    assert _decimals(np.array([300.5, 700.1])) == 1
    assert _decimals(np.array([0.25, 0.75, np.nan])) == 3
    assert _decimals(np.array([1e-8, 1e-8])) == 5
    assert _decimals(np.array([np.nan])) == 0
    assert _decimals(np.array([4.0, 100.0])) == 0


def test_sorting_keeps_rows_together_and_puts_gaps_last(qapp, frame):
    frame.loc[1, "solidity"] = np.nan
    model = MeasureModel(frame, "micrometer")
    areas = frame["area"].tolist()
    at = model.columns.index("area")
    model.sort(at, DOWN)
    rows = [model.row_of(i) for i in range(len(frame))]
    assert [row["area"] for row in rows] == sorted(areas, reverse=True)
    assert all(
        row == frame[frame["label"] == row["label"]].iloc[0].to_dict()
        for row in rows
        if not np.isnan(row["solidity"])
    )
    for order in (Qt.SortOrder.AscendingOrder, DOWN):
        model.sort(model.columns.index("solidity"), order)
        assert column(model, "solidity")[-1] == ""
    model.sort(model.columns.index("class"))
    assert column(model, "class") == sorted(column(model, "class"))
    model.sort(99)


def test_a_selected_row_stays_selected_when_sorted(qtbot, frame):
    table = MeasureTable()
    qtbot.addWidget(table)
    model = MeasureModel(frame)
    table.show_frame(model)
    table.selectRow(2)
    label = model.row_of(2)["label"]
    table.sortByColumn(model.columns.index("area"), DOWN)
    [row] = table.rows()
    assert model.row_of(row)["label"] == label


def test_boxes_are_saved_but_not_shown(qapp, frame):
    model = MeasureModel(frame, "micrometer")
    assert "min_row" not in model.columns
    assert {"row", "column", "min_0", "max_0"} <= set(model.columns)
    saved = model.to_save()
    assert {"min_row", "max_column", "class_value"} <= set(saved.columns)
    assert set(saved["unit"]) == {"micrometer"}
    assert set(MeasureModel(frame).to_save()["unit"]) == {""}
    for at in range(model.columnCount()):
        tip = model.headerData(
            at, Qt.Orientation.Horizontal, Qt.ItemDataRole.ToolTipRole
        )
        assert tip.endswith(".")
        assert tip[0].isupper()


def test_a_table_without_rows(qtbot):
    table = MeasureTable()
    qtbot.addWidget(table)
    table.show_frame(MeasureModel(nf.measure(np.zeros((5, 5), int))))
    assert table.rows() == []
    table.sortByColumn(0, DOWN)
    assert table.model().rowCount() == 0


def test_what_is_said_of_a_table(frame):
    assert _summary(frame, "pieces") == "5 objects: 3 large, 2 small. Connected pieces."
    assert _summary(frame.iloc[:1], "run") == "1 object. Objects of the run."
    assert _summary(frame, "numbers") == "5 objects. Numbers of the layer."
    assert "empty" in _summary(frame.iloc[:0], "pieces")
    many = pd.DataFrame({"class": list("aaabbcde")})
    assert "and 2 more classes" in _summary(many, "pieces")


# -- the dock ------------------------------------------------------------------------


def test_without_labels_it_says_what_to_do(viewer):
    panel = MeasureWidget(viewer)
    assert panel.status.text() == EMPTY
    for button in (panel.button, panel.copy_button, panel.save_button):
        assert not button.isEnabled()
    panel.begin()
    panel.copy()
    panel.go_to(0)
    viewer.add_labels(np.ones((6, 6), int), name="late")
    until(lambda: panel.button.isEnabled(), "the new layer")
    assert panel.status.text() != EMPTY
    panel.shut_down()
    panel.shut_down()


def test_measure_sort_go_there(panel, viewer, cells):
    assert (panel.choices.labels.currentText(), panel.choices.image.currentText()) == (
        "masks",
        "cells",
    )
    panel.button.click()
    assert not panel.button.isEnabled()
    model = measured(panel)
    assert panel.button.isEnabled()
    assert panel.status.text() == "5 objects: 3 1, 2 2. Connected pieces."
    area = model.columns.index("area")
    title = model.headerData(area, Qt.Orientation.Horizontal)
    assert title == "area (\u00b5m\u00b2)"
    panel.table.sortByColumn(area, DOWN)
    assert column(model, "pixels")[:2] == ["400", "144"]
    panel.table.selectRow(0)
    layer = viewer.layers["masks"]
    box = viewer.layers["measured object"]
    found = np.array(box.data[0])
    low, high = found.min(0) + 0.5, found.max(0) + 0.5
    assert (cells[int(low[0]) : int(high[0]), int(low[1]) : int(high[1])] == 2).all()
    centre = layer.world_to_data(viewer.scene.camera.center[-2:])
    assert cells[tuple(np.round(centre).astype(int))] == 2
    assert layer.selected_label == 2
    panel.table.selectRow(1)
    assert [x.name for x in viewer.layers].count("measured object") == 1
    viewer.layers.remove("masks")
    panel.table.selectRow(2)
    assert "not open any more" in panel.status.text()
    panel.shut_down()
    assert "measured object" not in [x.name for x in viewer.layers]


def test_copy_and_save(panel, tmp_path, monkeypatch):
    panel.button.click()
    model = measured(panel)
    panel.copy()
    lines = QApplication.clipboard().text().splitlines()
    assert len(lines) == 6
    assert "area" in lines[0].split("\t")
    panel.table.selectAll()
    panel.table.selectionModel().select(
        model.index(0, 0),
        panel.table.selectionModel().SelectionFlag.Deselect
        | panel.table.selectionModel().SelectionFlag.Rows,
    )
    panel.copy()
    assert len(QApplication.clipboard().text().splitlines()) == 5
    path = tmp_path / "deep" / "table"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (str(path), ""))
    panel.save_button.click()
    table = pd.read_csv(f"{path}.csv")
    assert len(table) == 5
    assert set(table["unit"]) == {"micrometer"}
    np.testing.assert_allclose(table["area"], model.frame["area"])
    assert [p.name for p in path.parent.iterdir()] == ["table.csv"]
    (tmp_path / "file").write_text("in the way")
    bad = str(tmp_path / "file" / "table.csv")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (bad, ""))
    panel.save_button.click()
    assert panel.status.text().startswith("\u26a0")
    assert "can't be written" in panel.status.text()
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: ("", ""))
    panel.save_button.click()


def test_the_window_stays_alive_meanwhile(panel, monkeypatch):
    let, seen = threading.Event(), []
    table = Wanted.table

    def slow(self):
        seen.append(threading.current_thread())
        let.wait()
        return table(self)

    monkeypatch.setattr(Wanted, "table", slow)
    panel.button.click()
    until(lambda: seen, "the start")
    assert seen[0] is not threading.main_thread()
    assert not panel.bar.isHidden()
    panel.button.click()
    panel.begin()
    let.set()
    measured(panel)
    assert len(seen) == 1, "one at a time"
    assert panel.bar.isHidden()


def test_a_dock_that_closes_meanwhile_hears_nothing(panel, monkeypatch):
    let, done = threading.Event(), threading.Event()

    def slow(self):
        let.wait()
        done.set()
        raise MemoryError

    monkeypatch.setattr(Wanted, "table", slow)
    panel.button.click()
    panel.shut_down()
    let.set()
    assert done.wait(10)
    QApplication.processEvents()
    assert "Measuring" in panel.status.text()


def test_what_goes_wrong_is_said(panel, viewer, monkeypatch):
    viewer.add_image(np.zeros((5, 5)), name="other")
    until(lambda: panel.choices.image.count() == 3, "the new image")
    panel.choices.image.setCurrentText("other")
    panel.button.click()
    assert "other has another size than masks" in panel.status.text()
    panel.choices.image.setCurrentIndex(0)

    def broken(self):
        raise KeyError("chunk 3")

    monkeypatch.setattr(Wanted, "table", broken)
    panel.button.click()
    measured(panel)
    assert "It did not work: 'chunk 3'" in panel.status.text()
    assert panel.button.isEnabled()


def test_the_choice_stays_when_layers_come_and_go(panel, viewer, cells):
    panel.choices.image.setCurrentIndex(0)
    viewer.add_labels(cells, name="more")
    until(lambda: panel.choices.labels.count() == 2, "the new layer")
    assert panel.choices.labels.currentText() == "masks"
    assert panel.choices.image.currentText() == "none"
    panel.choices.choose(viewer.layers["more"])
    assert panel.choices.image.currentText() == "cells"


def test_narrow_docks_put_the_table_below(viewer):
    panel = MeasureWidget(viewer)
    panel.resize(360, 600)
    panel.show()
    QApplication.processEvents()
    assert panel.minimumSizeHint().width() <= 360
    assert panel.table.y() > panel.controls.y()
    panel.resize(1000, 240)
    QApplication.processEvents()
    assert panel.table.x() > panel.controls.x()
    panel.shut_down()
    panel.close()


def test_from_the_results_to_the_table(dock, viewer, monkeypatch, npe2pm):
    dock.image_panel.this_plane.setChecked(True)
    with npe2pm.tmp_plugin(package="napari-fewshot"):
        dock.run_panel.segment_button.click()
        until(lambda: not dock.session.is_running, "the segmentation")
        assert not dock.results_panel.tracks_button.isEnabled()
        assert "link" in dock.results_panel.tracks_button.toolTip()
        result = dock.binding.result_layer
        assert result.metadata[KEY]["role"] == "result"
        dock.results_panel.measure_button.click()
        widgets = viewer.window.dock_widgets.values()
        [panel] = [w for w in widgets if isinstance(w, MeasureWidget)]
        model = measured(panel)
        assert panel.choices.labels.currentText() == "cells - fewshot"
        assert panel.choices.image.currentText() == "cells"
        assert model.rowCount() == len(nf.measure(dock.session.prediction))
        assert "volume" in model.columns
        panel.table.selectRow(0)
        viewer.layers.selection.active = viewer.layers["masks"]
        assert _actions.measure_objects(viewer) is panel, "there is one dock"
        assert measured(panel) is not model
        assert panel.choices.labels.currentText() == "masks"
        panel.shut_down()


def test_linked_objects_of_a_run_are_shown_as_tracks(
    viewer, make_dock, blob_pair, monkeypatch
):
    image, labels = blob_pair(3)
    film = np.stack([np.roll(image, 2 * t, axis=1) for t in range(3)])
    viewer.add_image(film, name="film", axis_labels="tyx", scale=(1, 0.5, 0.5))
    dock = make_dock()
    dock.session.add_support(image, labels)
    params = {"trees": 5, "leave_one_out": False, "link": "t"}
    dock.session.set_method("pixel", params=params)
    dock.run_panel.segment_button.click()
    until(lambda: not dock.session.is_running, "the segmentation")
    assert dock.run_panel.message.text() == ""
    assert dock.results_panel.tracks_button.isEnabled()
    dock.results_panel.tracks_button.click()
    layer = viewer.layers["film - fewshot - tracks"]
    said = []
    monkeypatch.setattr(_actions, "open_dock", lambda viewer: dock)
    monkeypatch.setattr(_actions, "show_warning", said.append)
    _actions.show_tracks(viewer)
    assert layer not in viewer.layers, "the command makes it anew"
    layer = viewer.layers["film - fewshot - tracks"]
    assert not said
    assert set(layer.data[:, 1]) == {0, 1, 2}
    np.testing.assert_allclose(layer.scale, (1, 0.5, 0.5))
    instances = dock.session.prediction.instances
    assert set(np.unique(instances)) - {0} == set(layer.data[:, 0].astype(int))
    dock.undo_button.click()
    _actions.show_tracks(viewer)
    assert "no linked objects" in said[0]
    assert not dock.results_panel.tracks_button.isEnabled()
