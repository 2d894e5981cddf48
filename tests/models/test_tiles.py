"""Planes that are read in tiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_fewshot.errors import Cancelled
from napari_fewshot.models import load_model
from napari_fewshot.models._copies import TILE, tile_windows, working_shape
from napari_fewshot.models.contexts import (
    MAX_TILES,
    decode_tiles,
    join_contexts,
    read_tiles,
    tiles_each,
)


@pytest.fixture(scope="module")
def model():
    return load_model("incontext/small", device="cpu")


@pytest.fixture(scope="module")
def lines():
    """A large plane with thin bright lines, and where they are."""
    rng = np.random.default_rng(0)
    mask = np.zeros((600, 500), bool)
    for row in range(40, 600, 90):
        mask[row : row + 4] = True
    image = 0.3 + 0.4 * mask + rng.normal(0, 0.05, mask.shape)
    return np.clip(image, 0, 1).astype(np.float32)[..., None], mask


@pytest.mark.parametrize("shape", [(32, 32), (288, 288), (304, 288), (736, 512)])
def test_tiles_cover_everything_and_overlap(shape):
    windows = tile_windows(shape)
    covered = np.zeros(shape, int)
    for rows, columns in windows:
        covered[rows, columns] += 1
        assert rows.stop - rows.start == min(TILE, shape[0])
        assert columns.stop - columns.start == min(TILE, shape[1])
    assert covered.min() == 1
    assert len(windows) == 1 or covered.max() > 1


def test_a_single_tile_is_the_whole_plane(model, lines):
    image, mask = lines[0][:288, :288], lines[1][:288, :288]
    context = model.context([model.features(image, TILE)], [mask])
    past = np.where(mask, 1.0, -1.0).astype(np.float32)
    found = decode_tiles(model, image, TILE, {3: context}, {3: past})
    features = model.features(image, TILE)
    wanted = model.decode(features, context, mask.shape, past=past)
    np.testing.assert_allclose(found[3], wanted, atol=1e-4)


def test_tiles_find_what_the_whole_shows_too_small(model, lines):
    image, mask = lines
    whole = model.contexts([sample(image, mask)], [1], 128)
    tiled = model.contexts([sample(image, mask)], [1], 512)
    past = model.decode(model.features(image, 128), whole[1], mask.shape)
    found = decode_tiles(model, image, 512, tiled, {1: past})[1]
    assert found.shape == mask.shape
    assert dice(found > 0, mask) > dice(past > 0, mask) + 0.05
    assert dice(found > 0, mask) > 0.8


def test_the_most_telling_tile_is_read_first(model):
    mask = np.zeros((736, 736), bool)
    mask[600:640, 600:640] = True
    image = (0.2 + 0.6 * mask).astype(np.float32)[..., None]
    found = read_tiles(model, image, mask, 736, 1)
    rows, columns = tile_windows((736, 736))[-1]
    cover = torch.from_numpy(mask[rows, columns].astype(np.float32))[None, None]
    features = model.encoded(image, 736, (rows, columns))
    wanted = join_contexts([model.network.context(features, cover)])
    torch.testing.assert_close(found.values, wanted.values)


def test_many_supports_share_the_tiles():
    assert tiles_each(1) == MAX_TILES
    assert [tiles_each(k) * k <= MAX_TILES for k in (2, 5, 24)] == [True] * 3
    assert tiles_each(64) == 1


def test_parts_of_several_supports_weigh_as_many(model, lines):
    image, mask = lines
    one = [model.context([model.features(image, 128)], [mask])]
    other = [model.context([model.features(1 - image, 128)], [mask])]
    joined = join_contexts([join_contexts(one * 3), *other], [3, 1])
    for found, wanted in zip(
        joined.moments, join_contexts(one * 3 + other).moments, strict=True
    ):
        torch.testing.assert_close(found.outer, wanted.outer)


def test_cancelling_stops_between_tiles(model, lines):
    image, mask = lines
    context = model.contexts([sample(image, mask)], [1], 512)
    calls = []

    def check():
        calls.append(1)
        if len(calls) == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        decode_tiles(model, image, 512, context, {1: np.zeros(mask.shape)}, check)
    assert len(tile_windows(working_shape(mask.shape, 512))) > len(calls)


def sample(image, mask):
    from napari_fewshot.data import Sample

    return Sample(image, labels=mask.astype(np.int32))


def dice(found, wanted):
    return 2 * (found & wanted).sum() / (found.sum() + wanted.sum())
