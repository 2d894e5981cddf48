"""Concept files in the window: dropped, opened, saved from the dock."""

from __future__ import annotations

import npe2
import numpy as np
import pytest
from qtpy.QtWidgets import QFileDialog

import napari_fewshot as nf
from napari_fewshot.viewer import _actions
from napari_fewshot.viewer._reader import read_concepts

pytestmark = pytest.mark.gui


@pytest.fixture
def path(tmp_path, blob_pair):
    return nf.save_concept(
        tmp_path / "cells",
        [nf.Support(*blob_pair(i), classes={1: "cell"}, name=f"s{i}") for i in (0, 1)],
        method="pixel",
        params={"trees": 10},
        assess=False,
    )


@pytest.fixture
def plugin(npe2pm):
    with npe2pm.tmp_plugin(package="napari-fewshot"):
        yield


def drop(viewer, path):
    """Do what the viewer does with a file that is dropped on it."""
    viewer.window._qt_viewer._qt_open([str(path)], stack=False)


def test_dropping_a_file_opens_the_dock(make_napari_viewer, plugin, path, tmp_path):
    viewer = make_napari_viewer(show=False)
    drop(viewer, path)
    assert not viewer.layers
    dock = _actions.open_dock(viewer)
    state = dock.session.state
    assert [row.name for row in state.supports] == ["s0", "s1"]
    assert state.classes.names == {1: "cell"}
    assert (state.document.method, dict(state.document.params)) == (
        "pixel",
        {"trees": 10},
    )
    assert not dock.is_prompting
    bad = tmp_path / "bad.fewshot"
    bad.write_text("no")
    drop(viewer, bad)
    assert "bad.fewshot is damaged" in dock.run_panel.message.text()
    assert len(dock.session.state.supports) == 2
    dock.shut_down()


def test_without_a_window_it_is_layers(plugin, path, tmp_path, blob_pair):
    layers = npe2.read([str(path)], stack=False)
    assert [kind for _, _, kind in layers] == ["image", "labels"] * 2
    np.testing.assert_array_equal(layers[2][0], blob_pair(1)[0])
    np.testing.assert_array_equal(layers[3][0], blob_pair(1)[1])
    (tmp_path / "bad.fewshot").write_text("no")
    with pytest.raises(nf.DataError, match="damaged"):
        read_concepts(str(tmp_path / "bad.fewshot"))


def test_the_dock_saves_and_loads(dock, tmp_path, monkeypatch):
    """The dialogs of the system answer at once; all else is real."""
    target = tmp_path / "mine.fewshot"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(target), ""))
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(target), ""))
    menu = dock.support_panel.files_button.menu()
    actions = {a.text(): a for a in menu.actions() if a.text()}
    assert all(a.toolTip() for a in actions.values())
    actions["Save concept..."].trigger()
    dialog = dock.support_panel.concepts.dialog
    dialog.author.setText("A. Person")
    dialog.accept()
    found = nf.load_concept(target)
    assert (found.author, found.method) == ("A. Person", "pixel")
    assert found.support[0].used_planes == (0,)
    # What is here already is not doubled; what was taken away comes back.
    actions["Load concept..."].trigger()
    assert len(dock.session.state.supports) == 1
    dock.session.remove_support(dock.session.state.supports[0].key)
    actions["Load concept..."].trigger()
    assert len(dock.session.state.supports) == 1
    dock.undo_button.click()
    assert not dock.session.state.supports
    assert dock.minimumSizeHint().width() <= 364
