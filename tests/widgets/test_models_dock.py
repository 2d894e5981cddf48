"""The dock *Models* in a real window: agree, download, cancel, import, remove."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractButton, QComboBox, QFileDialog, QLineEdit

from napari_fewshot.models import _registry, installed_models, read_settings
from napari_fewshot.models._places import weights_of
from napari_fewshot.models.sam._unet import ClickUnet
from tests import tiny_clip

from .conftest import until

pytestmark = pytest.mark.gui

UNET, MOBILE = "scribbleprompt/unet", "mobilesam/vit_t"
CONTENT = bytes(range(256)) * 20_000


class Handler(BaseHTTPRequestHandler):
    """Half of the file; the rest once the server's gate is open."""

    def do_GET(self):
        span = re.match(r"bytes=(\d+)-", self.headers.get("Range") or "")
        begin = int(span[1]) if span else 0
        self.send_response(206 if begin else 200)
        if begin:
            line = f"bytes {begin}-{len(CONTENT) - 1}/{len(CONTENT)}"
            self.send_header("Content-Range", line)
        self.send_header("ETag", '"same"')
        self.send_header("Content-Length", str(len(CONTENT) - begin))
        self.end_headers()
        half = max(begin, len(CONTENT) // 2)
        self.wfile.write(CONTENT[begin:half])
        self.wfile.flush()
        if not begin:
            self.server.gate.wait()
        self.wfile.write(CONTENT[half:])

    def log_message(self, *_):
        """Be silent."""


@pytest.fixture
def gate(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None
    server.gate = threading.Event()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    spec, module = _registry._MODELS[MOBILE]
    url = f"http://127.0.0.1:{server.server_port}/mobile_sam.pt"
    there = (replace(spec, download_url=url), module)
    monkeypatch.setitem(_registry._MODELS, MOBILE, there)
    yield server.gate
    server.gate.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def dock(viewer):
    _, found = viewer.window.add_plugin_dock_widget("napari-fewshot", "Models")
    yield found
    found.task.cancel()
    until(lambda: not found.task.is_running, "the last task")


def answer(dock, text):
    """Click a button of the open question."""
    buttons = {b.text().replace("&", ""): b for b in dock.dialog.buttons()}
    buttons[text].click()
    until(lambda: dock.dialog is None, "the question to close")


def row(dock, name):
    (item,) = dock.table.findItems(name, Qt.MatchFlag.MatchExactly)
    return [dock.table.item(item.row(), c).text() for c in range(5)]


def test_it_lists_finds_and_explains(dock):
    assert dock.table.rowCount() == len(_registry.model_specs())
    assert row(dock, "filters")[1] == "bundled"
    assert row(dock, "sam/vit_b") == [
        "sam/vit_b",
        "",
        "375 MB",
        "Apache-2.0",
        "prompts",
    ]
    dock.search.setText("hq fine")
    shown = [r for r in range(35) if not dock.table.isRowHidden(r)]
    assert {dock.table.item(r, 0).text().split("/")[0] for r in shown} == {"hqsam"}
    dock.table.select("medsam/vit_b")
    text = dock.details.toPlainText()
    for word in ("Nature Comms", "Apache-2.0", "Benchmark data: yes", "Import file"):
        assert word in text
    assert not dock.download_button.isEnabled()
    assert "bowang-lab" in dock.download_button.toolTip()
    assert not dock.remove_button.isEnabled()


def test_it_is_usable_at_360_pixels_and_by_keyboard(dock):
    assert dock.minimumSizeHint().width() <= 360
    kinds = (QAbstractButton, QComboBox, QLineEdit)
    own = [w for kind in kinds for w in dock.findChildren(kind) if w.isVisibleTo(dock)]
    for widget in (*own, dock.table, dock.details):
        if widget.objectName().startswith("qt_") or widget.parent() is dock.table:
            continue
        if isinstance(widget.parent(), QLineEdit | QComboBox):
            continue
        assert widget.focusPolicy() & Qt.FocusPolicy.TabFocus, widget
        assert widget is dock.table or widget.toolTip(), widget


def test_download_after_agreement_cancel_and_resume(dock, gate):
    dock.table.select(MOBILE)
    dock.download_button.click()
    assert "Apache-2.0" in dock.dialog.text()
    assert "ChaoningZhang" in dock.dialog.text()
    answer(dock, "Cancel")
    assert not dock.task.is_running
    dock.download_button.click()
    answer(dock, "I agree: download")
    # The window lives while the server keeps the other half back.
    until(lambda: dock.bar.value() > 0, "progress")
    assert dock.cancel_button.isVisibleTo(dock)
    assert not dock.download_button.isEnabled()
    dock.cancel_button.click()
    gate.set()
    until(lambda: not dock.task.is_running, "the end of the download")
    assert "kept" in dock.message.text()
    assert MOBILE not in installed_models()
    dock.download_button.click()
    answer(dock, "I agree: download")
    until(lambda: not dock.task.is_running, "the second download")
    assert row(dock, MOBILE)[1] == "installed"
    assert weights_of(MOBILE).read_bytes() == CONTENT
    assert not dock.bar.isVisibleTo(dock)
    dock.remove_button.click()
    answer(dock, "Remove")
    assert row(dock, MOBILE)[1] == ""
    assert MOBILE not in installed_models()


def test_import_and_errors(dock, tmp_path):
    weights = tmp_path / "unet.pt"
    torch.save(ClickUnet((4, 4, 4, 4)).state_dict(), weights)
    dock.table.select("sam/vit_b")
    dock.ask_import(weights)
    answer(dock, "As sam/vit_b")
    until(lambda: not dock.task.is_running, "the refusal")
    assert "not of sam/vit_b" in dock.message.text()
    dock.ask_import(weights)
    answer(dock, "Recognise it")
    until(lambda: not dock.task.is_running, "the import")
    assert row(dock, UNET)[1] == "installed"
    assert UNET in dock.message.text()


def test_a_folder_is_imported(dock, tmp_path, monkeypatch):
    folder = tiny_clip.write(tmp_path / "clip")
    monkeypatch.setattr(
        QFileDialog, "getExistingDirectory", lambda *_, **__: str(folder)
    )
    dock.table.select("filters")
    dock.import_folder_button.click()
    until(lambda: not dock.task.is_running, "the import")
    assert "open_clip/clip is installed" in dock.message.text()
    assert weights_of("open_clip/clip").is_dir()
    (tmp_path / "empty").mkdir()
    dock.ask_import(tmp_path / "empty")
    until(lambda: not dock.task.is_running, "the refusal")
    assert "is installed" not in dock.message.text()
    assert "folder" in dock.message.text()


def test_settings_are_kept(dock):
    assert read_settings().device == "auto"
    dock.device.setCurrentText("cpu")
    dock.precision.setCurrentText("bf16")
    assert (read_settings().device, read_settings().precision) == ("cpu", "bf16")
