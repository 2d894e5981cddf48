"""Simulated users for training: clicks, boxes, scribbles, corrections."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage

from napari_fewshot.models.prompt_image import draw_box, draw_points
from napari_fewshot.ops import next_click

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray

SUPPORTS_ONLY, BOTH, PROMPTS_ONLY = 0, 1, 2
# Who clicks and shows no support mostly means the one thing under the mouse.
ONE_PART = 0.7
# Shares of the later looks: at the same clicks with their own answer before the eyes,
# and at more clicks without it. The rest sees both.
SECOND_LOOK, FRESH = 0.3, 0.35
# Most clicks between two looks.
CORRECTIONS = 2


def draw_modes(rng: np.random.Generator, count: int) -> list[int]:
    """Draw what evidence each of the queries has."""
    return [int(m) for m in rng.choice(3, count, p=[0.42, 0.16, 0.42])]


def first_prompts(
    rng: np.random.Generator, truth: AnyArray, mode: int
) -> tuple[AnyArray, AnyArray]:
    """Draw a first prompt and what it asks for.

    Parameters
    ----------
    rng : Generator
        Source of randomness.
    truth : array (H, W) bool
        The whole target.
    mode : int
        `SUPPORTS_ONLY`, `BOTH` or `PROMPTS_ONLY`.

    Returns
    -------
    prompts : array (5, H, W) float32
        See `models.prompt_image`.
    wanted : array (H, W) bool
        The target, or one of its parts.
    """
    prompts = np.zeros((5, *truth.shape), np.float32)
    if mode == SUPPORTS_ONLY or not truth.any():
        return prompts, truth
    wanted = truth
    if mode == PROMPTS_ONLY and rng.random() < ONE_PART:
        wanted = _one_part(rng, truth)
    kind = rng.random()
    if kind < 0.2 and wanted.mean() < 0.7:
        _add_box(rng, prompts, wanted)
    elif kind < 0.35:
        _add_scribble(rng, prompts[0], wanted)
        if rng.random() < 0.5 and not wanted.all():
            _add_scribble(rng, prompts[1], ~wanted)
    else:
        for _ in range(int(rng.integers(1, 4))):
            correct(rng, prompts, prompts[0] > 0, wanted)
        if rng.random() < 0.4 and not wanted.all():
            _add_negatives(rng, prompts[1], wanted)
    return prompts, wanted


def correct(
    rng: np.random.Generator,
    prompts: AnyArray,
    found: AnyArray,
    wanted: AnyArray,
    count: int = 1,
) -> None:
    """Add the clicks of a user who looks at ``found``, in place.

    One click is spent on an error; the next one goes to the largest error left.
    """
    for _ in range(count):
        click = next_click(found, wanted, rng)
        if click is None:
            return
        draw_points(prompts[0 if click[2] else 1], [click[:2]])
        parts, _ = ndimage.label(found ^ wanted, np.ones((3, 3)))
        found = np.where(parts == parts[click[:2]], wanted, found)


def look_again(
    rng: np.random.Generator,
    prompts: AnyArray,
    past: AnyArray,
    wanted: AnyArray,
    *,
    clicked: bool,
) -> None:
    """Prepare the prompts of a query for the next look at it, in place.

    Parameters
    ----------
    rng : Generator
        Source of randomness.
    prompts : array (5, H, W)
        Of the last look.
    past : array (H, W)
        Logits of the last look.
    wanted : array (H, W) bool
        What the user wants.
    clicked : bool
        Whether the user corrects; otherwise the network only sees its own answer.
    """
    kind = rng.random() if clicked else 0.0
    if kind >= SECOND_LOOK:
        count = int(rng.integers(1, CORRECTIONS + 1))
        correct(rng, prompts, past > 0, wanted, count)
    if kind >= 1 - FRESH:
        prompts[3:] = 0
    else:
        remember(prompts, past, rng)


def remember(prompts: AnyArray, logits: AnyArray, rng: np.random.Generator) -> None:
    """Put earlier logits (H, W) into the prompts, sometimes blurred, in place."""
    past = torch.from_numpy(logits)[None, None]
    factor = int(rng.choice([1, 1, 2, 4]))
    if factor > 1:
        small = torch.nn.functional.avg_pool2d(past, factor)
        past = torch.nn.functional.interpolate(
            small, scale_factor=factor, mode="bilinear"
        )
    prompts[3] = torch.sigmoid(past[0, 0]).numpy()
    prompts[4] = 1


def _one_part(rng: np.random.Generator, truth: AnyArray) -> AnyArray:
    parts, number = ndimage.label(truth, np.ones((3, 3)))
    sizes = np.bincount(parts.ravel())[1:]
    good = np.flatnonzero(sizes >= max(6, 0.05 * sizes.max())) + 1
    if number < 2 or not len(good):
        return truth
    chosen: AnyArray = parts == rng.choice(good)
    return chosen


def _add_box(rng: np.random.Generator, prompts: AnyArray, wanted: AnyArray) -> None:
    rows, columns = np.flatnonzero(wanted.any(1)), np.flatnonzero(wanted.any(0))
    low = np.array([rows[0], columns[0]], float)
    high = np.array([rows[-1] + 1, columns[-1] + 1], float)
    slack = 0.1 * (high - low)
    draw_box(
        prompts[2],
        np.concatenate([low + rng.normal(0, slack), high + rng.normal(0, slack)]),
    )


def _add_negatives(
    rng: np.random.Generator, channel: AnyArray, wanted: AnyArray
) -> None:
    """Click outside the target: mostly close to it, where masks leak."""
    outside = ~wanted
    if rng.random() < 0.7:
        reach = rng.uniform(3, 25)
        outside &= ndimage.distance_transform_edt(outside) <= reach
    at = rng.choice(np.flatnonzero(outside), int(rng.integers(1, 4)))
    draw_points(channel, np.stack(np.unravel_index(at, wanted.shape), 1))


def _add_scribble(
    rng: np.random.Generator, channel: AnyArray, inside: AnyArray
) -> None:
    """Walk through the region from a random pixel."""
    size = np.array(inside.shape)
    start = rng.choice(np.flatnonzero(inside))
    at = np.array(np.unravel_index(start, inside.shape), float)
    heading = rng.uniform(0, 2 * np.pi)
    for _ in range(int(rng.integers(6, 40))):
        row, column = at.astype(int)
        channel[max(row, 0) : row + 2, max(column, 0) : column + 2] = 1
        heading += rng.normal(0, 0.35)
        nxt = at + np.array([np.cos(heading), np.sin(heading)])
        if (nxt < 0).any() or (nxt >= size).any() or not inside[tuple(nxt.astype(int))]:
            heading += rng.uniform(0.5, 1.5) * np.pi
            continue
        at = nxt
