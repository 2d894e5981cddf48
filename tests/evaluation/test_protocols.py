"""Both benchmark protocols: the very same episodes as the baseline, known floors."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest

from napari_fewshot.cli._benchmark import plane_query, plane_support
from napari_fewshot.cli._fewshot_engines import ForestEngine
from napari_fewshot.data import SupportSet
from napari_fewshot.errors import DataError
from napari_fewshot.evaluation import (
    EpisodeScore,
    Row,
    Volume,
    VolumeRules,
    episode,
    macro,
    make_pair,
    row_of,
    score_volume,
    volume_episodes,
)
from napari_fewshot.io import open_labels
from tests.conftest import SHARED


@pytest.fixture(scope="module")
def baseline():
    path = SHARED / "tools" / "few_shot_baseline.py"
    if not path.exists():
        pytest.skip("the baseline script is not beside this checkout")
    spec = importlib.util.spec_from_file_location("few_shot_baseline", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("is_ordered", [False, True])
@pytest.mark.parametrize("shots", [1, 5])
def test_the_same_episodes_as_the_baseline(baseline, shots, is_ordered):
    for seed in range(5):
        groups = [str(i // 2) for i in range(24)]
        pairs = [(None, None, g) for g in groups]
        wanted = baseline.episode(pairs, shots, seed, is_ordered)
        found = episode(groups, shots, seed, is_ordered=is_ordered)
        assert found == tuple([int(i) for i in part] for part in wanted)


def test_the_same_images_as_the_baseline(baseline, shared_data):
    folder = shared_data / "dsb2018_fluo"
    facts = json.loads((folder / "dataset.json").read_text())
    image, mask, group = baseline.load_items(folder, facts)[0]
    pair = make_pair(image, mask, 1, group)
    wanted = baseline.fit_longest(baseline.normalise(image))
    np.testing.assert_allclose(pair.image, wanted, atol=1e-4)
    np.testing.assert_array_equal(
        pair.mask, baseline.fit_mask(mask == 1, wanted.shape[:2])
    )


def test_too_few_queries():
    assert episode(["a"] * 4, 2, 0, is_ordered=False) is None
    assert episode([str(i) for i in range(4)], 2, 0, is_ordered=False) is None


def test_macro_is_a_mean_of_means():
    rows = [
        Row("a", "x", 1, dice=0.2, seconds_per_image=1.0),
        Row("a", "y", 1, dice=0.4, seconds_per_image=1.0),
        Row("b", "x", 1, dice=0.9, seconds_per_image=4.0),
        Row("b", "x", 5),
    ]
    found = macro(rows)
    assert found["by_shots"]["1"] == pytest.approx(0.6)
    assert found["seconds_per_image"] == pytest.approx(2.0)
    assert found["rows_without_queries"] == 1


def test_the_same_forest_as_the_baseline(baseline):
    rng = np.random.default_rng(0)
    truth = np.zeros((24, 64), bool)
    truth[6:18, 20:44] = True
    images = [
        np.clip(0.3 + 0.4 * truth + rng.normal(0, 0.2, truth.shape), 0, 1)[..., None]
        for _ in range(2)
    ]
    support = SupportSet([plane_support(images[0], truth, "0")])
    answers = ForestEngine().segment(support, plane_query(images[1]))
    wanted = baseline.random_forest([(images[0], truth)], images[1:])[0] > 0.5
    assert wanted[truth].mean() > 0.7
    np.testing.assert_array_equal(answers.masks[0], wanted)


def cube(at, value=1):
    labels = np.zeros((6, 20, 20), int)
    labels[1:5, 5:15, at : at + 8] = value
    return Volume("v", labels.astype(np.float32), labels)


@pytest.mark.parametrize(
    ("rule", "supports", "first"),
    [
        ("extra_scan", [4, 8, 12, 16, 0], [0, 1, 2, 3]),
        ("index_2", [2, 6, 10, 14, 18], [0, 1, 3, 4]),
    ],
)
def test_folds_of_the_volume_protocol(rule, supports, first):
    volumes = [cube(3)] * 20
    found = list(volume_episodes(volumes, [1], VolumeRules(rule)))
    assert len(found) == 20
    assert [e.support for e in found[::4]] == supports
    assert [e.query for e in found[:4]] == first
    last = [e.query for e in found[-4:]]
    assert last == ([16, 17, 18, 19] if rule == "extra_scan" else [16, 17, 19, 0])
    if rule == "extra_scan":
        assert sorted(e.query for e in found) == list(range(20))
    few = list(volume_episodes(volumes, [1], VolumeRules(rule, "EP1", 1)))
    assert [e.query for e in few] == [e.query for e in found[::4]]


def test_episodes_of_the_volume_protocol():
    volumes = [cube(3)] * 5
    one = next(volume_episodes(volumes, [1]))
    # Four slices hold the class: int(4 p) of them, and chunks of 1, 1 and 2.
    assert one.support_planes == (1, 3, 4)
    assert one.chunks == ((1,), (2,), (3, 4))
    two = next(volume_episodes(volumes, [1], VolumeRules(episode="EP2")))
    assert two.support_planes == (3,)
    assert two.planes == [0, 1, 2, 3, 4, 5]
    assert VolumeRules().flags["extent_oracle"]
    assert not VolumeRules(episode="EP2").flags["extent_oracle"]
    assert list(volume_episodes([cube(3, 2)] * 5, [1])) == []
    with pytest.raises(DataError, match="at least 5 scans"):
        list(volume_episodes(volumes[:4], [1]))
    with pytest.raises(DataError, match="at least 10 scans"):
        list(volume_episodes(volumes, [1], VolumeRules("index_2")))


def test_both_flavours_of_dice_and_hd95():
    truth = cube(3).labels == 1
    masks = np.roll(truth, 2, axis=2)
    masks[4] = False
    masks[0, 0, 0] = True
    found = score_volume(masks, truth, (7.0, 1.0, 0.5))
    # Slices of 80 pixels, 60 of them shared: three hits, one miss, one wrong pixel.
    assert found.dice == pytest.approx(2 * 180 / (320 + 241))
    assert found.slice_dice == pytest.approx((3 * 0.75 + 0) / 4)
    assert found.hd95 == pytest.approx(7.0, abs=0.1)
    assert score_volume(masks, truth).hd95 is None
    assert score_volume(truth & False, truth, (1, 1, 1)).hd95 == np.inf


def test_scores_travel_as_json_and_means_are_by_fold():
    scores = [
        EpisodeScore("d", "c", 1, fold, (name,), {"dice": (v,), "hd95": (h,)}, (0.5,))
        for fold, name, v, h in (("0", "a", 0.2, 3.0), ("0", "b", 0.4, np.inf))
    ]
    scores.append(EpisodeScore("d", "c", 1, "1", ("c",), {"dice": (0.9,)}))
    for score in scores:
        text = json.dumps(score.as_dict(), allow_nan=False)
        assert EpisodeScore.from_dict(json.loads(text)) == score
    assert row_of(scores).dice == pytest.approx(0.5)
    assert row_of(scores, by_group=True).dice == pytest.approx(0.6)


@pytest.fixture(scope="module")
def chaos():
    root = SHARED / "volumes" / "chaos_t2"
    if not root.is_dir():
        pytest.skip("the shared volumes are not beside this checkout")
    items = json.loads((root / "dataset.json").read_text())["items"]
    items = sorted(items, key=lambda item: int(item["group"]))
    labels = [np.asarray(open_labels(root / item["mask"])) for item in items]
    return [Volume(i["group"], x, x) for i, x in zip(items, labels, strict=True)]


def copied(mask, truth):
    return mask


def centred(mask, truth):
    """Copy the mask to where the truth has its centre."""
    from scipy import ndimage

    if not truth.any():
        return mask
    centres = [ndimage.center_of_mass(m) for m in (truth, mask)]
    shift = [round(t - m) for t, m in zip(*centres, strict=True)]
    return ndimage.shift(mask.astype(np.uint8), shift, order=0) > 0


def boxed(mask, truth):
    rows, columns = truth.any(axis=1), truth.any(axis=0)
    return rows[:, None] & columns


@pytest.mark.parametrize(
    ("answer", "mean", "by_class"),
    [
        (copied, 44.2, [58.6, 38.9, 44.3, 35.2]),
        (centred, 71.6, [67.5, 78.5, 78.6, 61.7]),
        (boxed, 78.8, [75.3, 84.6, 85.4, 70.0]),
    ],
)
def test_floors_and_ceilings_of_the_volume_protocol(chaos, answer, mean, by_class):
    """Figures of CHAOS-T2 that need no method: a check of the harness."""
    found = []
    for value in (1, 2, 3, 4):
        scores = []
        for e in volume_episodes(chaos, [value]):
            support, query = chaos[e.support].labels, chaos[e.query].labels
            masks = [
                answer(support[plane] == value, query[z] == value)
                for plane, chunk in zip(e.support_planes, e.chunks, strict=True)
                for z in chunk
            ]
            score = score_volume(np.stack(masks), query[e.planes] == value)
            figures = {"dice": (score.dice,), "slice_dice": (score.slice_dice,)}
            scores.append(EpisodeScore("", "", 1, str(e.fold), ("",), figures))
        found.append(100 * row_of(scores, by_group=True).dice)
    # By class the boxes were known at half the resolution.
    np.testing.assert_allclose(found, by_class, atol=0.5 if answer is boxed else 0.3)
    assert np.mean(found) == pytest.approx(mean, abs=0.3)
