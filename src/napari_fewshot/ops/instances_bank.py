"""Objects like those of the supports: how a mask is best cut into single objects.

A bank holds what single objects of a class look like as shapes. Each connected part of
a new mask is cut in several ways; the way whose pieces are most like the bank is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_fewshot._types import BoolArray, FloatArray, LabelArray

# Depths of a waist, in pixels, at which a part may be cut; the first cuts least.
DEPTHS = (2.0, 1.0, 0.5, 0.25)
# Levels of the probability at which a part may fall into pieces.
LEVELS = (0.6, 0.7, 0.8, 0.9, 0.95)
# Sizes differ at least by this factor (as a logarithm), roundness by this much.
SIZE_SPREAD, SOLID_SPREAD = 0.35, 0.04
# A cut must be better than none by this much.
MUST_GAIN = 0.02
# Objects smaller than this (pixels) say nothing about shape.
LEAST_AREA = 8


@dataclass(frozen=True)
class ShapeBank:
    """What single objects of one class are like.

    Attributes
    ----------
    size, size_spread : float
        Of the logarithm of the area in pixels.
    solid, solid_spread : float
        Of the solidity: area over the area of the convex hull.
    """

    size: float
    size_spread: float
    solid: float
    solid_spread: float

    def likeness(self, parts: LabelArray) -> FloatArray:
        """Return how much each object 1..N is like the bank, (N,) in (0, 1].

        Too small is as bad as too large; more solid than usual is not bad at all.
        """
        return self.likeness_of(*shapes_of(parts))

    def likeness_of(self, area: FloatArray, solid: FloatArray) -> FloatArray:
        """Return the same for areas and solidities, (N,) each."""
        far = (np.log(np.maximum(area, 1)) - self.size) / self.size_spread
        bent = np.minimum(0.0, (solid - self.solid) / self.solid_spread)
        like: FloatArray = 1 / (1 + 0.5 * far**2 + 0.5 * bent**2)
        return like


def shapes_of(parts: LabelArray) -> tuple[FloatArray, FloatArray]:
    """Return area in pixels and solidity of objects 1..N, (N,) each.

    Parameters
    ----------
    parts : array (H, W)
        Object numbers without gaps.
    """
    from skimage.measure import regionprops

    found = [(float(r.area), _solidity(r.image)) for r in regionprops(parts)]
    table = np.array(found).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def shape_bank(objects: Sequence[LabelArray]) -> ShapeBank | None:
    """Learn what single objects are like.

    Parameters
    ----------
    objects : sequence of array (H, W)
        Object numbers of the supports. Where several objects share a number because
        they touch, they are few and less solid: medians pass over them.

    Returns
    -------
    ShapeBank or None
        None if there is no object large enough.
    """
    tables = [np.stack(shapes_of(o), 1) for o in objects]
    table = np.concatenate([np.zeros((0, 2)), *tables])
    table = table[table[:, 0] >= LEAST_AREA]
    if not len(table):
        return None
    round_ones = table[table[:, 1] >= np.median(table[:, 1]) - 1e-9]
    size = np.log(round_ones[:, 0])
    return ShapeBank(
        float(np.median(size)),
        max(SIZE_SPREAD, _spread(size)),
        float(np.median(table[:, 1])),
        max(SOLID_SPREAD, _spread(round_ones[:, 1])),
    )


def split_alike(
    mask: BoolArray, probability: FloatArray, bank: ShapeBank
) -> LabelArray:
    """Cut a mask into objects like those of a bank.

    Parameters
    ----------
    mask : array (H, W)
        One class.
    probability : array (H, W)
        How sure each pixel is.
    bank : ShapeBank
        What the objects are like.

    Returns
    -------
    array (H, W)
        int32 object numbers 1..N, 0 exactly where the mask is 0.
    """
    from scipy import ndimage

    whole = ndimage.label(mask, np.ones((3, 3), bool))[0]
    found = np.zeros(mask.shape, np.int32)
    for number, window in enumerate(ndimage.find_objects(whole), 1):
        here = whole[window] == number
        parts = _best_cut(here, probability[window], bank)
        found[window][here] = parts[here] + found.max()
    return found


def _best_cut(mask: BoolArray, sure: FloatArray, bank: ShapeBank) -> LabelArray:
    """Return the cut of one connected part whose pieces are most like the bank."""
    best: LabelArray = mask.astype(np.int32)
    worth = float(bank.likeness(best)[0])
    if np.log(mask.sum()) < bank.size - bank.size_spread:
        return best
    for cut in cuts_of(mask, sure):
        area = np.bincount(cut[mask], minlength=2)[1:]
        # Every pixel votes with the likeness of the piece that it lies in.
        value = float((bank.likeness(cut) * area).sum() / area.sum())
        if value > worth + MUST_GAIN:
            best, worth = cut, value
    return best


def cuts_of(mask: BoolArray, sure: FloatArray) -> Iterator[LabelArray]:
    """Yield ways to cut a part: at waists of several depths, and where certainty dips.

    Parameters
    ----------
    mask : array (H, W) bool
        One connected part.
    sure : array (H, W)
        How sure each pixel is.

    Yields
    ------
    array (H, W)
        int32 numbers 1..N of two pieces or more, 0 exactly where the mask is 0.
    """
    from scipy import ndimage
    from skimage.morphology import h_maxima
    from skimage.segmentation import watershed

    distance = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    smooth = np.where(mask, ndimage.gaussian_filter(distance, 1.0), 0.0)
    seeds = [h_maxima(smooth, d).astype(bool) & mask for d in DEPTHS]
    firm = np.where(mask, ndimage.gaussian_filter(sure, 1.0), 0.0)
    seeds += [(firm >= level) & mask for level in LEVELS]
    for seed in seeds:
        numbered, count = ndimage.label(seed, np.ones((3, 3), bool))
        if count > 1:
            cut: LabelArray = watershed(
                -smooth, numbered, mask=mask, connectivity=2
            ).astype(np.int32)
            yield cut


def _solidity(image: BoolArray) -> float:
    """Return area over that of the convex hull of pixel corners."""
    from scipy.spatial import ConvexHull

    rows, columns = np.nonzero(image ^ _inner(image))
    corners = [(rows + a, columns + b) for a in (0, 1) for b in (0, 1)]
    points = np.unique(np.concatenate([np.stack(c, 1) for c in corners]), axis=0)
    return float(image.sum() / ConvexHull(points).volume)


def _inner(image: BoolArray) -> BoolArray:
    from scipy import ndimage

    inner: BoolArray = ndimage.binary_erosion(image, np.ones((3, 3), bool))
    return inner


def _spread(values: FloatArray) -> float:
    """Return a standard deviation that outliers don't move."""
    middle = np.median(values)
    return float(1.48 * np.median(np.abs(values - middle)))
