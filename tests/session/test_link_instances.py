"""`nf.link_instances`: arrays of any kind, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

import napari_fewshot as nf


@pytest.fixture
def film():
    """Two squares that move; numbers are new in every frame."""
    planes = np.zeros((4, 20, 20), np.int32)
    for t in range(4):
        planes[t, 2 + t : 8 + t, 2:8] = 2 - t % 2
        planes[t, 5:11, 12 - t : 18 - t] = 1 + t % 2
    return planes


def test_numbers_hold_over_time(film):
    found = nf.link_instances(film, "tyx")
    assert [found.instances[t, 5, 5] for t in range(4)] == [
        found.instances[0, 5, 5]
    ] * 4
    assert np.array_equal(found.instances > 0, film > 0)
    assert [(t.track, t.first, t.last) for t in found.tracks.table] == [
        (1, 0, 3),
        (2, 0, 3),
    ]
    track = found.tracks.points[found.tracks.points[:, 0] == found.instances[0, 4, 4]]
    assert track[:, 1:].tolist() == [[t, 4.5 + t, 4.5] for t in range(4)]
    assert film[1, 4, 4] == 1, "what was given is not changed"


def test_stores_on_disk_are_read_by_plane(film, tmp_path):
    store = zarr.create_array(
        tmp_path / "out.zarr", shape=film.shape, chunks=(1, 20, 20), dtype="int32"
    )
    found = nf.link_instances(film, "tyx", out=store)
    assert found.instances is store
    assert np.array_equal(store[:], nf.link_instances(film, "tyx").instances)


def test_either_order_of_time_and_depth_is_the_same(film):
    volume = np.stack([film, film], axis=1)  # t z y x
    one = nf.link_instances(volume, "tzyx").instances
    other = nf.link_instances(np.swapaxes(volume, 0, 1), "ztyx").instances
    assert np.array_equal(one, np.swapaxes(other, 0, 1))
    assert len(np.unique(one)) == 3
    only_depth = nf.link_instances(volume, "tzyx", "z").instances
    assert len(np.unique(only_depth)) == 1 + 2 * 4


@pytest.mark.parametrize(
    ("array", "options", "words"),
    [
        (np.zeros((3, 4, 4)), {}, "whole numbers"),
        (np.full((3, 4, 4), -1), {}, "negative"),
        (np.zeros((4, 4), int), {}, "neither a z nor a t axis"),
        (np.zeros((3, 4, 4), int), {"link": "t"}, "no t axis"),
        (np.zeros((3, 4, 4), int), {"link": "both"}, "not one of"),
        (np.zeros((3, 4, 4), int), {"min_overlap": 0}, "min_overlap"),
        (np.zeros((3, 4, 4), int), {"gap": -1}, "gap"),
        (np.zeros((3, 4, 4), int), {"axes": "cyx"}, "channel axis"),
        (np.zeros((3, 4, 4), int), {"out": np.zeros((2, 4, 4), int)}, "the shape"),
    ],
)
def test_what_cannot_be_linked_is_told(array, options, words):
    with pytest.raises(nf.DataError, match=words):
        nf.link_instances(array, **options)
