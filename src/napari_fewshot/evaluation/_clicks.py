"""The click benchmark: how good masks get, click by click (protocol B).

The robot clicks in the middle of the largest connected error, the first time into the
largest part of the object; the model sees all clicks so far. The scheme is that of
ScribblePrompt (Wong et al. 2024) and the CVPR interactive challenges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.evaluation._protocol import MIN_FRACTION, binary_dice
from napari_fewshot.ops import next_click

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_fewshot._types import AnyArray, BoolArray


@dataclass(frozen=True)
class ClickCurve:
    """Dice of one object after every click.

    Attributes
    ----------
    dices : tuple of float
        After 1, 2, ... clicks; the last value is repeated when nothing was wrong.
    """

    dices: tuple[float, ...]

    def clicks_to(self, dice: float) -> int:
        """Return how many clicks reach a Dice; one more than there are if none do."""
        for number, found in enumerate(self.dices, 1):
            if found >= dice:
                return number
        return len(self.dices) + 1


def click_curve(
    truth: BoolArray,
    segment: Callable[[Sequence[tuple[int, int, bool]]], BoolArray],
    count: int,
    start: BoolArray | None = None,
    rng: np.random.Generator | None = None,
) -> ClickCurve:
    """Click on one object until it is right or the clicks are used up.

    Parameters
    ----------
    truth : array (H, W) bool
        The object.
    segment : callable
        Returns the mask for the clicks so far.
    count : int
        Clicks at most.
    start : array (H, W) bool, optional
        The mask before the first click, e.g. from supports.
    rng : Generator, optional
        Clicks like a person instead of a robot, see `ops.next_click`.
    """
    found = np.zeros_like(truth) if start is None else start
    clicks: list[tuple[int, int, bool]] = []
    dices: list[float] = []
    for _ in range(count):
        click = next_click(found, truth, rng)
        if click is None:
            break
        clicks.append(click)
        found = segment(clicks)
        dices.append(binary_dice(found, truth))
    last = dices[-1] if dices else binary_dice(found, truth)
    return ClickCurve(tuple(dices + [last] * (count - len(dices))))


def clicks_needed(curve: ClickCurve, start_dice: float, dice: float) -> int:
    """Return the clicks needed to reach a Dice; none if supports alone reach it."""
    return 0 if start_dice >= dice else curve.clicks_to(dice)


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
