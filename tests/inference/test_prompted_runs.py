"""Prompts on the path of users: alone, with supports, in stacks, and wrong ones."""

from __future__ import annotations

import numpy as np
import pytest

import napari_fewshot as nf
from napari_fewshot.data import Hooks, PlanePrompts, Sample
from napari_fewshot.methods import Prompter, ReverseJudge
from napari_fewshot.methods.prompting import REPLAYED, crop_window, shifted
from napari_fewshot.models import load_model
from napari_fewshot.models._recent import Recent
from napari_fewshot.ops import taper


def disc(centre=(48, 60), radius=20, shape=(96, 112)):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2


def picture(truth, seed=0):
    noise = np.random.default_rng(seed).normal(0, 5, truth.shape)
    return np.clip(40 + 150 * truth + noise, 0, 255).astype(np.uint8)


def dice(found, truth):
    return nf.evaluate(np.asarray(found).astype(int), truth.astype(int))["dice"][0]


POINTS = {"points": [[48, 60], [40, 50], [58, 66]]}


def test_clicks_alone_need_no_support():
    truth = disc()
    given = nf.PromptSet(**POINTS)
    found = nf.segment(picture(truth), prompts=given)
    assert dice(found.labels, truth) > 0.6
    assert found.provenance["model"] == "incontext/small"
    assert len(found.provenance["weights_sha256"]) == 64
    assert found.provenance["score_kind"] == "uncalibrated"
    assert found.classes == {1: "1"} or found.classes[1]


def test_a_box_alone():
    truth = disc()
    found = nf.segment(picture(truth), prompts=nf.PromptSet(boxes=[28, 40, 69, 81]))
    assert dice(found.labels, truth) > 0.6


def test_scribbles_and_a_first_guess():
    truth = disc()
    scribbles = np.zeros(truth.shape, int)
    scribbles[48, 45:75] = 1
    scribbles[5, 5:100] = -1
    found = nf.segment(picture(truth), prompts=nf.PromptSet(scribbles=scribbles))
    assert dice(found.labels, truth) > 0.5
    guess = disc(radius=16)
    found = nf.segment(picture(truth), prompts=nf.PromptSet(mask=guess))
    assert dice(found.labels, truth) > 0.6


def test_the_same_clicks_give_the_same_mask_whatever_came_before(monkeypatch):
    image = picture(disc())
    points = np.array([[48.0, 60], [50, 64], [30, 30], [44, 52]])
    signs = np.array([1, 1, 0, 1])

    def segment(clicks):
        prompts = nf.PromptSet(points=points[:clicks], point_labels=signs[:clicks])
        return nf.segment(image, prompts=prompts)

    one_by_one = [segment(n) for n in (1, 2, 3, 4)]
    monkeypatch.setattr(load_model("incontext/small"), "answers", Recent(0))
    at_once, back = segment(4), segment(2)
    np.testing.assert_array_equal(
        one_by_one[3].probabilities[1], at_once.probabilities[1]
    )
    np.testing.assert_array_equal(one_by_one[1].probabilities[1], back.probabilities[1])


def test_a_click_corrects_the_answer_to_those_before(monkeypatch):
    prompter = Prompter(load_model("incontext/small"))
    seen = []
    look = Prompter._look

    def watched(self, image, value, prompts, past, sides, hooks):
        seen.append((prompts.clicks, past, sides))
        return look(self, image, value, prompts, past, sides, hooks)

    monkeypatch.setattr(Prompter, "_look", watched)
    image = (picture(disc(), 77) / 255).astype(np.float32)[..., None]
    clicks = [PlanePrompts(np.array([[48.0, 60], [52, 64]][:n])) for n in (1, 2)]
    first = prompter.refine(image, 1, clicks[0], None, Hooks())
    prompter.refine(image, 1, clicks[1], None, Hooks())
    assert [count for count, _, _ in seen] == [1, 2], "no click is followed twice"
    assert [len(sides) for _, _, sides in seen] == [2, 1], "corrections look once"
    assert seen[0][1] is None
    np.testing.assert_allclose(seen[1][1], first, atol=1e-5)


def test_a_click_adds_to_what_was_found_and_replaces_nothing(monkeypatch):
    """Where a click changes nothing for the network, what others found stays."""
    prompter = Prompter(load_model("incontext/small"))
    rng = np.random.default_rng(0)
    image = rng.random((60, 80, 1)).astype(np.float32)
    start = rng.normal(0, 2, (60, 80)).astype(np.float32)

    def worse(self, image, value, prompts, past, sides, hooks):
        found = np.full(image.shape[:2], -3, np.float32)
        if prompts.clicks:
            found[:20] = 2
        return found

    monkeypatch.setattr(Prompter, "_look", worse)
    click = PlanePrompts(np.array([[5.0, 5]]))
    found = prompter.refine(image, 1, click, start, Hooks())
    np.testing.assert_allclose(found[20:], start[20:])
    np.testing.assert_allclose(found[:20], start[:20] + 5, rtol=1e-5)

    looks = []

    def counted(self, image, value, prompts, past, sides, hooks):
        looks.append((prompts.clicks, len(prompts.boxes)))
        return worse(self, image, value, prompts, past, sides, hooks)

    # Another kind of prompt on the same answer: what it was without is known.
    monkeypatch.setattr(Prompter, "_look", counted)
    box = PlanePrompts(boxes=np.array([[5.0, 5, 30, 30]]))
    prompter.refine(image, 1, box, start, Hooks())
    assert looks == [(0, 1)]


