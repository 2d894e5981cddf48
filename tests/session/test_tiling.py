"""Large planes from end to end: in tiles or whole, the same comes out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

import napari_fewshot as nf
from napari_fewshot.data import Image, SupportSet
from napari_fewshot.errors import Cancelled, DataError
from napari_fewshot.inference import SegmentRequest, Summary
from napari_fewshot.session import InlineExecutor, Session
from napari_fewshot.session._api import run_to_end
from napari_fewshot.session._collect import Collector
from napari_fewshot.session._jobs import get_executor
from napari_fewshot.session._tiling import submit

FAST = {
    "method": "pixel",
    "leave_one_out": False,
    "trees": 5,
    "max_side": 8192,
    "position": "off",
}
SHAPE = (230, 300)


@pytest.fixture(scope="module")
def support(blob_pair):
    return nf.Support(*blob_pair(0))


@pytest.fixture(scope="module")
def slide(blob_pair):
    return blob_pair(5, SHAPE, 40)[0]


@pytest.fixture(scope="module")
def tiled(slide, support):
    return nf.segment(slide, support, tile=128, instances="components", **FAST)


def dice(a, b):
    return 2 * ((a > 0) & (b > 0)).sum() / ((a > 0).sum() + (b > 0).sum())


def request_for(slide, support, **options):
    params = {k: v for k, v in FAST.items() if k != "method"} | {"tile": 128}
    params |= options.pop("params", {})
    return SegmentRequest(
        Image.from_array(slide, name="slide"),
        SupportSet([support]),
        method="pixel",
        params=params,
        **options,
    )


def test_tiles_give_what_the_whole_plane_gives(slide, support, tiled):
    whole = nf.segment(slide, support, instances="components", **FAST)
    assert tiled.provenance["tiles"]["grid"] == [3, 3]
    assert dice(whole.labels, tiled.labels) >= 0.99
    count = int(whole.instances.max())
    assert abs(int(tiled.instances.max()) - count) <= max(1, 0.01 * count)
    assert tiled.scores[1] == pytest.approx(whole.scores[1], abs=0.03)
    assert tiled.present == whole.present == {1: True}
    assert tiled.classes == whole.classes
    np.testing.assert_allclose(
        np.asarray(tiled.probabilities[1], float),
        np.asarray(whole.probabilities[1], float),
        atol=0.5,
    )
    np.testing.assert_array_equal(
        tiled.labels > 0, np.asarray(tiled.instances) > 0, "objects cover the labels"
    )


def test_position_is_that_on_the_plane(slide, support):
    options = {**FAST, "position": "on"}
    whole = nf.segment(slide, support, **options)
    tiles = nf.segment(slide, support, tile=128, **options)
    assert dice(whole.labels, tiles.labels) >= 0.99


def test_small_images_are_not_cut(blob_pair, support):
    found = nf.segment(blob_pair(2)[0], support, **FAST)
    assert "tiles" not in found.provenance


@pytest.mark.parametrize("method", ["prototype"])
def test_methods_on_embeddings_run_in_tiles(method, slide, support):
    found = nf.segment(
        slide, support, method=method, tile=128, leave_one_out=False, min_area=5
    )
    assert found.labels.shape == SHAPE
    assert set(np.unique(found.labels)) == {0, 1}


def test_the_worker_process_gives_the_same(slide, support, tiled):
    how = {"tile": 128, "instances": "components", **FAST}
    far = nf.segment(slide, support, executor="process", **how)
    np.testing.assert_array_equal(far.labels, tiled.labels)
    np.testing.assert_array_equal(far.instances, tiled.instances)
    assert far.scores == tiled.scores
    assert far.provenance["inputs"] == tiled.provenance["inputs"]


class Shuffled:
    """An executor that hands windows out in another order, some of them twice."""

    name = "shuffled"

    def __init__(self, seed):
        self.seed, self.inner = seed, InlineExecutor()

    def submit(self, request, *, on_plane, on_progress, on_done):
        results = []

        def hand_out(outcome):
            rng = np.random.default_rng(self.seed)
            for at in rng.permutation(len(results)).tolist():
                on_plane(results[at])
            on_plane(results[0])
            on_done(outcome)

        return self.inner.submit(
            request, on_plane=results.append, on_progress=on_progress, on_done=hand_out
        )

    def close(self):
        self.inner.close()


def test_order_does_not_matter(slide, support, tiled):
    found = nf.segment(
        slide,
        support,
        tile=128,
        instances="components",
        executor=Shuffled(3),
        **FAST,
    )
    np.testing.assert_array_equal(found.labels, tiled.labels)
    np.testing.assert_array_equal(found.instances, tiled.instances)
    assert found.scores == pytest.approx(tiled.scores)
    assert (
        found.provenance["inputs"]["query"]["fingerprint"]
        == tiled.provenance["inputs"]["query"]["fingerprint"]
    )


def test_a_region_is_cut_out_of_the_whole(slide, support):
    options = {**FAST, "fill_holes": False, "tile": 96}
    whole = nf.segment(slide, support, **options)
    top, left, bottom, right = region = (20, 130, 60, 190)
    seen = []
    part = nf.segment(slide, support, region=region, executor=Counting(seen), **options)
    wanted = np.zeros(SHAPE, np.int32)
    wanted[top:bottom, left:right] = whole.labels[top:bottom, left:right]
    np.testing.assert_array_equal(part.labels, wanted)
    assert 0 < len(seen) < np.prod(whole.provenance["tiles"]["grid"]) / 2
    outside = np.asarray(part.probabilities[1]).copy()
    outside[top:bottom, left:right] = 0
    assert not outside.any()


def test_a_mask_says_where(slide, support):
    options = {**FAST, "fill_holes": False, "tile": 96}
    whole = nf.segment(slide, support, **options)
    mask = np.zeros(SHAPE, bool)
    mask[100:170, 20:60] = True
    mask[160:200, 40:90] = True
    seen = []
    part = nf.segment(slide, support, inside=mask, executor=Counting(seen), **options)
    np.testing.assert_array_equal(part.labels, np.where(mask, whole.labels, 0))
    assert 0 < len(seen) < np.prod(whole.provenance["tiles"]["grid"])


def test_regions_and_masks_on_planes_taken_whole(blob_pair, support):
    image = blob_pair(2)[0]
    whole = nf.segment(image, support, instances="components", **FAST)
    mask = np.zeros(image.shape, bool)
    mask[:50, :70] = True
    part = nf.segment(
        image,
        support,
        instances="components",
        inside=mask,
        region=(10, 0, 96, 112),
        **FAST,
    )
    mask[:10] = False
    np.testing.assert_array_equal(part.labels, np.where(mask, whole.labels, 0))
    assert not part.instances[~mask].any()


@pytest.mark.parametrize("region", [(0, 0, 5), "all", (0, 0, 999, 5), (5, 5, 5, 9)])
def test_bad_regions_are_refused_in_words(region, slide, support):
    with pytest.raises(DataError, match="region"):
        nf.segment(slide, support, region=region, **FAST)


class Counting(InlineExecutor):
    """Notes which windows were asked for; may stop after some of them."""

    def __init__(self, seen, after=None):
        super().__init__()
        self.__post_init__()
        self.seen, self.after = seen, after

    def submit(self, request, *, on_plane, on_progress, on_done):
        def count(result):
            if self.after is not None and len(self.seen) >= self.after:
                raise Killed
            self.seen.append(result.plane)
            on_plane(result)

        return super().submit(
            request, on_plane=count, on_progress=on_progress, on_done=on_done
        )


class Killed(BaseException):
    """Nothing catches it, as if the program had ended."""


@pytest.mark.parametrize("after", [1, 4, 7])
def test_a_killed_run_goes_on_with_what_is_missing(
    after, slide, support, tiled, tmp_path
):
    out = tmp_path / "labels.zarr"
    options = {**FAST, "tile": 128, "instances": "components", "out": out}
    first, second = [], []
    with pytest.raises(Killed):
        nf.segment(slide, support, executor=Counting(first, after), **options)
    assert Path(f"{out}.parts").is_dir()
    found = nf.segment(slide, support, executor=Counting(second), **options)
    assert sorted(first + second) == list(range(9)), "a tile was repeated or forgotten"
    np.testing.assert_array_equal(zarr.open(out)[...], tiled.labels)
    np.testing.assert_array_equal(found.instances, tiled.instances)
    np.testing.assert_array_equal(found.probabilities[1], tiled.probabilities[1])
    assert found.scores == pytest.approx(tiled.scores)
    assert found.provenance["inputs"] == tiled.provenance["inputs"]
    assert not Path(f"{out}.parts").exists()


def test_another_request_does_not_take_over_old_tiles(slide, support, tmp_path):
    out = tmp_path / "labels.zarr"
    options = {**FAST, "tile": 128, "out": out}
    with pytest.raises(Killed):
        nf.segment(slide, support, executor=Counting([], 4), **options)
    seen = []
    changed = slide.copy()
    changed[100:140] = 255 - changed[100:140]
    found = nf.segment(changed, support, executor=Counting(seen), **options)
    assert len(seen) == 9
    fresh = nf.segment(changed, support, **{**options, "out": None})
    np.testing.assert_array_equal(np.asarray(found.labels), fresh.labels)


def test_cancelling_keeps_what_is_there(slide, support):
    request = request_for(slide, support)
    collector = Collector(request.query)
    jobs = []

    def on_plane(result):
        collector.add(result)
        if len(jobs) and np.count_nonzero(collector.labels):
            jobs[0].cancel()

    outcome = []
    job = submit(
        get_executor("process"),
        request,
        on_plane=on_plane,
        on_progress=lambda p: None,
        on_done=outcome.append,
    )
    jobs.append(job)
    assert job.wait(300)
    assert isinstance(job.outcome, Cancelled)
    assert collector.labels.any()


def test_trouble_with_results_is_told_once(slide, support):
    request = request_for(slide, support)

    def broken(result):
        raise DataError("The disk is full.")

    with pytest.raises(DataError, match="disk is full"):
        run_to_end(request, InlineExecutor(), broken)


def test_the_first_result_comes_with_the_first_tile(slide, support):
    request = request_for(slide, support, first=(200.0, 280.0))
    events = []

    class Noting(InlineExecutor):
        def submit(self, request, *, on_plane, on_progress, on_done):
            def take(result):
                events.append("tile")
                on_plane(result)

            return super().submit(
                request, on_plane=take, on_progress=on_progress, on_done=on_done
            )

    def show(result):
        if result.labels.any():
            events.append(result.region)

    run_to_end(request, Noting(), show)
    shown = next(i for i, e in enumerate(events) if e != "tile")
    assert events[:shown] == ["tile"]
    top, left, bottom, right = events[shown]
    assert top <= 200 < bottom
    assert left <= 280 < right


def test_stacks_of_large_planes(blob_pair, support):
    stack = np.stack([blob_pair(s, (140, 150), 12)[0] for s in (3, 4)])
    options = {**FAST, "tile": 96, "instances": "components"}
    found = nf.segment(stack, support, **options)
    assert found.plane_scores[1].shape == (2,)
    tops = [int(p.max()) for p in found.instances]
    assert tops[0] < tops[1]
    assert sorted(np.unique(found.instances)) == list(range(tops[1] + 1))
    for plane in range(2):
        alone = nf.segment(stack[plane], support, **options)
        # Intensities are those of the whole stack, so that not every pixel agrees.
        assert dice(alone.labels, found.labels[plane]) > 0.95


def test_a_session_segments_in_tiles(slide, support):
    session = Session(method="pixel", autosave=False)
    session.add_support(support.image, support.labels)
    session.set_query(slide)
    values = {k: v for k, v in FAST.items() if k != "method"}
    session.set_method(params={**values, "tile": 128})
    parts = []
    session.plane_finished.connect(lambda result: parts.append(result.region))
    found = session.segment()
    assert found.provenance["tiles"]["grid"] == [3, 3]
    assert len(set(parts)) == 9
    assert session.state.prediction is not None
    session.close()


def test_prompts_on_large_planes(slide, blob_pair):
    rng = np.random.default_rng(0)
    request = SegmentRequest(
        Image.from_array(slide),
        SupportSet([nf.Support(*blob_pair(0))]),
        prompts={1: nf.PromptSet(boxes=[(60, 90, 110, 170)])},
        method="pixel",
        params={**{k: v for k, v in FAST.items() if k != "method"}, "tile": 128},
    )
    found = Collector(request.query)
    summary = run_to_end(request, InlineExecutor(), found.add)
    assert isinstance(summary, Summary)
    assert found.labels.any()
    bad = nf.PromptSet(points=rng.uniform(400, 500, (1, 2)))
    with pytest.raises(nf.PromptError, match="outside the image"):
        nf.segment(slide, prompts=bad, tile=128, method="pixel")
