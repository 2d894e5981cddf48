"""Text and supports decide together: parts, shares, and what either is believed."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
from tests import tiny_clip
from tests.methods.text.planted import disc, picture

import napari_fewshot as nf
from napari_fewshot.data import Hooks, Plane, Sample
from napari_fewshot.methods import get_method, make_params
from napari_fewshot.methods._base import Reliability
from napari_fewshot.methods._validation import altered_copies, dice, split_folds
from napari_fewshot.methods.text import _fused, fuse_text
from napari_fewshot.methods.text._blend import (
    COPY_WORTH,
    MOST_SHARE,
    Blend,
    choose_blend,
    lone_parts,
    share_right,
)
from napari_fewshot.methods.text._exemplars import Exemplar
from napari_fewshot.methods.text._phrases import ClassPhrases, PhraseBank
from napari_fewshot.models import load_model

A, B, C = disc(30, 30, 14), disc(90, 90, 16), disc(96, 24, 12)


def sure(mask, odds=4.0):
    return (1 / (1 + np.exp(np.where(mask, -odds, odds)))).astype(np.float32)


def brute_lone(mine, other, touch=0.1):
    """Flood every part by hand."""
    left, found = mine.copy(), np.zeros_like(mine)
    while left.any():
        part = np.zeros_like(left)
        part.flat[np.flatnonzero(left)[0]] = True
        while True:
            padded = np.pad(part, 1)
            near = [
                padded[1 + y : 1 + y + len(part), 1 + x : 1 + x + part.shape[1]]
                for y in (-1, 0, 1)
                for x in (-1, 0, 1)
            ]
            more = np.any(near, axis=0) & left
            if (more == part).all():
                break
            part = more
        if (part & other).sum() < touch * part.sum():
            found |= part
        left &= ~part
    return found


@pytest.mark.parametrize("seed", range(6))
def test_lone_parts_are_those_of_brute_force(seed):
    rng = np.random.default_rng(seed)
    mine = rng.random((14, 17)) < 0.35
    other = rng.random((14, 17)) < 0.12
    found = lone_parts(mine, other)
    np.testing.assert_array_equal(found, brute_lone(mine, other))
    assert not lone_parts(np.zeros_like(mine), other).any()
    np.testing.assert_array_equal(lone_parts(mine, np.zeros_like(mine)), mine)


def test_the_share_of_right_parts_is_by_area():
    found = A | B
    assert share_right(found, A) == pytest.approx(A.sum() / found.sum())
    assert share_right(A, found) == 1.0
    assert np.isnan(share_right(np.zeros_like(A), A))
    # A part that is mostly outside is wrong as a whole.
    wide = disc(30, 30, 40)
    assert share_right(wide, A) == 0.0


def test_parts_of_text_are_added_and_those_of_supports_stay():
    image, text = sure(A | C), sure(disc(34, 30, 14) | B)
    joined = Blend(0.3, added=1.0)(image, text) >= 0.5
    # Where both find something the supports draw the boundary, being surer by share.
    np.testing.assert_array_equal(joined, A | B | C)
    np.testing.assert_array_equal(Blend(0.3, added=-1.0)(image, text) >= 0.5, A | C)
    np.testing.assert_array_equal(Blend(0.0)(image, text) >= 0.5, A | C)
    np.testing.assert_array_equal(Blend(1.0)(image, text) >= 0.5, text >= 0.5)
    # How sure the text is of what it adds is limited.
    added = Blend(0.3, added=1.0)(image, text)[B]
    np.testing.assert_allclose(added, 1 / (1 + np.exp(-1.0)), rtol=1e-5)


def test_where_both_find_something_log_odds_are_averaged():
    rng = np.random.default_rng(0)
    image = np.where(A, rng.uniform(0.55, 0.9, A.shape), 0.2).astype(np.float32)
    text = np.where(A, rng.uniform(0.1, 0.95, A.shape), 0.1).astype(np.float32)
    text[28:32, 28:32] = 0.9
    joined = Blend(0.25, added=1.0)(image, text)
    odds = [np.log(p / (1 - p)) for p in (image.astype(float), text.astype(float))]
    wanted = 1 / (1 + np.exp(-(0.75 * odds[0] + 0.25 * odds[1])))
    touched = A & ~lone_parts(text >= 0.5, image >= 0.5)
    np.testing.assert_allclose(joined[touched], wanted[touched], atol=1e-5)


def test_a_gate_empties_what_the_text_does_not_find():
    gate = Blend(0.0, gate=True)
    assert not gate(sure(A), sure(np.zeros_like(A))).any()
    np.testing.assert_array_equal(gate(sure(A), sure(B)) >= 0.5, A)


def test_what_parts_of_text_are_worth_is_bayes_rule():
    """Closed form for one support: odds P / (1 - P) (1 - R) against half the Dice."""
    truth, text = A | B, A | C
    pairs = [(truth, sure(truth), sure(text))] * 3
    blend = choose_blend(pairs, is_copy=True)
    precision = (A.sum() / text.sum() + 0.5) / 2
    recall = (COPY_WORTH + 0.5) / 2
    level = max(COPY_WORTH, dice(text, truth)) / 2
    wanted = np.log(precision / (1 - precision) * (1 - recall) * (1 - level) / level)
    assert blend.added == pytest.approx(wanted, abs=1e-6)
    assert blend.image_dice == 1.0
    assert blend.text_dice == pytest.approx(dice(text, truth))


def test_a_good_phrase_adds_what_one_support_misses():
    pairs = [(A, sure(A), sure(A))] * 3
    blend = choose_blend(pairs, is_copy=True)
    assert blend.added > 0
    assert 0 < blend.share <= MOST_SHARE
    missed = sure(np.zeros_like(B))
    np.testing.assert_array_equal(blend(missed, sure(B)) >= 0.5, B)


@pytest.mark.parametrize("is_copy", [True, False])
def test_a_phrase_that_finds_nothing_on_supports_changes_nothing(is_copy):
    pairs = [(A, sure(A), sure(np.zeros_like(A)))] * 3
    blend = choose_blend(pairs, is_copy=is_copy)
    assert blend.share == 0.0
    # Whatever it finds elsewhere, and whatever it misses.
    for text in (B, A | C, np.zeros_like(A), np.ones_like(A)):
        np.testing.assert_array_equal(blend(sure(A), sure(text)) >= 0.5, A)
    # Nor where the supports teach little themselves.
    poor = sure(disc(40, 44, 14))
    blend = choose_blend([(A, poor, sure(B))] * 3, is_copy=is_copy)
    np.testing.assert_array_equal(blend(poor, sure(B)) >= 0.5, poor >= 0.5)


def test_a_phrase_for_something_else_adds_nothing():
    pairs = [(A, sure(A), sure(C))] * 3
    for is_copy in (True, False):
        blend = choose_blend(pairs, is_copy=is_copy)
        np.testing.assert_array_equal(blend(sure(A), sure(C)) >= 0.5, A)


def test_with_several_supports_the_blend_must_earn_its_place():
    good = [(A | B, sure(A), sure(A | B))] * 3
    mixed = choose_blend(good, is_copy=False)
    assert mixed.added > 0
    assert dice(mixed(good[0][1], good[0][2]) >= 0.5, A | B) == 1.0
    # Where supports find all, parts of text are wrong ones.
    spoilt = [(A, sure(A), sure(A | C))] * 3
    alone = choose_blend(spoilt, is_copy=False)
    np.testing.assert_array_equal(alone(sure(A), sure(A | C)) >= 0.5, A)


def test_text_decides_alone_only_on_good_evidence():
    bad, good = sure(np.zeros_like(A)), sure(A)
    few = choose_blend([(A, sure(disc(40, 30, 14)), good)] * 2, is_copy=False)
    assert few.share < 1
    many = choose_blend([(A, bad, good)] * 6, is_copy=False)
    assert many.share == 1.0
    copies = choose_blend([(A, bad, good)] * 3, is_copy=True)
    assert copies.share == 1.0


def test_supports_without_the_class_say_nothing_of_it():
    nothing = np.zeros_like(A)
    blend = choose_blend([(nothing, sure(nothing), sure(A))], is_copy=False)
    assert blend.share == MOST_SHARE
    assert blend.added is None


def test_a_model_that_was_shown_the_support_is_not_believed_on_its_copies():
    pairs = [(A, sure(A), sure(A))] * 3
    honest = choose_blend(pairs, is_copy=True)
    shown = choose_blend(pairs, is_copy=True, shown=True)
    assert shown.share == honest.share == MOST_SHARE
    assert shown.added < honest.added
    fair = [(A, sure(A), sure(A | disc(90, 90, 12)))] * 3
    shown = choose_blend(fair, is_copy=True, shown=True)
    assert shown.share < choose_blend(fair, is_copy=True).share


class Looked:
    """Stands for what was learnt: hands on planted masks by the plane's mean."""

    choice = "planted"

    def __init__(self, masks):
        self.masks, self.seen = masks, []

    def predict(self, plane, hooks):
        self.seen.append(plane)
        return {1: sure(self.masks(plane))}


