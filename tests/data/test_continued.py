"""Copy on write: reads like an array, writes like one, the one below never changes."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from napari_fewshot.data import Continued

SHAPE = (3, 50, 70)


@pytest.fixture
def arrays(tmp_path):
    base = np.random.default_rng(0).integers(0, 99, SHAPE).astype(np.int32)
    below = zarr.create_array(
        tmp_path / "a", shape=SHAPE, chunks=(1, 16, 16), dtype="i4"
    )
    below[...] = base
    own = zarr.create_array(tmp_path / "b", shape=SHAPE, chunks=(1, 16, 16), dtype="i4")
    return base, below, Continued(below, own)


def random_key(rng):
    """A key of whole numbers and slices, of any step, as users and napari give them."""
    key = []
    for n in SHAPE[: rng.integers(1, 4)]:
        if rng.random() < 0.3:
            key.append(int(rng.integers(-n, n)))
        else:
            a, b = rng.integers(-n - 5, n + 5, 2)
            step = int(rng.choice([1, 1, 2, 3, -1, -2]))
            key.append(slice(int(a), int(b), step))
    return tuple(key)


def test_like_numpy_whatever_is_read_and_written(arrays):
    base, below, found = arrays
    model, rng = base.copy(), np.random.default_rng(1)
    for _ in range(150):
        key = random_key(rng)
        if rng.random() < 0.3:
            value = rng.integers(100, 999, model[key].shape)
            model[key] = value
            found[key] = value
        key = random_key(rng)
        np.testing.assert_array_equal(found[key], model[key], str(key))
    np.testing.assert_array_equal(np.asarray(found), model)
    np.testing.assert_array_equal(below[...], base)


def test_lists_of_pixels_as_a_brush_gives_them(arrays):
    base, _, found = arrays
    model = base.copy()
    at = (np.array([0, 2, 2]), np.array([49, 0, 17]), np.array([-1, 3, 40]))
    np.testing.assert_array_equal(found[at], base[at])
    found[at] = model[at] = 777
    np.testing.assert_array_equal(found[...], model)
    assert found[1, 2, 3] == model[1, 2, 3]
    empty = (np.zeros(0, int),) * 3
    found[empty] = 5
    np.testing.assert_array_equal(np.asarray(found), model)


def test_only_what_is_written_to_is_copied(arrays, tmp_path):
    _, _, found = arrays
    found[1, 20:22, 30:40] = 7
    assert list(found.changed()) == [
        (slice(1, 2), slice(16, 32), slice(16, 32)),
        (slice(1, 2), slice(16, 32), slice(32, 48)),
    ]
    written = [p for p in (tmp_path / "b/c").rglob("*") if p.is_file()]
    assert len(written) == 2


def test_one_upon_another(arrays):
    base, _, found = arrays
    model = base.copy()
    for step in range(4):
        found = Continued(found, np.zeros(SHAPE, np.int32))
        part = np.s_[step % 3, 10 * step : 10 * step + 15, 5:60]
        found[part] = model[part] = 100 + step
    np.testing.assert_array_equal(np.asarray(found), model)
    assert (len(found), found.ndim, found.nbytes) == (3, 3, 4 * model.size)


@pytest.mark.parametrize("key", [5, (0, 99), (0, 0, 0, 0), "a", (0, 1.5), (True,)])
def test_bad_keys(arrays, key):
    with pytest.raises(IndexError):
        arrays[2][key]
