"""What the supports show of a class, for methods that compare cells with cells."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.methods.grid._tokens import EPSILON, cells_of, thinned
from napari_fewshot.ops import masked_average

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import BoolArray, FloatArray
    from napari_fewshot.methods.grid._tokens import GridPlane, GridSupport

# Cells of the supports that are compared with a query, however many supports there are.
MOST_INSIDE, MOST_OUTSIDE = 384, 768


@dataclass(frozen=True, eq=False)
class Reference:
    """Cells of a class and of the rest, and their means.

    Attributes
    ----------
    inside, outside : array (N, C), (M, C)
        Of length one each. Where the class covers everything, ``outside`` is one row
        of zeros: like nothing.
    mine, rest : array (C,)
        Mean embedding of the class, and of the rest, over the supports.
    objects : int
        Most separate objects on one support.
    """

    inside: FloatArray = field(repr=False)
    outside: FloatArray = field(repr=False)
    mine: FloatArray = field(repr=False)
    rest: FloatArray = field(repr=False)
    objects: int = 1

    @property
    def tokens(self) -> FloatArray:
        """All cells, those inside first, (N + M, C)."""
        return np.concatenate([self.inside, self.outside])

    @property
    def is_inside(self) -> BoolArray:
        """Which of ``tokens`` are of the class, (N + M,)."""
        return np.arange(len(self.inside) + len(self.outside)) < len(self.inside)


def reference_of(supports: Sequence[GridSupport], value: int, seed: int) -> Reference:
    """Collect cells and means of a class.

    Parameters
    ----------
    supports : sequence of GridSupport
        At least one holds the class.
    value : int
        The class.
    seed : int
        Of the choice where there are more cells than are compared.
    """
    from scipy import ndimage

    inside, outside = cells_of(supports, value)
    if not len(outside):
        outside = np.zeros((1, inside.shape[1]), np.float32)
    mine, rest, objects = [], [], 1
    for support in supports:
        cover = support.cover(value)
        if cover.any():
            mine.append(masked_average(support.features, cover))
            count = ndimage.label(cover >= 0.5, np.ones((3, 3)))[1]
            objects = max(objects, int(count))
        around = (1 - cover) * support.is_known
        rest.append(masked_average(support.features, around))
    return Reference(
        thinned(inside, MOST_INSIDE, seed),
        thinned(outside, MOST_OUTSIDE, seed),
        np.mean(mine, 0).astype(np.float32),
        np.mean(rest, 0).astype(np.float32),
        objects,
    )


def unit(vector: FloatArray) -> FloatArray:
    """Return vectors (..., C) at length one; zeros stay zeros."""
    length = np.linalg.norm(vector, axis=-1, keepdims=True)
    found: FloatArray = vector / (length + EPSILON)
    return found


def likeness(tokens: FloatArray, query: GridPlane) -> FloatArray:
    """Return the cosines (N, h w) of unit vectors (N, C) with the cells of a query."""
    flat = query.unit.reshape(len(query.unit), -1)
    found: FloatArray = tokens.astype(np.float32) @ flat
    return found