def samples_of(*masks):
    found = []
    for number, mask in enumerate(masks):
        plane = picture([mask], number)
        found.append(
            Sample(
                plane.image,
                labels=mask.astype(np.int32),
                group=number,
                name=str(number),
            )
        )
    return found


def bank(*exemplars):
    words = ClassPhrases(1, SimpleNamespace(words=("disc",)), ("disc",))
    return PhraseBank((words,), exemplars={1: exemplars} if exemplars else {})


def test_examples_from_a_support_are_hidden_while_it_is_judged():
    samples = samples_of(A, B, C)
    shown = [Exemplar(s.image, s.labels == 1, n) for n, s in enumerate(samples)]

    @dataclass
    class Reading:
        bank: PhraseBank
        asked: list = field(default_factory=list)

        def predict(self, plane, hooks):
            used = sorted(e.sample for e in self.bank.exemplars.get(1, ()))
            self.asked.append((float(plane.image.mean()), used))
            return {1: sure(A)}

    planes = [Plane(s.image) for s in samples]
    reading = Reading(bank(*shown))
    found = _fused.read_planes(reading, planes, split_folds(samples, [1]), Hooks())
    assert len(found) == 3
    means = [float(p.image.mean()) for p in planes]
    assert {means.index(m): used for m, used in reading.asked} == {
        0: [1, 2],
        1: [0, 2],
        2: [0, 1],
    }
    # Copies of a single support: nothing can be left out.
    reading.asked.clear()
    _fused.read_planes(reading, planes, [[0, 1, 2]], Hooks())
    assert all(used == [0, 1, 2] for _, used in reading.asked)