def test_many_clicks_are_not_followed_one_by_one(monkeypatch):
    prompter = Prompter(load_model("incontext/small"))
    rng = np.random.default_rng(0)
    image = rng.random((96, 120, 1)).astype(np.float32)
    seen = []

    def watched(self, image, value, prompts, past, sides, hooks):
        seen.append(prompts.clicks)
        return np.zeros(image.shape[:2], np.float32)

    monkeypatch.setattr(Prompter, "_look", watched)
    prompts = PlanePrompts(rng.uniform(0, 90, (REPLAYED + 3, 2)))
    prompter.refine(image, 1, prompts, None, Hooks())
    assert seen == [REPLAYED + n for n in range(4)]


def test_prompts_and_supports_work_together():
    truth, other = disc(), disc((40, 40), 15)
    support = nf.Support(picture(other, 1), other)
    plain = nf.segment(picture(truth), support, method="incontext")
    helped = nf.segment(
        picture(truth), support, method="incontext", prompts=nf.PromptSet(**POINTS)
    )
    assert dice(helped.labels, truth) > 0.7
    assert helped.probabilities[1][48, 60] > 0.5
    assert plain.labels.shape == helped.labels.shape


@pytest.mark.parametrize("method", ["pixel", "template", "prototype"])
def test_every_method_follows_clicks(method):
    truth = disc()
    support = nf.Support(picture(truth, 1), truth)
    params = {"trees": 10} if method == "pixel" else {}
    found = nf.segment(
        picture(truth), support, method=method, prompts=nf.PromptSet(**POINTS), **params
    )
    assert found.labels[48, 60] == 1
    assert dice(found.labels, truth) > 0.7


def test_classes_from_prompts_and_supports_join():
    truth = disc()
    support = nf.Support(picture(truth, 1), truth, classes={1: "disc"})
    corner = nf.PromptSet(points=[[10, 10]])
    found = nf.segment(picture(truth), support, method="incontext", prompts={2: corner})
    assert found.classes[1] == "disc"
    assert set(found.classes) == {1, 2}
    assert set(found.scores) == {1, 2}


def test_in_a_stack_only_prompted_planes_are_segmented_without_supports():
    truth = disc()
    stack = np.stack([picture(truth, i) for i in range(4)])
    points = [[2, *p] for p in POINTS["points"]]
    found = nf.segment(stack, prompts=nf.PromptSet(points=points))
    assert found.labels.shape == stack.shape
    assert found.labels[2].any()
    assert not found.labels[[0, 1, 3]].any()
    box = nf.segment(stack, prompts=nf.PromptSet(boxes=[1, 28, 40, 3, 69, 81]))
    assert [bool(plane.any()) for plane in box.labels] == [False, True, True, False]


def test_inverted_and_16_bit_queries():
    truth = disc()
    image = picture(truth).astype(np.uint16) * 200 + 1000
    assert dice(nf.segment(image, prompts=nf.PromptSet(**POINTS)).labels, truth) > 0.6
    dark = 255 - picture(truth)
    assert dice(nf.segment(dark, prompts=nf.PromptSet(**POINTS)).labels, truth) > 0.4


