"""Single objects, cut as the supports' objects are shaped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.ops import (
    ShapeBank,
    shape_bank,
    split_alike,
    split_instances,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from napari_fewshot._types import FloatArray, LabelArray
    from napari_fewshot.data import Sample


def banks_of(samples: Sequence[Sample], classes: Iterable[int]) -> dict[int, ShapeBank]:
    """Return what single objects of each class are like; classes without are left out.

    Supports hold classes, not objects: parts that do not touch are taken for objects.
    """
    found = {}
    for value in classes:
        objects = [
            split_instances(np.where(s.labels == value, 1, 0).astype(np.int32))
            for s in samples
        ]
        bank = shape_bank(objects)
        if bank is not None:
            found[value] = bank
    return found


def objects_alike(
    labels: LabelArray,
    maps: Mapping[int, FloatArray],
    banks: Mapping[int, ShapeBank],
) -> LabelArray:
    """Number single objects 1..N over all classes, (H, W) int32.

    Parameters
    ----------
    labels : array (H, W)
        Class labels.
    maps : mapping of int to array (H, W)
        Probability per class.
    banks : mapping of int to ShapeBank
        A class without one is not cut.
    """
    found = np.zeros(labels.shape, np.int32)
    for value in np.unique(labels[labels > 0]).tolist():
        mask = labels == value
        if value in banks and value in maps:
            parts = split_alike(mask, maps[value], banks[value])
        else:
            parts = split_instances(mask.astype(np.int32))
        found[mask] = parts[mask] + found.max()
    return found
