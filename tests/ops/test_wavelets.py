"""The Haar transform and the augmentation made of it."""

from __future__ import annotations

import numpy as np
import pytest

from napari_fewshot.ops import haar, inverse_haar, masked_bands


@pytest.mark.parametrize("shape", [(3, 8, 6), (2, 7, 5), (1, 1, 1)])
def test_it_reconstructs_and_keeps_energy(shape: tuple[int, int, int]) -> None:
    maps = np.random.default_rng(0).normal(size=shape)
    bands = haar(maps)
    back = inverse_haar(bands, shape[1:])
    np.testing.assert_allclose(back, maps, atol=1e-12)
    if shape == (3, 8, 6):
        np.testing.assert_allclose((bands**2).sum(), (maps**2).sum())


def test_bands_are_what_they_are_called() -> None:
    rows = np.array([[1.0, 1.0], [-1.0, -1.0]])
    np.testing.assert_array_equal(haar(rows).ravel(), [0, 2, 0, 0])
    np.testing.assert_array_equal(haar(rows.T).ravel(), [0, 0, 2, 0])
    np.testing.assert_array_equal(haar(rows * rows.T).ravel(), [0, 0, 0, 2])
    np.testing.assert_array_equal(haar(np.ones((2, 2))).ravel(), [2, 0, 0, 0])


def test_masking_drops_the_share_and_nothing_else() -> None:
    maps = np.random.default_rng(1).normal(size=(5, 64, 64)).astype(np.float32)
    np.testing.assert_allclose(
        masked_bands(maps, 0.0, np.random.default_rng(0)), maps, atol=1e-6
    )
    assert not masked_bands(maps, 1.0, np.random.default_rng(0)).any()
    some = masked_bands(maps, 0.3, np.random.default_rng(0))
    assert some.dtype == np.float32
    left = (haar(some) ** 2).sum() / (haar(maps) ** 2).sum()
    assert left == pytest.approx(0.7, abs=0.03)
    again = masked_bands(maps, 0.3, np.random.default_rng(0))
    np.testing.assert_array_equal(some, again)
