"""Small images with supports, and the bad input that every method must bear."""

from __future__ import annotations

import numpy as np
import pytest

import napari_fewshot as nf


def scene(seed, shape=(56, 64), count=3):
    """Return a plane in [0, 1] with bright discs on a dark, uneven ground, and labels.

    A darker stripe is there too: background is not one thing.
    """
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    labels = np.zeros(shape, np.int32)
    for _ in range(count):
        y, x = rng.uniform(10, shape[0] - 10), rng.uniform(10, shape[1] - 10)
        labels[np.hypot(rows - y, columns - x) < rng.uniform(6, 9)] = 1
    image = 0.3 + 0.45 * labels - 0.2 * (abs(columns - shape[1] // 2) < 4)
    image = image + rng.normal(0, 0.03, shape) + 0.05 * rows / shape[0]
    return np.clip(image, 0, 1).astype(np.float32), labels


def supports_of(pairs):
    """Return a support set of (image, labels) pairs."""
    return nf.SupportSet([nf.Support(i, m, axes="yx") for i, m in pairs])


def overlap(found, truth):
    """Dice of two masks."""
    return 2 * (found & truth).sum() / max(found.sum() + truth.sum(), 1)


def _bad_input():
    """Name -> pairs of image and labels."""
    pairs = [scene(seed) for seed in range(2)]
    (image, labels), other = pairs
    dot, full = np.zeros_like(labels), np.ones_like(labels)
    dot[20, 31] = 1
    most = full.copy()
    most[:6, :9] = 0
    return {
        "one": pairs[:1],
        "missing in some": [(image, labels), (other[0], 0 * other[1])],
        "negative first": [(other[0], 0 * other[1]), (image, labels), scene(2)],
        "identical": [(image, labels), (image, labels)],
        "one pixel": [(image, dot), (other[0], other[1])],
        "only one pixel": [(image, dot)],
        "everything": [(image, full)],
        "nearly everything": [(image, most), (other[0], full)],
    }


BAD_INPUT = _bad_input()


@pytest.fixture(scope="session")
def make_scene():
    """Return the maker of an image and its labels: ``make_scene(seed)``."""
    return scene


@pytest.fixture(scope="session")
def make_supports():
    """Return the maker of support sets from (image, labels) pairs."""
    return supports_of


@pytest.fixture(scope="session")
def dice_of():
    """Return the Dice of two masks."""
    return overlap


@pytest.fixture(params=sorted(BAD_INPUT))
def bad_supports(request):
    """Each kind of bad input as a support set."""
    return supports_of(BAD_INPUT[request.param])


@pytest.fixture(scope="session")
def every_bad_input():
    """All kinds of bad input: name -> support set."""
    return {name: supports_of(pairs) for name, pairs in BAD_INPUT.items()}
