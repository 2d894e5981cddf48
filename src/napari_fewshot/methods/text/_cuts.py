"""Where heat maps become masks: every kind of map, every way to cut, as log-odds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import Embedding
from napari_fewshot.methods._fusion import sigmoid
from napari_fewshot.methods.grid import GridPlane
from napari_fewshot.methods.text._competition import margins
from napari_fewshot.ops import resize_image, scaled_shape
from napari_fewshot.ops.heatmaps import (
    clipped_log_odds,
    cut_level,
    finite,
    is_flat,
    normalised,
    stretched,
)
from napari_fewshot.ops.random_field import Field, mean_field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import FloatArray
    from napari_fewshot.methods.text._heat import Heat
    from napari_fewshot.methods.text._params import TextParams

# Maps are cut on a copy of the plane of at least this size (finer maps on their own
# grid, up to the second number): cells of a model are much larger than pixels, and a
# box round cells would be larger than the object.
WORK_SIDE, MOST_SIDE = 192, 384
# Log-odds are held within this.
SURE = 8.0
NOTHING = -SURE


def on_working_grid(heat: Heat, query: GridPlane) -> tuple[Heat, GridPlane]:
    """Return maps without NaN on a grid as fine as masks need it, and the plane on it.

    Parameters
    ----------
    heat : Heat
        At any resolution.
    query : GridPlane
        The plane.

    Returns
    -------
    heat : Heat
        Maps, background and negatives have one grid; interpolated linearly.
    query : GridPlane
        On that grid.
    """
    side = int(np.clip(max(heat.maps.shape[1:], default=1), WORK_SIDE, MOST_SIDE))
    factor = min(1.0, side / max(query.shape))
    shape = query.shape if factor == 1 else scaled_shape(query.shape, factor)

    def brought(maps: FloatArray) -> FloatArray:
        if not len(maps):
            return np.zeros((0, *shape), np.float32)
        return np.stack([resize_image(finite(m), shape) for m in maps])

    background, negative = heat.background, heat.negative
    fine = replace(
        heat,
        maps=brought(heat.maps),
        background=None if background is None else brought(background[None])[0],
        negative=None if negative is None else brought(negative),
    )
    name = query.embedding.model
    return fine, GridPlane(query.plane, Embedding(fine.maps, query.shape, name))


def evidence(
    heat: Heat, rivals_of: Sequence[Sequence[int]] | None = None
) -> FloatArray:
    """Return what is cut: log-odds against rivals of cosines, else the maps (C, h, w).

    Parameters
    ----------
    heat : Heat
        Finite.
    rivals_of : sequence of sequence of int, optional
        See `margins`.
    """
    if heat.kind == "cosine":
        return margins(heat, rivals_of)
    return heat.maps


def cut_odds(
    values: FloatArray,
    kind: str,
    params: TextParams,
    query: GridPlane,
    field: Field,
) -> FloatArray:
    """Return log-odds (h, w) of a class from its evidence; above 0 is inside.

    A map that is the same everywhere cannot say where the phrase is, and is outside
    everywhere; only a probability may say that all of the plane is inside.

    Parameters
    ----------
    values : array (h, w)
        From `evidence`.
    kind : str
        See `Heat.kind`.
    params : TextParams
        ``cut`` and ``level``.
    query : GridPlane
        On the grid of the map.
    field : Field
        For ``cut="crf"``, in pixels of the plane.
    """
    if is_flat(values) and not (kind == "probability" and params.cut == "auto"):
        return np.full(values.shape, NOTHING, np.float32)
    if params.cut == "crf":
        return by_field(as_probability(values, kind), query, field)
    if params.cut == "auto" and kind != "relevance":
        if kind == "cosine":
            return _least(values, params.level, spread_of(values))
        return _least(clipped_log_odds(values, SURE), params.level)
    way: Any = "two-means" if params.cut == "auto" else params.cut
    level = cut_level(values, way, params.level)
    if level is None:
        return np.full(values.shape, NOTHING, np.float32)
    odds = clipped_log_odds(stretched(values, level), SURE)
    return _least(odds, params.level) if params.cut == "auto" else odds


def spread_of(values: FloatArray) -> float:
    """Return what log-odds are divided by for the eye: none is then beyond `SURE`.

    Parameters
    ----------
    values : array (h, w)
        From `evidence`, of the kind ``"cosine"``.
    """
    return max(1.0, float(np.abs(values).max(initial=0.0)) / SURE)


def shown_odds(
    values: FloatArray, odds: FloatArray, kind: str, params: TextParams
) -> FloatArray:
    """Return log-odds (h, w) as users see them: of every order, none cut off.

    Parameters
    ----------
    values, kind, params
        As for `cut_odds`.
    odds : array (h, w)
        What `cut_odds` made of them.
    """
    if kind != "cosine" or params.cut != "auto" or is_flat(values):
        return odds
    spread = spread_of(values)
    found: FloatArray = _least(values / spread, params.level).astype(np.float32)
    return found


def as_probability(values: FloatArray, kind: str) -> FloatArray:
    """Return evidence as numbers in [0, 1] without cutting it.

    Parameters
    ----------
    values : array (h, w)
        From `evidence`.
    kind : str
        See `Heat.kind`.
    """
    if kind == "cosine":
        return sigmoid(values)
    if kind == "relevance":
        return normalised(values)
    return np.clip(values, 0, 1)


def by_field(probability: FloatArray, query: GridPlane, field: Field) -> FloatArray:
    """Return log-odds (h, w) after a dense random field; see `mean_field`."""
    image = resize_image(query.plane.image, query.grid)
    factor = max(query.grid) / max(query.shape)
    found = mean_field(probability, finite(image), field.scaled(factor))
    return clipped_log_odds(found, SURE)


def _least(odds: FloatArray, level: float, spread: float = 1.0) -> FloatArray:
    """Ask for more or less certainty than one half, in units of a spread."""
    wanted = spread * float(clipped_log_odds(np.array(level, np.float32), SURE))
    found: FloatArray = np.clip(odds - wanted, -SURE, SURE).astype(np.float32)
    return found
