"""Planted heat maps of discs on a bright-and-dark plane, and who draws them."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from napari_fewshot.data import Hooks, Plane, TextPrompt
from napari_fewshot.methods.grid import MapDecoder, SamDecoder
from napari_fewshot.methods.text import Heat, TextFitted, TextMethod, TextParams
from napari_fewshot.methods.text._asks import Drawing
from napari_fewshot.methods.text._words import ClassWords, TextBank
from napari_fewshot.ops import mask_to_grid

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"
SIDE, GRID = 128, 16
CUTS = ("auto", "two-means", "otsu", "percentile", "fixed", "crf")
PROMPTS = ("box", "points", "both", "mask")


def disc(row, column, radius, shape=(SIDE, SIDE)):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return np.hypot(rows - row, columns - column) < radius


ONE = disc(50, 60, 24)
TWO = [disc(38, 36, 20), disc(88, 92, 22)]


def picture(masks, seed=0):
    """Grey plane with a bright disc per mask."""
    rng = np.random.default_rng(seed)
    shape = masks[0].shape
    image = 0.25 + 0.5 * np.any(masks, axis=0) + rng.normal(0, 0.03, shape)
    return Plane(np.clip(image, 0, 1)[..., None].astype(np.float32))


def cosines(masks, grid=(GRID, GRID), gap=0.1, seed=0):
    """Cosines as dense CLIP has them: narrow, noisy, coarse."""
    rng = np.random.default_rng(seed)
    covers = np.stack([mask_to_grid(m, grid) for m in masks])
    maps = 0.20 + gap * (covers - 0.5) + rng.normal(0, 0.004, covers.shape)
    return maps.astype(np.float32), np.full(grid, 0.20, np.float32)


def heat_of(masks, kind="cosine", **more):
    maps, background = cosines(masks)
    if kind == "cosine":
        return Heat(maps, background=background, **more)
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    return Heat((maps - low) / (high - low), kind, **more)


class Planted(TextMethod):
    """Hands on a map that a test made."""

    def __init__(self, heat, drawing=None):
        self.planted, self.way = heat, drawing or Drawing()

    def heat(self, model, plane, bank, params, hooks):
        return self.planted

    def drawing(self, params):
        return self.way


def bank_of(count):
    rows = np.eye(8, dtype=np.float32)
    none = np.zeros((0, 8), np.float32)
    words = [
        ClassWords(i + 1, TextPrompt(f"thing {i}"), rows[:1], none)
        for i in range(count)
    ]
    return TextBank(tuple(words), rows[1:2], rows[2:3], rows[3])


def fitted_for(heat, decoder=None, drawing=None, **params):
    model = SimpleNamespace(spec=SimpleNamespace(name="planted"))
    return TextFitted(
        Planted(heat, drawing),
        model,
        TextParams(**params),
        bank_of(len(heat.maps)),
        decoder or MapDecoder(),
    )


def found_for(heat, plane, decoder=None, drawing=None, **params):
    fitted = fitted_for(heat, decoder, drawing, **params)
    return fitted.find(plane, Hooks())


def dice(found, truth):
    return 2 * (found & truth).sum() / max(found.sum() + truth.sum(), 1)


@pytest.fixture(scope="module")
def sam(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import tiny_models

        model = tiny_models.load("sam/vit_b", tmp_path_factory.mktemp("weights"))
        del sys.modules["tiny_models"]
    return SamDecoder(model, model)
