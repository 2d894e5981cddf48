"""From planted heat maps to masks: every kind of map, cut, prompt and decoder."""

from dataclasses import replace

import numpy as np
import pytest
from tests.methods.text.planted import (
    CUTS,
    GRID,
    ONE,
    PROMPTS,
    TWO,
    cosines,
    dice,
    disc,
    fitted_for,
    found_for,
    heat_of,
    picture,
    sam,
)

from napari_fewshot.data import Hooks, Plane
from napari_fewshot.methods.grid import Ask, SamDecoder
from napari_fewshot.methods.text import Heat
from napari_fewshot.methods.text._asks import Drawing
from napari_fewshot.methods.text._base import on_heat
from napari_fewshot.methods.text._competition import (
    SHARPNESS,
    Settling,
    handicap,
    margins,
)
from napari_fewshot.methods.text._masks import draw_masks
from napari_fewshot.methods.text._presence import presence
from napari_fewshot.ops import mask_to_grid
from napari_fewshot.ops.heatmaps import keep_largest

__all__ = ["sam"]


@pytest.mark.parametrize("kind", ["cosine", "relevance", "probability"])
@pytest.mark.parametrize("masks", [[ONE], [TWO[0] | TWO[1]]], ids=["one", "two"])
def test_map_alone(kind, masks):
    plane = picture(masks)
    found = found_for(heat_of(masks, kind), plane)
    assert found.present == {1: True}
    assert dice(found.maps[1] >= 0.5, masks[0]) >= 0.9


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("kind", ["cosine", "relevance", "probability"])
def test_every_cut(cut, kind):
    level = 1 - ONE.mean() if cut == "percentile" else 0.5
    found = found_for(heat_of([ONE], kind), picture([ONE]), cut=cut, level=level)
    assert dice(found.maps[1] >= 0.5, ONE) >= 0.88


@pytest.mark.parametrize("prompts", PROMPTS)
def test_sam_draws(prompts, sam):
    whole = TWO[0] | TWO[1]
    found = found_for(heat_of([whole]), picture([whole]), sam, prompts=prompts)
    assert dice(found.maps[1] >= 0.5, whole) >= 0.9
    asked = found.prompts[1]
    assert (len(asked.boxes) == 2) == (prompts != "points")
    assert bool(len(asked.positive)) == (prompts in ("points", "both"))
    assert len(found.candidates[1]) == len(found.scores[1]) == 2
    assert list(found.scores[1]) == sorted(found.scores[1], reverse=True)


def test_sam_is_sharper_than_its_map(sam):
    # Half as many cells: the decoder must find the edge.
    maps, background = cosines([ONE], (8, 8))
    heat, plane = Heat(maps, background=background), picture([ONE])
    drawn = found_for(heat, plane, sam)
    assert dice(drawn.maps[1] >= 0.5, ONE) >= 0.93


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("kind", ["cosine", "relevance", "probability"])
def test_slider_at_half_is_the_cut(cut, kind):
    heat, plane = heat_of([ONE], kind), picture([ONE])
    fitted = fitted_for(heat, cut=cut)
    shown = draw_masks(heat, on_heat(plane, heat, "planted"), fitted, Hooks()).heats[1]
    level = shown["heat map"]
    assert level.shape == ONE.shape
    assert level.dtype == np.float32
    assert 0 <= level.min() <= 0.5 <= level.max() <= 1
    # What is drawn without a decoder differs by what edges of the image do.
    found = fitted.find(plane, Hooks())
    assert dice(level >= 0.5, found.maps[1] >= 0.5) > 0.9
    # Other levels give smaller and larger masks.
    areas = [(level >= t).sum() for t in (0.2, 0.5, 0.8)]
    assert areas[0] >= areas[1] >= areas[2]
    assert areas[0] > areas[2]
    assert ("before the field" in shown) == (cut == "crf")


@pytest.mark.parametrize("cut", ["auto", "two-means", "otsu", "fixed"])
def test_heat_map_keeps_the_order_of_the_map(cut):
    # As many cells as pixels: nothing is interpolated.
    rng = np.random.default_rng(1)
    values = rng.random((1, 24, 30)).astype(np.float32)
    plane = Plane(rng.random((24, 30, 1)).astype(np.float32))
    shown = found_for(Heat(values, "relevance"), plane, cut=cut).heats[1]["heat map"]
    order = values[0].ravel().argsort()
    assert (np.diff(shown.ravel()[order]) >= 0).all()


