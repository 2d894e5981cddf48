"""Shapes between two annotated planes, from signed distances.

A mask becomes the distance to its outline, positive inside; distances of two planes are
blended by how near each plane is, and what stays positive is the shape between (Raya &
Udupa, "Shape-based interpolation of multidimensional objects", IEEE TMI 1990). Blended
as they lie, an object that moves aside would shrink and vanish on the way. Both are
therefore first moved to where its middle is expected: a tilted cylinder stays one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_fewshot._types import BoolArray, FloatArray, LabelArray

Spacing = tuple[float, float]


def signed_distance(mask: BoolArray, spacing: Spacing = (1.0, 1.0)) -> FloatArray:
    """Return the distance to the outline of a mask, positive inside.

    Parameters
    ----------
    mask : array (H, W) bool
        One object; the border of the array is no outline.
    spacing : (float, float)
        Size of a pixel along (row, column), in any one unit.

    Returns
    -------
    array (H, W) float32
        In the unit of ``spacing``. The outline runs half a pixel from the middles of
        the pixels beside it. Without an outline the diagonal of the array, negative for
        an empty mask.
    """
    from scipy import ndimage

    if mask.all() or not mask.any():
        diagonal = float(np.hypot(*np.multiply(mask.shape, spacing)))
        return np.where(mask, diagonal, -diagonal).astype(np.float32)
    half = min(spacing) / 2
    inside = ndimage.distance_transform_edt(mask, sampling=spacing)
    outside = ndimage.distance_transform_edt(~mask, sampling=spacing)
    distance: FloatArray = np.where(mask, inside - half, half - outside)
    return distance.astype(np.float32)


def interpolate_mask(
    first: BoolArray,
    last: BoolArray,
    fractions: Sequence[float],
    spacing: Spacing = (1.0, 1.0),
) -> Iterator[FloatArray]:
    """Yield the shape of one object between two planes.

    Parameters
    ----------
    first, last : array (H, W) bool
        The object on the two planes. An object that is on one of them only shrinks and
        is gone half way.
    fractions : sequence of float
        Where the wanted planes lie, from 0 (the first) to 1 (the last). With unevenly
        spaced planes these are shares of the true distance.
    spacing : (float, float)
        Size of a pixel along (row, column).

    Yields
    ------
    array (H, W) float32
        Signed distance to the outline, positive inside; -inf where nothing can be.

    Raises
    ------
    ValueError
        If the planes differ in shape.
    """
    if first.shape != last.shape:
        raise ValueError(
            f"The planes have shapes {first.shape} and {last.shape}, not one shape."
        )
    window = _window(first | last)
    blend = _Blend(first[window], last[window], spacing)
    for fraction in fractions:
        found = np.full(first.shape, -np.inf, np.float32)
        if window[0].stop:
            found[window] = blend.at(float(fraction))
        yield found


def interpolate_labels(
    first: LabelArray,
    last: LabelArray,
    fractions: Sequence[float],
    spacing: Spacing = (1.0, 1.0),
) -> Iterator[LabelArray]:
    """Yield the labels of all objects between two planes; see `interpolate_mask`.

    Parameters
    ----------
    first, last : array (H, W) int
        Labels of the two planes, 0 is background.
    fractions : sequence of float
        As for `interpolate_mask`.
    spacing : (float, float)
        Size of a pixel along (row, column).

    Yields
    ------
    array (H, W) int32
        Where objects would overlap, a pixel belongs to the one it is deepest in.
    """
    values = sorted({*np.unique(first).tolist(), *np.unique(last).tolist()} - {0})
    shapes = [
        interpolate_mask(first == v, last == v, fractions, spacing) for v in values
    ]
    for _ in fractions:
        labels = np.zeros(first.shape, np.int32)
        deepest = np.zeros(first.shape, np.float32)
        for value, shape in zip(values, shapes, strict=True):
            depth = next(shape)
            labels[depth > deepest] = value
            np.maximum(deepest, depth, out=deepest)
        yield labels


class _Blend:
    """The distances of an object on two planes, and where its middle is on each."""

    def __init__(self, first: BoolArray, last: BoolArray, spacing: Spacing) -> None:
        ends = [mask for mask in (first, last) if mask.any()]
        self.is_whole = len(ends) == 2
        self.starts = bool(first.any())
        middles = [np.argwhere(mask).mean(0) for mask in ends]
        self.path = middles[1] - middles[0] if self.is_whole else np.zeros(2)
        # What is moved comes from beyond the window; an object that is cut off by the
        # border of the plane goes on there.
        self.margin = int(np.ceil(np.abs(self.path).max()))
        self.ends = [
            signed_distance(np.pad(mask, self.margin, "edge"), spacing) for mask in ends
        ]

    def at(self, fraction: float) -> FloatArray:
        """Return the distances (H, W) at a share of the way."""
        if not self.is_whole:
            gone = fraction if self.starts else 1 - fraction
            found: FloatArray = (1 - gone) * self.ends[0] - gone * self.ends[0].max()
            return found.astype(np.float32)
        first = self._moved(self.ends[0], fraction)
        last = self._moved(self.ends[1], fraction - 1)
        blended: FloatArray = (1 - fraction) * first + fraction * last
        keep = slice(self.margin, None if not self.margin else -self.margin)
        return blended[keep, keep]

    def _moved(self, distance: FloatArray, share: float) -> FloatArray:
        from scipy import ndimage

        if not share or not self.margin:
            return distance
        moved: FloatArray = ndimage.shift(
            distance, share * self.path, order=1, mode="nearest"
        )
        return moved


def _window(mask: BoolArray) -> tuple[slice, slice]:
    """Return the part of a plane that holds everything and one pixel around it."""
    sides = []
    for axis in (1, 0):
        held = np.flatnonzero(mask.any(axis))
        low, high = (int(held[0]) - 1, int(held[-1]) + 2) if len(held) else (0, 0)
        sides.append(slice(max(low, 0), min(high, mask.shape[1 - axis])))
    return sides[0], sides[1]
