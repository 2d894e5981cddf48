"""Many objects like a few: candidates, what is chosen of them, and the method."""

import itertools

import numpy as np
import pytest

import napari_fewshot as nf
from napari_fewshot.data import Hooks, Plane, Sample
from napari_fewshot.evaluation import object_precision
from napari_fewshot.inference._numbered import numbered
from napari_fewshot.methods import get_method, make_params
from napari_fewshot.methods._object_scores import Lesson, fit_guide, fit_scorer
from napari_fewshot.ops import (
    Candidate,
    as_rows,
    best_apart,
    candidates_of,
    cut_candidates,
    level_candidates,
    object_overlaps,
    rings_of,
    shape_table,
)

SHAPE = (84, 110)


def plane_of(seed):
    """Return a plane with 12 discs, every other one bright, and their numbers.

    Two bright ones touch; the others are darker than the ground.
    """
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    numbers = np.zeros(SHAPE, np.int32)
    places = [(14 + 27 * i, 14 + 27 * j) for i in range(3) for j in range(4)]
    for number, (y, x) in enumerate(places, 1):
        shift = (0, 12) if number == 1 else rng.uniform(-2, 2, 2)
        near = np.hypot(rows - y - shift[0], columns - x - shift[1])
        numbers[(near < rng.uniform(7.0, 8.0)) & (numbers == 0)] = number
    bright = (numbers > 0) & ((numbers % 2 == 1) | (numbers == 2))
    dark = (numbers > 0) & ~bright
    image = 0.4 + 0.35 * bright - 0.25 * dark + rng.normal(0, 0.02, SHAPE)
    return image.astype(np.float32), np.where(bright, numbers, 0)


def fitted_on(pairs, model, **values):
    samples = [
        Sample(i[..., None], labels=(o > 0).astype(np.int32), group=n, name=str(n))
        for n, (i, o) in enumerate(pairs)
    ]
    method = get_method("instances")
    params = make_params(method.spec.params, {"leave_one_out": False, **values})
    return method.fit(samples, [1], params, model, Hooks())


def test_cuts_hold_the_whole_and_its_halves():
    rows, columns = np.mgrid[:20, :34]
    one, other = (np.hypot(rows - 9.5, columns - c) < 7 for c in (10, 23))
    found = cut_candidates(np.where(one | other, 0.9, 0.1).astype(np.float32))
    masks = [as_rows([c], one.shape).toarray().reshape(one.shape) > 0 for c in found]
    assert any((m == (one | other)).all() for m in masks)
    for half in (one, other):
        assert max((m & half).sum() / (m | half).sum() for m in masks) > 0.9


def test_levels_find_a_summit_on_a_plateau():
    landscape = np.zeros((30, 30), np.float32)
    landscape[4:26, 4:26] = 1
    landscape[9:21, 9:21] = 2
    found = level_candidates(landscape, landscape > 0, (100, 200))
    # Once as it is and once smoothed, where it is as large or not much different.
    assert (slice(9, 21), slice(9, 21)) in [c.place for c in found]
    assert all(100 <= c.mask.sum() <= 200 for c in found)
    assert level_candidates(landscape, np.zeros((30, 30), bool), (1, 900)) == []


def test_overlaps_rings_and_shapes_by_hand():
    objects = np.zeros((12, 12), np.int32)
    objects[2:6, 2:6], objects[8:10, 8:10] = 1, 2
    square = Candidate((slice(2, 6), slice(2, 8)), np.ones((4, 6), bool))
    rows = as_rows([square, *candidates_of(objects)], objects.shape)
    np.testing.assert_allclose(
        object_overlaps(rows, objects), [[16 / 24, 0], [1, 0], [0, 1]], rtol=1e-6
    )
    ring = rings_of([square], objects.shape)[0]
    whole = np.zeros(objects.shape, bool)
    whole[ring.place] = ring.mask
    assert not whole[2:6, 2:8].any()
    assert whole[0, 4]
    assert whole[4, 9]
    assert not whole[11, 4]
    np.testing.assert_allclose(shape_table([square]), [[24, 1]])