def test_margins_are_the_argmax_of_the_softmax():
    rng = np.random.default_rng(0)
    maps = rng.normal(0.2, 0.05, (5, 9, 7)).astype(np.float32)
    background = rng.normal(0.2, 0.05, (9, 7)).astype(np.float32)
    found = margins(Heat(maps, background=background))
    logits = SHARPNESS * np.concatenate([maps, background[None]])
    share = np.exp(logits) / np.exp(logits).sum(0)
    best = share.argmax(0)
    for number in range(5):
        assert ((found[number] > 0) == (best == number)).all()
        rivals = np.delete(share, number, 0).max(0)
        pair = share[number] / (share[number] + rivals)
        np.testing.assert_allclose(1 / (1 + np.exp(-found[number])), pair, atol=1e-5)


def test_what_it_is_not_takes_its_place():
    maps, background = cosines([ONE | TWO[1]])
    wrong, _ = cosines([TWO[1]], gap=0.2, seed=1)
    plane = picture([ONE, TWO[1]])
    heat = Heat(maps, background=background, negative=wrong)
    found = found_for(heat, plane).maps[1] >= 0.5
    assert dice(found, ONE) > 0.85
    without = found_for(Heat(maps, background=background), plane).maps[1] >= 0.5
    assert (without & TWO[1]).sum() > 0.8 * TWO[1].sum()


def test_classes_share_no_pixel_and_each_gets_its_own():
    found = found_for(heat_of(TWO), picture(TWO))
    masks = [found.maps[v] >= 0.5 for v in (1, 2)]
    assert not (masks[0] & masks[1]).any()
    assert dice(masks[0], TWO[0]) >= 0.9
    assert dice(masks[1], TWO[1]) >= 0.9


def test_overlap_goes_to_one_class_and_no_pixel_is_lost():
    # Relevance of each class by itself: both want the disc, one of them wants more.
    covers = [mask_to_grid(disc(50, 60, r), (GRID, GRID)) for r in (24, 34)]
    maps = np.stack([covers[0], 0.5 * covers[0] + 0.5 * covers[1]])
    plane = picture([ONE])
    found = found_for(Heat(maps, "relevance"), plane)
    masks = [found.maps[v] >= 0.5 for v in (1, 2)]
    alone = [found_for(Heat(m[None], "relevance"), plane).maps[1] >= 0.5 for m in maps]
    assert (alone[0] & alone[1]).sum() > 1000
    assert not (masks[0] & masks[1]).any()
    assert ((masks[0] | masks[1]) == (alone[0] | alone[1])).all()
    assert all(m.any() for m in masks)


def test_settling_by_weighted_log_odds():
    odds = {
        1: np.array([[2.0, 2.0, -1.0, 3.0]], np.float32),
        2: np.array([[1.0, 3.0, 1.0, 3.0]], np.float32),
    }
    settling = Settling((1, 4))
    settling.add(1, odds[1], 0.5)
    settling.add(2, odds[2], 0.9)
    # Weighted: 1.0, 1.0, -, 1.5 against 0.9, 2.7, 0.9, 2.7.
    assert (settling.settled(1, odds[1]) > 0).tolist() == [[True, False, False, False]]
    assert (settling.settled(2, odds[2]) > 0).tolist() == [[False, True, True, True]]
    assert settling.crowded_out() == {1}


@pytest.mark.parametrize("drops", [False, True])
def test_a_class_that_lost_most_of_its_mask_may_be_dropped(drops):
    small, large = disc(50, 60, 18), disc(50, 60, 24)
    maps = np.stack([mask_to_grid(m, (32, 32)) for m in (large, small)])
    # The small one is much surer of what both want.
    maps[0] = 0.5 + 0.12 * (maps[0] - 0.5)
    heat = Heat(maps, "probability")
    found = found_for(heat, picture([large]), drop_covered=drops, presence=False)
    assert found.present == {1: not drops, 2: True}
    assert (found.maps[1] >= 0.5).any() != drops


def test_parts_limit():
    whole = TWO[0] | TWO[1]
    heat, plane = heat_of([whole]), picture([whole])
    found = found_for(heat, plane, parts=1).maps[1] >= 0.5
    assert dice(found, TWO[1]) >= 0.9


def test_one_box_round_all_parts(sam):
    whole = TWO[0] | TWO[1]
    way = Drawing(margin=0.0, joined=True, as_is=True)
    asked = found_for(heat_of([whole]), picture([whole]), sam, way, prompts="box")
    boxes = asked.prompts[1].boxes
    assert len(boxes) == 1
    np.testing.assert_allclose(boxes[0], [18, 16, 110, 114], atol=5)


