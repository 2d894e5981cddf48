"""What a step of `train_tiny_clip.py` sees, and what is true of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from tiny_captions import (
    UNSURE,
    Phrase,
    Scene,
    Thing,
    draw_others,
    draw_phrases,
    paint_scene,
)
from tiny_shapes import COLOURS, FILLS, SHAPES, SIDE, draw_looks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

IMAGES, PHRASES = 8, 5
# The native one learns from parts of scenes for most of the time: that is cheaper.
PARTS, PART_IMAGES, PART_PHRASES, PART_SHARE = 64, 16, 3, 0.7
NONSENSE = 4
# How well "something else" fits every patch: less than a phrase that is right, more
# than one that is wrong.
REST_FITS = 0.3
# Everything that can be said; the last two are of no object alone.
PROPERTIES = (
    *(("shape", v) for v in SHAPES),
    *(("colour", v) for v in COLOURS),
    *(("fill", v) for v in FILLS),
    *(("size", v) for v in ("small", "large")),
    *(("side", v) for v in ("left", "right", "top", "bottom")),
    ("kind", "things"),
    ("kind", "ground"),
)
THING, GROUND = len(PROPERTIES) - 2, len(PROPERTIES) - 1
# Of these an object has exactly one each.
GROUPS = tuple(
    [n for n, (key, _) in enumerate(PROPERTIES) if key == group]
    for group in ("shape", "colour", "fill")
)


class Looks:
    """Small parts of scenes, drawn once and then turned: many objects for little.

    Parameters
    ----------
    count : int
        Parts.
    side : int
        Of a part in pixels.
    cells : int
        Patches along a side.
    """

    def __init__(self, count: int, side: int, cells: int, seed: int) -> None:
        rng = np.random.default_rng([seed, side, 9])
        images, shown = [], []
        for _ in range(count):
            scene = paint_scene(rng, side)
            images.append(scene.image.astype(np.float16))
            shown.append(shown_by(scene, (cells, cells)).unflatten(0, (cells, cells)))
        self.images = np.stack(images)
        self.shown = torch.stack(shown)
        # Where in the whole these parts are means nothing.
        self.shown[..., [n for n, p in enumerate(PROPERTIES) if p[0] == "side"]] = 0

    def draw(self, seed: Sequence[int], count: int) -> tuple[np.ndarray, Tensor]:
        """Return images (B, S, S, 3) and properties (B, n, K), turned and mirrored."""
        rng = np.random.default_rng(seed)
        chosen = rng.integers(0, len(self.images), count)
        images, shown = [], []
        for part in np.array_split(chosen, 8):
            turns, flip = int(rng.integers(4)), bool(rng.random() < 0.5)
            image = np.rot90(self.images[part], turns, (1, 2))
            cells = torch.rot90(self.shown[part], turns, (1, 2))
            images.append(image[:, ::-1] if flip else image)
            shown.append(cells.flip(1) if flip else cells)
        return np.concatenate(images).astype(np.float32), torch.cat(shown).flatten(1, 2)


@dataclass
class Work:
    """One step: scenes, texts, and what is true.

    Truths are in [0, 1], or `UNSURE`: ``whole`` (B, P), ``places`` (B, P, n). Of the
    `PROPERTIES`, ``said`` (P, K) are those of texts and ``shown`` (B, n, K) of patches.
    """

    scenes: list[Scene]
    texts: list[str]
    whole: Tensor
    places: Tensor
    said: Tensor
    shown: Tensor
    corner: tuple[int, int] = (0, 0)


def draw_work(
    seed: Sequence[int], grid: tuple[int, int], *, parts: bool, short: bool
) -> Work:
    """Draw what a step sees."""
    rng = np.random.default_rng(seed)
    corner, side = (0, 0), SIDE
    if parts:
        side, step = PARTS, SIDE // grid[0]
        row, column = step * rng.integers(0, (SIDE - PARTS) // step + 1, 2)
        corner, grid = (int(row), int(column)), (PARTS // step, PARTS // step)
    images, each = (PART_IMAGES, PART_PHRASES) if parts else (IMAGES, PHRASES)
    scenes = [paint_scene(rng, side, corner) for _ in range(images)]
    phrases = [p for s in scenes for p in draw_phrases(rng, s, each, short)]
    phrases += draw_others(rng, NONSENSE)
    whole = [[p.fits_scene(s) for p in phrases] for s in scenes]
    places = np.stack([truth_of_places(s, phrases, grid) for s in scenes])
    return Work(
        scenes,
        [p.text for p in phrases],
        torch.tensor(whole, dtype=torch.float32),
        torch.from_numpy(places),
        torch.tensor([said_by(p) for p in phrases], dtype=torch.float32),
        torch.stack([shown_by(s, grid) for s in scenes]),
        corner,
    )


def said_by(phrase: Phrase) -> list[float]:
    """Return which of the `PROPERTIES` a phrase says."""
    if phrase.kind == "nonsense":
        # The opposite of all that may be there.
        return [-float(n in (THING, GROUND)) for n in range(len(PROPERTIES))]
    every = [fact for says in phrase.says for fact in says.items()]
    every = every or [("kind", phrase.kind)]
    return [float(fact in every) for fact in PROPERTIES]


def draw_words(seed: Sequence[int], count: int) -> tuple[list[str], Tensor]:
    """Return texts, and which of the `PROPERTIES` they say (P, K), without scenes."""
    rng = np.random.default_rng(seed)
    phrases: list[Phrase] = []
    while len(phrases) < count:
        things = tuple(
            Thing(draw_looks(rng), tuple(rng.random(2)), np.zeros((1, 1), bool))
            for _ in range(rng.integers(1, 4))
        )
        phrases += draw_phrases(rng, Scene(np.zeros((1, 1, 3)), things), 6)
        phrases += [p for p in draw_others(rng, 1) if p.kind != "rest"]
    said = torch.tensor([said_by(p) for p in phrases], dtype=torch.float32)
    return [p.text for p in phrases], said


def shown_by(scene: Scene, grid: tuple[int, int]) -> Tensor:
    """Return the share of the `PROPERTIES` in every patch, (n, K)."""
    shares = covers(scene, grid)
    own = torch.tensor(
        [[float(_shows(t, *fact)) for fact in PROPERTIES] for t in scene.things]
    ).reshape(-1, len(PROPERTIES))
    found = shares.T @ own
    found[:, GROUND] = 1 - shares.sum(0).clamp(0, 1)
    return found


def _shows(thing: Thing, key: str, value: str) -> bool:
    if key == "side":
        at = thing.middle[value in ("left", "right")]
        return (at if value in ("left", "top") else 1 - at) < 0.42
    return value == "things" or thing.looks.get(key) == value


def covers(scene: Scene, grid: tuple[int, int]) -> Tensor:
    """Return the share of every patch that each object covers, (T, n)."""
    masks = np.zeros((len(scene.things), *scene.image.shape[:2]), np.float32)
    for mask, thing in zip(masks, scene.things, strict=True):
        mask[:] = thing.mask
    return F.adaptive_avg_pool2d(torch.from_numpy(masks), grid).flatten(1)


def truth_of_places(
    scene: Scene, phrases: Sequence[Phrase], grid: tuple[int, int]
) -> np.ndarray:
    """Return which patches phrases mean, (P, n) float32 in [0, 1] or `UNSURE`."""
    shares = covers(scene, grid).numpy()
    found = np.zeros((len(phrases), shares.shape[1]), np.float32)
    for row, phrase in zip(found, phrases, strict=True):
        if phrase.kind == "ground":
            row[:] = 1 - np.clip(2 * shares.sum(0), 0, 1)
        elif phrase.kind == "rest":
            row[:] = REST_FITS
        elif phrase.kind == "things":
            fits = np.array([phrase.fits(t) for t in scene.things], int)
            row[:] = np.clip(2 * shares[fits == 1].sum(0), 0, 1)
            row[shares[fits == UNSURE].sum(0) > 0.1] = UNSURE
    return found
