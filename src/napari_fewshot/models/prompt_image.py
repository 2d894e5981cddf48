"""Prompts as the channels that the in-context network reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import BoolArray, FloatArray
    from napari_fewshot.data import PlanePrompts

# Radius of a click in the network's pixels.
CLICK_RADIUS = 2.5


def prompt_image(
    prompts: PlanePrompts, shape: tuple[int, int], size: tuple[int, int]
) -> FloatArray:
    """Draw prompts of a plane of ``shape`` at the network's ``size``.

    Returns
    -------
    array (3, H, W) float32
        Positive, negative, box.
    """
    channels = np.zeros((3, *size), np.float32)
    factor = np.array(size) / np.array(shape)
    for channel, points in zip(
        channels[:2], (prompts.positive, prompts.negative), strict=True
    ):
        # The centre of pixel (0, 0) stays the centre of what it became.
        draw_points(channel, (np.asarray(points) + 0.5) * factor - 0.5)
    for box in np.asarray(prompts.boxes, float):
        draw_box(channels[2], box * np.tile(factor, 2))
    if prompts.scribbles is not None:
        for value, channel in ((1, channels[0]), (-1, channels[1])):
            draw_strokes(channel, np.asarray(prompts.scribbles) == value)
    return channels


def draw_points(channel: FloatArray, points: Sequence[Any] | FloatArray) -> None:
    """Draw discs at (row, column) into a channel (H, W), in place."""
    height, width = channel.shape
    reach = int(CLICK_RADIUS)
    for point in points:
        row, column = (float(v) for v in point)
        top, left = round(row), round(column)
        rows = np.arange(max(top - reach, 0), min(top + reach + 1, height))
        columns = np.arange(max(left - reach, 0), min(left + reach + 1, width))
        near = (rows[:, None] - row) ** 2 + (columns[None] - column) ** 2
        window = channel[np.ix_(rows, columns)]
        channel[np.ix_(rows, columns)] = np.where(near <= CLICK_RADIUS**2, 1, window)


def draw_strokes(channel: FloatArray, drawn: BoolArray) -> None:
    """Draw a mask of any size into a channel, in place; thin strokes survive."""
    if not drawn.any():
        return
    height, width = channel.shape
    factor = np.array(channel.shape) / np.array(drawn.shape)
    rows = ((np.arange(height) + 0.5) / factor[0]).astype(int)
    columns = ((np.arange(width) + 0.5) / factor[1]).astype(int)
    # Where the channel is larger every pixel looks up its stroke ...
    channel[drawn[rows][:, columns]] = 1
    # ... and where it is smaller every pixel of a stroke leaves its mark.
    at = ((np.argwhere(drawn) + 0.5) * factor).astype(int)
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        below = np.minimum(at[:, 0] + down, height - 1)
        channel[below, np.minimum(at[:, 1] + right, width - 1)] = 1


def draw_box(channel: FloatArray, box: Sequence[float] | FloatArray) -> None:
    """Fill a box (row0, column0, row1, column1) in a channel, in place."""
    low = np.clip(np.floor(box[:2]).astype(int), 0, None)
    high = np.clip(np.ceil(box[2:]).astype(int), low + 1, None)
    channel[low[0] : high[0], low[1] : high[1]] = 1
