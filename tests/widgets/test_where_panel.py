"""Where to run: a cluster that is there, one that is not, and back with one click."""

from __future__ import annotations

import socket
import threading

import numpy as np
import pytest
from qtpy.QtCore import QSettings

import napari_fewshot as nf
from napari_fewshot.session import InlineExecutor, Session
from napari_fewshot.session._dask_link import ClusterCheck, Facts
from napari_fewshot.widgets import _where_panel
from napari_fewshot.widgets._section import SETTINGS
from napari_fewshot.widgets._where_panel import KEY, WherePanel
from tests.widgets.conftest import until

pytestmark = pytest.mark.gui
WORKERS = (Facts("tcp://a:1", "a", {}, 1, 1.0), Facts("tcp://b:1", "b", {}, 1))


class Place(InlineExecutor):
    """An executor whose connection test waits until it is let."""

    def __init__(self, outcome):
        super().__init__("dask")
        self.outcome, self.let = outcome, threading.Event()

    def check(self):
        self.let.wait()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@pytest.fixture
def session(tmp_path):
    session = Session(autosave=False)
    yield session
    session.close()


@pytest.fixture
def panel(qtbot, session):
    QSettings(SETTINGS, SETTINGS).remove(KEY)
    panel = WherePanel(session)
    qtbot.addWidget(panel)
    panel.show()
    yield panel
    panel.shut_down()


def connect_to(panel, monkeypatch, outcome):
    place = Place(outcome)
    monkeypatch.setattr(_where_panel, "get_executor", lambda address: place)
    panel.address.setText("tcp://box:8786")
    panel.connect_button.click()
    return place


def found(*notes):
    return ClusterCheck("tcp://box:8786", "http://box:8787/status", WORKERS, notes)


def test_it_opens_on_this_computer(panel, session):
    assert panel.here.isChecked()
    assert not panel.is_connected
    assert not panel.status.isVisible()
    assert not panel.dashboard.isVisible()


def test_a_cluster_that_answers_runs_the_next_segmentation(
    panel, session, monkeypatch, blob_pair
):
    home = session.place
    place = connect_to(panel, monkeypatch, found("The worker b has numpy 1, not 2."))
    # Until it stands, runs stay here.
    assert session.place is home
    assert "Connecting" in panel.status.text()
    assert not panel.connect_button.isEnabled()
    place.let.set()
    until(lambda: panel.is_connected, "the connection")
    assert panel.there.isChecked()
    assert "2 workers on 2 computers, 1 graphics card" in panel.status.text()
    assert "numpy 1, not 2" in panel.status.text()
    assert "http://box:8787/status" in panel.dashboard.toolTip()
    assert panel.dashboard.isVisible()
    opened = []
    desktop = _where_panel.QDesktopServices
    monkeypatch.setattr(desktop, "openUrl", lambda url: opened.append(url.toString()))
    panel.dashboard.click()
    assert opened == ["http://box:8787/status"]
    session.add_support(*blob_pair(0))
    session.set_query(blob_pair(1)[0])
    session.set_method("prototype")
    assert session.segment().provenance["executor"] == "dask"
    panel.here.click()
    assert session.place is home
    assert session.segment().provenance["executor"] == "inline"
    assert not panel.dashboard.isVisible()


def test_a_cluster_that_does_not_answer_leaves_runs_here(panel, session, monkeypatch):
    home = session.place
    error = nf.WorkerError("No scheduler answers at tcp://box:8786.")
    connect_to(panel, monkeypatch, error).let.set()
    until(lambda: "Not connected" in panel.status.text(), "the refusal")
    assert panel.here.isChecked()
    assert session.place is home
    assert "No scheduler answers" in panel.status.text()
    assert "stay on this computer" in panel.status.text()
    assert panel.address.text() == "tcp://box:8786"
    assert panel.connect_button.isEnabled()


def test_nobody_there_is_told_without_blocking(panel, session):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    panel.address.setText(f"127.0.0.1:{port}")
    panel.there.click()
    # The scheme is added; the click has returned.
    assert panel.address.text() == f"tcp://127.0.0.1:{port}"
    until(lambda: "No scheduler answers" in panel.status.text(), "the refusal")
    assert panel.here.isChecked()


def test_an_answer_that_comes_too_late_is_not_heard(panel, session, monkeypatch):
    home = session.place
    place = connect_to(panel, monkeypatch, found())
    panel.here.click()
    heard = []
    panel.connected.connect(heard.append)
    place.let.set()
    late = connect_to(panel, monkeypatch, nf.WorkerError("second"))
    late.let.set()
    until(lambda: heard, "the second answer")
    assert len(heard) == 1
    assert "second" in panel.status.text()
    assert session.place is home


def test_without_an_address_it_asks_for_one(panel):
    panel.there.click()
    assert panel.here.isChecked()
    assert "address" in panel.status.text()


def test_the_address_is_remembered(panel, session, monkeypatch, qtbot):
    connect_to(panel, monkeypatch, found()).let.set()
    until(lambda: panel.is_connected, "the connection")
    again = WherePanel(session)
    qtbot.addWidget(again)
    assert again.address.text() == "tcp://box:8786"
    again.shut_down()


def test_while_something_runs_the_choice_waits(panel, session):
    running = type("State", (), {"running": True})()
    panel.show_state(running)
    assert not panel.here.isEnabled()
    assert not panel.connect_button.isEnabled()
    panel.show_state(type("State", (), {"running": False})())
    assert panel.here.isEnabled()


def test_nothing_changes_hands_while_a_run_is_on(session, blob_pair):
    class Slow(InlineExecutor):
        def submit(self, request, **callbacks):
            with pytest.raises(nf.FewShotError, match="Something is running"):
                session.run_on("inline")
            return super().submit(request, **callbacks)

    session.run_on(Slow())
    session.add_support(*blob_pair(0))
    session.set_query(blob_pair(1)[0])
    session.set_method("prototype")
    assert session.segment() is not None
    with pytest.raises(nf.ModelError, match="no executor"):
        session.run_on("nowhere")


def test_everything_has_a_tooltip_and_fits(panel):
    controls = (panel.here, panel.there, panel.address, panel.connect_button)
    assert all(c.toolTip() for c in (*controls, panel.dashboard))
    panel._tell("\u26a0 " + "a long error with an address " * 20, "http://x:1/status")
    assert panel.minimumSizeHint().width() <= 330
    assert np.isfinite(panel.height())


def test_the_dock_offers_it(dock):
    assert dock.where_panel.here.isChecked()
    assert dock.minimumSizeHint().width() <= 364
    section = dock.where_panel.parentWidget()
    section.header.setChecked(False)
    dock.where_panel.show_up()
    assert section.header.isChecked()
