"""Prompts for a decoder from the parts of a heat map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.methods._fusion import sigmoid
from napari_fewshot.methods.grid import Ask
from napari_fewshot.ops.heatmaps import box_round
from napari_fewshot.ops.map_points import peak_points, quiet_points, random_points
from napari_fewshot.ops.random_field import NARROW_FIELD, Field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import AnyArray, BoolArray, FloatArray
    from napari_fewshot.methods.grid import Decoder, GridPlane

INSIDE, OUTSIDE = 3, 4


@dataclass(frozen=True)
class Drawing:
    """How masks are drawn from parts of a heat map, besides the user's parameters.

    Attributes
    ----------
    margin : float
        Boxes are larger on each side by this share.
    joined : bool
        One box round all parts, instead of one each.
    as_is : bool
        What the decoder draws is taken as it is, its one mask for clear prompts; else
        the best of its candidates, and only if it agrees with its part of the map.
    random : int
        So many random points of each kind, instead of chosen ones.
    field : Field
        For ``cut="crf"``.
    """

    margin: float = 0.1
    joined: bool = False
    as_is: bool = False
    random: int = 0
    field: Field = NARROW_FIELD


def asks_for(
    parts: Sequence[BoolArray],
    odds: FloatArray,
    query: GridPlane,
    decoder: Decoder,
    prompts: str,
    drawing: Drawing,
    seed: int = 0,
) -> list[Ask]:
    """Return the prompts for each part of a map.

    Parameters
    ----------
    parts : sequence of array (h, w) bool
        None is empty.
    odds : array (h, w)
        Log-odds of the class.
    query : GridPlane
        On the grid of the map.
    decoder : Decoder
        Who will draw; mask prompts are in its resolution.
    prompts : {"box", "points", "both", "mask"}
        ``"both"`` is a box, the innermost point and points outside; ``"points"`` up to
        three inside; ``"mask"`` is the map as a mask prompt, with the box.
    drawing : Drawing
        How boxes and points are made.
    seed : int
        Of random points.
    """
    found = []
    for number, part in enumerate(parts):
        box = in_pixels(box_round(part, drawing.margin), query)
        if prompts == "box":
            found.append(Ask(box=box))
        elif prompts == "mask":
            mask = mask_of(part, odds, query, decoder)
            found.append(Ask(box=box, mask=mask))
        else:
            most = INSIDE if prompts == "points" else 1
            points, labels = _points(part, odds, query, most, drawing, seed + number)
            found.append(Ask(points, labels, box if prompts == "both" else None))
    return found


def mask_of(
    part: BoolArray, odds: FloatArray, query: GridPlane, decoder: Decoder
) -> FloatArray:
    """Return the map as a mask prompt for one part; other parts are outside."""
    mine = np.where(part | (odds <= 0), odds, -np.abs(odds))
    return decoder.as_mask(query, mine.astype(np.float32))


def in_pixels(box: FloatArray, query: GridPlane) -> FloatArray:
    """Return a box (4,) on the grid in pixels of the plane."""
    scale = np.tile(np.array(query.shape) / np.array(query.grid), 2)
    found: FloatArray = np.clip(box * scale, 0, np.tile(query.shape, 2))
    return found.astype(np.float32)


def _points(
    part: BoolArray,
    odds: FloatArray,
    query: GridPlane,
    most: int,
    drawing: Drawing,
    seed: int,
) -> tuple[FloatArray, AnyArray]:
    """Return points (N, 2) in pixels of the plane, and labels (N,)."""
    if drawing.random:
        inside, outside = random_points(part, drawing.random, seed)
    else:
        certain = sigmoid(odds)
        inside = peak_points(part, certain, most)
        outside = quiet_points(part, part | (odds > 0), certain, OUTSIDE)
    labels = np.array([1] * len(inside) + [0] * len(outside), np.int8)
    return query.to_pixels(np.concatenate([inside, outside])), labels
