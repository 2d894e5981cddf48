"""Pieces of volumes: cuts, neighbours, fusion, smoothing, objects in space, files."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from scipy import ndimage

import napari_fewshot as nf
from napari_fewshot.data import Image, SupportSet
from napari_fewshot.inference import Summary
from napari_fewshot.inference.volumes import link_axes
from napari_fewshot.inference.volumes._consistency import SpaceObjects, smooth_along
from napari_fewshot.inference.volumes._cuts import (
    between_cuts,
    cut_image,
    cutting_of,
    uncut,
)
from napari_fewshot.inference.volumes._fuse import fuse, rows_of_cuts, view_weights
from napari_fewshot.inference.volumes._scratch import PlaneFile
from napari_fewshot.inference.volumes._sides import annotated_depth, cut_supports
from napari_fewshot.inference.volumes._slices import (
    common_distance,
    offsets_of,
    stack_supports,
    with_neighbours,
)
from napari_fewshot.methods import Reliability


class OnePlane:
    """An array that may only be read one plane, or a part of one, at a time."""

    def __init__(self, array, n_lead=1):
        self.array, self.n_lead = array, n_lead
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim
        self.reads = 0

    def __getitem__(self, key):
        lead = key[: self.n_lead]
        assert all(isinstance(k, (int, np.integer)) for k in lead), "a whole stack"
        self.reads += 1
        return self.array[key]


@pytest.fixture
def volume():
    return np.random.default_rng(0).integers(0, 255, (6, 8, 10)).astype(np.uint8)


# -- cuts ------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["y", "x"])
def test_cuts_of_even_spacing_are_the_pixels(volume, side):
    lazy = OnePlane(volume)
    image = Image.from_array(lazy, axes="zyx", scale=(1, 1, 1))
    cut = cut_image(image, cutting_of(image, side))
    assert cut.array.dtype == np.uint8
    assert cut.axes == "zyx"
    assert cut.window == image.window
    for number in range(cut.n_planes):
        wanted = volume[:, number] if side == "y" else volume[:, :, number]
        assert (cut.raw_plane(number) == wanted).all()
    assert lazy.reads <= 8 + 6, "every plane is read once, and a few for the window"


def test_planes_of_a_large_volume_are_read_once_per_slab(volume, monkeypatch):
    from napari_fewshot.inference.volumes import _cuts

    monkeypatch.setattr(_cuts, "SLAB_BYTES", 6 * 10 * 3)
    lazy = OnePlane(volume)
    image = Image.from_array(lazy, axes="zyx")
    cut = cut_image(image, cutting_of(image, "y"))
    lazy.reads = 0
    for number in range(8):
        assert (cut.raw_plane(number) == volume[:, number]).all()
    assert lazy.reads == 3 * 6, "three slabs of up to three cuts"


def test_cuts_are_stretched_to_square_pixels(volume):
    image = Image.from_array(volume, axes="zyx", scale=(4, 1, 2))
    by_rows = cutting_of(image, "y")
    assert by_rows.shape == (12, 10), "(z, x): 4 to 2, pixels of 2"
    assert by_rows.scale == (2, 2, 2), "half of the rows: planes are 4 apart"
    by_columns = cutting_of(image, "x")
    assert by_columns.shape == (24, 8)
    assert by_columns.scale == (4, 1, 1)
    cut = cut_image(image, by_columns)
    assert cut.plane(0).shape == (24, 8, 1)
    assert cut.pixel_size == (1, 1)


def test_channels_and_time_are_kept():
    array = np.random.default_rng(0).random((2, 3, 5, 6, 7)).astype(np.float32)
    image = Image.from_array(OnePlane(array, 3), axes="tczyx", channels=[2, 0])
    # The channel axis comes before z: planes are read over all channels.
    lazy = OnePlane(np.moveaxis(array, 1, 2), 2)
    image = Image.from_array(lazy, axes="tzcyx", channels=[2, 0])
    cut = cut_image(image, cutting_of(image, "x"))
    assert cut.axes == "tzyxc"
    assert cut.leading_shape == (2, 7)
    for number in (0, 8):
        t, x = divmod(number, 7)
        wanted = np.moveaxis(array[t][[2, 0]][..., x], 0, -1)
        assert (cut.raw_plane(number) == wanted).all()


def test_a_cut_is_sent_elsewhere_without_its_slab(volume):
    image = Image.from_array(volume, axes="zyx")
    cut = cut_image(image, cutting_of(image, "y"))
    cut.raw_plane(0)
    again = pickle.loads(pickle.dumps(cut.array))
    assert again._slab is None
    assert (again[3, :, :] == volume[:, 3]).all()


@pytest.mark.parametrize("key", [slice(None), (slice(0, 2), slice(None)), ()])
def test_several_cuts_at_once_are_refused(volume, key):
    image = Image.from_array(volume, axes="zyx")
    with pytest.raises(TypeError, match="one at a time"):
        cut_image(image, cutting_of(image, "y")).array[key]


def test_a_map_comes_back_where_it_was():
    depth, across = np.mgrid[:6, :10].astype(np.float32)
    image = Image.from_array(np.zeros((6, 8, 10)), axes="zyx", scale=(3, 1, 1))
    cutting = cutting_of(image, "y")
    stretched = ndimage.zoom(depth, (3, 1), order=1, mode="nearest", grid_mode=True)
    back = uncut(stretched, cutting)
    assert back.shape == depth.shape
    assert np.abs(back - depth)[1:-1].max() < 0.2
    assert np.abs(uncut(np.tile(across[:1], (18, 1)), cutting) - across).max() < 1e-5


def test_between_cuts_is_linear():
    image = Image.from_array(np.zeros((6, 13, 10)), axes="zyx", scale=(3, 1, 1))
    cutting = cutting_of(image, "y")
    at = np.array(cutting.positions)
    assert cutting.positions.step == 3
    values = (2.0 * at + 1)[:, None] * np.ones((1, 4))
    found = between_cuts(values, cutting, 13)
    wanted = np.clip(np.arange(13), at[0], at[-1]) * 2.0 + 1
    assert np.allclose(found, wanted[:, None])


@pytest.mark.parametrize("side", ["y", "x"])
def test_rows_of_cuts_are_planes_again(side, tmp_path):
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 1, (2, 6, 8, 10)).astype(np.float16)  # (t, z, y, x)
    image = Image.from_array(truth.astype(float), axes="tzyx")
    cutting = cutting_of(image, side)
    count = len(cutting.positions)
    file = PlaneFile(tmp_path / "f", 2 * count, cutting.stored, np.float16)
    for t in range(2):
        for n in range(count):
            cut = truth[t, :, n] if side == "y" else truth[t, :, :, n]
            file.write(t * count + n, cut)
    along = 8 if side == "y" else 10
    found = rows_of_cuts(file, cutting, 1, 2, 5, along)
    assert np.array_equal(found, truth[1, 2:5].astype(np.float32))
    file.close()


@pytest.mark.parametrize(
    ("shape", "axes", "scale", "words"),
    [
        ((8, 8), "yx", None, "single plane"),
        ((1, 8, 8), "zyx", None, "single plane"),
        ((5, 8, 8), "tyx", None, "single plane"),
        ((3, 8, 8), "zyx", None, "too few"),
        ((6, 8, 8), "zyx", (100, 1, 1), "too unequal"),
    ],
)
def test_what_is_no_volume_is_refused(shape, axes, scale, words):
    image = Image.from_array(np.zeros(shape), axes=axes, scale=scale)
    with pytest.raises(nf.DataError, match=words):
        cutting_of(image, "y")


# -- supports --------------------------------------------------------------------------


def ball(depth=12, first=3, last=9):
    labels = np.zeros((depth, 16, 16), int)
    z, y, x = np.mgrid[:depth, :16, :16]
    centre, reach = (first + last) / 2, (last - first) / 2 + 0.5
    labels[
        ((z - centre) / reach) ** 2 + ((y - 8) / 6) ** 2 + ((x - 8) / 6) ** 2 < 1
    ] = 1
    return labels


@pytest.mark.parametrize(
    ("labels", "planes", "wanted"),
    [
        (ball(), None, (0, 12)),  # gets smaller towards its ends: all was annotated
        (ball(), [4, 5, 6, 7], (4, 8)),  # these are known, no others
        (np.where(np.arange(12)[:, None, None] % 2, ball(), 0), None, "no annotated"),
        (np.where(np.arange(12)[:, None, None] < 5, ball(), 0), None, "2 annotated"),
        (np.zeros((12, 16, 16), int), None, (0, 12)),  # nothing here, surely
    ],
)
def test_which_planes_were_annotated(labels, planes, wanted):
    support = nf.Support(np.random.default_rng(0).random(labels.shape), labels)
    if planes is not None:
        support = nf.Support(support.image, labels, planes=planes)
    found = annotated_depth(support)
    if isinstance(wanted, str):
        assert wanted in found
    else:
        assert found == wanted


def test_a_cylinder_cut_off_by_the_annotator_counts_where_it_is_painted():
    labels = np.zeros((12, 16, 16), int)
    labels[4:9, 4:12, 4:12] = 1
    support = nf.Support(np.random.default_rng(0).random(labels.shape), labels)
    assert annotated_depth(support) == (4, 9)


def test_cut_supports_teach_what_is_there():
    labels, image = ball(), np.random.default_rng(0).random((12, 16, 16))
    ignore = np.zeros(labels.shape, bool)
    ignore[:, 8] = True
    flat = nf.Support(image[5], labels[5], name="flat")
    whole = nf.Support(
        OnePlane(image), OnePlane(labels), scale=(2, 1, 1), name="whole", ignore=ignore
    )
    cut, reasons = cut_supports(SupportSet([whole, flat]), "x")
    assert reasons == ["flat is a single plane"]
    assert len(cut) == 1
    found = cut[0].label_plane(2)
    assert found.shape == (24, 16)
    position = 4 + 1  # every second column: planes are 2 apart
    assert cut[0].source.n_planes == 8
    column = labels[:, :, 2 * 2]
    if not np.array_equal(found[::2] > 0, (column > 0) & ~ignore[:, :, 4]):
        column = labels[:, :, position]
    assert np.array_equal(found[::2] > 0, (column > 0) & ~ignore[:, :, position])
    assert (found[:, 8] == -1).all(), "what nobody knows stays unknown"


# -- neighbours ------------------------------------------------------------------------


def test_neighbours_are_channels_and_edges_repeat(volume):
    lazy = OnePlane(volume)
    image = Image.from_array(lazy, axes="zyx")
    seen = with_neighbours(image, offsets_of(image, 2, None))
    assert seen.n_channels == 5
    assert seen.window == image.window
    lazy.reads = 0
    for z in range(6):
        near = [np.clip(z + o, 0, 5) for o in (-1, 0, 1, -2, 2)]
        wanted = np.stack([volume[n] for n in near], -1)
        assert (seen.raw_plane(z) == wanted).all()
    assert lazy.reads <= 9, "neighbours of the next plane are known already"
    part = seen.raw_window(3, slice(1, 4), slice(2, 9))
    assert (part == seen.raw_plane(3)[1:4, 2:9]).all()


def test_neighbours_of_colour_come_after_the_own_channels():
    array = np.random.default_rng(0).random((4, 6, 7, 2))
    image = Image.from_array(array, axes="zyxc")
    seen = with_neighbours(image, offsets_of(image, 1, None))
    wanted = np.concatenate([array[2], array[1], array[3]], -1)
    assert (seen.raw_plane(2) == wanted).all()


def test_neighbours_are_as_far_in_every_volume():
    fine = Image.from_array(np.zeros((9, 8, 8)), axes="zyx", scale=(1, 1, 1))
    coarse = Image.from_array(np.zeros((4, 8, 8)), axes="zyx", scale=(3, 1, 1))
    unknown = Image.from_array(np.zeros((4, 8, 8)), axes="zyx")
    distance = common_distance([fine, coarse])
    assert distance == 3
    assert offsets_of(fine, 1, distance) == [-3, 0, 3]
    assert offsets_of(coarse, 1, distance) == [-1, 0, 1]
    assert common_distance([fine, unknown]) is None


def test_time_points_are_no_neighbours():
    array = np.random.default_rng(0).random((2, 3, 5, 6))
    image = Image.from_array(OnePlane(array, 2), axes="tzyx")
    seen = with_neighbours(image, offsets_of(image, 1, None))
    found = seen.raw_plane(3)  # the first plane of the second time
    wanted = np.stack([array[1, 0], array[1, 0], array[1, 1]], -1)
    assert (found == wanted).all()


def test_single_planes_are_repeated_and_named(volume):
    flat = nf.Support(volume[0], volume[0] > 99, name="flat")
    deep = nf.Support(volume, volume > 99)
    stacked, names = stack_supports(SupportSet([flat, deep]), 1, None)
    assert names == ["flat"]
    assert (stacked[0].source.raw_plane(0) == volume[0][..., None]).all()
    assert (stacked[1].source.raw_plane(2)[..., 2] == volume[3]).all()
    assert (stacked[1].label_plane(4) == (volume[4] > 99)).all()


# -- fusion ----------------------------------------------------------------------------


def summary(classes, scores=None):
    known = None if scores is None else Reliability(scores, kind="leave-one-out")
    return Summary(classes, {}, {}, {}, reliability=known)


def test_views_count_by_what_they_did_on_the_supports():
    views = [
        summary({1: "a", 2: "b"}, {1: 0.9, 2: 0.6}),
        summary({1: "a"}, {1: 0.3}),
        summary({1: "a", 2: "b"}, {1: 0.0, 2: 0.6}),
    ]
    weights = view_weights(views)
    assert weights[1] == pytest.approx([0.9 / 1.22, 0.3 / 1.22, 0.02 / 1.22])
    assert weights[2] == pytest.approx([0.5, 0.0, 0.5])
    assert view_weights([summary({1: "a"}), views[0]])[1] == [0.5, 0.5]


def test_log_odds_are_averaged():
    one, two = np.full((2, 2), 3.0), np.full((2, 2), -1.0)
    found = fuse({1: [one, two], 2: [one, None]}, {1: [0.25, 0.75], 2: [0.5, 0.5]})
    assert np.allclose(found[1], 0.0)
    assert np.allclose(found[2], 3.0), "who says nothing does not count"


# -- depth -----------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.0, 0.4, 1.0, 2.5])
def test_smoothing_is_the_gaussian_with_weights_of_what_is_there(sigma):
    rng = np.random.default_rng(0)
    odds = rng.normal(0, 1, (11, 3, 4)).astype(np.float32)
    depths = [0, 1, 2, 3, 5, 6, 7, 8, 9, 10]  # one plane was not asked for
    found = dict(smooth_along(((z, {7: odds[z]}) for z in depths), sigma))
    assert list(found) == depths
    for z in depths:
        near = [w for w in depths if abs(w - z) <= np.ceil(2.5 * sigma)]
        weight = [np.exp(-0.5 * ((w - z) / sigma) ** 2) if sigma else 1 for w in near]
        wanted = np.average(odds[near], 0, weight)
        assert np.allclose(found[z][7], wanted, atol=1e-5), z


def test_smoothing_holds_few_planes():
    alive, most = [], []

    def planes():
        for z in range(40):
            yield z, {1: np.zeros((2, 2), np.float32)}
            alive.append(z)

    for z, _ in smooth_along(planes(), 1.0):
        most.append(len(alive) - z)
    assert max(most) <= 4


def test_objects_in_space_are_those_of_labelling_the_volume():
    rng = np.random.default_rng(0)
    labels = np.where(
        rng.random((7, 20, 20)) < 0.25, rng.integers(1, 3, (7, 20, 20)), 0
    )
    shape = np.zeros((3, 3, 3), bool)
    shape[1], shape[:, 1, 1] = True, True
    wanted = np.zeros(labels.shape, bool)
    for value in (1, 2):
        parts, count = ndimage.label(labels == value, shape)
        for n in range(1, count + 1):
            planes = np.flatnonzero((parts == n).any((1, 2)))
            if (parts == n).sum() >= 9 and planes.max() - planes.min() + 1 >= 2:
                wanted |= parts == n
    objects = SpaceObjects()
    for z, plane in enumerate(labels):
        objects.add(z, plane)
    objects.keep(min_planes=2, min_volume=9)
    found = np.stack([objects.mask(z, plane) for z, plane in enumerate(labels)])
    assert np.array_equal(found, wanted)
    objects.keep(largest=True)
    found = np.stack([objects.mask(z, plane) for z, plane in enumerate(labels)])
    for value in (1, 2):
        parts, _ = ndimage.label(labels == value, shape)
        most = np.bincount(parts[parts > 0]).max()
        assert (found & (labels == value)).sum() == most


# -- files -----------------------------------------------------------------------------


def test_a_plane_file_gives_back_planes_rows_and_regions(tmp_path):
    values = np.random.default_rng(0).normal(0, 1, (5, 4, 6)).astype(np.float16)
    file = PlaneFile(tmp_path / "f", 5, (4, 6), np.float16)
    assert not file.read(3).any(), "what was never written is 0"
    for n in (4, 0, 2, 3, 1):
        file.write(n, values[n])
    assert np.array_equal(file.read(2), values[2])
    assert np.array_equal(file.rows(1, 3, range(1, 4)), values[1:4, 1:3])
    file.write(1, np.ones((2, 3)), region=(1, 2, 3, 5))
    wanted = values[1].copy()
    wanted[1:3, 2:5] = 1
    assert np.array_equal(file.read(1), wanted)
    with pytest.raises(ValueError, match="does not fit"):
        file.write(0, np.zeros((3, 3)))
    file.close()
    file.close()
    assert not (tmp_path / "f").exists()


def test_a_folder_that_is_gone_is_told(tmp_path):
    with pytest.raises(nf.StorageError, match="Free some space"):
        PlaneFile(tmp_path / "gone" / "f", 2, (4, 4), np.uint8)


@pytest.mark.parametrize(
    ("axes", "link", "wanted"),
    [("zyx", "auto", "z"), ("tyx", "t", "t"), ("tzyx", "t", "zt"), ("tzyx", "z", "z")],
)
def test_axes_that_are_linked(axes, link, wanted):
    assert link_axes(axes, link) == wanted


@pytest.mark.parametrize(("axes", "link"), [("yx", "auto"), ("zyx", "t"), ("tyx", "z")])
def test_an_axis_that_is_not_there_cannot_be_linked(axes, link):
    with pytest.raises(nf.DataError, match="can't be linked"):
        link_axes(axes, link)
