"""From heat maps to masks: competition, the cut, presence, prompts, decoder, overlap.

The heat map that users see (``Found.heats[value]["heat map"]``) is the map after the
cut, in [0, 1] at the size of the plane: where it is at least 0.5 the cut is inside, so
that a slider may cut it at any other level without asking a model. It is a rescaling
that keeps the order of the map's own values:

* cosines: the share of the class against its best rival (a softmax over the two; see
  `margins`);
* relevance, and every cut of `TextParams` that sets a level: linear below and above the
  level, which becomes 0.5;
* probabilities: as they are, moved in log-odds by ``level``;
* ``cut="crf"``: what the random field made of the map, which may change the order; the
  map before it is there as ``"before the field"``.

What comes after the cut (presence, edges of the image, the decoder, other classes) is
in ``Found.maps`` alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.data import PlanePrompts
from napari_fewshot.methods._fusion import sigmoid
from napari_fewshot.methods.grid._vocabulary import joined
from napari_fewshot.methods.text._competition import Settling
from napari_fewshot.methods.text._cuts import (
    as_probability,
    cut_odds,
    evidence,
    on_working_grid,
    shown_odds,
)
from napari_fewshot.methods.text._drawing import Drawn, draw_parts
from napari_fewshot.methods.text._heat import Found
from napari_fewshot.methods.text._objects import draw_objects, has_objects
from napari_fewshot.methods.text._presence import presence
from napari_fewshot.methods.text._selecting import meant

if TYPE_CHECKING:
    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import Hooks
    from napari_fewshot.methods.grid import GridPlane
    from napari_fewshot.methods.text._base import TextFitted
    from napari_fewshot.methods.text._heat import Heat

# What is not there is at least this far below the boundary, in log-odds.
ABSENT = -1.0


def draw_masks(heat: Heat, query: GridPlane, fitted: TextFitted, hooks: Hooks) -> Found:
    """Turn heat maps into masks.

    Parameters
    ----------
    heat : Heat
        Of one plane.
    query : GridPlane
        The plane on the grid of the maps.
    fitted : TextFitted
        With parameters, words and the decoder.
    hooks : Hooks
        For cancelling.

    Returns
    -------
    Found
        No pixel is inside two classes.
    """
    fine, grid = on_working_grid(heat, query)
    bank = fitted.bank
    values = evidence(fine, [bank.rivals(i) for i in range(len(bank.classes))])
    field = fitted.method.drawing(fitted.params).field
    found, settling = Found({}), Settling(query.shape)
    for number, words in enumerate(fitted.bank.classes):
        hooks.check()
        value = words.value
        odds = cut_odds(values[number], fine.kind, fitted.params, grid, field)
        seen = shown_odds(values[number], odds, fine.kind, fitted.params)
        shown = {"heat map": sigmoid(grid.to_image(seen))}
        if fitted.params.cut == "crf":
            before = as_probability(values[number], fine.kind)
            shown["before the field"] = grid.to_image(before)
        drawn = _drawn(number, value, fine, odds, grid, fitted, hooks)
        found.heats[value] = shown
        found.prompts[value] = joined(drawn.asks) if drawn.asks else PlanePrompts()
        drawn.odds, drawn.objects, notes = meant(
            drawn.odds,
            drawn.objects,
            words,
            radiological=fitted.params.radiological,
        )
        found.notes.extend(notes)
        found.maps[value] = drawn.odds
        _remember(found, value, drawn)
        settling.add(value, drawn.odds, drawn.worth)
    _settle(found, settling, fitted)
    return found


def _drawn(
    number: int,
    value: int,
    heat: Heat,
    odds: FloatArray,
    grid: GridPlane,
    fitted: TextFitted,
    hooks: Hooks,
) -> Drawn:
    """Draw one class; nothing where its phrase fits nothing."""
    if has_objects(heat, value):
        return draw_objects(value, heat, odds, grid, fitted, hooks)
    there = bool((odds > 0).any())
    if there and fitted.params.presence:
        there = presence(heat, number, odds) > 0
    if not there:
        return Drawn(np.minimum(grid.to_image(odds), np.float32(ABSENT)))
    return draw_parts(number, odds, grid, fitted, hooks)


def _remember(found: Found, value: int, drawn: Drawn) -> None:
    """Keep candidates, the best first, and objects."""
    if drawn.masks:
        best = sorted(drawn.masks, key=lambda one: -one[0])
        found.candidates[value] = np.stack([mask for _, mask in best])
        found.scores[value] = tuple(score for score, _ in best)
    if drawn.objects is not None:
        found.objects[value] = drawn.objects


def _settle(found: Found, settling: Settling, fitted: TextFitted) -> None:
    """Give pixels of several classes to one, in place; turn log-odds to probability."""
    out = settling.crowded_out() if fitted.params.drop_covered else set()
    for value, odds in found.maps.items():
        mine = settling.settled(value, odds)
        if value in out:
            mine = np.minimum(mine, np.float32(ABSENT))
        found.maps[value] = sigmoid(mine)
        inside = mine > 0
        found.present[value] = bool(inside.any())
        if value in found.objects:
            found.objects[value] = np.where(inside, found.objects[value], 0)
