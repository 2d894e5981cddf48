"""Volumes from end to end: views, supports, smoothing, linking, bad input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

import napari_fewshot as nf
from napari_fewshot.data import Image, PromptSet, SupportSet
from napari_fewshot.inference import SegmentRequest, Summary
from napari_fewshot.inference.volumes import plan_volume
from napari_fewshot.io import cache_folder
from napari_fewshot.session._jobs import InlineExecutor, get_executor
from napari_fewshot.session._volumes import submit

SPACING = (3.0, 1.0, 1.0)
# A method that takes milliseconds per plane.
FAST = {"method": "panet", "leave_one_out": False}


def make_volume(seed, depth=7, side=28):
    """Return a volume with one bright ellipsoid, and where it is."""
    rng = np.random.default_rng(seed)
    z, y, x = np.mgrid[:depth, :side, :side]
    centre = np.array([depth, side, side]) / 2 + rng.uniform(-1, 1, 3) * [0.3, 3, 3]
    away = sum(
        ((a - c) * s) ** 2 for a, c, s in zip((z, y, x), centre, SPACING, strict=True)
    )
    truth = (away < 7.5**2).astype(int)
    image = 60 + 120 * truth + rng.normal(0, 12, truth.shape)
    return image.astype(np.float32), truth


@pytest.fixture(scope="module")
def support():
    image, truth = make_volume(0)
    return nf.Support(image, truth, scale=SPACING, name="one")


@pytest.fixture(scope="module")
def query():
    return make_volume(5)


def overlap(found, truth):
    found, truth = np.asarray(found) > 0, truth > 0
    return 2 * (found & truth).sum() / (found.sum() + truth.sum())


def segment(image, support, **options):
    return nf.segment(image, support, **{"scale": SPACING, **FAST, **options})


def request_of(image, support, axes="zyx", **params):
    params = {"leave_one_out": False, **params}
    return SegmentRequest(
        Image.from_array(image, axes=axes, scale=SPACING),
        SupportSet.of(support),
        method="panet",
        params=params,
    )


def outcome(request, executor=None):
    """Run a request; return the outcome, all planes and the progress."""
    planes, progress = [], []
    job = submit(
        executor or InlineExecutor(),
        request,
        on_plane=planes.append,
        on_progress=progress.append,
        on_done=lambda _: None,
    )
    job.wait()
    return job.outcome, planes, progress


# -- views -----------------------------------------------------------------------------


def test_usual_values_change_nothing(query, support):
    request = request_of(query[0], support, view="planes", link="none", min_planes=1)
    assert plan_volume(request) is None
    plain = segment(query[0], support)
    found = segment(query[0], support, view="planes", smooth_depth=0, link="none")
    assert np.array_equal(found.labels, plain.labels)
    assert found.scores == plain.scores


def test_three_views_are_fused(query, support):
    image, truth = query
    found = segment(image, support, view="three")
    assert found.labels.shape == truth.shape
    assert overlap(found.labels, truth) > 0.8
    assert found.present == {1: True}
    assert 0 < found.scores[1] <= 1
    views = found.provenance["views"]
    assert list(views["seconds"]) == ["planes", "y", "x"]
    assert sum(views["weights"]["1"].values()) == pytest.approx(1, abs=1e-3)
    assert found.provenance["params"]["view"] == "three"
    assert not found.probabilities, "of a volume they are not kept"
    kept = segment(image, support, view="three", keep_probabilities=True)
    assert np.array_equal(
        kept.probabilities[1] >= 0.5, np.asarray(kept.labels) > 0
    ) or (
        # Holes are filled after the boundary was drawn.
        overlap(kept.probabilities[1] >= 0.5, np.asarray(kept.labels)) > 0.98
    )


def test_the_fused_map_is_the_mean_of_the_three_views(query, support):
    """Against views computed by hand from whole transposed arrays."""
    image, truth = query
    options = {"keep_probabilities": True, "fill_holes": False, "match_scale": False}
    size = {"scale": (1, 1, 1), "axes": "zyx"}
    support = nf.Support(support.image, support.labels, scale=(1, 1, 1))
    found = segment(image, support, view="three", **options, **size)

    def seen(order):
        turned = nf.Support(
            np.transpose(support.image, order),
            np.transpose(support.labels, order),
            scale=(1, 1, 1),
            axes="zyx",
        )
        window = Image.from_array(support.image).window
        turned.source.__dict__["window"] = window
        picture = Image.from_array(np.transpose(image, order), axes="zyx", scale=1.0)
        picture.__dict__["window"] = Image.from_array(image).window
        request = SegmentRequest(
            picture,
            SupportSet.of(turned),
            method="panet",
            params={"leave_one_out": False, "match_scale": False},
            keep_probabilities=True,
        )
        done, planes, _ = outcome(request)
        assert isinstance(done, Summary)
        maps = np.stack([p.probabilities[1] for p in planes]).astype(np.float32)
        return np.transpose(maps, np.argsort(order))

    maps = [seen((0, 1, 2)), seen((1, 0, 2)), seen((2, 0, 1))]
    clipped = [np.clip(m, 1e-4, 1 - 1e-4) for m in maps]
    odds = np.mean([np.clip(np.log(p / (1 - p)), -4, 4) for p in clipped], axis=0)
    wanted = 1 / (1 + np.exp(-odds))
    assert np.abs(found.probabilities[1] - wanted).max() < 5e-3
    assert overlap(found.labels, truth) > 0.5


def test_stacks_see_their_neighbours(query, support):
    image, truth = query
    found = segment(image, support, view="stack")
    assert overlap(found.labels, truth) > 0.8
    assert found.provenance["inputs"]["query"]["channels"] == [0, 1, 2]
    other = image.copy()
    other[2] = image[2][::-1]
    changed = segment(other, support, view="stack", keep_probabilities=True)
    usual = segment(image, support, view="stack", keep_probabilities=True)
    differs = [
        np.abs(a.astype(float) - b).max() > 1e-3
        for a, b in zip(changed.probabilities[1], usual.probabilities[1], strict=True)
    ]
    assert differs == [False, True, True, True, False, False, False]


@pytest.mark.parametrize("view", ["planes", "stack", "three"])
def test_supports_come_from_several_volumes(query, view, support):
    image, truth = make_volume(2, depth=5)
    # Twice as coarse in plane, and planes as thick as two of the others.
    coarse = nf.Support(
        image[:, ::2, ::2], truth[:, ::2, ::2], scale=(3.0, 2.0, 2.0), name="coarse"
    )
    found = segment(query[0], [support, coarse], view=view)
    assert overlap(found.labels, query[1]) > 0.75
    assert len(found.provenance["inputs"]["supports"]) == 2


def test_views_over_time_are_those_of_each_time(query, support):
    other = make_volume(6)
    both = np.stack([query[0], other[0]])
    found = segment(both, support, view="three", axes="tzyx", smooth_depth=3.0)
    assert found.labels.shape == both.shape
    for labels, truth in zip(found.labels, (query[1], other[1]), strict=True):
        assert overlap(labels, truth) > 0.75


def test_executors_of_a_process_give_the_same(query, support):
    process = get_executor("process")
    params = {"view": "three", "link": "z"}
    here, planes, _ = outcome(request_of(query[0], support, **params))
    there, sent, _ = outcome(request_of(query[0], support, **params), process)
    assert isinstance(here, Summary)
    assert isinstance(there, Summary), there
    for a, b in zip(planes, sent, strict=True):
        assert a.plane == b.plane
        assert np.array_equal(a.labels, b.labels)


def test_only_one_plane_is_read_at_a_time(support):
    class Strict:
        def __init__(self, array):
            self.array, self.shape, self.dtype = array, array.shape, array.dtype

        def __getitem__(self, key):
            assert isinstance(key[0], (int, np.integer)), "more than one plane"
            return self.array[key]

    image, truth = make_volume(5)
    lazy = nf.Support(Strict(support.image), Strict(support.labels), scale=SPACING)
    for params in ({"view": "three"}, {"view": "stack"}, {"smooth_depth": 3.0}):
        done, planes, _ = outcome(request_of(Strict(image), lazy, **params))
        assert isinstance(done, Summary), done
        assert overlap(np.stack([p.labels for p in planes[-7:]]), truth) > 0.7


# -- depth and objects -----------------------------------------------------------------


def test_smoothing_repairs_a_spoilt_plane(query, support):
    image, truth = query[0].copy(), query[1]
    image[3] = np.random.default_rng(0).normal(60, 12, image[3].shape)
    spoilt = segment(image, support)
    smooth = segment(image, support, smooth_depth=3.0)
    here = truth[3]
    assert overlap(smooth.labels[3], here) > overlap(spoilt.labels[3], here) + 0.2


def test_objects_of_few_planes_are_removed(support, query):
    image = query[0].copy()
    image[6, 2:9, 2:9] = 190  # in one plane only
    before = np.asarray(segment(image, support).labels)
    touching = np.zeros((3, 3, 3), bool)
    touching[1], touching[:, 1, 1] = True, True
    parts, count = ndimage.label(before, touching)
    planes = [len(np.unique(np.nonzero(parts == n)[0])) for n in range(count + 1)]
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    assert 1 in planes[1:], "there is something to remove"
    for params, stays in (
        ({"min_planes": 2}, np.array(planes) >= 2),
        ({"min_volume": 60}, sizes >= 60),
        ({"largest_volume": True}, sizes == sizes.max()),
    ):
        stays[0] = False
        found = segment(image, support, **params)
        assert np.array_equal(found.labels > 0, stays[parts]), params
    none = segment(image, support, min_volume=1e6)
    assert not none.labels.any()
    assert none.present == {1: False}


def test_instances_hold_one_number_through_a_volume(query, support):
    found = segment(query[0], support, link="z", largest_volume=True)
    assert set(np.unique(found.instances)) == {0, 1}
    assert np.array_equal(np.asarray(found.instances) > 0, found.labels > 0)
    (track,) = found.tracks.table
    assert track.last > track.first
    assert found.tracks.points.shape == (track.last - track.first + 1, 4)
    loose = segment(query[0], support, instances="components")
    assert len(np.unique(loose.instances)) > 2, "without links every plane has its own"


def test_instances_are_linked_over_time(support):
    frames = [make_volume(seed)[0][3] for seed in (5, 5, 6)]
    found = segment(np.stack(frames), support, axes="tyx", scale=(1, 1), link="auto")
    biggest = [np.bincount(f[f > 0]).argmax() for f in np.asarray(found.instances)]
    assert len(set(biggest)) == 1


def test_chosen_planes_and_regions(query, support):
    request = replace(
        request_of(query[0], support, view="three"),
        planes=(4, 2),
        region=(0, 0, 28, 14),
    )
    done, planes, _ = outcome(request)
    assert isinstance(done, Summary), done
    assert [p.plane for p in planes[-2:]] == [4, 2]
    for plane in planes[-2:]:
        assert plane.labels.shape == (28, 28)
        assert not plane.labels[:, 14:].any()
        assert plane.labels[:, :14].any()


@pytest.mark.parametrize("view", ["stack", "three"])
def test_large_planes_are_tiled_within_views(support, view):
    image, truth = make_volume(5)
    wide, goal = (np.concatenate([v] * 3, axis=2) for v in (image, truth))
    options = {"view": view, "smooth_depth": 3.0, "keep_probabilities": True}
    whole = segment(wide, support, **options)
    tiled = segment(wide, support, tile=64, **options)
    assert tiled.labels.shape == wide.shape
    assert overlap(tiled.labels, goal) > 0.7
    # A method without large context sees the same in a tile, but for its rims.
    assert overlap(tiled.labels, np.asarray(whole.labels)) > 0.8
    assert tiled.probabilities[1].shape == wide.shape
    inside = np.zeros(wide.shape[1:], bool)
    inside[:, :40] = True
    part = segment(wide, support, tile=64, inside=inside, **options)
    assert np.array_equal(part.labels[:, :, :40] > 0, tiled.labels[:, :, :40] > 0) or (
        overlap(part.labels[:, :, :40], np.asarray(tiled.labels)[:, :, :40]) > 0.95
    )
    assert not part.labels[:, :, 40:].any()


def test_prompts_decide_where_they_are(query, support):
    nothing = PromptSet(points=np.array([[3, 14, 14]]), point_labels=np.array([0]))
    found = segment(query[0], support, view="three", prompts=nothing)
    plain = segment(query[0], support, prompts=nothing)
    usual = segment(query[0], support, view="three")
    assert np.array_equal(found.labels[3], plain.labels[3])
    assert np.array_equal(found.labels[2], usual.labels[2])


# -- trouble ---------------------------------------------------------------------------


@pytest.mark.parametrize("view", ["three", "stack"])
def test_a_plane_is_no_volume(support, query, view):
    with pytest.raises(nf.DataError, match="single plane, not a volume"):
        segment(query[0][3], support, view=view, scale=(1, 1))
    with pytest.raises(nf.DataError, match="single plane, not a volume"):
        segment(query[0][3:4], support, view=view)


def test_planes_as_supports_cannot_be_cut(query, support):
    flat = nf.Support(support.image[3], support.labels[3], scale=(1, 1), name="flat")
    with pytest.raises(nf.SupportError, match=r"flat is a single plane.*view='planes'"):
        segment(query[0], flat, view="three")
    found = segment(query[0], flat, view="stack")
    assert any("single planes" in n for n in found.provenance["notes"])
    mixed = segment(query[0], [support, flat], view="three")
    assert any("flat is a single plane" in n for n in mixed.provenance["notes"])


def test_a_thin_annotation_cannot_be_cut(query, support):
    thin = nf.Support(support.image, support.labels, planes=[2, 4], scale=SPACING)
    with pytest.raises(nf.SupportError, match="next to each other"):
        segment(query[0], thin, view="three")


def test_prompts_alone_say_nothing_of_the_side(query):
    prompts = PromptSet(points=np.array([[3, 14, 14]]))
    with pytest.raises(nf.PromptError, match="views from the side"):
        segment(query[0], None, view="three", prompts=prompts)


@pytest.mark.parametrize(
    ("params", "error", "words"),
    [
        ({"view": "four"}, ValueError, "not one of"),
        ({"link": "t"}, nf.DataError, "no t axis"),
        ({"stack_reach": 9}, ValueError, "outside"),
        ({"smooth_depht": 1}, TypeError, "smooth_depth"),
        ({"min_planes": 0}, ValueError, "outside"),
    ],
)
def test_bad_parameters_are_told(query, support, params, error, words):
    with pytest.raises(error, match=words):
        segment(query[0], support, **params)


def test_a_query_of_other_channels_is_told_in_its_own_numbers(query, support):
    colour = np.stack([query[0]] * 2, -1)
    with pytest.raises(nf.DataError, match="has 2 channels, but the supports have 1"):
        segment(colour, support, view="stack", axes="zyxc")


def test_a_volume_that_fails_in_the_middle_leaves_nothing_behind(query, support):
    class Broken:
        shape, dtype = query[0].shape, query[0].dtype
        reads = 0

        def __getitem__(self, key):
            Broken.reads += 1
            if Broken.reads > 14:
                raise OSError("the disk is gone")
            return query[0][key]

    done, _, _ = outcome(request_of(Broken(), support, view="three"))
    assert isinstance(done, Exception)
    assert not list((cache_folder() / "volumes").glob("*"))


def test_stopping_between_views_ends_the_run(query, support):
    handle, process = [], get_executor("process")

    def stop(progress):
        if progress.stage.startswith("Cuts") and handle:
            handle[0].cancel()

    handle.append(
        submit(
            process,
            request_of(query[0], support, view="three"),
            on_plane=lambda _: None,
            on_progress=stop,
            on_done=lambda _: None,
        )
    )
    assert handle[0].wait()
    assert isinstance(handle[0].outcome, nf.Cancelled)
    assert not list((cache_folder() / "volumes").glob("*"))


def test_progress_only_rises(query, support):
    done, _, progress = outcome(request_of(query[0], support, view="three"))
    assert isinstance(done, Summary)
    shares = [p.done / p.total for p in progress if p.total]
    assert shares == sorted(shares)
    assert shares[-1] <= 1
    assert any(p.stage.startswith("Cuts along x: ") for p in progress)
