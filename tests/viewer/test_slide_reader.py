"""Slides opened in napari: one layer with all levels, in colour, at its size."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from napari.errors import ReaderPluginError
from qtpy.QtWidgets import QFileDialog

from napari_fewshot.io import save_labels
from napari_fewshot.viewer import _files
from napari_fewshot.viewer._file_layers import blocks_of

pytestmark = pytest.mark.gui
PLUGIN = "napari-fewshot"
RGB = np.random.default_rng(0).integers(1, 255, (600, 840, 3)).astype(np.uint8)


@pytest.fixture
def slide(tmp_path):
    path = tmp_path / "slide.svs"
    options = {"tile": (64, 64), "compression": "zlib", "photometric": "rgb"}
    said = "Aperio Image Library v1\n840x600 (64x64)|MPP = 0.25|"
    with tifffile.TiffWriter(path) as file:
        file.write(RGB, description=said, metadata=None, **options)
        for step in (2, 4):
            file.write(RGB[::step, ::step], description="Aperio", **options)
    return path


@pytest.fixture
def viewer(make_napari_viewer, npe2pm):
    with npe2pm.tmp_plugin(package=PLUGIN):
        yield make_napari_viewer(show=False)


def test_a_slide_is_one_layer_with_levels(viewer, slide):
    (layer,) = viewer.open(str(slide), plugin=PLUGIN)
    assert (layer.multiscale, layer.rgb, layer.name) == (True, True, "slide")
    assert [a.shape[:2] for a in layer.data] == [(600, 840), (150, 210)]
    assert tuple(layer.scale) == (0.25, 0.25)
    assert tuple(map(str, layer.units)) == ("micrometer", "micrometer")
    np.testing.assert_array_equal(np.asarray(layer.data[1]), RGB[::4, ::4])
    part = np.asarray(layer.data[0][130:200, 60:70])
    np.testing.assert_array_equal(part, RGB[130:200, 60:70])


def test_tiles_are_read_together(slide):
    from napari_fewshot.io import open_path

    level = open_path(slide).levels[0]
    assert level.chunks == (64, 64, 3)
    assert blocks_of(level, "yxc") == (2048, 2048, 3)


def test_labels_with_levels_are_labels_with_names(viewer, slide, tmp_path):
    labels = np.zeros((600, 840), np.uint8)
    labels[50:300, 60:500] = 1
    path = tmp_path / "gland.ome.tif"
    save_labels(path, labels, like=slide, classes={1: "gland"})
    (layer,) = viewer.open(str(path), plugin=PLUGIN)
    assert type(layer).__name__ == "Labels"
    np.testing.assert_array_equal(layer.data, labels)
    assert list(layer.features["class"]) == ["background", "gland"]
    assert tuple(layer.scale) == (0.25, 0.25)


def test_slides_from_the_palette(viewer, slide, tmp_path, monkeypatch):
    path = slide.rename(tmp_path / "slide.tif")
    bad = tmp_path / "bad.tif"
    bad.write_bytes(path.read_bytes()[:5000])
    chosen = [str(bad), str(path)]
    monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *_: (chosen, ""))
    told = []
    monkeypatch.setattr(_files, "show_error", told.append)
    _files.open_slide(viewer)
    assert [layer.multiscale for layer in viewer.layers] == [True]
    assert len(told) == 1
    assert "bad.tif" in told[0]


def test_a_lost_slide(viewer, tmp_path):
    with pytest.raises((ReaderPluginError, FileNotFoundError, ValueError)):
        viewer.open(str(tmp_path / "gone.svs"), plugin=PLUGIN)
