"""Robot users: what a person would click or draw next to correct a mask.

A robot is a function of the present mask, of what is wanted and of what was done so
far. It returns the next interactions, none when there is nothing left to do. Everything
random comes from a generator that depends on seed, image and object alone
(`object_rng`), so that the order of a run changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_fewshot.ops import interior_distance, next_click

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray, BoolArray

# How long a person takes: an assumption of this project, not a measurement.
CLICK_SECONDS, BOX_SECONDS, SCRIBBLE_SECONDS = 1.5, 3.5, 2.0
DRAWN_PER_SECOND = 200.0
# A negative click without an error to point at goes near the object: its box, wider by
# this share of its sides and by so many pixels at least.
WIDER, WIDER_PIXELS = 0.1, 5


@dataclass(frozen=True, eq=False)
class Interaction:
    """One thing a user does.

    Attributes
    ----------
    kind : {"click", "box", "scribble"}
    places : array (N, 2) int
        Row and column: one of a click, the pixels of a scribble in their order, first
        and last corner of a box, the last exclusive.
    positive : bool
        Whether it lies on what is wanted.
    """

    kind: Literal["click", "box", "scribble"]
    places: AnyArray = field(repr=False)
    positive: bool = True

    @property
    def length(self) -> float:
        """Length of a scribble in pixels; 0 of the others."""
        if self.kind != "scribble":
            return 0.0
        return float(np.hypot(*np.diff(self.places, axis=0).T).sum())

    @property
    def seconds(self) -> float:
        """Time a person takes for it, by assumption."""
        if self.kind == "click":
            return CLICK_SECONDS
        if self.kind == "box":
            return BOX_SECONDS
        return SCRIBBLE_SECONDS + self.length / DRAWN_PER_SECOND


Robot = Callable[
    ["BoolArray", "BoolArray", Sequence[Interaction], np.random.Generator],
    list[Interaction],
]


def object_rng(seed: int, image: str, number: str) -> np.random.Generator:
    """Return the generator of one object, the same in every process and order.

    Parameters
    ----------
    seed : int
        Number of the run.
    image, number : str
        Names of the image and of the object in it.
    """
    words = "\0".join((str(seed), image, number)).encode()
    start = int.from_bytes(hashlib.sha256(words).digest()[:16], "big")
    return np.random.Generator(np.random.PCG64(start))


def click(row: int, column: int, positive: bool = True) -> Interaction:
    """Return a click on a pixel."""
    return Interaction("click", np.array([[row, column]]), bool(positive))


def click_thickest_error(
    found: BoolArray,
    truth: BoolArray,
    before: Sequence[Interaction],
    rng: np.random.Generator,
    *,
    jitter: bool = False,
) -> list[Interaction]:
    """Click where an error is thickest (protocol A; RITM, Sofiiuk et al. 2022).

    Parameters
    ----------
    found, truth : array (H, W) bool
        The present mask and what is wanted.
    before : sequence of Interaction
        No pixel is clicked twice.
    rng : Generator
        Read with ``jitter`` only.
    jitter : bool
        Draw among the pixels at least half as deep as the deepest one.

    Returns
    -------
    list of Interaction
        One click, negative where missing and superfluous parts are equally thick.
    """
    free = np.ones(truth.shape)
    for done in before:
        if done.kind == "click":
            free[tuple(done.places[0])] = 0
    missing = interior_distance(truth & ~found) * free
    superfluous = interior_distance(found & ~truth) * free
    positive = bool(missing.max() > superfluous.max())
    depth = missing if positive else superfluous
    if depth.max() == 0:
        return []
    at = int(depth.argmax())
    if jitter:
        at = int(rng.choice(np.flatnonzero(depth >= 0.5 * depth.max())))
    row, column = np.unravel_index(at, depth.shape)
    return [click(int(row), int(column), positive)]


def click_largest_error(
    found: BoolArray,
    truth: BoolArray,
    before: Sequence[Interaction],
    rng: np.random.Generator,
    *,
    jitter: bool = False,
) -> list[Interaction]:
    """Click in the middle of the largest connected error (protocol B).

    The scheme is that of ScribblePrompt (Wong et al. 2024) and the CVPR interactive
    challenges. Parameters and result as for `click_thickest_error`.
    """
    place = next_click(found, truth, rng if jitter else None)
    return [] if place is None else [click(*place)]


def click_pairs(
    found: BoolArray,
    truth: BoolArray,
    before: Sequence[Interaction],
    rng: np.random.Generator,
) -> list[Interaction]:
    """Click one random pixel that is missing and one that is superfluous (protocol D).

    The scheme is that of micro-sam (Archit et al. 2025). Without a missing pixel the
    positive click falls anywhere on what was rightly found; without a superfluous one
    the negative click falls on background near the object, where there is any.
    Parameters and result as for `click_thickest_error`.
    """
    chosen = []
    for places, positive in (
        (_first_of(truth & ~found, truth), True),
        (_first_of(found & ~truth, near_background(truth)), False),
    ):
        if places.any():
            chosen.append(random_click(places, rng, positive=positive))
    return chosen


def _first_of(wanted: BoolArray, otherwise: BoolArray) -> BoolArray:
    return wanted if wanted.any() else otherwise


def random_click(
    places: BoolArray, rng: np.random.Generator, *, positive: bool = True
) -> Interaction:
    """Click on any pixel of a mask (H, W) that is not empty."""
    at = int(rng.choice(np.flatnonzero(places)))
    row, column = np.unravel_index(at, places.shape)
    return click(int(row), int(column), positive)


def near_background(truth: BoolArray) -> BoolArray:
    """Return the background inside the widened box of an object.

    Parameters
    ----------
    truth : array (H, W) bool
        The object, not empty.
    """
    low, high = tight_box(truth).places
    reach = np.maximum(np.ceil(WIDER * (high - low)), WIDER_PIXELS).astype(int)
    low = np.maximum(low - reach, 0)
    near = np.zeros_like(truth)
    near[low[0] : high[0] + reach[0], low[1] : high[1] + reach[1]] = True
    return near & ~truth


def tight_box(truth: BoolArray) -> Interaction:
    """Return the smallest box around an object that is not empty."""
    places = np.argwhere(truth)
    return Interaction("box", np.stack([places.min(0), places.max(0) + 1]))


def noisy_box(truth: BoolArray, noise: float, rng: np.random.Generator) -> Interaction:
    """Return the tight box with every side shifted by itself (protocol G).

    Parameters
    ----------
    truth : array (H, W) bool
        The object, not empty.
    noise : float
        Each side is shifted by a uniform share of the box's length in [-noise, noise].
    rng : Generator
        Draws the shifts.

    Returns
    -------
    Interaction
        At least one pixel large and inside the image.
    """
    low, high = tight_box(truth).places
    shifts = rng.uniform(-noise, noise, (2, 2)) * (high - low)
    size = np.array(truth.shape)
    first = np.clip(np.rint(low + shifts[0]).astype(int), 0, size - 1)
    last = np.clip(np.rint(high + shifts[1]).astype(int), first + 1, size)
    return Interaction("box", np.stack([first, last]))