def fused(samples, text, share="learnt", **more):
    method = get_method("prototype")
    params = make_params(method.spec.params, more)
    hooks = Hooks()
    encoder = load_model("filters")
    fitted = method.fit(samples, [1], params, encoder, hooks)
    learnt = SimpleNamespace(fitted=fitted, reliability=Reliability())
    return fuse_text(
        learnt,
        text,
        samples,
        method=method,
        params=params,
        encoder=encoder,
        share=share,
        hooks=hooks,
    )


def test_both_sides_are_judged_on_planes_that_neither_has_seen():
    samples = samples_of(A)
    text = Looked(lambda plane: plane.image[..., 0] > 0.5)
    text.bank = bank()
    found = fused(samples, text)
    copies = altered_copies(samples[0], 0)
    assert len(text.seen) == len(copies)
    for plane, copy in zip(text.seen, copies, strict=True):
        np.testing.assert_array_equal(plane.image, copy.image)
    assert found.blends[1].text_dice > 0.8
    assert "text" in found.choice
    query = picture([B], 7)
    joined = found.predict(query, Hooks())[1]
    assert dice(joined >= 0.5, B) > 0.8
    told = Looked(text.masks)
    told.bank = bank()
    plain = fused(samples, told, share="equal")
    assert plain.blends[1] == Blend(0.5)
    assert not told.seen
    quick = fused(samples, told, leave_one_out=False)
    assert quick.blends[1] == Blend(MOST_SHARE)


def test_a_phrase_counts_on_a_plane_that_was_segmented_without_it(tmp_path):
    """What supports alone said of the last plane is kept, and is not what both say."""
    clip = tiny_clip.write(tmp_path / "clip")
    scene, phrase = next(
        (s, p) for s, p in tiny_clip.asked(12) if 0.02 < s.mask(p).mean() < 0.3
    )
    image = np.rint(scene.image * 255).astype(np.uint8)
    support = nf.Support(image, scene.mask(phrase).astype(np.int32))
    how = {"method": "prototype", "model": "filters", "fill_holes": False}
    alone = nf.segment(image, support, **how)
    assert alone.labels.any()
    gated = nf.segment(
        image,
        support,
        text="qwjz vrkk",
        text_model=clip,
        text_share="gate",
        **how,
    )
    assert not gated.labels.any()
    again = nf.segment(image, support, **how)
    np.testing.assert_array_equal(again.labels, alone.labels)
