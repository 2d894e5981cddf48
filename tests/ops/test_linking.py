"""Object numbers over depth and time, against brute force and by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from napari_fewshot.ops.linked_planes import link_planes
from napari_fewshot.ops.linking import Linker, best_pairs, shared_pixels


def linked(planes, numbers=None, axes="z", **options):
    """Link a list of planes in memory."""
    store = [np.array(p, np.int32) for p in planes]
    numbers = numbers or ([list(range(len(store)))] if axes == "z" else None)
    numbers = numbers or [[n] for n in range(len(store))]

    def write(n, plane):
        store[n] = plane

    tracks = link_planes(lambda n: store[n], write, numbers, axes, **options)
    return np.stack(store), tracks


def row(text):
    """Turn "11.22" into a plane of one row."""
    return np.array([[0 if c == "." else int(c) for c in text]], np.int32)


def test_pairs_are_those_of_counting_one_by_one():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, (2, 3, 20, 20))
    pairs, counts = shared_pixels(a, b)
    found = {tuple(p): c for p, c in zip(pairs.tolist(), counts.tolist(), strict=True)}
    wanted = {
        (i, j): int(((a == i) & (b == j)).sum())
        for i, j in itertools.product(range(1, 5), range(1, 5))
    }
    assert found == {k: v for k, v in wanted.items() if v}


def test_the_best_assignment_is_that_of_trying_all():
    rng = np.random.default_rng(1)
    for _ in range(20):
        gains = rng.uniform(0.1, 1, (4, 4)) * (rng.random((4, 4)) < 0.6)
        pairs = np.argwhere(gains > 0) + 1
        best = max(
            sum(gains[i, p] for i, p in enumerate(order))
            for order in itertools.permutations(range(4))
        )
        found = best_pairs(pairs, gains[gains > 0])
        assert sum(gains[a - 1, b - 1] for a, b in found) == pytest.approx(best)
        assert len({a for a, _ in found}) == len({b for _, b in found}) == len(found)


def test_numbers_of_planes_become_numbers_of_objects():
    planes = [row("11..22"), row("22..11"), row("11..33")]
    found, tracks = linked(planes)
    assert found.tolist() == [row("11..22").tolist()] * 3
    assert [(t.first, t.last) for t in tracks.table] == [(0, 2), (0, 2)]


def test_branches_of_depth_are_one_object():
    fork = [row("111111"), row("11..22"), row("11..22")]
    found, tracks = linked(fork)
    assert set(np.unique(found)) == {0, 1}
    assert len(tracks.table) == 1
    # One point per plane: pieces are weighed by their size.
    assert tracks.points[:, 3].tolist() == [2.5, 2.5, 2.5]
    lean = [row("111111"), row("1..222")]
    _, tracks = linked(lean)
    assert tracks.points[1].tolist() == [1, 1, 0, (0 + 3 + 4 + 5) / 4]
    found, _ = linked(fork[::-1])
    assert set(np.unique(found)) == {0, 1}, "upside down, too"


def test_objects_that_hardly_touch_stay_two():
    found, _ = linked([row("1111...."), row("...2222.")])
    assert len(np.unique(found)) == 3


def test_over_time_a_piece_of_a_split_is_a_child():
    planes = [row("1111111"), row("1111.22")]
    found, tracks = linked(planes, axes="t")
    assert found[1].tolist() == row("1111.22").tolist()
    assert [(t.track, t.parent) for t in tracks.table] == [(1, 0), (2, 1)]
    assert tracks.graph == {2: [1]}


def test_with_divisions_both_pieces_are_children():
    found, tracks = linked([row("1111111"), row("111.222")], axes="t", divisions=True)
    assert set(np.unique(found[1])) == {0, 2, 3}
    assert {t.track: t.parent for t in tracks.table} == {1: 0, 2: 1, 3: 1}
    assert tracks.table[0].last == 0, "the parent ends where it divides"
    assert sorted(tracks.points[:, 0].tolist()) == [1, 2, 3]


def test_a_merge_is_told():
    found, tracks = linked([row("1111.22"), row("1111111")], axes="t")
    assert set(np.unique(found[1])) == {1}
    assert tracks.table[1].merged_into == 1
    assert tracks.graph == {1: [2]}


@pytest.mark.parametrize(("gap", "count"), [(0, 2), (1, 1)])
def test_gaps_are_bridged_when_asked_for(gap, count):
    _, tracks = linked([row("111"), row("..."), row("111")], axes="t", gap=gap)
    assert len(tracks.table) == count


def test_an_object_that_went_on_is_not_found_again_after_a_gap():
    # 1 moves to the right; what comes where it was is another one.
    planes = [row("1111...."), row("..1111.."), row("11..2222")]
    found, tracks = linked(planes, axes="t", gap=2)
    assert found[2, 0, 4] == 1
    assert found[2, 0, 0] == 2
    assert len(tracks.table) == 2


def test_volumes_are_linked_in_depth_and_over_time():
    rng = np.random.default_rng(0)
    truth = np.zeros((3, 4, 12, 12), int)
    truth[:, 1:3, 1:5, 1:5], truth[:, :, 7:11, 7:11] = 1, 2
    planes = []
    for plane in truth.reshape(-1, 12, 12):
        names = rng.permutation(np.arange(1, 4))
        planes.append(np.where(plane > 0, names[plane], 0))
    numbers = np.arange(12).reshape(3, 4).tolist()
    found, tracks = linked(planes, numbers, "zt")
    found = found.reshape(truth.shape)
    assert len(tracks.table) == 2
    for value in (1, 2):
        assert len(np.unique(found[truth == value])) == 1
    assert not found[truth == 0].any()
    # track, time, z, row, column of the centre
    assert tracks.points.shape == (6, 5)
    centre = tracks.points[tracks.points[:, 0] == found[0, 1, 2, 2]][0]
    assert centre.tolist()[1:] == [0, 1.5, 2.5, 2.5]


def test_numbers_of_depth_differ_between_times():
    planes = [row("11."), row("11."), row("11."), row("11.")]
    found, tracks = linked(planes, [[0, 1], [2, 3]], "z")
    assert found[:, 0, 0].tolist() == [1, 1, 2, 2]
    assert [t.track for t in tracks.table] == [1, 2]


def test_what_is_held_is_a_few_planes():
    linker = Linker(gap=1)
    held = []
    for _ in range(30):
        plane = np.ones((4, 4), np.int32)
        names = linker.match([plane])
        linker.keep([names[plane]])
        held.append(len(linker._recent))
    assert max(held) == 2


def test_nothing_to_link_is_nothing():
    found, tracks = linked([np.zeros((3, 3), int)] * 3)
    assert not found.any()
    assert not tracks.table
    assert not tracks.graph
    assert len(tracks.points) == 0


def test_many_random_discs_keep_their_numbers():
    rng = np.random.default_rng(3)
    grid = np.mgrid[:120, :120]
    centres = np.stack(np.meshgrid(range(10, 120, 20), range(10, 120, 20)), -1)
    centres = centres.reshape(-1, 2).astype(float)
    planes, truth = [], []
    for _ in range(6):
        centres += rng.uniform(-1, 1, centres.shape)
        plane = np.zeros((120, 120), np.int32)
        for number, (r, c) in enumerate(centres, 1):
            plane[(grid[0] - r) ** 2 + (grid[1] - c) ** 2 < 36] = number
        truth.append(plane)
        names = np.concatenate([[0], rng.permutation(len(centres)) + 1])
        planes.append(names[plane])
    found, tracks = linked(planes, axes="t")
    assert len(tracks.table) == len(centres)
    for value in range(1, len(centres) + 1):
        assert len(np.unique(found[np.stack(truth) == value])) == 1
