"""Files: every format there and back, lazily; broken ones refused; writes atomic."""

from __future__ import annotations

import errno
import os

import nibabel
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image as Picture

from napari_fewshot.data import Support
from napari_fewshot.errors import DataError, StorageError, SupportError
from napari_fewshot.io import (
    atomic_write,
    labels_suffix,
    open_image,
    open_labels,
    resolve_support,
    save_labels,
    stem_of,
    suffix_of,
    write_text,
)

RNG = np.random.default_rng(0)
STACK = RNG.integers(0, 4000, (5, 24, 30)).astype(np.uint16)
LABELS = (STACK > 3000).astype(np.int32) * RNG.integers(1, 4, STACK.shape)


def test_tiff_axes_and_pixel_size(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        STACK,
        imagej=True,
        resolution=(1 / 0.5, 1 / 0.25),
        metadata={"axes": "ZYX", "spacing": 2.0, "unit": "um"},
    )
    image = open_image(path)
    assert image.axes == "zyx"
    assert image.scale == pytest.approx((2.0, 0.25, 0.5))
    assert image.name == "a.tif"
    np.testing.assert_array_equal(image.raw_plane(3), STACK[3])


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_large_tiff_stacks_are_not_read_at_once(tmp_path, compression):
    big = np.zeros((40, 1024, 900), np.uint16)
    big[7] = 5
    path = tmp_path / "big.tif"
    tifffile.imwrite(path, big, compression=compression)
    image = open_image(path, axes="zyx")
    assert isinstance(image.array, np.memmap) or not isinstance(image.array, np.ndarray)
    np.testing.assert_array_equal(image.raw_plane(7), big[7])


@pytest.mark.parametrize(
    ("mode", "axes"),
    [
        pytest.param("L", "yx", id="grey"),
        pytest.param("RGB", "yxc", id="rgb"),
        pytest.param("RGBA", "yxc", id="rgba"),
        pytest.param("1", "yx", id="bilevel"),
        pytest.param("I;16", "yx", id="16-bit"),
    ],
)
def test_pictures(tmp_path, mode, axes):
    path = tmp_path / "p.png"
    values = RNG.integers(0, 255, (12, 14)).astype(np.uint8)
    if mode == "I;16":
        Picture.fromarray(values.astype(np.uint16) * 256).save(path)
    else:
        Picture.fromarray(values).convert(mode).save(path)
    assert open_image(path).axes == axes


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_nifti_is_turned_and_comes_back_the_same(tmp_path, ending):
    affine = np.diag([0.5, 0.75, 3.0, 1.0])
    affine[:3, 3] = (10, -4, 7)
    path = tmp_path / f"scan{ending}"
    nibabel.save(nibabel.Nifti1Image(STACK.transpose().astype(np.int16), affine), path)
    image = open_image(path)
    assert image.axes == "zyx"
    assert image.scale == pytest.approx((3.0, 0.75, 0.5))
    np.testing.assert_array_equal(image.raw_plane(2), STACK[2])
    out = tmp_path / f"labels{ending}"
    save_labels(out, LABELS, like=path)
    saved = nibabel.load(out)
    np.testing.assert_allclose(saved.affine, affine)
    np.testing.assert_array_equal(np.asarray(saved.dataobj).transpose(), LABELS)


def test_zarr_arrays_and_ome_groups(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", data=STACK, chunks=(1, 24, 30))
    np.testing.assert_array_equal(
        open_image(tmp_path / "a.zarr").raw_plane(1), STACK[1]
    )
    group = zarr.open_group(tmp_path / "ome.zarr", mode="w")
    group.create_array("0", data=STACK, chunks=(1, 24, 30))
    group.attrs["multiscales"] = [
        {
            "axes": [{"name": n} for n in "zyx"],
            "datasets": [
                {
                    "path": "0",
                    "coordinateTransformations": [
                        {"type": "scale", "scale": [2.0, 0.5, 0.5]}
                    ],
                }
            ],
        }
    ]
    image = open_image(tmp_path / "ome.zarr")
    assert image.scale == (2.0, 0.5, 0.5)
    np.testing.assert_array_equal(image.raw_plane(4), STACK[4])


def test_npy_is_mapped(tmp_path):
    np.save(tmp_path / "a.npy", STACK)
    assert isinstance(open_image(tmp_path / "a.npy").array, np.memmap)


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        pytest.param("a.tif", LABELS, id="tiff-stack"),
        pytest.param("a.tif", LABELS[0], id="tiff-plane"),
        pytest.param("a.tif", LABELS * 100_000, id="tiff-large-numbers"),
        pytest.param("a.png", LABELS[0], id="png"),
        pytest.param("a.png", LABELS[0] * 1000, id="png-16-bit"),
        pytest.param("a.npy", LABELS, id="npy"),
        pytest.param("a.zarr", LABELS, id="zarr"),
        pytest.param("a.nii.gz", LABELS, id="nifti"),
    ],
)
def test_labels_come_back_the_same(tmp_path, name, labels):
    save_labels(tmp_path / name, labels, scale=(2.0, 0.5, 0.5)[-labels.ndim :])
    found = open_labels(tmp_path / name)
    np.testing.assert_array_equal(np.asarray(found[...]), labels)
    assert [p.name for p in tmp_path.iterdir()] == [name], "nothing else is left"


