"""Synthetic scenes: a few objects of some shape, colour, fill and size on a ground."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import ndimage

# Scenes from `HELD_OUT` on are never trained on.
SIDE, HELD_OUT = 128, 9_000_000
SHAPES = ("disk", "ring", "square", "triangle", "star", "rod", "curve")
COLOURS = {
    "bright": (0.95, 0.95, 0.95),
    "dark": (0.06, 0.06, 0.06),
    "red": (0.85, 0.15, 0.12),
    "green": (0.12, 0.7, 0.2),
    "blue": (0.15, 0.25, 0.85),
}
FILLS = ("plain", "striped", "spotted")


@dataclass(frozen=True, eq=False)
class Thing:
    """One object: what it is, its middle (row, column) in [0, 1], and its mask."""

    looks: dict[str, str]
    middle: tuple[float, float]
    mask: np.ndarray = field(repr=False)


@dataclass(frozen=True, eq=False)
class Scene:
    """An image (S, S, 3) float32 in [0, 1], and its objects."""

    image: np.ndarray = field(repr=False)
    things: tuple[Thing, ...]

    def mask(self, phrase: Any) -> np.ndarray:
        """Return the pixels (S, S) of what a phrase means."""
        found = np.zeros(self.image.shape[:2], bool)
        for thing in self.things:
            if phrase.fits(thing) == 1:
                found |= thing.mask
        return found


def draw_scene(seed: int) -> Scene:
    """Draw a scene; the same seed gives the same one."""
    return paint_scene(np.random.default_rng([seed, SIDE, 6]))


def paint_scene(
    rng: np.random.Generator, side: int = SIDE, corner: tuple[int, int] = (0, 0)
) -> Scene:
    """Draw a scene of one to five objects that do not touch.

    A smaller side is a part of a scene of `SIDE`, at a corner (row, column).
    """
    coloured = rng.random() < 0.6
    image = _ground(rng, side, coloured)
    level = float(image.mean())
    things: list[Thing] = []
    taken = np.zeros((side, side), bool)
    most = 3 if side >= SIDE else 2
    kinds = [draw_looks(rng, coloured) for _ in range(rng.integers(1, most + 1))]
    wanted = [k for k in kinds for _ in range(rng.choice([1, 1, 1, 2, 3]))]
    for looks in wanted[: 2 * most - 1]:
        found = _place(rng, looks, taken, corner)
        if found is None:
            continue
        things.append(found)
        taken |= ndimage.uniform_filter(found.mask.astype(np.float32), 7) > 1e-3
        _fill(rng, image, found, level)
    image = image.astype(np.float32)
    blur = (*[rng.uniform(0.4, 0.9)] * 2, 0)
    image = ndimage.gaussian_filter(image, blur, truncate=2.5)
    shape = (side, side, 3 if coloured else 1)
    grain = rng.standard_normal(shape, dtype=np.float32)
    image = image + np.float32(rng.uniform(0.005, 0.04)) * grain
    return Scene(np.clip(image, 0, 1).astype(np.float32), tuple(things))


def draw_looks(rng: np.random.Generator, coloured: bool = True) -> dict[str, str]:
    """Return what an object is like."""
    colours = list(COLOURS) if coloured else ["bright", "dark"]
    return {
        "shape": str(rng.choice(SHAPES)),
        "colour": str(rng.choice(colours)),
        "fill": str(rng.choice(FILLS, p=(0.5, 0.25, 0.25))),
        "size": str(rng.choice(["small", "middle", "large"])),
    }


def _waves(rng: np.random.Generator, side: int, cells: int) -> np.ndarray:
    """Return smooth noise (S, S) of about unit variance."""
    coarse = rng.standard_normal((cells, cells))
    fine: np.ndarray = ndimage.zoom(coarse, side / cells, order=1, grid_mode=True,
                                    mode="nearest")  # fmt: skip
    return fine[:side, :side]


def _ground(rng: np.random.Generator, side: int, coloured: bool) -> np.ndarray:
    """Return a ground (S, S, 3): flat, noisy, sloping or like tissue."""
    base = rng.uniform(0.35, 0.62) + np.zeros(3)
    if coloured:
        base = base + rng.normal(0, 0.035, 3)
    kind = rng.integers(4)
    field_ = np.zeros((side, side))
    if kind == 1:
        field_ = rng.uniform(0.02, 0.06) * rng.standard_normal((side, side))
    elif kind == 2:
        line = np.linspace(-1, 1, side)
        angle = rng.uniform(0, 2 * np.pi)
        slope = line[:, None] * np.cos(angle) + line[None] * np.sin(angle)
        field_ = rng.uniform(0.03, 0.1) * slope
    elif kind == 3:
        coarse, fine = _waves(rng, side, 6), _waves(rng, side, 28)
        field_ = rng.uniform(0.02, 0.05) * coarse + rng.uniform(0.01, 0.035) * fine
    return base + field_[..., None]


RADII = {"small": (9.0, 12.0), "middle": (13.0, 17.0), "large": (19.0, 25.0)}


def _place(
    rng: np.random.Generator,
    looks: dict[str, str],
    taken: np.ndarray,
    corner: tuple[int, int],
) -> Thing | None:
    """Put an object where nothing is yet, or give up."""
    side = len(taken)
    radius = rng.uniform(*RADII[looks["size"]])
    # Thin ones are longer, so that they are about as much to see.
    radius *= 1.25 if looks["shape"] in ("rod", "curve") else 1.0
    radius = min(radius, side / 2 - 1)
    for _ in range(12):
        middle = rng.uniform(radius, side - radius, 2)
        if taken[int(middle[0]), int(middle[1])]:
            continue
        mask = _draw_shape(rng, looks["shape"], middle, radius, side)
        if not (mask & taken).any() and mask.sum() > 40:
            at = (np.argwhere(mask).mean(0) + corner) / SIDE
            return Thing(looks, (float(at[0]), float(at[1])), mask)
    return None


def _draw_shape(
    rng: np.random.Generator, shape: str, middle: np.ndarray, radius: float, side: int
) -> np.ndarray:
    """Return the pixels (S, S) of a shape within a radius of its middle."""
    line = np.arange(side, dtype=np.float32) + 0.5
    y, x = (line - middle[0])[:, None] / radius, (line - middle[1])[None] / radius
    angle = rng.uniform(0, 2 * np.pi)
    if shape == "square":
        angle = rng.uniform(-0.3, 0.3)
    u, v = y * np.cos(angle) + x * np.sin(angle), x * np.cos(angle) - y * np.sin(angle)
    found = _inside(rng, shape, u, v)
    return np.asarray(found, bool)


def _inside(
    rng: np.random.Generator, shape: str, u: np.ndarray, v: np.ndarray
) -> np.ndarray:
    """Say which places in turned coordinates belong to a shape of radius one."""
    if shape == "disk":
        return u**2 + (v * rng.uniform(1.0, 1.2)) ** 2 < 0.9
    far = np.sqrt(u**2 + v**2)
    if shape == "ring":
        return (far < 1) & (far > rng.uniform(0.45, 0.55))
    if shape == "square":
        return np.maximum(abs(u), abs(v)) < 0.8
    if shape == "rod":
        return (abs(u) < 1.1) & (abs(v) < 0.34)
    if shape == "curve":
        bend = rng.uniform(1.2, 1.7)
        wave = 0.45 * np.sin(u * np.pi / 1.25 * bend)
        return (abs(v - wave) < 0.3) & (abs(u) < 1.25)
    around = np.arctan2(v, u)
    corners = 3 if shape == "triangle" else 5
    sector = (around + np.pi / corners) % (2 * np.pi / corners) - np.pi / corners
    if shape == "triangle":
        return far * np.cos(sector) < 0.58
    # A star: straight edges between its tips at 1 and its notches at 0.42.
    turned = abs((around % (2 * np.pi / 5)) - np.pi / 5)
    tip, notch = np.pi / 5, 0.42
    edge = np.sin(tip) * notch / (notch * np.sin(turned) + np.sin(tip - turned))
    return far < 1.15 * edge


def _fill(
    rng: np.random.Generator, image: np.ndarray, thing: Thing, level: float
) -> None:
    """Paint an object into an image, in place."""
    colour = np.array(COLOURS[thing.looks["colour"]]) + rng.normal(0, 0.02)
    other = 0.55 * level + 0.45 * colour
    side = len(image)
    rows, columns = np.arange(side)[:, None], np.arange(side)[None]
    second = np.zeros((side, side), bool)
    if thing.looks["fill"] == "striped":
        angle, period = rng.uniform(0, np.pi), rng.uniform(5, 7)
        along = rows * np.cos(angle) + columns * np.sin(angle)
        second = (along / period + rng.random()) % 1 < 0.45
    elif thing.looks["fill"] == "spotted":
        step = rng.uniform(5.5, 7)
        y, x = (rows + rng.uniform(0, 9)) / step, (columns + rng.uniform(0, 9)) / step
        x = x + 0.5 * (np.floor(y) % 2)
        second = np.hypot(y % 1 - 0.5, x % 1 - 0.5) < 0.33
    image[thing.mask & ~second] = colour
    image[thing.mask & second] = other
