"""Before a run: estimates follow the work, learn from runs, refuse what can't be."""

from __future__ import annotations

import json

import numpy as np
import pytest
import zarr

import napari_fewshot as nf
from napari_fewshot.inference._estimate import GUESS_FIT, Speeds, Work
from napari_fewshot.session import _estimate
from napari_fewshot.session._estimate import total
from napari_fewshot.session._resources import free_memory, say_bytes, say_duration

FAST = {"method": "pixel", "trees": 5, "leave_one_out": False}


@pytest.fixture
def support(blob_pair):
    return nf.Support(*blob_pair(0, (64, 64), 4))


def lazy(path, shape):
    """Return an empty store: as large as one likes, and nothing on the disk."""
    chunks = (*(1,) * (len(shape) - 2), 1024, 1024)
    return zarr.create_array(path, shape=shape, chunks=chunks, dtype="u1")


def test_planes_add_up(support, tmp_path):
    one = nf.estimate(np.zeros((64, 64), np.uint8), support, **FAST)
    many = nf.estimate(np.zeros((50, 64, 64), np.uint8), support, **FAST)
    assert (one.n_planes, many.n_planes) == (1, 50)
    assert many.megapixels == pytest.approx(50 * one.megapixels)
    assert many.seconds - GUESS_FIT == pytest.approx(50 * (one.seconds - GUESS_FIT))
    assert one.is_guess
    assert one.fits
    assert "a guess" in str(one)
    assert "50 planes" in str(many)


def test_memory_of_a_stack_does_not_grow_with_its_length(support, tmp_path):
    short = lazy(tmp_path / "s.zarr", (50, 1024, 1024))
    long = lazy(tmp_path / "l.zarr", (5000, 1024, 1024))
    out = tmp_path / "o.zarr"
    first = nf.estimate(short, support, out=out, **FAST)
    second = nf.estimate(long, support, out=out, **FAST)
    assert second.memory_bytes == first.memory_bytes
    assert second.disk_bytes == pytest.approx(100 * first.disk_bytes)


def test_a_large_plane_is_counted_in_tiles(support, tmp_path):
    plane = lazy(tmp_path / "p.zarr", (40_000, 40_000))
    found = nf.estimate(
        plane, support, out=tmp_path / "o.zarr", keep_probabilities=False, **FAST
    )
    assert found.n_windows > 100
    assert found.memory_bytes < 2e9
    region = nf.estimate(plane, support, region=(0, 0, 3000, 3000), **FAST)
    assert region.n_windows < found.n_windows / 20
    assert region.seconds < found.seconds / 10


def test_runs_on_this_machine_are_remembered(support, blob_pair, home, monkeypatch):
    # Runs are noted now and then; one of another test may just have been.
    monkeypatch.setattr(_estimate, "_noted", [-float("inf")])
    query = blob_pair(1, (64, 64), 4)[0]
    # Another image each time: the same one again would cost nothing.
    for n in range(3):
        found = nf.segment(blob_pair(2 + n, (64, 64), 4)[0], support, **FAST)
    text = (home / "cache" / "speeds.json").read_text()
    [(key, rows)] = json.loads(text).items()
    assert key == "pixel none cpu"
    assert 1 <= len(rows) <= 3
    told = nf.estimate(query, support, **FAST)
    assert not told.is_guess
    assert told.seconds < 60
    assert found.provenance["seconds"]["predict"] < 10 * told.seconds + 1


def work(n=1, side=1000):
    return Work(n, n, (side, side), 1, 1, n * side * side, False)


def record(predict, fit=0.0, assess=0.0):
    seconds = {"predict": predict, "fit": fit, "assess": assess}
    return {"method": "pixel", "model": None, "device": "cpu", "seconds": seconds}


def test_speeds_of_several_sizes_are_a_line(support):
    from napari_fewshot.data import Image, SupportSet
    from napari_fewshot.inference import SegmentRequest

    speeds = Speeds()
    for side in (500, 1000, 2000):
        # Two seconds for every window, and three for every megapixel.
        assert speeds.note(record(10 * (2 + 3 * side**2 / 1e6)), work(10, side))
    query = Image.from_array(np.zeros((64, 64), np.uint8))
    request = SegmentRequest(query, SupportSet([]), method="pixel")
    assert speeds.predict(request, "cpu", work(7, 4000)) == (
        pytest.approx(7 * (2 + 3 * 16)),
        False,
    )
    # Of a size that was seen, that one counts.
    assert speeds.predict(request, "cpu", work(1, 1000))[0] == pytest.approx(5)
    assert speeds.predict(request, "cuda", work())[1]


def test_what_was_just_seen_is_no_speed():
    speeds = Speeds()
    assert speeds.note(record(3.0), work())
    assert not speeds.note(record(0.001), work())
    assert not speeds.note(record(0.0), work())
    for n in range(40):
        speeds.note(record(3.0 + n), work())
    assert len(speeds.samples["pixel none cpu"]) == 16


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 3}', '{"a": [[1]]}', "null"])
def test_damaged_speeds_count_as_none(text, home, support):
    assert Speeds.parse(text).samples == {}
    (home / "cache").mkdir(exist_ok=True)
    (home / "cache" / "speeds.json").write_text(text)
    assert nf.estimate(np.zeros((64, 64), np.uint8), support, **FAST).is_guess


def test_what_does_not_fit_on_the_disk_is_refused(support, tmp_path):
    """Five petabytes of labels, though they are packed: no disk has that."""
    huge = lazy(tmp_path / "p.zarr", (5_000_000, 1024, 2048))
    out = tmp_path / "o.zarr"
    told = nf.estimate(huge, support, out=out, **FAST)
    assert not told.fits
    assert "of disk in" in told.reasons[0]
    assert "another disk" in told.advice[0]


def test_a_plane_larger_than_the_memory_is_refused(support, tmp_path, monkeypatch):
    plane = lazy(tmp_path / "p.zarr", (30_000, 30_000))
    # The largest tile that may be asked for.
    told = nf.estimate(plane, support, tile=8192, **FAST)
    there = free_memory()
    if there is None or told.memory_bytes - 1.3e9 < there:
        pytest.skip("this machine has the memory")
    assert not told.fits
    assert "tile=512" in told.advice[0]
    with pytest.raises(nf.DataError, match="needs about"):
        nf.segment(plane, support, tile=8192, **FAST)
    assert nf.estimate(plane, support, **FAST).fits


def test_bad_requests_are_told_before(support):
    image = np.zeros((64, 64), np.uint8)
    with pytest.raises(TypeError, match="'trees'"):
        nf.estimate(image, support, method="pixel", tree=3)
    with pytest.raises(nf.DataError, match="region"):
        nf.estimate(image, support, region=(0, 0, 100, 10), **FAST)
    with pytest.raises(nf.DataError):
        nf.estimate("nowhere.tif", support, **FAST)


def test_several_add_up(support):
    one = nf.estimate(np.zeros((64, 64), np.uint8), support, **FAST)
    two = total([one, one])
    assert two.seconds == 2 * one.seconds
    assert two.memory_bytes == one.memory_bytes
    assert two.n_planes == 2


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 bytes"), (1500, "2 kB"), (2.5e6, "2 MB"), (1.23e9, "1.2 GB")],
)
def test_sizes_in_words(count, words):
    assert say_bytes(count) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.1, "1 s"),
        (61, "61 s"),
        (200, "3 min"),
        (7200, "2.0 hours"),
        (1e6, "11.6 days"),
    ],
)
def test_durations_in_words(seconds, words):
    assert say_duration(seconds) == words
