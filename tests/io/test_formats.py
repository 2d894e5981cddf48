"""Labels through every format: values, pixel size, class names, objects, place."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest
import tifffile
import zarr

from napari_fewshot.data import Prediction
from napari_fewshot.errors import DataError
from napari_fewshot.io import (
    LABEL_SUFFIXES,
    labels_suffix,
    open_image,
    open_labels,
    read_labels,
    save_labels,
    save_prediction,
    stem_of,
    suffix_of,
)
from napari_fewshot.io._coco import from_run_lengths, run_lengths
from napari_fewshot.ops.outlines import fill_outline, outlines

NAMES = {1: "Zellkern", 2: "nucléole µ"}
SCALE = (2.0, 0.5, 0.25)


@pytest.fixture(scope="module")
def stack():
    """Blobs with holes, of two classes, on three planes; the last one is empty."""
    rng = np.random.default_rng(0)
    noise = rng.random((3, 10, 12)).repeat(4, axis=1).repeat(4, axis=2)
    found = (noise > 0.6).astype(np.int32) + (noise > 0.85)
    found[2] = 0
    found[0, 3, 3] = 0
    return found


@pytest.mark.parametrize("ending", LABEL_SUFFIXES)
@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize(
    ("dtype", "classes"),
    [(bool, None), (np.uint8, NAMES), (np.uint32, None), (np.int64, NAMES)],
)
def test_round_trip(tmp_path, stack, ending, ndim, dtype, classes):
    labels = stack if ndim == 3 else stack[0]
    if ending == ".png" and ndim == 3:
        pytest.skip("a PNG holds one plane")
    if dtype not in (bool, np.uint8) and ending != ".png" and classes is None:
        labels = labels * 70_000
    labels = labels.astype(dtype)
    path = tmp_path / f"größe{ending}"
    save_labels(
        path,
        labels,
        scale=SCALE[-ndim:],
        unit="um",
        classes=classes,
        axes="zyx"[-ndim:],
    )
    assert [p.name for p in tmp_path.iterdir()] == [path.name], "nothing else is left"
    found = read_labels(path)
    np.testing.assert_array_equal(np.asarray(found.array[...]), labels)
    np.testing.assert_array_equal(np.asarray(open_labels(path)), labels)
    if ending == ".npy":
        return
    assert found.scale == pytest.approx(SCALE[-ndim:])
    assert found.unit == "micrometer"
    assert dict(found.classes) == (classes or {})


@pytest.mark.parametrize("unit", ["nm", "micron", "mm", ""])
@pytest.mark.parametrize("top", [1, 70_000])
def test_tiff_keeps_the_unit(tmp_path, stack, unit, top):
    save_labels(tmp_path / "a.tif", stack * top, scale=SCALE, axes="zyx", unit=unit)
    full = {"nm": "nanometer", "micron": "micrometer", "mm": "millimeter", "": ""}
    image = open_image(tmp_path / "a.tif")
    assert (image.axes, image.unit) == ("zyx", full[unit])
    assert image.scale == pytest.approx(SCALE)


def test_the_unit_comes_from_the_image(tmp_path, stack):
    tifffile.imwrite(
        tmp_path / "image.tif",
        stack.astype(np.uint16),
        imagej=True,
        resolution=(4, 2),
        metadata={"axes": "ZYX", "spacing": 2.0, "unit": "micron"},
    )
    image = open_image(tmp_path / "image.tif")
    assert image.unit == "micrometer"
    path = tmp_path / "labels.ome.zarr"
    save_labels(path, stack, like=tmp_path / "image.tif", scale=image.scale)
    assert read_labels(path).unit == "micrometer"
    save_labels(path, stack, like=tmp_path / "image.tif", scale=(1, 1, 1))
    assert read_labels(path).unit == "", "that is another size: who knows its unit"


def test_large_planes_are_written_in_tiles(tmp_path, stack, monkeypatch):
    monkeypatch.setattr("napari_fewshot.io._tiff.MAX_PLANE", 100)
    monkeypatch.setattr("napari_fewshot.io._tiff.TILE", 16)
    monkeypatch.setattr("napari_fewshot.io._written.BLOCK_PIXELS", 100)
    save_labels(tmp_path / "a.tif", stack, scale=SCALE, unit="um", classes=NAMES)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.pages[0].tile == (16, 16)
    found = read_labels(tmp_path / "a.tif")
    np.testing.assert_array_equal(found.array, stack)
    assert found.scale == SCALE
    assert dict(found.classes) == NAMES


def test_nifti_keeps_the_header_of_its_image(tmp_path, stack):
    affine = np.array(
        [[-0.5, 0.1, 0, 10], [0, 0.7, 0.2, -4], [0.1, 0, 3, 7], [0, 0, 0, 1]]
    )
    source = nibabel.Nifti1Image(stack.transpose().astype(">i2"), affine)
    source.header.set_xyzt_units("mm", "sec")
    source.set_sform(affine, 3)
    source.set_qform(affine, 1)
    source.header["descrip"] = b"a scan"
    nibabel.save(source, tmp_path / "scan.nii.gz")
    for ending in (".nii", ".nii.gz"):
        path = tmp_path / f"labels{ending}"
        save_labels(path, stack, like=tmp_path / "scan.nii.gz", classes=NAMES)
        saved, given = nibabel.load(path), nibabel.load(tmp_path / "scan.nii.gz")
        for form in ("get_sform", "get_qform"):
            mine, code = getattr(saved.header, form)(coded=True)
            there, wanted = getattr(given.header, form)(coded=True)
            np.testing.assert_array_equal(mine, there)
            assert code == wanted
        assert saved.header.get_xyzt_units() == ("mm", "sec")
        np.testing.assert_array_equal(np.asarray(saved.dataobj).transpose(), stack)
        np.testing.assert_array_equal(np.asarray(read_labels(path).array), stack)


def test_ome_zarr_of_either_version(tmp_path):
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 4, (2, 700, 1100)).astype(np.uint8)
    origin = (5.0, 1.0, -2.0)
    for version, attributes in (("0.5", "zarr.json"), ("0.4", ".zattrs")):
        path = tmp_path / f"v{version}.ome.zarr"
        save_labels(
            path,
            labels,
            scale=SCALE,
            unit="um",
            origin=origin,
            classes=NAMES,
            colours={1: "#ff0000"},
            ome_version=version,
        )
        content = json.loads((path / attributes).read_text())
        meta = content["attributes"]["ome"] if version == "0.5" else content
        (scales,) = meta["multiscales"]
        assert meta.get("version", scales.get("version")) == version
        assert [a["name"] for a in scales["axes"]] == ["z", "y", "x"]
        assert {a.get("unit") for a in scales["axes"]} == {"micrometer"}
        steps = [d["coordinateTransformations"] for d in scales["datasets"]]
        assert [s[0]["scale"] for s in steps] == [
            [2.0, 0.5 * f, 0.25 * f] for f in (1, 2, 4)
        ]
        # The corner of all levels is the same: 1 - 0.5 / 2 = 1.75 - 4 * 0.5 / 2.
        assert steps[2][1]["translation"] == pytest.approx([5.0, 1.75, -1.625])
        label = meta["image-label"]
        assert label["colors"][0] == {"label-value": 1, "rgba": [255, 0, 0, 255]}
        assert label["properties"][1] == {"label-value": 2, "class": NAMES[2]}
        found = read_labels(path)
        assert [level.shape[1:] for level in found.levels] == [
            (700, 1100),
            (350, 550),
            (175, 275),
        ]
        np.testing.assert_array_equal(np.asarray(found.array), labels)
        np.testing.assert_array_equal(
            np.asarray(found.levels[1]), labels[:, 1::2, 1::2]
        )
        assert found.origin == origin
        assert found.colours[1] == "#ff0000"
        group = zarr.open_group(path, mode="r")
        assert group["0"].chunks == (1, 700, 1024)


def test_labels_inside_their_image(tmp_path, stack):
    for form in (3, 2):
        image = tmp_path / f"v{form}.zarr"
        group = zarr.open_group(image, mode="w", zarr_format=form)
        group.create_array("0", data=stack.astype(np.uint16))
        step = {"type": "scale", "scale": list(SCALE)}
        scales = {
            "axes": [{"name": n, "unit": "micrometer"} for n in "zyx"],
            "datasets": [{"path": "0", "coordinateTransformations": [step]}],
        }
        content = {"multiscales": [scales]}
        group.attrs.update({"ome": content} if form == 3 else content)
        for name in ("nuclei", "cells", "nuclei"):
            save_labels(image / "labels" / name, stack, classes=NAMES, like=image)
        listed = dict(zarr.open_group(image / "labels", mode="r").attrs)
        listed = listed["ome"] if form == 3 else listed
        assert listed["labels"] == ["nuclei", "cells"]
        found = read_labels(image / "labels" / "nuclei")
        assert (found.scale, found.unit) == (SCALE, "micrometer")
        np.testing.assert_array_equal(np.asarray(found.array), stack)
        assert sorted(p.name for p in (image / "labels").iterdir())[-2:] == [
            "cells" if form == 2 else "nuclei",
            "nuclei" if form == 2 else "zarr.json",
        ]
        with pytest.raises(DataError, match="several label images"):
            read_labels(image)
        np.testing.assert_array_equal(open_image(image).raw_plane(0), stack[0])


@pytest.mark.parametrize("ending", [".ome.zarr", ".geojson", ".coco.json"])
def test_objects_are_kept(tmp_path, ending):
    labels = np.zeros((12, 16), np.int32)
    labels[1:11, 1:8] = 1
    labels[3:6, 9:15] = 2
    numbers = np.zeros_like(labels)
    numbers[1:11, 1:4] = 70_001
    numbers[1:11, 4:8] = 12
    numbers[3:6, 9:15] = 3
    # One object of two parts.
    numbers[9, 13] = 3
    labels[9, 13] = 2
    prediction = Prediction(labels, classes=NAMES, instances=numbers)
    image = open_image(np.zeros((12, 16)), scale=(0.5, 0.25))
    path = tmp_path / f"a{ending}"
    save_prediction(path, prediction, image)
    found = read_labels(path)
    np.testing.assert_array_equal(np.asarray(found.array), labels)
    assert dict(found.classes) == NAMES
    if ending == ".ome.zarr":
        inner = read_labels(path / "labels" / "instances").array
        np.testing.assert_array_equal(np.asarray(inner), numbers)
    else:
        np.testing.assert_array_equal(found.instances, numbers)
        content = json.loads(path.read_text())
        assert len(content.get("features") or content["annotations"]) == 3


def test_geojson_is_what_qupath_reads(tmp_path):
    labels = np.zeros((2, 8, 10), np.uint8)
    labels[1, 2:7, 3:9] = 2
    labels[1, 4, 5] = 0
    save_labels(tmp_path / "a.geojson", labels, classes=NAMES, colours={2: "#102030"})
    (feature,) = json.loads((tmp_path / "a.geojson").read_text())["features"]
    assert feature["type"] == "Feature"
    assert feature["properties"]["objectType"] == "annotation"
    assert feature["properties"]["classification"] == {
        "name": NAMES[2],
        "color": [16, 32, 48],
    }
    geometry = feature["geometry"]
    assert (geometry["type"], geometry["plane"]) == (
        "Polygon",
        {"c": -1, "z": 1, "t": 0},
    )
    outer, hole = geometry["coordinates"]
    assert outer[0] == outer[-1]
    # Corners of pixels as (x, y): columns 3 to 9, rows 2 to 7.
    assert {tuple(p) for p in outer} == {(3, 2), (9, 2), (9, 7), (3, 7)}
    assert {tuple(p) for p in hole} == {(5, 4), (6, 4), (6, 5), (5, 5)}


def test_geojson_of_other_programs(tmp_path):
    square = [[[1, 1], [5, 1], [5, 4], [1, 4], [1, 1]]]
    slanted = [[[0.0, 5.0], [8.0, 5.0], [0.0, 9.0], [0.0, 5.0]]]
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": square},
            "properties": {"classification": {"name": "Tumor", "color": [200, 0, 0]}},
        },
        {
            "type": "Feature",
            "geometry": {"type": "MultiPolygon", "coordinates": [slanted]},
            "properties": {"classification": "Stroma"},
        },
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 1]}},
    ]
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(features))
    found = read_labels(path, (12, 14))
    assert dict(found.classes) == {1: "Tumor", 2: "Stroma"}
    assert found.colours == {1: "#c80000"}
    expected = np.zeros((12, 14))
    expected[1:4, 1:5] = 1
    rows, columns = np.mgrid[:12, :14] + 0.5
    expected[(rows > 5) & (columns > 0) & (rows < 9 - columns / 2)] = 2
    np.testing.assert_array_equal(found.array, expected)
    assert read_labels(path).array.shape == (9, 8)


def test_coco_is_complete_and_exact(tmp_path, stack):
    save_labels(tmp_path / "a.coco.json", stack, classes=NAMES, like="scan 1.tif")
    content = json.loads((tmp_path / "a.coco.json").read_text())
    assert {"info", "images", "annotations", "categories"} <= set(content)
    assert [i["file_name"] for i in content["images"]] == ["scan 1.tif"] * 3
    assert [c["name"] for c in content["categories"]] == list(NAMES.values())
    ids = {i["id"]: n for n, i in enumerate(content["images"])}
    again = np.zeros_like(stack)
    for entry in content["annotations"]:
        counts, size = entry["segmentation"]["counts"], entry["segmentation"]["size"]
        assert size == [40, 48]
        assert sum(counts) == 40 * 48
        assert entry["iscrowd"] == 0
        # Written out as the format says: runs of 0 and 1 in turns, down the columns.
        flat = [v for i, n in enumerate(counts) for v in [i % 2] * n]
        mask = np.array(flat).reshape(48, 40).T.astype(bool)
        rows, columns = np.nonzero(mask)
        left, top, width, height = entry["bbox"]
        assert (left, top) == (columns.min(), rows.min())
        assert (width, height) == (np.ptp(columns) + 1, np.ptp(rows) + 1)
        assert entry["area"] == mask.sum()
        again[ids[entry["image_id"]]][mask] = entry["category_id"]
    np.testing.assert_array_equal(again, stack)


def test_coco_of_other_programs(tmp_path):
    content = {
        "images": [{"id": 7, "file_name": "a.jpg", "height": 6, "width": 9}],
        "categories": [{"id": 3, "name": "cat"}],
        "annotations": [
            {
                "image_id": 7,
                "category_id": 3,
                "segmentation": [[1, 1, 5, 1, 5, 4, 1, 4]],
            },
            # pycocotools: encode(a mask with 1 at rows 2 and 3 of column 7)
            {
                "image_id": 7,
                "category_id": 3,
                "segmentation": {"size": [6, 9], "counts": "\\128"},
            },
        ],
    }
    path = tmp_path / "a.coco.json"
    path.write_text(json.dumps(content))
    found = read_labels(path)
    expected = np.zeros((6, 9))
    expected[1:4, 1:5] = 3
    expected[2:4, 7] = 3
    np.testing.assert_array_equal(found.array, expected)
    assert dict(found.classes) == {3: "cat"}


def compressed(counts):
    """Compress run lengths, as the COCO format does."""
    text = ""
    for i, count in enumerate(counts):
        value = count - counts[i - 2] if i > 2 else count
        while True:
            bits, value = value & 31, value >> 5
            more = value != -1 if bits & 16 else value != 0
            text += chr(48 + (bits | 32 if more else bits))
            if not more:
                break
    return text


def test_run_lengths_against_brute_force():
    rng = np.random.default_rng(2)
    for _ in range(200):
        height, width = rng.integers(1, 9, 2)
        mask = rng.random((height, width)) < rng.uniform(0, 1)
        size = (height + rng.integers(0, 4), width + rng.integers(0, 4))
        at = [
            int(rng.integers(0, s - n + 1))
            for s, n in zip(size, mask.shape, strict=True)
        ]
        plane = np.zeros(size, bool)
        plane[at[0] : at[0] + height, at[1] : at[1] + width] = mask
        counts = run_lengths(mask, (at[0], at[1]), size)
        flat = [v for i, n in enumerate(counts) for v in [i % 2] * n]
        np.testing.assert_array_equal(np.reshape(flat, size[::-1]).T, plane)
        assert all(counts[1:]), "no run but the first is empty"
        np.testing.assert_array_equal(from_run_lengths(counts, size), plane)
        np.testing.assert_array_equal(from_run_lengths(compressed(counts), size), plane)


def test_outlines_hold_exactly_their_pixels():
    rng = np.random.default_rng(3)
    for _ in range(150):
        shape = tuple(rng.integers(1, 12, 2))
        mask = rng.random(shape) < rng.uniform(0.2, 0.9)
        again = np.zeros(shape, bool)
        for polygon in outlines(mask):
            part = fill_outline(polygon, shape)
            assert not (again & part).any()
            again |= part
            for ring in polygon:
                assert len({tuple(v) for v in ring}) == len(ring), (
                    "no ring meets itself"
                )
                steps = np.abs(np.roll(ring, -1, axis=0) - ring)
                assert (steps.min(axis=1) == 0).all(), "along the borders of pixels"
        np.testing.assert_array_equal(again, mask)


@pytest.mark.parametrize("name", ["a.ome.zarr", "b.zarr", "c.coco.json", "d.geojson"])
def test_names(name):
    assert stem_of(name) == name[0]
    assert labels_suffix(name) == suffix_of(name) == name[1:]


@pytest.mark.parametrize(
    ("labels", "options", "words"),
    [
        pytest.param(np.zeros((4, 4)), {}, "whole numbers", id="fractions"),
        pytest.param(np.full((4, 4), -1), {}, "negative", id="negative"),
        pytest.param(np.zeros((4, 4), int), {"axes": "zyx"}, "don't fit", id="axes"),
        pytest.param(
            np.zeros((4, 4), int),
            {"instances": np.zeros((3, 3), int)},
            "equal",
            id="parts",
        ),
        pytest.param(np.zeros((4, 4), int), {"scale": (1, 2, 3)}, "scale", id="scale"),
        pytest.param(
            np.zeros((4, 4), int), {"ome_version": "9"}, "0.5 or 0.4", id="version"
        ),
    ],
)
def test_what_can_not_be_written(tmp_path, labels, options, words):
    with pytest.raises(DataError, match=words):
        save_labels(tmp_path / "a.ome.zarr", labels, **options)
    assert list(tmp_path.iterdir()) == []
