"""A real napari window, one worker process for all tests of this folder."""

from __future__ import annotations

import gc
import os
import time

import numpy as np
import pytest
from npe2 import PluginManifest
from qtpy.QtCore import QSettings
from qtpy.QtWidgets import QApplication

from napari_fewshot.session._jobs import get_executor
from napari_fewshot.widgets.main import FewShotWidget

# Only ends a test that hangs: a worker starts slowly on a machine that is busy.
WAIT = 300
FAST = {"trees": 10, "leave_one_out": False}


@pytest.fixture(scope="session")
def worker():
    """The one that docks have that nobody gave another: one process for all."""
    executor = get_executor("process")
    yield executor
    executor.close()


@pytest.fixture(scope="session", autouse=True)
def cheap_windows():
    """Do once what napari would do again for every window."""
    import napari._qt.qt_main_window  # noqa: F401 - before the freeze
    from napari.settings import get_settings

    # It writes all settings after each change: five times a window, to the user's own.
    get_settings()._save_on_change = False
    # It reads the manifests of all plugins.
    found = list(PluginManifest.discover())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PluginManifest, "discover", lambda paths=(): iter(found))
        # Three collections a test need not go through all that was ever imported.
        gc.collect()
        gc.freeze()
        yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def settings(tmp_path):
    """Let no test see what another one, or the user, left in the settings."""
    kind, scope = QSettings.Format.NativeFormat, QSettings.Scope.UserScope
    QSettings.setPath(kind, scope, str(tmp_path / "settings"))


@pytest.fixture
def viewer(make_napari_viewer_proxy, monkeypatch):
    # The fixture's strict checks are about leaks of Qt objects in napari itself.
    return make_napari_viewer_proxy(show=False)


def until(condition, what=""):
    """Keep the event loop going until something holds."""
    deadline = time.monotonic() + WAIT
    while not condition():
        QApplication.processEvents()
        time.sleep(0.005)
        assert time.monotonic() < deadline, f"waited too long: {what}"
    QApplication.processEvents()


def crash(session):
    """Leave a session on disk as if its process had died."""
    session.flush()
    path = session.state.project / "project.json"
    mine = f'"open": {os.getpid()}'
    text = path.read_text()
    assert mine in text
    path.write_text(text.replace(mine, '"open": 999999'))


@pytest.fixture
def stack(blob_pair):
    pairs = [blob_pair(seed) for seed in range(3, 7)]
    images = np.stack([p[0] for p in pairs])
    labels = np.zeros(images.shape, np.uint8)
    labels[0] = pairs[0][1]
    return images, labels, np.stack([p[1] for p in pairs])


@pytest.fixture
def make_dock(viewer, worker):
    docks = []

    def make():
        dock = FewShotWidget(viewer, executor=worker)
        viewer.window.add_dock_widget(dock, name="Segment")
        dock.session.set_method("pixel", params=FAST)
        docks.append(dock)
        return dock

    yield make
    for dock in docks:
        dock.session.cancel()
        until(lambda dock=dock: not dock.session.is_running, "the last job")
        dock.shut_down()


@pytest.fixture
def dock(viewer, stack, make_dock):
    """A dock that opened on a stack with one painted plane."""
    images, labels, _ = stack
    viewer.add_image(images, name="cells", scale=(2, 0.5, 0.5), translate=(4, 1, 1))
    viewer.add_labels(labels, name="masks", scale=(2, 0.5, 0.5), translate=(4, 1, 1))
    return make_dock()
