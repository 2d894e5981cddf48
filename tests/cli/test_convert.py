"""``convert``: labels keep values, names, pixel size and place in another format."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest

from napari_fewshot.cli import main
from napari_fewshot.io import read_labels, save_labels

NAMES = {1: "nucleus", 2: "cell"}


def call(*words):
    with pytest.raises(SystemExit) as stop:
        main(["convert", *map(str, words)])
    return stop.value.code


@pytest.fixture
def labels():
    found = np.zeros((3, 16, 20), np.uint8)
    found[:2, 3:9, 4:11] = 1
    found[1, 11:14, 12:18] = 2
    return found


def test_from_format_to_format(tmp_path, labels, capsys):
    path = tmp_path / "a.tif"
    save_labels(path, labels, scale=(2, 0.5, 0.25), unit="um", classes=NAMES)
    for ending in (".geojson", ".ome.zarr", ".coco.json", ".nii.gz", ".zarr", ".tif"):
        target = tmp_path / f"b{ending}"
        assert call(path, target) == 0
        found = read_labels(target)
        np.testing.assert_array_equal(np.asarray(found.array), labels)
        assert dict(found.classes) == NAMES
        assert found.scale == pytest.approx((2, 0.5, 0.25))
        assert found.unit == "micrometer"
        path = target
    assert "Wrote" in capsys.readouterr().out


def test_names_objects_and_image(tmp_path, labels):
    affine = np.diag([-0.25, 0.5, 2, 1])
    scan = nibabel.Nifti1Image(labels.transpose().astype(np.int16), affine)
    nibabel.save(scan, tmp_path / "scan.nii")
    np.save(tmp_path / "a.npy", labels)
    np.save(tmp_path / "n.npy", labels.astype(int) * 7)
    out, like = tmp_path / "b.nii", tmp_path / "scan.nii"
    assert call(tmp_path / "a.npy", out, "--like", like, "--class", "1=liver") == 0
    np.testing.assert_array_equal(nibabel.load(out).affine, affine)
    assert dict(read_labels(out).classes) == {1: "liver"}
    out = tmp_path / "b.coco.json"
    assert call(tmp_path / "a.npy", out, "--instances", tmp_path / "n.npy") == 0
    objects = {a["object"] for a in json.loads(out.read_text())["annotations"]}
    assert objects == {7, 14}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("none.tif", "b.tif"), "does not exist"),
        (("a.npy", "b.xyz"), "can't be written as .xyz"),
        (("a.npy", "b.tif", "--class", "nucleus"), "NUMBER=NAME"),
        (("a.npy", "b.tif", "--scale", "x"), "list of numbers"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    tmp_path, labels, capsys, monkeypatch, words, message
):
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "a.npy", labels)
    assert call(*words) == 1
    found = capsys.readouterr().err
    assert message in found
    assert "Traceback" not in found
    assert [p.name for p in tmp_path.iterdir()] == ["a.npy"]
