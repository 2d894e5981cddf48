"""Prompts followed by a promptable model."""

from __future__ import annotations

import numpy as np
import pytest

import napari_fewshot as nf
from napari_fewshot.data import Hooks, PlanePrompts
from napari_fewshot.methods import PromptableGuide
from napari_fewshot.methods.promptable import (
    low_resolution,
    objects_of,
    scribble_points,
)


@pytest.fixture(scope="module")
def model(tiny_sam):
    return nf.load_model("sam/vit_b", checkpoint=tiny_sam)


@pytest.fixture(scope="module")
def plane(blob_pair):
    return (blob_pair(1)[0] / 255).astype(np.float32)[..., None]


@pytest.fixture
def guide(model):
    return PromptableGuide(model, lambda image, hooks: model.encode(image))


def clicks(*points, signs=None):
    given = nf.PromptSet(points=points, point_labels=signs)
    return given.on_plane(0, 1)


def test_one_click_offers_three_masks_best_first(model, plane, guide):
    embedding = model.encode(plane)
    masks, scores, _ = model.predict(embedding, points=[[20, 30]])
    answer = guide.answer(plane, clicks([20, 30]), None, Hooks())
    order = np.argsort(-scores)
    assert answer.scores == tuple(float(s) for s in scores[order])
    np.testing.assert_array_equal(answer.candidates, masks[order])
    np.testing.assert_array_equal(answer.odds > 0, masks[order[0]])


def test_later_clicks_see_the_mask_before(model, plane, guide):
    embedding = model.encode(plane)
    _, scores, logits = model.predict(embedding, points=[[20, 30]])
    masks, _, _ = model.predict(
        embedding,
        points=[[20, 30], [60, 80]],
        point_labels=[1, 0],
        mask=logits[scores.argmax()],
        multimask=False,
    )
    asked = clicks([20, 30], [60, 80], signs=[1, 0])
    answer = guide.answer(plane, asked, None, Hooks())
    np.testing.assert_array_equal(answer.odds > 0, masks[0])
    assert not len(answer.candidates)
    # Without what is remembered of earlier clicks the answer is the same.
    fresh = PromptableGuide(model, guide.encode).answer(plane, asked, None, Hooks())
    np.testing.assert_array_equal(fresh.odds, answer.odds)


def test_the_chosen_candidate_is_what_later_clicks_correct(model, plane, guide):
    embedding = model.encode(plane)
    _, scores, logits = model.predict(embedding, points=[[20, 30]])
    second = logits[np.argsort(-scores)[1]]
    masks, _, _ = model.predict(
        embedding,
        points=[[20, 30], [60, 80]],
        mask=second,
        multimask=False,
    )
    asked = nf.PromptSet(points=[[20, 30], [60, 80]], candidate=1).on_plane(0, 1)
    answer = guide.answer(plane, asked, None, Hooks())
    np.testing.assert_array_equal(answer.odds > 0, masks[0])


def test_many_boxes_are_many_objects_as_one_by_one(model, plane, guide):
    boxes = np.array([[5, 5, 40, 40], [30, 50, 70, 90], [60, 5, 90, 50.0]])
    answer = guide.answer(plane, PlanePrompts(boxes=boxes), None, Hooks())
    embedding = model.encode(plane)
    for number, box in enumerate(boxes, 1):
        masks, _, _ = model.predict(embedding, boxes=box - 0.5, multimask=False)
        mine = answer.objects == number
        assert mine.any()
        assert not (mine & ~masks[0]).any()
    assert ((answer.objects > 0) == (answer.odds > 0)).all()
    assert len(answer.scores) == 3


def test_points_go_to_their_boxes():
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30.0]])
    asked = PlanePrompts(
        positive=np.array([[5, 5], [50, 50.0]]),
        negative=np.array([[33, 33.0]]),
        boxes=boxes,
    )
    first, second, rest = objects_of(asked)
    assert first.positive.tolist() == [[5, 5]]
    assert len(first.negative) == 0
    assert second.negative.tolist() == [[33, 33]]
    assert rest.positive.tolist() == [[50, 50]]
    (alone,) = objects_of(PlanePrompts(boxes=boxes[:1]))
    assert alone.boxes.tolist() == [[0, 0, 10, 10]]


def test_what_supports_found_is_added_to_and_taken_from(model, plane, guide):
    start = np.full(plane.shape[:2], -2.0, np.float32)
    start[50:60, 50:60] = 2
    answer = guide.answer(plane, clicks([20, 30]), start, Hooks())
    alone = guide.answer(plane, clicks([20, 30]), None, Hooks())
    assert ((answer.odds > 0) == ((alone.odds > 0) | (start > 0))).all()
    off = guide.answer(plane, clicks([20, 30], signs=[0]), start, Hooks())
    assert not ((off.odds > 0) & (alone.odds > 0)).any()
    assert ((off.odds > 0) == ((start > 0) & ~(alone.odds > 0))).all()


def test_scribbles_become_points_on_them():
    drawn = np.zeros((60, 80), np.int8)
    drawn[10, 5:75] = 1
    drawn[40:50, 40] = -1
    positive, negative = scribble_points(drawn)
    assert len(positive) == 12
    assert len(negative) == 10
    for points, sign in ((positive, 1), (negative, -1)):
        rows, columns = points.astype(int).T
        assert (drawn[rows, columns] == sign).all()
    assert {5, 74} <= set(positive[:, 1].astype(int))
    assert [len(p) for p in scribble_points(None)] == [0, 0]


def test_a_mask_lies_in_the_frame_as_the_plane_does(model, plane):
    embedding = model.encode(plane)
    mask = np.zeros(plane.shape[:2], bool)
    mask[:48] = True
    logits = low_resolution(mask, embedding, model.mask_side)
    assert logits.shape == (32, 32)
    # 96 x 112 pixels fill 27.5 of 32 rows; the upper half of them is the object.
    assert (logits[:13] > 6.8).all()
    assert (logits[15:] < -6.8).all()


def test_models_of_boxes_only_get_boxes(tiny_sam, plane):
    medsam = nf.load_model("medsam/vit_b", checkpoint=tiny_sam)
    guide = PromptableGuide(medsam, lambda image, hooks: medsam.encode(image))
    with pytest.raises(nf.PromptError, match="box"):
        guide.answer(plane, clicks([20, 30]), None, Hooks())
    box = nf.PromptSet(boxes=[[10, 10, 40, 40]], points=[[50, 20]]).on_plane(0, 1)
    answer = guide.answer(plane, box, None, Hooks())
    embedding = medsam.encode(plane)
    first, _, _ = medsam.predict(embedding, boxes=[9.5, 9.5, 39.5, 39.5])
    found = np.argwhere(first[0])
    low = np.minimum(found.min(0), [9.5, 9.5]) if len(found) else [9.5, 9.5]
    high = np.maximum(found.max(0), [50, 39.5]) if len(found) else [50, 39.5]
    masks, _, _ = medsam.predict(embedding, boxes=[*low, *high])
    np.testing.assert_array_equal(answer.odds > 0, masks[0])
