"""Files opened and saved through napari: place, scale, class names and colours."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pandas as pd
import pytest
import zarr
from napari.errors import ReaderPluginError

import napari_fewshot as nf
from napari_fewshot.io import read_labels, save_labels
from napari_fewshot.viewer import _files
from napari_fewshot.viewer._actions import open_dock

pytestmark = pytest.mark.gui
PLUGIN = "napari-fewshot"
RNG = np.random.default_rng(0)
NAMES = {1: "nucleus", 2: "cell"}


def table(names):
    return pd.DataFrame({"index": [0, *names], "class": ["", *names.values()]})


@pytest.fixture
def viewer(make_napari_viewer, npe2pm):
    with npe2pm.tmp_plugin(package=PLUGIN):
        yield make_napari_viewer(show=False)


@pytest.fixture
def labels():
    found = np.zeros((4, 20, 24), np.uint8)
    found[1:3, 2:9, 3:10] = 1
    found[2, 12:17, 14:20] = 2
    found[2, 14, 16] = 0
    return found


ENDINGS = [".ome.zarr", ".nii.gz", ".nii", ".geojson", ".coco.json", ".tif"]


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_labels_layer_comes_back(viewer, tmp_path, labels, ndim):
    data = labels if ndim == 3 else labels[2]
    scale = (2.0, 0.5, 0.25)[-ndim:]
    layer = viewer.add_labels(
        data,
        scale=scale,
        translate=(10.0, -4.0, 3.0)[-ndim:],
        units=("micrometer",) * ndim,
        features=table(NAMES),
        axis_labels=tuple("zyx"[-ndim:]),
    )
    for ending in ENDINGS:
        folder = tmp_path / ending.replace(".", "")
        folder.mkdir()
        path = folder / f"lösung{ending}"
        assert layer.save(str(path), plugin=PLUGIN) == [str(path)]
        assert [p.name for p in folder.iterdir()] == [path.name]
        if ending == ".tif":
            found = read_labels(path)
            np.testing.assert_array_equal(np.asarray(found.array), data)
            assert found.scale == pytest.approx(scale)
            assert (found.unit, dict(found.classes)) == ("micrometer", NAMES)
            continue
        (back,) = viewer.open(str(path), plugin=PLUGIN)
        assert type(back).__name__ == "Labels", ending
        np.testing.assert_array_equal(back.data, data)
        assert back.extent.step == pytest.approx(scale)
        assert tuple(map(str, back.units)) == ("micrometer",) * ndim
        names = dict(zip(back.features["index"], back.features["class"], strict=True))
        assert names == {0: "background", **NAMES}, ending
        if "json" not in ending:
            for corner in np.array([[0] * ndim, [n - 1 for n in data.shape]]):
                there = layer.data_to_world(corner)
                assert back.data_to_world(corner) == pytest.approx(there), ending
        viewer.layers.remove(back)


def test_colours_are_kept(viewer, tmp_path, labels):
    save_labels(tmp_path / "a.ome.zarr", labels, classes=NAMES, colours={1: "#ff8000"})
    (back,) = viewer.open(str(tmp_path / "a.ome.zarr"), plugin=PLUGIN)
    assert back.colormap.color_dict[1] == pytest.approx([1, 0.50196, 0, 1], abs=1e-3)
    back.save(str(tmp_path / "b.ome.zarr"), plugin=PLUGIN)
    assert read_labels(tmp_path / "b.ome.zarr").colours[1] == "#ff8000"


@pytest.mark.parametrize(
    "turn",
    [
        pytest.param(np.diag([0.5, 0.75, 3.0]), id="plain"),
        pytest.param(np.diag([-0.5, -0.75, 3.0]), id="flipped"),
        pytest.param(
            np.array([[0.49, 0.05, 0], [-0.05, 0.7, 0.1], [0, -0.1, 3.0]]), id="oblique"
        ),
        pytest.param(np.diag([0.5, 0.75, 3.0])[[2, 0, 1]], id="sagittal"),
    ],
)
def test_nifti_keeps_its_affine(viewer, tmp_path, labels, turn):
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn, (10, -4, 7)
    image = nibabel.Nifti1Image(labels.transpose().astype(np.int16), affine)
    image.header.set_xyzt_units("mm", "sec")
    image.set_qform(affine, 2)
    image.set_sform(affine, 3)
    nibabel.save(image, tmp_path / "scan_labels.nii.gz")
    (layer,) = viewer.open(str(tmp_path / "scan_labels.nii.gz"), plugin=PLUGIN)
    assert type(layer).__name__ == "Labels"
    sizes = np.linalg.norm(turn, axis=0)[::-1]
    assert layer.scale == pytest.approx(sizes)
    layer.data[0, 0, 0] = 5
    layer.save(str(tmp_path / "out.nii.gz"), plugin=PLUGIN)
    saved, given = nibabel.load(tmp_path / "out.nii.gz"), image
    np.testing.assert_allclose(saved.affine, given.affine, atol=1e-5)
    assert saved.header["qform_code"] == 2
    assert saved.header["sform_code"] == 3
    assert saved.header.get_xyzt_units() == ("mm", "sec")
    assert np.asarray(saved.dataobj)[0, 0, 0] == 5


def test_painting_over_a_nifti_image_is_saved_where_it_lies(viewer, tmp_path, labels):
    affine = np.diag([-0.5, 0.75, 3.0, 1.0])
    affine[:3, 3] = (10, -4, 7)
    pixels = RNG.integers(0, 3000, (24, 20, 4)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(pixels, affine), tmp_path / "scan.nii")
    (image,) = viewer.open(str(tmp_path / "scan.nii"), plugin=PLUGIN)
    assert type(image).__name__ == "Image"
    np.testing.assert_array_equal(np.asarray(image.data), pixels.transpose())
    # In napari the world is (z, y, x): pixel (0, 0, 0) of the file lies at its origin.
    assert image.data_to_world((0, 0, 0)) == pytest.approx((7, -4, 10))
    assert image.data_to_world((1, 0, 2)) == pytest.approx((10, -4, 9))
    layer = viewer.add_labels(
        labels, scale=image.scale, affine=image.affine, axis_labels=("z", "y", "x")
    )
    layer.save(str(tmp_path / "out.nii"), plugin=PLUGIN)
    np.testing.assert_allclose(nibabel.load(tmp_path / "out.nii").affine, affine)


def test_ome_zarr_image_with_levels_and_labels(viewer, tmp_path, labels):
    group = zarr.open_group(tmp_path / "image.zarr", mode="w")
    stack = RNG.integers(0, 999, (4, 2, 20, 24)).astype(np.uint16)
    group.create_array("0", data=stack)
    group.create_array("1", data=stack[..., ::2, ::2])
    axes = [{"name": n, "unit": "micrometer"} for n in "zcyx"]
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [
            {
                "axes": axes,
                "datasets": [
                    {
                        "path": str(i),
                        "coordinateTransformations": [
                            {"type": "scale", "scale": [2.0, 1.0, f * 0.5, f * 0.5]}
                        ],
                    }
                    for i, f in enumerate((1, 2))
                ],
            }
        ],
    }
    save_labels(tmp_path / "image.zarr/labels/cells", labels, classes=NAMES)
    found = viewer.open(str(tmp_path / "image.zarr"), plugin=PLUGIN)
    assert [type(x).__name__ for x in found] == ["Image", "Image", "Labels"]
    assert found[0].multiscale
    assert found[0].scale == pytest.approx((2.0, 0.5, 0.5))
    np.testing.assert_array_equal(np.asarray(found[1].data[0]), stack[:, 1])
    np.testing.assert_array_equal(found[2].data, labels)


def test_folders_of_others_are_left_alone(viewer, tmp_path):
    from napari_fewshot.viewer._reader import folder_reader

    (tmp_path / "images").mkdir()
    zarr.create_array(tmp_path / "plain.zarr", data=np.zeros((5, 5)))
    (tmp_path / "empty.fewshot-project").mkdir()
    for name in ("images", "plain.zarr", "empty.fewshot-project", "not there"):
        assert folder_reader(str(tmp_path / name)) is None


def test_a_project_folder_fills_the_dock(viewer, tmp_path, blob_pair):
    session = nf.Session(autosave=False)
    session.add_support(*blob_pair(0), classes={1: "disc"})
    session.save(tmp_path / "study.fewshot-project")
    session.close()
    viewer.open(str(tmp_path / "study.fewshot-project"), plugin=PLUGIN)
    dock = open_dock(viewer)
    assert len(dock.session.state.supports) == 1
    assert dock.session.state.classes.names == {1: "disc"}
    dock.shut_down()


def test_damaged_files_are_one_sentence(viewer, tmp_path):
    (tmp_path / "a.geojson").write_text("{")
    (tmp_path / "b.nii").write_bytes(b"")
    (tmp_path / "c.coco.json").write_text('{"images": 3}')
    for name in ("a.geojson", "b.nii", "c.coco.json"):
        with pytest.raises((nf.DataError, ReaderPluginError)) as found:
            viewer.open(str(tmp_path / name), plugin=PLUGIN)
        assert name in str(found.value) + str(found.value.__cause__)


def test_many_numbers_are_objects(viewer, tmp_path):
    numbers = np.zeros((30, 40), np.int32)
    numbers[::3, ::3] = np.arange(140).reshape(10, 14) + 1
    layer = viewer.add_labels(numbers, name="cells")
    layer.save(str(tmp_path / "a.geojson"), plugin=PLUGIN)
    content = json.loads((tmp_path / "a.geojson").read_text())
    names = {f["properties"]["classification"]["name"] for f in content["features"]}
    assert names == {"cells"}
    assert len(content["features"]) == 140
    np.testing.assert_array_equal(
        read_labels(tmp_path / "a.geojson").instances, numbers
    )


def test_multiscale_labels_are_saved_at_their_finest_level(viewer, tmp_path, labels):
    layer = viewer.add_labels([labels[2], labels[2, ::2, ::2]], multiscale=True)
    layer.save(str(tmp_path / "a.ome.zarr"), plugin=PLUGIN)
    found = read_labels(tmp_path / "a.ome.zarr").array
    np.testing.assert_array_equal(np.asarray(found), labels[2])


def test_the_command_asks_and_saves(viewer, tmp_path, labels, monkeypatch):
    asked = []

    def ask(parent, title, name, filters):
        asked.append(filters)
        return str(tmp_path / "mine"), "GeoJSON (*.geojson)"

    monkeypatch.setattr(_files.QFileDialog, "getSaveFileName", ask)
    viewer.add_labels(labels[1])
    _files.save_selected(viewer)
    assert "OME-Zarr" in asked[0]
    np.testing.assert_array_equal(
        np.asarray(read_labels(tmp_path / "mine.geojson").array), labels[1]
    )
