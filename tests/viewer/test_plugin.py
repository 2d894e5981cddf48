"""The plugin as napari sees it: dock, samples, commands, demo."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import tifffile

from napari_fewshot.viewer import _actions

pytestmark = pytest.mark.gui


@pytest.fixture
def viewer(make_napari_viewer, npe2pm):
    with npe2pm.tmp_plugin(package="napari-fewshot"):
        yield make_napari_viewer(show=False)


def test_dock_samples_and_commands(viewer):
    viewer.open_sample("napari-fewshot", "hippocampus")
    assert [type(x).__name__ for x in viewer.layers] == ["Image", "Labels"]
    assert tuple(map(str, viewer.layers[0].units)) == ("millimeter",) * 3
    viewer.layers.selection.active = viewer.layers[1]
    _actions.use_as_support(viewer)
    dock = _actions.open_dock(viewer)
    assert len(dock.session.state.supports) == 7
    assert dock.session.state.classes.names == {
        1: "anterior hippocampus",
        2: "posterior hippocampus",
    }
    _actions.few_shot(viewer)
    assert _actions.open_dock(viewer) is dock, "there is one dock"
    dock.shut_down()


def test_the_demo_runs_by_itself(tmp_path, home):
    """The command a newcomer types, in a process and a window of its own."""
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "napari_fewshot",
            "demo",
            "--headless",
            "--out",
            tmp_path,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    facts = json.loads((tmp_path / "result.json").read_text())
    assert facts["dice"]["mean"] > 0.7
    labels = tifffile.imread(tmp_path / "labels.tif")
    assert labels.shape == (8, 256, 256)
    assert set(np.unique(labels)) == {0, 1}
    for name in ("overlay.png", "screenshot.png"):
        assert (tmp_path / name).stat().st_size > 1000
