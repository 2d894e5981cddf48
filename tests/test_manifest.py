"""The manifest: valid, complete, and known to napari."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
import yaml

from .test_architecture import PACKAGE

MANIFEST = yaml.safe_load((PACKAGE / "napari.yaml").read_text())
COMMANDS = MANIFEST["contributions"]["commands"]
pytestmark = pytest.mark.gui


def test_npe2_accepts_it():
    result = subprocess.run(
        [sys.executable, "-m", "npe2", "validate", "napari-fewshot"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c["id"])
def test_every_command_exists(command):
    module, name = command["python_name"].split(":")
    assert callable(getattr(importlib.import_module(module), name))


def test_menus_and_samples_name_known_commands():
    known = {c["id"] for c in COMMANDS}
    found = MANIFEST["contributions"]
    for menu in found["menus"].values():
        assert {item["command"] for item in menu} <= known
    assert {s["command"] for s in found["sample_data"]} <= known
    assert {w["command"] for w in found["widgets"]} <= known
