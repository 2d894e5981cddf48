"""Objects that a method found one by one, fitted to the labels of a plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.ops import split_instances

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_fewshot._types import LabelArray


def numbered(labels: LabelArray, objects: Mapping[int, LabelArray]) -> LabelArray:
    """Number single objects 1..N over all classes, (H, W) int32.

    Holes that were filled and edges that were moved join the nearest object of their
    connected part; parts in which no object was found, such as those that prompts
    added, are one object each.

    Parameters
    ----------
    labels : array (H, W)
        Class labels.
    objects : mapping of int to array (H, W)
        Object numbers per class; may lie outside the labels, which then count.
    """
    from scipy import ndimage

    found = np.zeros(labels.shape, np.int32)
    for value in np.unique(labels[labels > 0]).tolist():
        mask = labels == value
        mine = np.where(mask, objects.get(value, 0), 0)
        parts = split_instances(mask.astype(np.int32))
        last = int(mine.max(initial=0))
        for i, place in enumerate(ndimage.find_objects(parts), 1):
            here = parts[place] == i
            own = np.where(here, mine[place], 0)
            if not own.any():
                last += 1
                own = here * last
            elif (own[here] == 0).any():
                near = ndimage.distance_transform_edt(
                    own == 0, return_distances=False, return_indices=True
                )
                own = own[tuple(near)]
            mine[place][here] = own[here]
        _, dense = np.unique(mine[mask], return_inverse=True)
        found[mask] = dense + 1 + found.max(initial=0)
    return found
