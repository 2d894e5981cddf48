"""Supports on large planes: the pieces that somebody painted on.

Who paints a few cells of a slide has said nothing of the rest of it, and no method can
look at all of it at once. So pieces around what is painted become supports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.data import Support, SupportSet
from napari_fewshot.data._ignored import without_ignored
from napari_fewshot.inference._samples import teaching_planes
from napari_fewshot.inference._scale import foreground_windows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_fewshot._types import LabelArray
    from napari_fewshot.data import Region

# Planes of more pixels are cut; the side of the pieces.
MOST_PIXELS, SIDE = 4096 * 4096, 1024


def cut_supports(supports: SupportSet) -> SupportSet:
    """Return supports in which large planes are replaced by pieces of them.

    Parameters
    ----------
    supports : SupportSet
        Those without large planes are the same as before.
    """
    if not any(_is_large(s) for s in supports):
        return supports
    found: list[Support] = []
    for support in supports:
        found += _pieces(support) if _is_large(support) else [support]
    return SupportSet(found)


def _is_large(support: Support) -> bool:
    return int(np.prod(support.source.plane_shape)) > MOST_PIXELS


def _pieces(support: Support) -> Iterator[Support]:
    source = support.source
    number = 0
    for plane in teaching_planes(support):
        labels, ignored = without_ignored(support.label_plane(plane))
        for region in painted_regions(labels, SIDE):
            number += 1
            rows, columns = slice(*region[::2]), slice(*region[1::2])
            pixels = source.raw_window(plane, rows, columns)
            is_grey = pixels.ndim == 2
            where = f", plane {plane}" if source.n_planes > 1 else ""
            piece = Support(
                pixels,
                labels[rows, columns],
                classes=support.classes,
                scale=source.pixel_size,
                axes="yx" if is_grey else "yxc",
                channels=None if is_grey else tuple(range(pixels.shape[-1])),
                name=f"{support.name or 'support'}{where} (part {number})",
                unit=support.unit,
                ignore=ignored[rows, columns] if ignored.any() else None,
            )
            # As bright as on its plane, not as bright as it can be.
            piece.source.__dict__["window"] = source.window_of(plane)
            yield piece


def painted_regions(labels: LabelArray, side: int) -> list[Region]:
    """Return the regions of a plane that show most of what is painted on it.

    Parameters
    ----------
    labels : array (H, W)
        0 is not painted.
    side : int
        Rows and columns of a region; less where the plane is smaller.

    Returns
    -------
    list of (int, int, int, int)
        The middle of the plane if nothing is painted.
    """
    full = labels.shape
    painted = [np.flatnonzero((labels > 0).any(axis)) for axis in (1, 0)]
    if not len(painted[0]):
        painted = [np.array([n // 2]) for n in full]
    low, high = [], []
    for found, length in zip(painted, full, strict=True):
        first, last = int(found[0]), int(found[-1]) + 1
        # Something of what is around belongs to what an object looks like.
        missing = max(0, side - (last - first))
        begin = max(0, min(first - missing // 2, length - side))
        low.append(begin)
        high.append(min(length, max(last, begin + side)))
    part = labels[low[0] : high[0], low[1] : high[1]]
    size = (min(side, part.shape[0]), min(side, part.shape[1]))
    return [
        (low[0] + top, low[1] + left, low[0] + top + size[0], low[1] + left + size[1])
        for top, left in foreground_windows(part, size)
    ]
