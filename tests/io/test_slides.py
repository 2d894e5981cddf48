"""Pyramidal TIFF: levels, pixel sizes, tiles read on demand, labels with levels."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import tifffile

import napari_fewshot as nf
from napari_fewshot.errors import DataError
from napari_fewshot.io import (
    labels_suffix,
    open_image,
    open_labels,
    open_path,
    read_labels,
    save_labels,
)
from napari_fewshot.session._dask_wire import describe

RGB = np.random.default_rng(0).integers(1, 255, (600, 840, 3)).astype(np.uint8)
TILED = {"tile": (64, 64), "compression": "zlib"}
APERIO = "Aperio Image Library v11.2.1\n840x600 (64x64) JPEG/RGB Q=30|AppMag = 20"


def ome(path, image=RGB, axes="YXS", photometric="rgb", size=0.5, **options):
    """Write an OME-TIFF with levels as SubIFDs, as QuPath and Bio-Formats do."""
    options = {**TILED, **options, "photometric": photometric}
    unit = {"PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"}
    sizes = {"PhysicalSizeX": size, "PhysicalSizeY": size}
    cut = [slice(None)] * image.ndim
    with tifffile.TiffWriter(path, ome=True) as file:
        whole = {"axes": axes, **sizes, **unit}
        file.write(image, subifds=2, metadata=whole, **options)
        for step in (2, 4):
            for letter in "YX":
                cut[axes.index(letter)] = slice(None, None, step)
            file.write(image[tuple(cut)], subfiletype=1, **options)
    return path


def svs(path, mpp="|MPP = 0.4990", **options):
    """Write a file as scanners of Aperio do: thumbnail and label among the levels."""
    plain = {"photometric": "rgb", "metadata": None}
    with tifffile.TiffWriter(path) as file:
        options = {**TILED, **plain, **options}
        file.write(RGB, description=f"{APERIO}{mpp}|Left = 25.1", **options)
        file.write(RGB[::8, ::8], description="Aperio Image Library\nthumb", **plain)
        file.write(RGB[::4, ::4], description="Aperio Image Library\n->", **options)
        label = {"description": "Aperio Image Library\nlabel 1x1", "subfiletype": 1}
        file.write(RGB[:40, :50], **plain, **label)
    return path


def plain(path, resolution=(20000, 10000), unit=3, **options):
    """Write a grey pyramid as pages of smaller and smaller images."""
    options = {**TILED, **options, "metadata": None, "photometric": "minisblack"}
    given = {"resolution": resolution, "resolutionunit": unit}
    with tifffile.TiffWriter(path) as file:
        file.write(RGB[..., 0], **given, **options)
        for step in (2, 4):
            file.write(RGB[::step, ::step, 0], subfiletype=1, **options)
    return path


def test_levels_of_an_ome_tiff(tmp_path):
    path = ome(tmp_path / "a.ome.tif")
    image = open_image(path)
    assert (image.axes, image.scale, image.unit) == ("yxc", (0.5, 0.5), "micrometer")
    assert image.levels.scales == ((0.5, 0.5), (1.0, 1.0), (2.0, 2.0))
    assert not isinstance(image.array, np.ndarray)
    part = image.raw_window(0, slice(100, 300), slice(500, 640))
    np.testing.assert_array_equal(part, RGB[100:300, 500:640])
    coarse = open_image(path, level=2)
    assert (coarse.level, coarse.scale, coarse.label_shape) == (2, (2, 2), (150, 210))
    np.testing.assert_array_equal(coarse.raw_plane(0), RGB[::4, ::4])
    with pytest.raises(DataError, match="no level 3: it has 3"):
        open_image(path, level=3)


@pytest.mark.parametrize("options", [{}, {"tile": None, "compression": None}])
def test_stacks_with_levels_keep_their_planes(tmp_path, options):
    stack = np.random.default_rng(1).integers(0, 999, (3, 160, 120)).astype(np.uint16)
    path = ome(tmp_path / "a.tif", stack, "ZYX", "minisblack", **options)
    image = open_image(path, level=1)
    assert (image.axes, image.scale) == ("zyx", (1.0, 1.0, 1.0))
    np.testing.assert_array_equal(image.raw_plane(2), stack[2, ::2, ::2])
    np.testing.assert_array_equal(open_image(path).raw_plane(1), stack[1])


def test_levels_of_an_aperio_slide(tmp_path):
    image = open_image(svs(tmp_path / "a.svs"))
    assert [a.shape for a in image.levels.arrays] == [(600, 840, 3), (150, 210, 3)]
    assert (image.scale, image.unit) == ((0.499, 0.499), "micrometer")
    assert image.levels.scales[1] == pytest.approx((1.996, 1.996))
    coarse = open_image(tmp_path / "a.svs", level=1)
    np.testing.assert_array_equal(coarse.raw_plane(0), RGB[::4, ::4])


@pytest.mark.parametrize(
    "mpp", ["", "|MPP = ", "|MPP = 0", "|MPP = 1.2.3", "|MPP = 1e9"]
)
def test_a_slide_may_not_say_how_large_its_pixels_are(tmp_path, mpp):
    image = open_image(svs(tmp_path / "a.svs", mpp))
    assert (image.scale, image.unit) == (None, "")
    assert len(image.levels) == 2


@pytest.mark.parametrize(
    ("resolution", "unit", "scale"),
    [
        pytest.param((20000, 10000), 3, (1.0, 0.5), id="per centimetre"),
        pytest.param((50800, 25400), 2, (1.0, 0.5), id="per inch"),
        pytest.param((72, 72), 2, None, id="of a screen"),
        pytest.param((20000, 20000), 1, None, id="no unit"),
        pytest.param((0, 0), 3, None, id="nothing"),
    ],
)
def test_resolution_tags_of_a_pyramid(tmp_path, resolution, unit, scale):
    image = open_image(plain(tmp_path / "a.tif", resolution, unit))
    assert image.scale == (None if scale is None else pytest.approx(scale))
    assert len(image.levels) == 3


def test_a_level_can_be_sent_to_other_processes(tmp_path):
    image = open_image(plain(tmp_path / "a.tif"), level=1)
    sent = pickle.dumps(image)
    assert len(sent) < 5000
    back = pickle.loads(sent)
    np.testing.assert_array_equal(back.raw_plane(0), RGB[::2, ::2, 0])
    assert image.array.missing() == (0, 5 * 7)
    # To the workers of a cluster, too: they read the file themselves.
    described = describe(image, with_pixels=False)
    assert len(described) < 5000
    np.testing.assert_array_equal(
        pickle.loads(described).raw_plane(0), RGB[::2, ::2, 0]
    )


def test_large_planes_without_levels_are_read_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_fewshot.io._tiff.LAZY_BYTES", 10_000)
    monkeypatch.setattr("napari_fewshot.io._slides.MAX_PIECE", 100_000)
    for name, options in (
        ("tiles", TILED),
        ("strips", {"rowsperstrip": 7, "compression": "zlib"}),
        ("mapped", {}),
    ):
        tifffile.imwrite(tmp_path / f"{name}.tif", RGB, photometric="rgb", **options)
        image = open_image(tmp_path / f"{name}.tif")
        is_mapped = isinstance(image.array, np.memmap)
        assert is_mapped or not isinstance(image.array, np.ndarray)
        part = image.raw_window(0, slice(5, 60), slice(9, 90))
        np.testing.assert_array_equal(part, RGB[5:60, 9:90])
    # One large piece would be decoded again and again: better once.
    tifffile.imwrite(tmp_path / "one.tif", RGB, photometric="rgb", compression="zlib",
                     rowsperstrip=600)  # fmt: skip
    assert isinstance(open_image(tmp_path / "one.tif").array, np.ndarray)


@pytest.mark.parametrize("make", [ome, svs, plain])
def test_a_slide_that_was_cut_off_is_refused(tmp_path, make):
    path = make(tmp_path / "a.svs")
    whole = path.read_bytes()
    for share in (0.999, 0.97, 0.9, 0.8, 0.6, 0.3, 0.01, 0.0001):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(DataError, match=r"a\.svs .*(incomplete|damaged)"):
            open_image(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="0 bytes"):
        open_image(path)
    path.write_bytes(b"\0" * 500)
    with pytest.raises(DataError, match="damaged"):
        open_image(path)


def test_pages_in_another_file(tmp_path):
    """An OME-TIFF whose second plane lies in a larger file than the first."""
    small = np.zeros((64, 64), np.uint16)
    large = np.random.default_rng(0).integers(0, 9999, (64, 64)).astype(np.uint16)
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<Image ID="I:0"><Pixels ID="P:0" DimensionOrder="XYZCT" '
        'Type="uint16" SizeX="64" SizeY="64" '
        'SizeZ="2" SizeC="1" SizeT="1"><TiffData IFD="0" FirstZ="0"><UUID '
        'FileName="a.ome.tif">urn:uuid:1</UUID></TiffData><TiffData IFD="0" FirstZ="1">'
        '<UUID FileName="b.ome.tif">urn:uuid:2</UUID></TiffData></Pixels></Image></OME>'
    )
    for name, plane in (("a", small), ("b", large)):
        tifffile.imwrite(
            tmp_path / f"{name}.ome.tif",
            plane,
            description=xml.replace(
                "<OME ", f'<OME UUID="urn:uuid:{"ab".index(name) + 1}" '
            ),
            metadata=None,
            compression="zlib",
        )
    image = open_image(tmp_path / "a.ome.tif")
    assert image.label_shape == (2, 64, 64)
    np.testing.assert_array_equal(image.raw_plane(1), large)


def test_a_damaged_tile_is_named(tmp_path):
    path = ome(tmp_path / "a.ome.tif")
    with tifffile.TiffFile(path) as file:
        page = file.series[0].levels[1].pages[0]
        offset = page.dataoffsets[7 + 2]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 40)
    image = open_image(path, level=1)
    with pytest.raises(DataError, match=r"a\.ome\.tif, level 1 .*chunk \(1, 2, 0\)"):
        image.raw_plane(0)
    np.testing.assert_array_equal(open_image(path).raw_plane(0), RGB)


@pytest.mark.parametrize("code", [7, 33005, 5])
def test_a_compression_that_takes_another_package(tmp_path, monkeypatch, code):
    path = ome(tmp_path / "a.tif")
    known = tifffile.TIFF.DECOMPRESSORS
    if code in known:
        pytest.skip("imagecodecs is there")
    with tifffile.TiffFile(path, mode="r+b") as file:
        tag = file.pages[0].tags["Compression"]
        tag.overwrite(code)
    with pytest.raises(DataError, match=r"a\.tif is compressed as .*imagecodecs"):
        open_image(path)


def test_jpeg_slides(tmp_path):
    pytest.importorskip("imagecodecs")
    image = open_image(svs(tmp_path / "a.svs", compression="jpeg"), level=1)
    assert image.raw_plane(0).shape == (150, 210, 3)


def test_labels_of_a_slide_get_levels(tmp_path):
    path = ome(tmp_path / "slide.ome.tif", np.tile(RGB, (2, 2, 1)))
    labels = np.zeros((1200, 1680), np.int32)
    labels[100:700, 300:1500] = 2
    out = tmp_path / "labels.tif"
    save_labels(out, labels, like=path, classes={2: "gland"})
    found = read_labels(out)
    assert [a.shape for a in found.levels] == [(1200, 1680), (600, 840), (300, 420)]
    assert found.scales == ((0.5, 0.5), (1.0, 1.0), (2.0, 2.0))
    assert (found.unit, found.classes) == ("micrometer", {2: "gland"})
    assert np.dtype(found.array.dtype) == np.uint8
    np.testing.assert_array_equal(np.asarray(found.array), labels)
    # The second of two, then the first: never averaged, as in OME-Zarr.
    np.testing.assert_array_equal(np.asarray(found.levels[1]), labels[1::2, 1::2])
    np.testing.assert_array_equal(
        np.asarray(found.levels[2]), labels[1::2, 1::2][::2, ::2]
    )
    assert open_labels(out, (300, 420)).shape == (300, 420)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["labels.tif", "slide.ome.tif"]
    save_labels(out, labels[::4, ::4], like=path)
    assert read_labels(out).scale == pytest.approx((2, 2)), "of the level it is of"
    assert not read_labels(out).levels, "small enough for one"


def test_labels_of_stacks_get_levels(tmp_path):
    stack = np.zeros((2, 600, 700), np.uint8)
    path = ome(tmp_path / "a.tif", stack, "ZYX", "minisblack")
    labels = np.random.default_rng(0).integers(0, 70_000, stack.shape)
    save_labels(tmp_path / "b.tif", labels, like=path)
    found = read_labels(tmp_path / "b.tif")
    np.testing.assert_array_equal(np.asarray(found.array), labels)
    np.testing.assert_array_equal(np.asarray(found.levels[1]), labels[:, 1::2, 1::2])
    assert (found.axes, found.scale) == ("zyx", (1.0, 0.5, 0.5))


def test_the_level_follows_the_supports(tmp_path, blob_pair):
    image, labels = blob_pair(1, (128, 128))
    grey = np.kron(image, np.ones((4, 4), np.uint8))
    path = ome(tmp_path / "slide.ome.tif", grey, "YX", "minisblack", size=0.25)
    support = nf.Support(image, labels, scale=(1.0, 1.0), unit="micrometer")
    out = tmp_path / f"labels{labels_suffix(path)}"
    found = nf.segment(path, support, method="prototype", model="filters", out=out)
    assert found.labels.shape == (128, 128)
    assert found.provenance["inputs"]["query"]["level"] == 2
    assert nf.evaluate(found.labels, labels).dice.mean() > 0.8
    saved = open_path(out)
    assert (saved.scale, saved.unit) == ((1.0, 1.0), "micrometer")
    fine = nf.segment(path, support, method="prototype", model="filters", level=1)
    assert fine.labels.shape == (256, 256)


@pytest.mark.parametrize("name", ["a.svs", "A.SVS", "b.ndpi"])
def test_labels_of_slides_are_tiff(name):
    assert labels_suffix(name) == ".tif"