def test_tiff_labels_carry_the_pixel_size(tmp_path):
    save_labels(tmp_path / "a.tif", LABELS, scale=(2.0, 0.25, 0.5), axes="zyx")
    assert open_image(tmp_path / "a.tif").scale == pytest.approx((2.0, 0.25, 0.5))


@pytest.mark.parametrize(
    ("name", "labels", "words"),
    [
        pytest.param("a.png", LABELS, "one plane", id="png-stack"),
        pytest.param("a.png", LABELS[0] * 100_000, "65535", id="png-large"),
        pytest.param("a.jpg", LABELS[0], "can't be written as", id="lossy"),
    ],
)
def test_formats_that_can_not_hold_the_labels(tmp_path, name, labels, words):
    with pytest.raises(DataError, match=words):
        save_labels(tmp_path / name, labels)
    assert list(tmp_path.iterdir()) == []


def broken_files(folder):
    tifffile.imwrite(folder / "cut.tif", STACK)
    content = (folder / "cut.tif").read_bytes()
    (folder / "cut.tif").write_bytes(content[: len(content) // 2])
    nibabel.save(
        nibabel.Nifti1Image(STACK.astype(np.int16), np.eye(4)), folder / "a.nii"
    )
    content = (folder / "a.nii").read_bytes()
    (folder / "cut.nii").write_bytes(content[: len(content) // 2])
    nibabel.save(
        nibabel.Nifti1Image(STACK.astype(np.int16), np.eye(4)), folder / "a.nii.gz"
    )
    content = (folder / "a.nii.gz").read_bytes()
    (folder / "cut.nii.gz").write_bytes(content[: len(content) // 2])
    Picture.fromarray(STACK[0].astype(np.uint8)).save(folder / "a.png")
    content = (folder / "a.png").read_bytes()
    (folder / "cut.png").write_bytes(content[: len(content) // 2])
    (folder / "text.tif").write_text("not an image")
    (folder / "empty.png").write_bytes(b"")
    (folder / "pickle.npy").write_bytes(b"\x80\x04\x95")
    (folder / "notes.docx").write_text("x")


@pytest.mark.parametrize(
    "name",
    [
        "cut.tif",
        "cut.nii",
        "cut.nii.gz",
        "cut.png",
        "text.tif",
        "empty.png",
        "pickle.npy",
        "notes.docx",
        "missing.tif",
        "",
    ],
)
def test_broken_files_are_refused_by_name(tmp_path, name):
    broken_files(tmp_path)
    with pytest.raises(DataError) as caught:
        open_image(tmp_path / name)
    message = str(caught.value)
    assert (name or tmp_path.name) in message
    assert message.count(".") >= 1


def test_a_colour_mask_is_not_a_mask(tmp_path):
    colour = RNG.integers(0, 255, (12, 14, 3)).astype(np.uint8)
    Picture.fromarray(colour).save(tmp_path / "m.png")
    with pytest.raises(DataError, match="colour picture"):
        open_labels(tmp_path / "m.png")
    grey = np.repeat(colour[..., :1], 3, axis=-1)
    Picture.fromarray(grey).save(tmp_path / "g.png")
    np.testing.assert_array_equal(open_labels(tmp_path / "g.png"), grey[..., 0])


def test_supports_from_files(tmp_path):
    tifffile.imwrite(tmp_path / "i.tif", STACK[0])
    save_labels(tmp_path / "m.tif", LABELS[0])
    support = resolve_support(Support(tmp_path / "i.tif", tmp_path / "m.tif"))
    assert support.label_values == (1, 2, 3)
    assert support.name == "i.tif"
    save_labels(tmp_path / "m.tif", LABELS[0, :8])
    with pytest.raises(SupportError, match="another size"):
        resolve_support(Support(tmp_path / "i.tif", tmp_path / "m.tif"))


def test_an_image_is_not_its_own_mask(tmp_path):
    tifffile.imwrite(tmp_path / "i.tif", STACK[0])
    (tmp_path / "link.tif").symlink_to("i.tif")
    for mask in ("i.tif", "link.tif"):
        with pytest.raises(SupportError, match="as image and as mask"):
            resolve_support(Support(tmp_path / "i.tif", str(tmp_path / mask)))


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_is_a_sentence(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(StorageError, match="Free"), atomic_write(path) as temporary:
        if not os.path.exists("/dev/full"):
            raise OSError(errno.ENOSPC, "No space left on device")
        temporary.symlink_to("/dev/full")
        with temporary.open("w") as file:
            file.write("x" * 100_000)
    assert path.read_text() == "old"


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="can't be written"):
        save_labels(tmp_path / "file" / "a.tif", LABELS[0])


def test_names():
    assert suffix_of("A.NII.GZ") == ".nii.gz"
    assert stem_of("scan.nii.gz") == "scan"
    assert labels_suffix("photo.jpg") == ".png"
    assert labels_suffix("scan.nii.gz") == ".nii.gz"
    assert labels_suffix(None) == ".tif"