def test_as_is_takes_what_the_decoder_draws(sam):
    way = Drawing(margin=0.0, as_is=True)
    whole = TWO[0] | TWO[1]
    heat, plane = heat_of([whole]), picture([whole])
    found = found_for(heat, plane, sam, way, prompts="box", parts=1)
    box = found.prompts[1].boxes
    assert len(box) == 1
    logits, _ = sam.decode(
        on_heat(plane, heat, "planted"), heat.maps[0], [Ask(box=box[0])], Hooks()
    )
    alone = sam.restore(on_heat(plane, heat, "planted"), logits[0])[0] > 0
    assert ((found.maps[1] > 0.5) == keep_largest(alone, 1)).all()
    assert dice(alone, TWO[1]) > 0.8


def test_random_points_are_as_many_as_asked(sam):
    way = Drawing(random=10, as_is=True)
    found = found_for(heat_of([ONE]), picture([ONE]), sam, way, prompts="points")
    asked = found.prompts[1]
    assert (len(asked.positive), len(asked.negative)) == (10, 10)
    inside = asked.positive.round().astype(int)
    assert ONE[inside[:, 0], inside[:, 1]].mean() > 0.8


def test_a_decoder_that_errs_costs_little(sam):
    class Wrong(SamDecoder):
        """Answers with the opposite."""

        def decode(self, *args, **more):
            logits, scores = super().decode(*args, **more)
            return -logits, scores

    decoder = Wrong(sam.model, sam.encoder)
    found = found_for(heat_of([ONE]), picture([ONE]), decoder)
    assert dice(found.maps[1] >= 0.5, ONE) >= 0.9


@pytest.mark.parametrize("kind", ["cosine", "relevance"])
def test_a_phrase_that_fits_worse_than_nonsense_is_absent(kind):
    heat, plane = heat_of([ONE], kind), picture([ONE])
    absent = replace(heat, fits=np.array([0.1]), baseline=0.25)
    found = found_for(absent, plane)
    assert found.present == {1: False}
    assert found.maps[1].max() < 0.5
    # The user still sees the map, and may insist.
    assert (found.heats[1]["heat map"] >= 0.5).any()
    assert found_for(absent, plane, presence=False).present == {1: True}
    fits = replace(heat, fits=np.array([0.3]), baseline=0.25)
    assert found_for(fits, plane).present == {1: True}


def test_a_sure_place_outweighs_a_plane_that_fits_a_little_worse():
    maps, background = cosines([disc(64, 64, 8)], gap=0.3)
    heat = Heat(maps, background=background, fits=np.array([0.24]), baseline=0.25)
    assert presence(heat, 0, margins(heat)[0]) > 0
    worse = replace(heat, fits=np.array([0.05]))
    assert presence(worse, 0, margins(worse)[0]) < 0


def test_presence_of_unknown_numbers():
    odds = np.full((4, 4), 2.0, np.float32)
    heat = Heat(odds[None], "relevance", fits=np.array([np.nan]), baseline=0.2)
    assert presence(heat, 0, odds) > 0
    assert presence(Heat(odds[None]), 0, odds) == pytest.approx(2.0)
    assert presence(Heat(odds[None]), 0, -odds) < 0


def test_background_words_do_not_take_the_cells_of_what_is_there():
    maps, background = cosines([ONE], gap=0.3)
    # The background fits everything better than the phrase does, by 4 in log-odds.
    heat = Heat(maps, background=background + 0.25)
    plane = picture([ONE])
    assert found_for(heat, plane).present == {1: False}
    fits = replace(heat, fits=np.array([0.5]), baseline=0.25)
    found = found_for(fits, plane)
    assert found.present == {1: True}
    assert dice(found.maps[1] >= 0.5, ONE) > 0.8
    nonsense = replace(heat, fits=np.array([0.24]), baseline=0.25)
    assert found_for(nonsense, plane).present == {1: False}


def test_handicap_by_hand():
    ground = np.full((10, 10), -9.0, np.float32)
    ground[:2] = -1.0
    # Between the groups -5, at the surest -1: midway -3.
    assert handicap(ground, 10.0) == pytest.approx(-3.0)
    assert handicap(ground, 2.0) == pytest.approx(-2.0)
    assert handicap(ground, -1.0) == handicap(ground, None) == 0.0
    assert handicap(ground + 20.0, 10.0) == 0.0
    assert handicap(np.full((3, 3), -2.0, np.float32), 10.0) == 0.0


def test_a_handicap_of_the_background_is_none_of_other_classes():
    maps, background = cosines(TWO, gap=0.3)
    heat = Heat(
        maps, background=background + 0.25, fits=np.array([0.6, 0.6]), baseline=0.2
    )
    assert ((margins(heat) > 0).sum(0) <= 1).all()
