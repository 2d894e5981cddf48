"""Huge planes strip by strip: never more than a part of one is in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_fewshot._types import AnyArray


def strips(array: Any, pixels: int) -> Iterator[tuple[tuple[Any, ...], AnyArray]]:
    """Read whole rows of every plane of an array.

    Parameters
    ----------
    array : array (..., H, W)
        Any kind that is read by slices.
    pixels : int
        About so many are read at once, at least a row.

    Yields
    ------
    tuple, array (h, W)
        The key of the strip: an index per leading axis, then a slice of rows. And what
        is there.
    """
    height, width = array.shape[-2:]
    rows = max(1, pixels // max(1, width))
    for index in np.ndindex(*array.shape[:-2]):
        for row in range(0, height, rows):
            key = (*index, slice(row, min(row + rows, height)))
            yield key, np.asarray(array[key])
