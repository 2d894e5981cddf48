"""An object is looked at in the same light in the support and on the planes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_fewshot.data import Hooks, Image, Plane, Sample, Support, SupportSet
from napari_fewshot.errors import Cancelled
from napari_fewshot.inference import FitCache, SegmentRequest, run
from napari_fewshot.inference import _light as light
from napari_fewshot.inference._light import Light, Place

SIDE = 128
CYST = 3.0


def scan(shift, cysts):
    """Planes of a body with an organ (0.5 above it); per plane a cyst, as bright."""
    rng = np.random.default_rng(shift)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    images, masks = [], []
    for z, cyst in enumerate(cysts):
        organ = np.hypot(rows - 44 - z / 2 - shift, (columns - 40) / 1.4) < 13
        image = 0.15 * (np.hypot((rows - 64) / 50, (columns - 64) / 58) < 1)
        image += 0.5 * organ
        image += 0.2 * (np.hypot((rows - 60) / 1.5, columns - 88) < 14)
        image += 0.3 * (np.hypot(rows - 95, columns - 64) < 8)
        if cyst:
            image[np.hypot(rows - 92, (columns - 98) / 1.2) < 20] = cyst
        image = ndimage.gaussian_filter(image, 1.2)
        images.append(image + rng.normal(0, 0.02, image.shape))
        masks.append(organ)
    return np.clip(images, 0, None).astype(np.float32), np.array(masks)


def support(cyst=0.0, count=1):
    images, masks = scan(0, [cyst] * 4)
    return SupportSet(
        [Support(images[i], masks[i].astype(np.int32), axes="yx") for i in range(count)]
    )


def segment(images, supports, cache=None, hooks=None, **params):
    """Return the masks that the network finds, and what the user is told."""
    request = SegmentRequest(
        Image.from_array(images, axes="zyx", name="scan"),
        supports,
        method="incontext",
        params={"practise": False, "look": "whole", **params},
    )
    results = []
    summary = run(request, hooks or Hooks(), results.append, cache)
    told = [n for n in summary.provenance["notes"] if "match_light" in n]
    return np.array([r.labels == 1 for r in results]), told


def dice(found, truth):
    return 2 * (found & truth).sum() / (found.sum() + truth.sum())


@pytest.mark.parametrize(
    ("here", "there", "who"),
    [(0.0, CYST, "images to segment were"), (CYST, 0.0, "support was")],
)
def test_the_darker_side_is_brightened(here, there, who):
    images, truth = scan(3, [there] * 3)
    dark, silent = segment(images, support(here), match_light=False)
    assert dice(dark, truth) < 0.5
    assert not silent
    lit, told = segment(images, support(here))
    assert dice(lit, truth) > 0.95
    assert len(told) == 1
    assert told[0].startswith(f"The {who} brightened")


@pytest.mark.parametrize("cyst", [0.0, CYST])
def test_where_both_are_as_bright_nothing_changes(cyst):
    images, _ = scan(3, [cyst] * 2)
    lit, told = segment(images, support(cyst))
    as_is, _ = segment(images, support(cyst), match_light=False)
    assert not told
    np.testing.assert_array_equal(lit, as_is)


def test_several_supports_are_left_alone():
    images, _ = scan(3, [CYST] * 2)
    lit, told = segment(images, support(count=2), leave_one_out=False)
    as_is, _ = segment(images, support(count=2), leave_one_out=False, match_light=False)
    assert not told
    np.testing.assert_array_equal(lit, as_is)


def test_blocks_of_a_stack_may_differ_in_light():
    """Every plane of a series has a contrast of its own; the cyst begins half-way."""
    images, truth = scan(3, [0.0] * 12 + [CYST] * 6)
    request = SegmentRequest(
        Image.from_array(images, axes="tyx", name="series"),
        support(),
        method="incontext",
        params={"practise": False, "look": "whole"},
    )
    results = []
    summary = run(request, Hooks(), results.append)
    found = np.array([r.labels == 1 for r in results])
    assert [r.plane for r in results] == list(range(18))
    assert dice(found[:12], truth[:12]) > 0.95
    assert dice(found[12:], truth[12:]) > 0.95
    assert any("images to segment were" in n for n in summary.provenance["notes"])


def test_the_light_of_what_was_seen_last_is_known(monkeypatch):
    images, _ = scan(3, [CYST])
    asked = []
    registered = Place.on
    monkeypatch.setattr(
        Place, "on", lambda *given: asked.append(1) or registered(*given)
    )
    cache = FitCache()
    first, told = segment(images, support(), cache)
    count = len(asked)
    assert count > 1
    again, repeated = segment(images, support(), cache)
    assert len(asked) == count
    assert told == repeated
    np.testing.assert_array_equal(first, again)


def test_looking_for_light_can_be_cancelled():
    images, _ = scan(3, [CYST] * 3)
    stages = []

    def cancelled():
        return "Learning from the support in another light" in stages

    hooks = Hooks(lambda progress: stages.append(progress.stage), cancelled)
    with pytest.raises(Cancelled):
        segment(images, support(0.0), hooks=Hooks(is_cancelled=lambda: True))
    dim, _ = scan(3, [0.0] * 3)
    with pytest.raises(Cancelled):
        segment(dim, support(CYST), hooks=hooks)


@pytest.mark.parametrize(
    ("gains", "steps"),
    [
        ([], 0),
        ([1.49, 1.0, 1.4], 0),
        ([1.5], 1),
        ([2.3, 2.2, 40.0], 2),
        ([1 / 3.4] * 3, -3),
        ([1e9], light.MOST_STEPS),
        ([1e-9], -light.MOST_STEPS),
    ],
)
def test_steps(gains, steps):
    assert light.steps_of(gains) == steps


def test_lights_brighten_one_side():
    assert light.light_of(2) == Light(query=2.25)
    assert light.light_of(-1) == Light(support=1.5)
    image = np.linspace(0, 1, 12, dtype=np.float32).reshape(2, 6, 1)
    lit = light.brightened(image, 2.0)
    np.testing.assert_allclose(lit, np.minimum(2 * image, 1))
    assert light.brightened(image, 1.0) is image


@pytest.mark.parametrize("best", [1, 2, 3, 4])
@pytest.mark.parametrize("guess", [1, 2, 3, 4])
def test_the_best_light_near_a_guess_is_found(best, guess):
    """Agreement with a single summit is climbed from either side."""
    asked = []

    def agreed(tried):
        asked.append(tried.query)
        return 1 - 0.1 * abs(np.log(tried.query / 1.5**best))

    found, height = light._climb(guess, agreed)
    assert found.query == pytest.approx(1.5**best)
    assert height == pytest.approx(1.0)
    assert len(set(asked)) == len(asked)


def test_agreement_counts_what_is_sure():
    mask = np.zeros((8, 8), bool)
    mask[2:6, 2:6] = True
    half = mask.copy()
    half[2:4] = False
    maps = [{1: half.astype(np.float32), 2: mask.astype(np.float32)}]
    assert light.agreement(maps, [{1: mask}]) == pytest.approx(2 / 3)
    assert light.agreement(maps, [{1: mask, 2: mask}]) == pytest.approx(5 / 6)
    assert light.agreement(maps, [{}]) == 0.0


@pytest.mark.parametrize(
    ("before", "after", "taken"),
    [(0.0, 0.9, True), (0.3, 0.45, False), (0.6, 0.63, False), (0.9, 1.0, False)],
)
def test_another_light_has_to_bring_much(before, after, taken):
    """Parts of the right mask that a method finds as it is, and in any other light."""
    images, masks = scan(0, [0.0])
    plane = np.clip(images[0] / images[0].max(), 0, 1)
    labels = masks[0].astype(np.int32)
    place = Place.of(Sample(plane[..., None], labels=labels, name="a"), [1], Hooks())
    dim = Plane(plane[..., None] * np.float32(0.6))
    where = place.on(dim, Hooks())[1]

    def part(wanted):
        """Return as many pixels of the place as make this Dice."""
        count = round(wanted / (2 - wanted) * where.sum())
        found = np.zeros(where.shape, np.float32)
        found[tuple(np.argwhere(where)[:count].T)] = 1
        return {1: found}

    found = [place, [dim], [part(before)], lambda *_: part(after)]
    chosen = light.better_light(*found, lambda *_: 0.7, Hooks())
    assert (chosen != light.AS_IS) == taken
    # What teaches well is believed, unless it is nearly where it should be anyhow.
    assert light.better_light(*found, lambda *_: 0.8, Hooks()) == light.AS_IS


def test_brightness_is_compared_where_the_object_is():
    images, masks = scan(0, [0.0])
    plane = images[0] / images[0].max()
    labels = masks[0].astype(np.int32)
    place = Place.of(Sample(plane[..., None], labels=labels, name="a"), [1], Hooks())
    dim = Plane(plane[..., None] * np.float32(0.6))
    there = place.on(dim, Hooks())
    assert dice(there[1], masks[0]) > 0.8
    assert place.gains(dim, there) == [pytest.approx(1 / 0.6, rel=0.1)]
    blank = Plane(np.zeros((SIDE, SIDE, 1), np.float32))
    assert place.gains(blank, place.on(blank, Hooks())) == []
