"""Stores and files that are damaged, and disks that are full: a sentence, no debris."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import zarr

from napari_fewshot.errors import DataError, StorageError
from napari_fewshot.io import open_image, open_labels, read_labels, save_labels

STACK = np.random.default_rng(0).integers(1, 999, (4, 40, 60)).astype(np.uint16)


def ome(path, *, form=3, scales=((2.0, 0.5, 0.5), (2.0, 1.0, 1.0)), **changes):
    """Write an OME-Zarr image of two levels; changes replace parts of its metadata."""
    group = zarr.open_group(path, mode="w", zarr_format=form)
    for number, _ in enumerate(scales):
        cut = STACK[:, :: 2**number, :: 2**number]
        group.create_array(str(number), data=cut, chunks=(1, 20, 30))
    first = {
        "axes": [{"name": n, "type": "space", "unit": "micrometer"} for n in "zyx"],
        "datasets": [
            {
                "path": str(i),
                "coordinateTransformations": [{"type": "scale", "scale": list(s)}],
            }
            for i, s in enumerate(scales)
        ],
        **changes,
    }
    content = {"multiscales": [first]}
    group.attrs.update({"ome": {"version": "0.5", **content}} if form == 3 else content)
    return path


@pytest.mark.parametrize("form", [2, 3])
def test_levels_scale_and_unit(tmp_path, form):
    image = open_image(ome(tmp_path / "a.zarr", form=form))
    assert (image.axes, image.scale, image.unit) == (
        "zyx",
        (2.0, 0.5, 0.5),
        "micrometer",
    )
    assert image.levels.scales == ((2.0, 0.5, 0.5), (2.0, 1.0, 1.0))
    coarse = open_image(tmp_path / "a.zarr", level=1)
    assert (coarse.level, coarse.label_shape) == (1, (4, 20, 30))
    assert coarse.scale == (2.0, 1.0, 1.0)
    np.testing.assert_array_equal(coarse.raw_plane(2), STACK[2, ::2, ::2])
    other = open_image(tmp_path / "a.zarr", scale=(4, 1, 1), level=1)
    assert (other.scale, other.unit) == ((4.0, 2.0, 2.0), "")
    with pytest.raises(DataError, match="no level 2: it has 2"):
        open_image(tmp_path / "a.zarr", level=2)
    with pytest.raises(DataError, match="whole number"):
        open_image(tmp_path / "a.zarr", level="finest")


def test_units_per_axis_and_outer_transformations(tmp_path):
    axes = [
        {"name": n, "unit": u} for n, u in zip("zyx", ("um", "nm", "nm"), strict=True)
    ]
    outer = [
        {"type": "scale", "scale": [1, 10, 10]},
        {"type": "translation", "translation": [1, 2, 3]},
    ]
    ome(tmp_path / "a.zarr", axes=axes, coordinateTransformations=outer)
    image = open_image(tmp_path / "a.zarr")
    assert image.unit == "nanometer"
    assert image.scale == pytest.approx((2000.0, 5.0, 5.0))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"datasets": []}, "no resolution", id="no datasets"),
        pytest.param({"datasets": [{"path": "9"}]}, "'9'.*not there", id="lost level"),
        pytest.param({"datasets": [{}]}, "None.*not there", id="no path"),
        pytest.param({"axes": ["z", "y", "q"]}, "'q'", id="unknown axis"),
        pytest.param({"axes": ["y", "x"]}, "2 axes .* with 3", id="too few axes"),
        pytest.param({"axes": ["z", "y", "y"]}, "axes", id="an axis twice"),
        pytest.param(
            {"coordinateTransformations": [{"type": "scale", "scale": [1, 1]}]},
            "2 numbers as scale",
            id="scale",
        ),
    ],
)
def test_metadata_that_do_not_fit(tmp_path, changes, words):
    path = ome(tmp_path / "a.zarr", **changes)
    with pytest.raises(DataError, match=rf"(?s)a\.zarr.*{words}"):
        open_image(path)


@pytest.mark.parametrize("multiscales", [[], {}, 3, None, [3]])
def test_no_multiscales(tmp_path, multiscales):
    ome(tmp_path / "a.zarr")
    group = zarr.open_group(tmp_path / "a.zarr", mode="a")
    group.attrs["ome"] = {"multiscales": multiscales}
    with pytest.raises(DataError, match="multiscales without datasets"):
        open_image(tmp_path / "a.zarr")


def test_levels_of_different_kinds(tmp_path):
    ome(tmp_path / "a.zarr")
    group = zarr.open_group(tmp_path / "a.zarr", mode="a")
    group.create_array("1", data=np.zeros((4, 20, 30)), overwrite=True)
    with pytest.raises(DataError, match="levels differ"):
        open_image(tmp_path / "a.zarr")
    group.create_array("1", data=np.zeros((4, 90, 90), np.uint16), overwrite=True)
    with pytest.raises(DataError, match="smaller copy"):
        open_image(tmp_path / "a.zarr")


def test_a_corrupt_chunk_is_named(tmp_path):
    ome(tmp_path / "a.zarr")
    chunk = tmp_path / "a.zarr/0/c/2/1/0"
    chunk.write_bytes(b"\x28\xb5\x2f\xfdnot a chunk")
    image = open_image(tmp_path / "a.zarr")
    np.testing.assert_array_equal(image.raw_plane(1), STACK[1])
    with pytest.raises(DataError, match=r"a\.zarr/0 .*chunk \(2, 1, 0\).*2:3, 20:40"):
        image.raw_plane(2)
    np.testing.assert_array_equal(
        open_image(tmp_path / "a.zarr", level=1).raw_plane(2), STACK[2, ::2, ::2]
    )


def test_missing_chunks_are_empty_and_noted(tmp_path, blob_pair):
    import napari_fewshot as nf

    pixels, labels = blob_pair(0)
    zarr.create_array(tmp_path / "a.zarr", data=pixels, chunks=(24, 28))
    (tmp_path / "a.zarr/c/0/0").unlink()
    image = open_image(tmp_path / "a.zarr")
    assert not image.raw_plane(0)[:24, :28].any()
    assert image.array.missing() == (1, 16)
    found = nf.segment(
        tmp_path / "a.zarr", (pixels, labels), method="prototype", model="filters"
    )
    assert "1 of 16 chunks" in found.provenance["notes"][-1]
    for chunk in (tmp_path / "a.zarr/c").rglob("*"):
        if chunk.is_file():
            chunk.unlink()
    for folder in sorted((tmp_path / "a.zarr/c").rglob("*"), reverse=True):
        folder.rmdir()
    (tmp_path / "a.zarr/c").rmdir()
    with pytest.raises(DataError, match="no pixels"):
        open_image(tmp_path / "a.zarr")


@pytest.mark.parametrize(
    "name",
    ["a.tif", "a.png", "a.nii", "a.nii.gz", "a.npy", "a.geojson", "a.coco.json"],
)
def test_empty_and_broken_files(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"")
    with pytest.raises(DataError, match=rf"{name} .*0 bytes"):
        read_labels(path)
    save_labels(path, (STACK[0] % 3).astype(np.uint8))
    whole = path.read_bytes()
    for part in (whole[: len(whole) // 2], bytes(len(whole)), b"\xff" * 300):
        path.write_bytes(part)
        with pytest.raises(DataError, match=name):
            np.asarray(open_labels(path))


def test_zarr_without_content(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(DataError, match=r"a\.zarr"):
        open_image(tmp_path / "a.zarr")
    (tmp_path / "a.zarr/zarr.json").write_text('{"zarr_format": 3')
    with pytest.raises(DataError, match=r"a\.zarr"):
        open_image(tmp_path / "a.zarr")


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links_that_lead_nowhere(tmp_path):
    (tmp_path / "loop.tif").symlink_to(tmp_path / "loop.tif")
    (tmp_path / "gone.tif").symlink_to(tmp_path / "nothing.tif")
    for name in ("loop.tif", "gone.tif"):
        with pytest.raises(DataError, match=name):
            open_image(tmp_path / name)


def test_names_of_every_kind(tmp_path):
    for name in (
        "größe 細胞 'x'.ome.zarr",
        "a" * 200 + ".geojson",
        "ü" * 80 + ".nii.gz",
    ):
        save_labels(tmp_path / name, STACK[0] % 2)
        np.testing.assert_array_equal(
            np.asarray(open_labels(tmp_path / name)), STACK[0] % 2
        )
    for name in ("x" * 300 + ".tif", "x" * 300 + ".ome.zarr"):
        with pytest.raises(DataError, match=r"can't be opened|does not exist"):
            open_image(tmp_path / name)
        with pytest.raises(StorageError, match="can't be written"):
            save_labels(tmp_path / name, STACK[0] % 2)
    assert len(list(tmp_path.iterdir())) == 3


FULL = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from napari_fewshot.errors import StorageError
from napari_fewshot.io import save_labels
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
labels = np.random.default_rng(0).integers(0, 250, (2, 500, 500)).astype(np.uint8)
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        save_labels(path, labels[0] if path.suffix == ".png" else labels)
    except StorageError as error:
        assert "nothing that was there has changed" in str(error), error
    else:
        sys.exit(f"{path} was written")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit there")
def test_a_disk_that_is_full_in_the_middle(tmp_path):
    endings = (".tif", ".png", ".nii", ".nii.gz", ".npy", ".zarr", ".ome.zarr")
    names = sorted(f"a{ending}" for ending in (*endings, ".coco.json"))
    for name in names:
        save_labels(tmp_path / name, STACK[0] % 2)
    found = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert found.returncode == 0, found.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == names, "no debris"
    for name in names:
        np.testing.assert_array_equal(
            np.asarray(open_labels(tmp_path / name)), STACK[0] % 2
        )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "holds no outline"),
        ('{"type": "FeatureCollection"}', "holds no features"),
        ('[{"geometry": {"type": "Point", "coordinates": [1, 2]}}]', "points or lines"),
        ("[" * 100_000, "no JSON"),
        ('[{"geometry": {"type": "Polygon", "coordinates": [[["a", 1]]]}}]', "damaged"),
        (
            json.dumps(
                [
                    {
                        "geometry": {
                            "type": "Polygon",
                            "coordinates": [[[0, 0], [1e9, 0], [1e9, 1e9]]],
                        }
                    }
                ]
            ),
            "too large",
        ),
    ],
)
def test_geojson_that_is_none(tmp_path, content, words):
    (tmp_path / "a.geojson").write_text(content)
    with pytest.raises(DataError, match=words):
        read_labels(tmp_path / "a.geojson")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{}", "no COCO file"),
        ('{"images": [], "annotations": [], "categories": []}', "no COCO file"),
        (
            '{"images": [{"id": 1, "width": 4, "height": 4}, '
            '{"id": 2, "width": 5, "height": 4}], "annotations": [], "categories": []}',
            "different sizes",
        ),
        (
            '{"images": [{"id": 1, "width": 4, "height": 4}], "categories": [], '
            '"annotations": [{"image_id": 3}]}',
            "of no image",
        ),
        (
            '{"images": [{"id": 1, "width": 4, "height": 4}], "categories": [], '
            '"annotations": [{"image_id": 1, "category_id": 1, '
            '"segmentation": {"counts": [3, 99]}}]}',
            "run lengths",
        ),
    ],
)
def test_coco_that_is_none(tmp_path, content, words):
    (tmp_path / "a.coco.json").write_text(content)
    with pytest.raises(DataError, match=words):
        read_labels(tmp_path / "a.coco.json")