BAD = {
    "outside": ({"points": [[500, 3]]}, "outside the image"),
    "before the image": ({"points": [[-3, 3]]}, "outside the image"),
    "a box outside": ({"boxes": [200, 200, 210, 210]}, "outside the image"),
    "z in a plane": ({"points": [[5, 50, 3]]}, "one plane only"),
    "z 0 outside": ({"points": [[0, 500, 3]]}, "outside the image"),
    "only negative": ({"points": [[5, 3]], "point_labels": [0]}, "positive click"),
    "scribbles of another size": ({"scribbles": np.ones((5, 5), int)}, "shape"),
    "a mask of another size": ({"mask": np.ones((5, 5), bool)}, "shape"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_prompts_are_explained(case):
    values, words = BAD[case]
    with pytest.raises(nf.PromptError, match=words):
        nf.segment(picture(disc()), prompts=nf.PromptSet(**values))


def test_messages_about_one_mask_and_about_scribbles_are_english():
    wrong = np.ones((5, 5), int)
    for kind, words in (
        ("mask", "The mask of class 1 has the shape .* Draw it on"),
        ("scribbles", "The scribbles of class 1 have the shape .* Draw them on"),
    ):
        with pytest.raises(nf.PromptError, match=words):
            nf.segment(picture(disc()), prompts=nf.PromptSet(**{kind: wrong}))


def test_prompts_without_a_plane_number_in_a_stack():
    stack = np.stack([picture(disc(), i) for i in range(3)])
    with pytest.raises(nf.PromptError, match="no plane number"):
        nf.segment(stack, prompts=nf.PromptSet(**POINTS))
    with pytest.raises(nf.PromptError, match="one plane"):
        nf.segment(stack, prompts=nf.PromptSet(mask=disc()))


def test_neither_supports_nor_prompts():
    with pytest.raises(nf.SupportError, match="no support yet"):
        nf.segment(picture(disc()))
    with pytest.raises(nf.SupportError, match="no support yet"):
        nf.segment(picture(disc()), prompts=nf.PromptSet())


def test_prompts_on_planes_that_were_not_chosen(tmp_path):
    session = nf.Session(autosave=False)
    session.set_query(np.stack([picture(disc(), i) for i in range(3)]), planes=[0])
    session.set_prompts(nf.PromptSet(points=[[2, 48, 60]]))
    with pytest.raises(nf.PromptError, match="none of the chosen planes"):
        session.segment()


# -- parts ---------------------------------------------------------------------------


def test_prompts_are_sorted_by_plane():
    given = nf.PromptSet(
        points=[[0, 1, 2], [2, 3, 4], [2, 5, 6]],
        point_labels=[1, 1, 0],
        boxes=[1, 0, 0, 3, 5, 5],
    )
    assert given.planes(4) == (0, 1, 2)
    here = given.on_plane(2, 4)
    np.testing.assert_array_equal(here.positive, [[3, 4]])
    np.testing.assert_array_equal(here.negative, [[5, 6]])
    np.testing.assert_array_equal(here.boxes, [[0, 0, 5, 5]])
    assert given.on_plane(3, 4).is_empty


def test_the_crop_is_around_a_small_object_only():
    logits = np.full((500, 600), -3.0, np.float32)
    logits[200:220, 300:330] = 3
    prompts = PlanePrompts(positive=np.array([[210.0, 310.0]]))
    rows, columns = crop_window(logits, prompts)
    assert rows.start < 200 < 220 < rows.stop
    assert columns.start < 300 < 330 < columns.stop
    assert columns.stop - columns.start < 120
    inside = shifted(prompts, (rows, columns))
    np.testing.assert_allclose(
        inside.positive, [[210 - rows.start, 310 - columns.start]]
    )
    logits[50:450, 50:550] = 3
    assert crop_window(logits, prompts) is None
    assert crop_window(np.full((50, 50), -1.0), PlanePrompts()) is None


def test_the_taper_falls_to_the_rim():
    weight = taper((40, 80))
    assert weight[20, 40] == 1
    assert weight[0].max() < 0.2
    assert weight[:, 0].max() < 0.2


def test_small_objects_on_a_large_plane_are_not_lost():
    truth = disc((700, 900), 14, (1000, 1200))
    prompts = PlanePrompts(positive=np.array([[700.0, 900.0]]))
    image = (picture(truth) / 255).astype(np.float32)[..., None]
    model = load_model("incontext/small")
    odds = Prompter(model).refine(image, 1, prompts, None, Hooks())
    assert dice(odds > 0, truth) > 0.3
    assert (odds > 0).sum() < 20 * truth.sum()


def test_the_right_mask_teaches_more_than_a_wrong_one():
    truth, other = disc(), disc((40, 40), 16)
    sample = Sample(
        (picture(other, 1) / 255).astype(np.float32)[..., None],
        labels=other.astype(np.int32),
    )
    judge = ReverseJudge.fit(load_model("incontext/small"), [sample], [1])
    image = (picture(truth) / 255).astype(np.float32)[..., None]
    right, wrong = (
        judge.score(image, 1, mask) for mask in (truth, np.roll(~truth, 9, 0))
    )
    assert right > wrong + 0.2
    assert judge.score(image, 1, np.zeros_like(truth)) == 0
    assert judge.score(image, 7, truth) == 0
    assert 0 <= judge.expected_dice(image, 1, truth) <= 1


def test_of_thin_structures_the_judge_says_nothing():
    """At its 128 pixels they are not to be seen: that does not speak against a mask."""
    truth = np.zeros((256, 256), bool)
    truth[10::24, 8:-8] = truth[11::24, 8:-8] = True
    image = (0.3 + 0.4 * truth)[..., None].astype(np.float32)
    labels = truth.astype(np.int32)
    labels[100:160, 100:160] = 2
    model = load_model("incontext/small")
    judge = ReverseJudge.fit(model, [Sample(image, labels=labels)], [1, 2])
    assert judge.expected_dice(image, 1, truth) is None
    assert judge.expected_dice(image, 2, labels == 2) is not None
    # It still ranks them, for neighbours in a stack.
    assert judge.score(image, 1, truth) > 0


def test_prompts_travel_to_the_worker_process():
    truth = disc()
    given = nf.PromptSet(**POINTS)
    here = nf.segment(picture(truth), prompts=given)
    there = nf.segment(picture(truth), prompts=given, executor="process")
    assert (here.labels != there.labels).mean() < 0.01
