"""Metrics against independent implementations and published golden values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

import napari_fewshot as nf
from napari_fewshot.evaluation import instance_metrics, surface_metrics

RNG = np.random.default_rng(0)


def ball(centre, radius, spacing, shape):
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    return ((grid * spacing - centre) ** 2).sum(-1) <= radius**2


def edge_points(mask, spacing):
    """Boundary elements found by looking at every face neighbour."""
    padded = np.pad(mask, 1)
    core = padded.copy()
    for axis in range(mask.ndim):
        for step in (-1, 1):
            core &= np.roll(padded, step, axis)
    inner = core[tuple(slice(1, -1) for _ in mask.shape)]
    return np.argwhere(mask & ~inner) * np.asarray(spacing)


def brute_force(p, r, spacing, tau):
    distances = cdist(edge_points(p, spacing), edge_points(r, spacing))
    a, b = distances.min(1), distances.min(0)
    return {
        "hd95": max(np.percentile(a, 95), np.percentile(b, 95)),
        "assd": (a.sum() + b.sum()) / (len(a) + len(b)),
        "nsd": ((a <= tau).sum() + (b <= tau).sum()) / (len(a) + len(b)),
    }


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (2.0, 0.5)])
def test_surface_metrics_equal_brute_force(seed, spacing):
    rng = np.random.default_rng(seed)
    p, r = rng.random((2, 24, 30)) > 0.7
    wanted = brute_force(p, r, spacing, 1.5)
    found = surface_metrics(p, r, spacing, 1.5)
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value), name


def test_golden_values_on_an_anisotropic_grid():
    """Values on which MedPy, MONAI and MetricsReloaded agree."""
    spacing, shape = (3.0, 1.0, 1.0), (24, 64, 64)
    r = ball((36, 32, 32), 15, spacing, shape)
    p = ball((36, 34, 32), 15, spacing, shape) | ball((36, 54, 50), 3, spacing, shape)
    assert (p.sum(), r.sum()) == (4662, 4631)
    row = nf.evaluate(p, r, scale=spacing, tau=2.0).iloc[0]
    assert row["dice"] == pytest.approx(0.898956, abs=1e-6)
    assert row["hd95"] == pytest.approx(2.0)
    assert row["assd"] == pytest.approx(0.74753, abs=1e-5)
    assert row["nsd_2"] == pytest.approx(0.98962, abs=1e-5)


def test_a_far_false_positive_is_not_hidden():
    """HD95 is taken per direction; pooling both would hide the speck in the corner."""
    r = np.zeros((200, 200), bool)
    r[40:160, 40:160] = True
    p = r.copy()
    p[-9:, -9:] = True
    found = surface_metrics(p, r, (1.0, 1.0), 2.0)["hd95"]
    assert found == pytest.approx(brute_force(p, r, (1.0, 1.0), 2.0)["hd95"])
    assert found > 40
    distances = cdist(edge_points(p, (1, 1)), edge_points(r, (1, 1)))
    pooled = np.percentile(np.r_[distances.min(1), distances.min(0)], 95)
    assert pooled == 0


def test_overlap_and_volume():
    p, r = np.zeros((2, 10, 10), int)
    p[:4], r[2:6] = 1, 1
    metrics = ["dice", "iou", "volume_error", "precision", "recall"]
    row = nf.evaluate(p, r, classes={1: "cell"}, metrics=metrics).iloc[0]
    assert row["class"] == "cell"
    assert row["dice"] == pytest.approx(0.5)
    assert row["iou"] == pytest.approx(1 / 3)
    assert row["volume_error"] == 0
    assert row["precision"] == row["recall"] == pytest.approx(0.5)


def test_empty_masks():
    empty, full = np.zeros((8, 8), int), np.ones((8, 8), int)
    both = nf.evaluate(empty, empty, classes={1: "x"}).iloc[0]
    assert both.drop(["case", "class"]).astype(float).isna().all()
    assert (
        nf.evaluate(empty, empty, classes={1: "x"}, both_empty=1).iloc[0]["dice"] == 1
    )
    missed = nf.evaluate(empty, full).iloc[0]
    assert missed["dice"] == 0
    assert np.isinf(missed["hd95"])
    assert missed["nsd_2"] == 0
    wrong = nf.evaluate(full, empty).iloc[0]
    assert np.isinf(wrong["volume_error"])


def test_columns_and_classes():
    labels = RNG.integers(0, 3, (16, 16))
    table = nf.evaluate(labels, labels, scale=(0.5, 0.25), case="a")
    assert list(table.columns) == [
        "case",
        "class",
        "dice",
        "iou",
        "hd95",
        "assd",
        "nsd_1",
        "volume_error",
    ]
    assert list(table["class"]) == ["1", "2"]
    assert (table["dice"] == 1).all()


def greedy_f1(p, r, t):
    """An independent count: at t > 0.5 a match is unique."""
    hits = 0
    for i in np.unique(p[p > 0]):
        for j in np.unique(r[r > 0]):
            both = ((p == i) & (r == j)).sum()
            hits += both / ((p == i) | (r == j)).sum() > t
    n = len(np.unique(p[p > 0])) + len(np.unique(r[r > 0]))
    return 2 * hits / n, hits / (n - hits)


@pytest.mark.parametrize("seed", range(3))
def test_instances_equal_an_independent_count(seed):
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.standard_normal((2, 64, 64)), (0, 2, 2))
    r = ndimage.label(field[0] > 0.05)[0]
    p = ndimage.label(field[0] + 0.3 * field[1] > 0.05)[0]
    for t in (0.51, 0.7):
        found = instance_metrics(p, r, (t,))
        assert (found[f"f1@{t:g}"], found[f"ap@{t:g}"]) == pytest.approx(
            greedy_f1(p, r, t)
        )
    table = nf.evaluate(p, r, metrics=["f1@0.5", "ap@0.5"])
    assert 0 < table["f1@0.5"][0] <= 1


@pytest.mark.parametrize(
    ("labels", "truth", "options", "words"),
    [
        pytest.param(np.ones((4, 4)), np.ones((5, 5)), {}, "same size", id="shape"),
        pytest.param(np.full((4, 4), 0.5), np.ones((4, 4)), {}, "whole", id="float"),
        pytest.param(-np.ones((4, 4)), np.ones((4, 4)), {}, "negative", id="negative"),
        pytest.param(
            np.ones((4, 4), complex), np.ones((4, 4)), {}, "dtype", id="complex"
        ),
        pytest.param(
            np.ones((4, 4)), np.ones((4, 4)), {"scale": (1, 2, 3)}, "2", id="scale"
        ),
        pytest.param(
            np.ones((4, 4)), np.ones((4, 4)), {"metrics": ["f2"]}, "f2", id="metric"
        ),
    ],
)
def test_bad_input(labels, truth, options, words):
    with pytest.raises(nf.DataError, match=words):
        nf.evaluate(labels, truth, **options)
