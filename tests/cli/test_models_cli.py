"""``napari-fewshot models``: questions, exit codes, and what ends up installed."""

from __future__ import annotations

import functools
import pickle
import sys
import threading
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from napari_fewshot.cli import main
from napari_fewshot.models import _registry, installed_models
from napari_fewshot.models.sam._unet import ClickUnet

UNET, MOBILE = "scribbleprompt/unet", "mobilesam/vit_t"


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Be silent."""


@pytest.fixture
def offered(tmp_path, monkeypatch):
    """Offer a file of MobileSAM's name on this machine."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "mobile_sam.pt").write_bytes(b"weights" * 1000)
    handler = functools.partial(Handler, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    spec, module = _registry._MODELS[MOBILE]
    url = f"http://127.0.0.1:{server.server_port}/mobile_sam.pt"
    there = (replace(spec, download_url=url), module)
    monkeypatch.setitem(_registry._MODELS, MOBILE, there)
    yield url
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "unet.pt"
    torch.save(ClickUnet((4, 4, 4, 4)).state_dict(), path)
    return path


def call(*words):
    with pytest.raises(SystemExit) as stop:
        main(["models", *(str(w) for w in words)])
    return stop.value.code


def test_download_asks_first(offered, capsys, monkeypatch):
    assert call("download", MOBILE) == 2
    streams = capsys.readouterr()
    assert "Apache-2.0" in streams.out
    assert offered in streams.out
    assert "39 MB" in streams.out
    assert "--yes" in streams.err
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", lambda question: False)
    assert call("download", MOBILE) == 0
    assert MOBILE not in installed_models()
    assert call("download", MOBILE, "--yes") == 0
    assert "pinned" in capsys.readouterr().out
    assert MOBILE in installed_models()


def test_download_without_a_direct_address(capsys):
    assert call("download", "medsam/vit_b", "--yes") == 1
    assert "models import FILE --model medsam/vit_b" in capsys.readouterr().err


def test_import_list_info_verify_bundle_remove(weights, tmp_path, capsys, offered):
    assert call("import", weights) == 0
    assert call("list", "--installed") == 0
    text = capsys.readouterr().out
    assert UNET in text
    assert "sam/vit_b " not in text
    (row,) = (line for line in text.splitlines() if line.startswith(f"{UNET}  "))
    assert f"{weights.stat().st_size / 1e6:.1f} MB" in row, "of the file, not published"
    assert call("list") == 0
    (row,) = (x for x in capsys.readouterr().out.splitlines() if x.startswith(MOBILE))
    assert " 39 MB" in row, "not installed: as published"
    assert call("info", UNET) == 0
    assert "pinned" in capsys.readouterr().out
    # One sound model and one that is no weights file.
    assert call("download", MOBILE, "--yes") == 0
    assert call("verify", UNET) == 0
    assert call("verify", UNET, MOBILE) == 3
    assert call("verify", MOBILE) == 1
    assert "mobile_sam.pt" in capsys.readouterr().err
    assert call("bundle", tmp_path / "all.zip", UNET) == 0
    assert call("remove", UNET) == 2
    assert call("remove", UNET, "--yes") == 0
    assert UNET not in installed_models()
    assert call("import", tmp_path / "all.zip") == 0
    assert UNET in installed_models()


def test_convert_asks_and_writes_tensors_only(weights, tmp_path, capsys):
    odd = tmp_path / "odd.pt"
    state = torch.load(weights, weights_only=True)
    torch.save({"model": state, "args": pickle.PickleBuffer}, odd)
    assert call("import", odd) == 1
    assert f"models convert {odd.name}" in capsys.readouterr().err.replace(
        str(tmp_path) + "/", ""
    )
    assert call("convert", odd) == 2
    assert not (tmp_path / "odd.safetensors").exists()
    assert call("convert", odd, "--yes") == 0
    assert call("import", tmp_path / "odd.safetensors") == 0
    assert UNET in installed_models()