def test_best_apart_against_its_definition():
    rng = np.random.default_rng(0)
    boxes = [(slice(y, y + 5), slice(x, x + 5)) for y, x in rng.integers(0, 9, (9, 2))]
    found = [Candidate(b, np.ones((5, 5), bool)) for b in boxes]
    scores = rng.uniform(0.3, 1, 9)
    rows = as_rows(found, (14, 14))
    masks = rows.toarray() > 0
    kept = best_apart(rows, scores, 0.2)
    assert kept[0] == (int(scores.argmax()), pytest.approx(scores.max()))
    for (i, _), (j, _) in itertools.combinations(kept, 2):
        assert (masks[i] & masks[j]).sum() <= 0.5 * (masks[i] | masks[j]).sum()
    for rank, (i, score) in enumerate(kept):
        before = [masks[i] & masks[j] for j, _ in kept[:rank]]
        share = max([b.sum() / 25 for b in before], default=0)
        assert score == pytest.approx(scores[i] * np.sqrt(1 - share), rel=1e-5)
        assert score >= 0.2
    assert len(best_apart(rows, scores, 0.99 * scores.max())) <= len(kept)


def test_guide_points_from_the_rest_to_the_class():
    rng = np.random.default_rng(0)
    inside = rng.normal((1, 0), 0.1, (50, 2))
    outside = rng.normal((0, 0), (0.1, 3), (50, 2))
    guide = fit_guide(inside, outside)
    assert abs(guide.direction[1]) < 0.05 * guide.direction[0]
    assert guide.middle == pytest.approx(guide.direction[0] / 2, rel=0.2)


def test_scorer_learns_what_fits():
    rng = np.random.default_rng(0)
    lessons = []
    for _ in range(2):
        table = rng.uniform(0, 1, (60, 4)).astype(np.float32)
        apart = candidates_of(np.arange(1, 61)[:, None])
        lessons.append(Lesson(table, table[:, 1:2].copy(), as_rows(apart, (60, 1))))
    scorer = fit_scorer(lessons, 0)
    fresh = rng.uniform(0, 1, (200, 4)).astype(np.float32)
    assert np.corrcoef(scorer(fresh), fresh[:, 1])[0, 1] > 0.9
    assert scorer.usual > 0.6


def test_numbers_fit_the_labels():
    labels = np.zeros((10, 12), np.int32)
    labels[1:5, 1:9] = 1
    labels[7:9, 1:4] = 1
    labels[7:9, 8:11] = 2
    objects = np.zeros_like(labels)
    objects[0:4, 1:4], objects[1:5, 6:9] = 7, 4
    found = numbered(labels, {1: objects})
    assert ((found > 0) == (labels > 0)).all()
    assert sorted(np.unique(found)) == [0, 1, 2, 3, 4]
    assert found[4, 1] == found[1, 1] != found[4, 8]
    assert len(np.unique(found[labels == 2])) == 1


def test_three_of_many_are_enough():
    image, truth = plane_of(0)
    other, wanted = plane_of(9)
    three = np.where(np.isin(truth, np.unique(truth)[[2, 4, 6]]), truth, 0)
    model = nf.load_model("filters")
    found = fitted_on([(image, three)], model, partial=True)
    maps, numbers = found.predict_objects(Plane(other[..., None]), Hooks())
    objects = numbers[1]
    assert ((maps[1] >= 0.5) == (objects > 0)).all()
    again = found.predict_objects(Plane(other[..., None]), Hooks())[1][1]
    np.testing.assert_array_equal(objects, again)
    assert object_precision(objects, wanted, (0.5,))[0] > 0.7


def test_numbers_reach_the_user():
    pairs = [plane_of(seed) for seed in range(2)]
    image, truth = plane_of(9)
    support = nf.SupportSet(
        [nf.Support(i, (o > 0).astype(np.int32), axes="yx") for i, o in pairs]
    )
    result = nf.segment(image, support, method="instances", model="filters")
    objects = np.asarray(result.instances).squeeze()
    assert object_precision(objects, truth, (0.5,))[0] > 0.8
    assert ((objects > 0) == (np.asarray(result.labels).squeeze() > 0)).all()


def test_with_sam(tiny_sam):
    sam = nf.load_model("sam/vit_b", checkpoint=tiny_sam, device="cpu")
    image, objects = plane_of(0)
    found = fitted_on([(image, objects)], sam, decoder="sam", extra="none")
    assert "masks by sam/vit_b" in found.choice
    shown = found.explain(Plane(image[..., None]), Hooks())[1]
    assert len(shown.prompts.positive) > 3
    chance = found.predict(Plane(image[..., None]), Hooks())[1]
    assert np.isfinite(chance).all()


def test_bad_supports(every_bad_input):
    model = nf.load_model("filters")
    for kind, bad in every_bad_input.items():
        pairs = [(np.asarray(s.image), np.asarray(s.labels)) for s in bad]
        found = fitted_on(pairs, model, partial=kind == "one pixel")
        chance = found.predict(Plane(pairs[0][0][..., None]), Hooks())[1]
        assert np.isfinite(chance).all(), kind
        if kind == "everything":
            assert (chance >= 0.5).mean() > 0.5
