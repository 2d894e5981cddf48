"""The panel of the embedding cache in a real window."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtWidgets import QMessageBox

from napari_fewshot.errors import StorageError
from napari_fewshot.inference._embeddings import get_cache, read_settings
from napari_fewshot.models import load_model
from napari_fewshot.widgets._cache_panel import CachePanel

from .conftest import until

pytestmark = pytest.mark.gui


@pytest.fixture
def two_planes():
    for value in (1, 2):
        get_cache().encode(load_model("filters"), np.eye(16) * value / 2)


@pytest.fixture
def make_panel(qtbot):
    def make():
        panel = CachePanel()
        qtbot.addWidget(panel)
        panel.resize(340, 300)
        panel.show()
        until(lambda: panel._usage is not None and not panel._waiting, "the count")
        return panel

    return make


def settled(panel):
    until(lambda: not panel._waiting, "the count")


def test_it_shows_what_is_kept(two_planes, make_panel, home):
    panel = make_panel()
    usage = get_cache().usage()
    assert usage.planes == 2
    assert "used by 2 planes" in panel.used.text()
    assert panel.models.text() == "filters: 2"
    assert panel.folder.text() == str(home / "cache" / "embeddings")
    assert panel.quota.value() == pytest.approx(usage.quota / 1e9, abs=0.06)
    assert panel.is_on.isChecked()
    assert panel.status.isHidden()
    assert read_settings().quota_gb is None, "what is shown is not yet chosen"
    for control in (panel.is_on, panel.quota, panel.clear, panel.folder):
        assert control.toolTip()


def test_choices_hold_for_every_process(two_planes, make_panel):
    panel = make_panel()
    panel.quota.setValue(2.5)
    settled(panel)
    assert get_cache().usage().quota == 2_500_000_000
    assert "of 2.5 GB" in panel.used.text()
    panel.is_on.click()
    settled(panel)
    assert not get_cache().is_on
    assert "turned off" in panel.status.text()
    assert panel.status.isVisible()
    assert read_settings().quota_gb == 2.5
    other = make_panel()
    assert not other.is_on.isChecked()
    assert other.quota.value() == 2.5


@pytest.mark.parametrize("answer", ["Yes", "No"])
def test_clear_asks(two_planes, make_panel, monkeypatch, answer):
    panel, asked = make_panel(), []

    def question(parent, title, text):
        asked.append(text)
        return getattr(QMessageBox.StandardButton, answer)

    monkeypatch.setattr(QMessageBox, "question", question)
    panel.clear.click()
    settled(panel)
    assert "2 planes" in asked[0]
    left = 0 if answer == "Yes" else 2
    assert get_cache().usage().planes == left
    assert f"used by {left} planes" in panel.used.text()
    assert panel.clear.isEnabled() == bool(left)


def test_the_environment_decides(monkeypatch, make_panel):
    monkeypatch.setenv("NAPARI_FEWSHOT_CACHE", "0")
    monkeypatch.setenv("NAPARI_FEWSHOT_CACHE_GB", "3")
    panel = make_panel()
    assert not panel.is_on.isChecked()
    assert not panel.is_on.isEnabled()
    assert not panel.quota.isEnabled()
    assert panel.quota.value() == 3
    assert "NAPARI_FEWSHOT_CACHE_GB" in panel.quota.toolTip()


def test_bad_folders_are_told(make_panel, home):
    (home / "cache").write_text("no folder")
    panel = make_panel()
    assert "can't be written" in panel.status.text()
    (home / "data").write_text("no folder")
    failed = []
    panel.failed.connect(failed.append)
    panel.is_on.click()
    settled(panel)
    assert isinstance(failed[0], StorageError)
    assert panel.is_on.isChecked(), "what is shown is what holds"


def test_a_window_may_close_while_it_counts(two_planes, qtbot):
    for _ in range(5):
        panel = CachePanel()
        panel.show()
        panel.refresh()
        panel.close()
        panel.deleteLater()
    panel = CachePanel()
    qtbot.addWidget(panel)
    panel.show()
    settled(panel)
    assert "2 planes" in panel.used.text()
