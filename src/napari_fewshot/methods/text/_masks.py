"""From heat maps to masks: competition, presence, prompts for a decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import PlanePrompts
from napari_fewshot.methods._fusion import sigmoid
from napari_fewshot.methods.grid import MapDecoder, house_segment, upsampled
from napari_fewshot.methods.grid._vocabulary import joined
from napari_fewshot.methods.text._heat import Found

if TYPE_CHECKING:
    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import Hooks
    from napari_fewshot.methods.grid import GridPlane
    from napari_fewshot.methods.text._base import TextFitted
    from napari_fewshot.methods.text._heat import Heat

# Cosines are so narrow that logits are made of them with this factor (ClearCLIP).
SHARPNESS = 40.0


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
    """
    found = Found({})
    for number, words in enumerate(fitted.bank.classes):
        value = words.value
        odds = class_odds(heat, number)
        present = bool((odds > 0).any())
        found.present[value] = present
        found.heats[value] = {"heat map": query.to_image(sigmoid(odds))}
        found.prompts[value] = PlanePrompts()
        mask = upsampled(odds, query, "guided")
        if present and not isinstance(fitted.decoder, MapDecoder):
            mask, asks = house_segment(odds, query, fitted.decoder, "guided", hooks)
            found.prompts[value] = joined(asks)
        found.maps[value] = sigmoid(mask)
    return found


def class_odds(heat: Heat, number: int) -> FloatArray:
    """Return log-odds (h, w) of one class against all that it competes with."""
    mine: Any = heat.maps[number]
    if heat.kind == "probability":
        clipped = np.clip(mine, 1e-6, 1 - 1e-6)
        odds: FloatArray = np.log(clipped / (1 - clipped)).astype(np.float32)
        return odds
    if heat.kind == "relevance" or heat.background is None:
        middle = (float(mine.min()) + float(mine.max())) / 2
        found: FloatArray = ((mine - middle) * 10).astype(np.float32)
        return found
    others = [heat.background, *np.delete(heat.maps, number, 0)]
    if heat.negative is not None:
        others.append(heat.negative[number])
    best: FloatArray = ((mine - np.max(others, 0)) * SHARPNESS).astype(np.float32)
    return best
