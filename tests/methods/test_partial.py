"""Supports that are annotated in part: half an object, strokes, negative regions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

import napari_fewshot as nf
from napari_fewshot.cli._app import main
from napari_fewshot.data import Hooks, Sample
from napari_fewshot.errors import Cancelled, SupportError
from napari_fewshot.inference._samples import collect_samples
from napari_fewshot.inference._scale import at_query_scale
from napari_fewshot.methods import complete_labels
from napari_fewshot.methods._validation import dice, held_sample, summarise
from napari_fewshot.ops import spread_labels

SIDE = 64


def scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two bright discs on a textured ground, 8 bits, and their mask."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    mask = np.zeros((SIDE, SIDE), bool)
    for at in ((0.3, 0.3), (0.65, 0.65)):
        row, column = SIDE * (np.array(at) + rng.uniform(-0.05, 0.05, 2))
        mask |= (rows - row) ** 2 + (columns - column) ** 2 < (SIDE / 7) ** 2
    noise = ndimage.gaussian_filter(rng.normal(size=mask.shape), 1.0)
    image = np.clip(0.35 + 0.25 * mask + 0.2 * noise, 0, 1)
    return (255 * image).astype(np.uint8), mask


def known_left() -> np.ndarray:
    """Where somebody labelled: less than the first disc."""
    found = np.zeros((SIDE, SIDE), bool)
    found[:, : round(0.32 * SIDE)] = True
    return found


def sample(image: np.ndarray, labels: np.ndarray, off: np.ndarray | None) -> Sample:
    pixels = (image / 255).astype(np.float32)[..., None]
    return Sample(pixels, labels=labels.astype(np.int32), ignored=off, name="a")


METHODS = ("pixel", "prototype", "template", "panet", "linear", "matcher")


@pytest.mark.parametrize("method", METHODS)
def test_ignoring_is_better_than_taking_for_background(method) -> None:
    image, mask = scene(0)
    known = known_left()
    half = (mask & known).astype(np.uint8)
    how = {"method": method, "model": "filters"}
    if method in ("pixel", "template"):
        how.pop("model")
    queries = [scene(10), scene(11)]
    found = {}
    for name, options in {"ground": {}, "ignored": {"ignore": ~known}}.items():
        support = nf.Support(image, half, **options)
        runs = [nf.segment(q, support, **how) for q, _ in queries]
        found[name] = np.mean(
            [dice(r.labels > 0, t) for r, (_, t) in zip(runs, queries, strict=True)]
        )
    assert found["ignored"] > 0.6
    assert found["ignored"] > found["ground"] - 0.02
    if method in ("pixel", "linear", "matcher"):
        assert found["ignored"] > found["ground"] + 0.1


def test_the_bundled_network_learns_from_a_part() -> None:
    image, mask = scene(0)
    known = known_left()
    half = (mask & known).astype(np.uint8)
    query, truth = scene(10)
    how = {"method": "incontext", "practise": False}
    ground = nf.segment(query, nf.Support(image, half), **how).labels > 0
    ignored = nf.segment(query, nf.Support(image, half, ignore=~known), **how).labels
    assert dice(ignored > 0, truth) > dice(ground, truth) + 0.05


def test_the_rest_of_an_object_is_guessed() -> None:
    image, mask = scene(1)
    known = known_left()
    (found,) = complete_labels([sample(image, mask & known, ~known)], Hooks())
    assert dice(found.labels == 1, mask) > 0.9
    assert np.array_equal(found.labels[known], mask[known])
    assert np.array_equal(found.known_labels < 0, ~known)


def test_strokes_are_enough() -> None:
    image, mask = scene(2)
    inside = ndimage.distance_transform_edt(mask)
    strokes = inside > 0.7 * inside.max()
    ground = np.zeros_like(mask)
    ground[2, 4:-4] = ground[-3, 4:-4] = True
    known = strokes | (ground & ~mask)
    (found,) = complete_labels([sample(image, strokes, ~known)], Hooks())
    assert dice(found.labels == 1, mask) > 0.9


def test_a_stroke_on_what_is_not_wanted_changes_the_guess() -> None:
    image, mask = scene(3)
    parts, _ = ndimage.label(mask)
    good, bad = parts == parts.max(), parts == 1
    with_bad = sample(image, good, None)
    known = np.zeros_like(mask)
    known[ndimage.binary_erosion(bad, iterations=3)] = True
    known[:3] = True
    stroke = sample(image + 0, np.zeros_like(mask), ~known)
    _, found = complete_labels([with_bad, stroke], Hooks())
    assert not found.labels[known].any()
    assert (found.labels[bad] == 0).mean() > 0.9


def test_two_classes_are_completed() -> None:
    image, mask = scene(4)
    parts, _ = ndimage.label(mask)
    labels = np.where(mask, parts, 0)
    image = np.where(parts == 2, np.minimum(image.astype(int) + 60, 255), image)
    inside = ndimage.distance_transform_edt(mask)
    known = (inside > 4) | (ndimage.distance_transform_edt(~mask) > 9)
    (found,) = complete_labels([sample(image, labels * known, ~known)], Hooks())
    for value in (1, 2):
        assert dice(found.labels == value, labels == value) > 0.85


def test_without_known_background_it_says_so() -> None:
    image, mask = scene(5)
    with pytest.raises(SupportError, match="known to be background"):
        complete_labels([sample(image, mask, ~mask)], Hooks())
    support = nf.Support(image, mask, ignore=~mask)
    with pytest.raises(SupportError, match="known to be background"):
        nf.segment(scene(6)[0], support, method="pixel")


def test_completing_is_remembered_and_can_be_stopped() -> None:
    image, mask = scene(7)
    known = known_left()
    given = [sample(image, mask & known, ~known), sample(image, mask, None)]
    stages: list[str] = []
    hooks = Hooks(lambda progress: stages.append(progress.stage))
    first = complete_labels(given, hooks)
    assert first[1] is given[1]
    assert stages
    stages.clear()
    again = complete_labels(given, hooks)
    assert np.array_equal(first[0].labels, again[0].labels)
    assert not stages
    other = [sample(255 - image, mask & known, ~known)]
    with pytest.raises(Cancelled):
        complete_labels(other, Hooks(is_cancelled=lambda: True))


def test_walkers_spread_labels_over_flat_parts() -> None:
    image = np.zeros((20, 30, 1), np.float32)
    image[:, 15:] = 1.0
    labels = np.full((20, 30), -1, np.int32)
    labels[10, 2], labels[10, 27], labels[0, 0] = 0, 7, 3
    chance = spread_labels(image, labels, (0, 7))
    assert chance.shape == (2, 20, 30)
    assert np.allclose(chance.sum(0), 1, atol=1e-4)
    assert (chance[0][:, :14] > 0.9).all()
    assert (chance[1][:, 16:] > 0.9).all()


@pytest.mark.parametrize("seen", [(), (0,), (7,)])
def test_walkers_without_a_choice_are_undecided_elsewhere(seen) -> None:
    image = np.random.default_rng(0).random((9, 9, 3)).astype(np.float32)
    labels = np.full((9, 9), -1, np.int32)
    for value in seen:
        labels[4, 4] = value
    chance = spread_labels(image, labels, (0, 7))
    assert np.allclose(chance[:, 0, 0], 0.5)
    for value in seen:
        assert chance[(0, 7).index(value), 4, 4] == 1


def test_scores_count_only_what_is_known() -> None:
    _, mask = scene(8)
    known = known_left()
    labels = np.where(known, mask, 1).astype(np.int32)
    maps = {1: np.where(known, mask, 0.9).astype(np.float32)}
    one = sample(np.zeros((SIDE, SIDE)), labels, ~known)
    held = held_sample(one, maps)
    assert dice(held.maps[1] >= 0.5, held.labels == 1) == 1.0
    wrong = {1: np.where(known, 1 - mask, mask).astype(np.float32)}
    held = held_sample(one, wrong)
    assert summarise([held], [1], is_copy=False).scores[1] == 0.0


def test_pixel_sizes_bring_the_ignored_part_along() -> None:
    image, mask = scene(9)
    known = known_left()
    support = nf.Support(image, mask & known, ignore=~known, scale=(1.0, 1.5))
    samples, _ = collect_samples(nf.SupportSet(support), Hooks())
    (found,), _ = at_query_scale(samples, (48, 48), (2.0, 3.0))
    assert found.ignored is not None
    assert found.ignored.shape == found.labels.shape == found.image.shape[:2]
    assert 0.55 < found.ignored.mean() < 0.8


def test_what_is_ignored_tells_fits_apart() -> None:
    image, mask = scene(9)
    known = known_left()
    supports = [
        nf.Support(image, mask & known),
        nf.Support(image, mask & known, ignore=~known),
        nf.Support(image, mask & known, ignore=~known),
    ]
    digests = [collect_samples(nf.SupportSet(s), Hooks())[1] for s in supports]
    assert digests[0] != digests[1]
    assert digests[1] == digests[2]


def test_the_worker_sees_what_is_ignored() -> None:
    image, mask = scene(0)
    known = known_left()
    support = nf.Support(image, mask & known, ignore=~known)
    query, _ = scene(12)
    here = nf.segment(query, support, method="panet", model="filters")
    there = nf.segment(
        query, support, method="panet", model="filters", executor="process"
    )
    assert np.array_equal(here.labels, there.labels)
    plain = nf.Support(image, mask & known)
    other = nf.segment(query, plain, method="panet", model="filters")
    assert here.scores != other.scores


def test_on_the_command_line_a_label_says_what_is_not_known(tmp_path, capsys) -> None:
    image, mask = scene(0)
    known = known_left()
    np.save(tmp_path / "image.npy", image)
    np.save(tmp_path / "mask.npy", np.where(known, mask, 255).astype(np.uint8))
    pair = ["--support", str(tmp_path / "image.npy"), str(tmp_path / "mask.npy")]
    how = ["--method", "panet", "--model", "filters"]

    def run(*words: str) -> int:
        with pytest.raises(SystemExit) as stop:
            main(["check", *pair, *how, *words])
        return int(stop.value.code or 0)

    assert run("--ignore", "255") == 0
    said = capsys.readouterr().out
    assert "class 1" in said
    assert "class 255" not in said
    assert run() == 0
    assert "class 255" in capsys.readouterr().out
    assert run("--ignore", "7") == 1
    assert "has the label 7" in capsys.readouterr().err
    assert run("--ignore") == 2
    assert "--ignore 255" in capsys.readouterr().err
