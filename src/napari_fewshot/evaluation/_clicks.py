"""Simulated users: how good masks get, interaction by interaction.

One loop serves all protocols: a robot looks at the mask and acts (`_robots`,
`_scribbles`), the method under test answers. Definitions follow RITM (Sofiiuk et al.
2022) where they have one; what differs is said where it does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.evaluation._metrics import overlap, surface_metrics
from napari_fewshot.evaluation._protocol import MIN_FRACTION
from napari_fewshot.evaluation._robots import Interaction, noisy_box

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray, BoolArray
    from napari_fewshot.evaluation._robots import Robot

Segment = Callable[[Sequence[Interaction]], "BoolArray"]
# NSD counts boundary pixels within this distance.
TOLERANCE = 1.0
DRAWS = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Step:
    """The state of one object after some interactions.

    Attributes
    ----------
    dice, iou : float
    nsd : float
        At a tolerance of one pixel.
    hd95 : float
        Pixels; infinite when nothing was found.
    seconds : float or None
        Time to answer; None when nothing was asked.
    user_seconds : float
        Time of all interactions so far, by the assumption of `Interaction.seconds`.
    pixels : int
        Pixels clicked or drawn so far.
    """

    dice: float
    iou: float
    nsd: float
    hd95: float
    seconds: float | None
    user_seconds: float
    pixels: int


@dataclass(frozen=True)
class Curve:
    """One object, step by step.

    Attributes
    ----------
    steps : tuple of Step
        The first is the state before the first correction. It ends when nothing is
        left to do.
    count : int
        Corrections that were allowed.
    """

    steps: tuple[Step, ...]
    count: int

    @property
    def padded(self) -> tuple[Step, ...]:
        """``count + 1`` steps: the last one is repeated when the robot stopped."""
        return self.steps + self.steps[-1:] * (self.count + 1 - len(self.steps))

    def values(self, name: str = "dice") -> AnyArray:
        """Return one figure of every padded step, (count + 1,) float64."""
        return np.array([getattr(step, name) for step in self.padded], float)

    def reached(self, name: str, threshold: float) -> int | None:
        """Return the first step with at least this Dice or IoU; None if there is none.

        Steps are corrections; 0 if none was needed.
        """
        hits = np.flatnonzero(self.values(name) >= threshold)
        return int(hits[0]) if len(hits) else None

    def interactions(self, name: str, threshold: float) -> int:
        """Return the number of clicks (NoC): `reached`, ``count`` if it never was."""
        found = self.reached(name, threshold)
        return self.count if found is None else found

    @property
    def seconds(self) -> list[float]:
        """Seconds of all answers, in their order."""
        return [s.seconds for s in self.steps if s.seconds is not None]


def simulate(
    truth: BoolArray,
    segment: Segment,
    robot: Robot,
    count: int,
    rng: np.random.Generator,
    begin: Sequence[Interaction] | None = None,
    enough: Callable[[Step], bool] | None = None,
) -> Curve:
    """Let a robot correct one object until it is right or its turns are used up.

    Parameters
    ----------
    truth : array (H, W) bool
        The object.
    segment : callable
        Returns the mask for the interactions so far; called with ever more of them.
    robot : callable
        The user, see `napari_fewshot.evaluation.Robot`.
    count : int
        Turns at most.
    rng : Generator
        For the robot.
    begin : sequence of Interaction, optional
        What is known before the first turn, e.g. a box; empty asks for an answer
        without any. None: there is no answer before the first turn, the mask is empty.
    enough : callable, optional
        Stops early.
    """
    found = np.zeros_like(truth)
    done = list(begin or [])
    seconds: float | None = None
    if begin is not None:
        found, seconds = _timed(segment, done)
    steps = [measure(found, truth, done, seconds)]
    while len(steps) <= count and not (enough is not None and enough(steps[-1])):
        turn = robot(found, truth, done, rng)
        if not turn:
            break
        done += turn
        found, seconds = _timed(segment, done)
        steps.append(measure(found, truth, done, seconds))
    return Curve(tuple(steps), count)


def noisy_boxes(
    truth: BoolArray,
    open_object: Callable[[], Segment],
    noises: Sequence[float],
    rng: np.random.Generator,
) -> Curve:
    """Ask once per noise of the box (protocol G); the steps are the noises.

    Parameters
    ----------
    truth : array (H, W) bool
        The object.
    open_object : callable
        Returns a ``segment`` that knows of nothing.
    noises : sequence of float
        See `napari_fewshot.evaluation.noisy_box`.
    rng : Generator
        For the shifts.
    """
    steps = []
    for noise in noises:
        box = [noisy_box(truth, noise, rng)]
        found, seconds = _timed(open_object(), box)
        steps.append(measure(found, truth, box, seconds))
    return Curve(tuple(steps), len(steps) - 1)


def _timed(segment: Segment, done: Sequence[Interaction]) -> tuple[BoolArray, float]:
    start = time.perf_counter()
    found = segment(tuple(done))
    return found, time.perf_counter() - start


def measure(
    found: BoolArray,
    truth: BoolArray,
    done: Sequence[Interaction],
    seconds: float | None,
) -> Step:
    """Return the state of an object; both masks empty is Dice, IoU and NSD 1.

    Parameters
    ----------
    found, truth : array (H, W) bool
        The present mask and what is wanted.
    done : sequence of Interaction
        So far.
    seconds : float or None
        Time to answer.
    """
    user, pixels = sum(d.seconds for d in done), sum(len(d.places) for d in done)
    either = np.argwhere(found | truth)
    if not len(either):
        return Step(1.0, 1.0, 1.0, 0.0, seconds, user, pixels)
    # Distances depend on nothing outside the window of both masks.
    low, high = np.maximum(either.min(0) - 1, 0), either.max(0) + 2
    window = slice(low[0], high[0]), slice(low[1], high[1])
    p, r = found[window], truth[window]
    dice, iou = overlap(p, r)
    surface = surface_metrics(p, r, (1.0, 1.0), TOLERANCE)
    return Step(
        dice, iou, surface["nsd"], surface["hd95"], seconds, float(user), pixels
    )


def area_under(values: Sequence[float] | AnyArray) -> float:
    """Return the area under a curve with unit spacing, by trapezoids.

    Parameters
    ----------
    values : sequence of float
        Scores; n perfect ones give n - 1.
    """
    y = np.asarray(values, float)
    return float((y[1:] + y[:-1]).sum() / 2)


def normalised_area(values: Sequence[float] | AnyArray) -> float:
    """Return `area_under` over its maximum, in [0, 1]; of one value the value."""
    if len(values) == 1:
        return float(values[0])
    return area_under(values) / (len(values) - 1)


def bootstrap_means(
    values: AnyArray, images: Sequence[str], classes: Sequence[str]
) -> AnyArray:
    """Return means over resampled images, for intervals.

    Images are drawn with replacement, not objects: those of one image are alike.

    Parameters
    ----------
    values : array (N, S)
        One row per object.
    images, classes : sequence of str
        Of every object. The mean is one over classes of means over objects.

    Returns
    -------
    array (1000, S)
        The same for the same input; NaN when there is a single image.
    """
    _, image = np.unique(images, return_inverse=True)
    n_images = int(image.max()) + 1
    if n_images < 2:
        return np.full((DRAWS, values.shape[1]), np.nan)
    drawn = np.random.default_rng(0).integers(n_images, size=(DRAWS, n_images))
    weights = np.stack([np.bincount(d, minlength=n_images) for d in drawn])
    means = []
    for name in sorted(set(classes)):
        mine = np.array([c == name for c in classes])
        sums = np.zeros((n_images, values.shape[1]))
        np.add.at(sums, image[mine], values[mine])
        counts = weights @ np.bincount(image[mine], minlength=n_images)
        # A class may be on none of the images drawn.
        share = np.divide(1.0, counts, out=np.full(DRAWS, np.nan), where=counts > 0)
        means.append(weights @ sums * share[:, None])
    mean: AnyArray = np.nanmean(means, axis=0)
    return mean


def interval(means: AnyArray) -> AnyArray:
    """Return the 95 % interval (2, S) of resampled means (D, S)."""
    tail = 50 * (1 - LEVEL)
    found: AnyArray = np.percentile(means, [tail, 100 - tail], axis=0)
    return found


def spread_objects(instances: AnyArray, count: int) -> list[int]:
    """Return the numbers of objects of small, middle and large size.

    Parameters
    ----------
    instances : array (H, W)
        Object numbers, 0 is background.
    count : int
        How many at most, evenly spread over the sizes.
    """
    sizes = np.bincount(instances.ravel())
    sizes[0] = 0
    # Specks of a few pixels are noise of the annotation.
    sizes[sizes < MIN_FRACTION * instances.size] = 0
    order = np.argsort(sizes, kind="stable")[np.sort(sizes) > 0]
    if len(order) <= count:
        return [int(v) for v in order]
    # Not the very smallest and largest: those are often cut by the border.
    at = (np.arange(count) + 0.5) / count * len(order)
    return [int(order[int(i)]) for i in at]
