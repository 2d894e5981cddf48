"""Masks proposed for everything in an image: where to ask, what to keep, how to join.

Grid of points, crops, stability score and suppression of boxes as in the automatic mask
generator of Kirillov et al., Segment Anything, ICCV 2023, appendix B.

Boxes are (y0, x0, y1, x1) in pixels, inclusive-exclusive.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import AnyArray, BoolArray, FloatArray, LabelArray

Box = tuple[int, int, int, int]
# A box that ends so many pixels before an inner edge of its crop may be cut by it.
EDGE = 20
# Low-resolution cells around a cell that its bilinear interpolation can reach.
REACH = 2


@dataclass(frozen=True, eq=False)
class Proposal:
    """One mask, with what speaks for it.

    Attributes
    ----------
    box : (int, int, int, int)
        Smallest box of the mask.
    bits : array of uint8
        The mask inside its box, eight pixels to a byte.
    area : int
        Pixels of the mask.
    predicted_iou : float
        What the model expects the intersection over union with the object to be.
    stability : float
        Intersection over union of the masks at two thresholds of the logits.
    point : (float, float)
        The prompt, (row, column).
    crop : (int, int, int, int)
        Part of the plane that the model saw.
    is_cut : bool
        Whether an edge of that part may have cut the object.
    """

    box: Box
    bits: AnyArray = field(repr=False)
    area: int
    predicted_iou: float
    stability: float
    point: tuple[float, float]
    crop: Box
    is_cut: bool = False

    @property
    def mask(self) -> BoolArray:
        """The mask inside its box."""
        shape = self.box[2] - self.box[0], self.box[3] - self.box[1]
        flat = np.unpackbits(self.bits, count=shape[0] * shape[1])
        return flat.reshape(shape).astype(bool)

    def within(self, box: Box) -> BoolArray:
        """Return the mask inside another box."""
        inner = intersection(self.box, box)
        found = np.zeros((box[2] - box[0], box[3] - box[1]), bool)
        if inner is not None:
            found[slices(inner, box)] = self.mask[slices(inner, self.box)]
        return found


def slices(box: Box, frame: Box = (0, 0, 0, 0)) -> tuple[slice, slice]:
    """Return the index of a box in an array that shows a frame around it."""
    (y0, x0, y1, x1), (top, left, _, _) = box, frame
    return slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)


def intersection(one: Box, other: Box) -> Box | None:
    """Return the box that two boxes share, or None."""
    y0, x0 = max(one[0], other[0]), max(one[1], other[1])
    y1, x1 = min(one[2], other[2]), min(one[3], other[3])
    return (y0, x0, y1, x1) if y0 < y1 and x0 < x1 else None


def box_of(mask: BoolArray) -> Box:
    """Return the smallest box around a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def point_grid(shape: tuple[int, int], per_side: int) -> AnyArray:
    """Return evenly spread points (N, 2) float64 as (row, column), row by row.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns of the plane.
    per_side : int
        Points along each side, but never more than pixels.
    """
    along = [min(per_side, n) for n in shape]
    rows, columns = (
        (np.arange(k) + 0.5) / k * n for k, n in zip(along, shape, strict=True)
    )
    grid = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1)
    return grid.reshape(-1, 2)


def layer_boxes(shape: tuple[int, int], layer: int, overlap: float) -> list[Box]:
    """Return the crops of a layer: 2 ** layer along each side.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns of the plane.
    layer : int
        0 is the plane itself.
    overlap : float
        Share of the shorter side that the two crops of layer 1 have in common; deeper
        layers overlap by as much of their crops.
    """
    count = 2**layer
    common = int(overlap * min(shape) * 2 / count) if layer else 0
    spans = []
    for n in shape:
        length = math.ceil((common * (count - 1) + n) / count)
        begins = [(length - common) * i for i in range(count)]
        spans.append([(b, min(b + length, n)) for b in begins if b < n])
    return [(y0, x0, y1, x1) for x0, x1 in spans[1] for y0, y1 in spans[0]]


def tile_boxes(shape: tuple[int, int], side: int, overlap: int) -> list[Box]:
    """Return square tiles of equal size that cover a plane evenly.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns of the plane.
    side : int
        Of a tile in pixels; less where the plane has less.
    overlap : int
        Least number of pixels that neighbours have in common, below ``side``.
    """
    spans = []
    for n in shape:
        length = min(side, n)
        count = 1 if length == n else math.ceil((n - overlap) / (length - overlap))
        begins = np.linspace(0, n - length, count).round().astype(int).tolist()
        spans.append([(b, b + length) for b in begins])
    return [(y0, x0, y1, x1) for y0, y1 in spans[0] for x0, x1 in spans[1]]


def window_of(
    logits: FloatArray,
    above: float,
    shape: tuple[int, int],
    valid: tuple[float, float],
) -> Box | None:
    """Return where in a plane restored logits can exceed a value; None is nowhere.

    Interpolated values lie between those around them, so that all pixels outside the
    box are known to stay at or below the value without being computed.

    Parameters
    ----------
    logits : array (h, w)
        Low-resolution logits.
    above : float
        The value.
    shape : (int, int)
        Rows and columns of the plane.
    valid : (float, float)
        Share of the rows and columns of ``logits`` that show the plane.
    """
    high = logits > above
    if not high.any():
        return None
    y0, x0, y1, x1 = box_of(high)
    found = []
    for low, top, cells, share, n in zip(
        (y0, x0), (y1, x1), logits.shape, valid, shape, strict=True
    ):
        pixels = n / (cells * share)
        begin = max(0, math.floor((low - REACH) * pixels))
        found.append((begin, min(n, math.ceil((top + REACH) * pixels))))
    (top_, bottom), (left, right) = found
    if top_ >= bottom or left >= right:
        return None
    return top_, left, bottom, right


def stability_score(logits: FloatArray, offset: float) -> float:
    """Return how little a mask depends on the threshold of its logits.

    Parameters
    ----------
    logits : array
        Everything above ``-offset`` must be in it.
    offset : float
        Distance of the two thresholds from 0.

    Returns
    -------
    float
        Intersection over union of the masks above ``offset`` and above ``-offset``; 0
        when both are empty.
    """
    union = np.count_nonzero(logits > -offset)
    return float(np.count_nonzero(logits > offset) / union) if union else 0.0


def near_edge(box: Box, crop: Box, shape: tuple[int, int]) -> bool:
    """Whether a box comes near an edge of its crop that is no edge of the plane."""
    frame = (0, 0, *shape)
    # The edge is compared with the last pixel, as the reference does.
    ends = (box[0], box[1], box[2] - 1, box[3] - 1)
    return any(
        abs(end - inner) <= EDGE < abs(end - outer)
        for end, inner, outer in zip(ends, crop, frame, strict=True)
    )


def suppress(boxes: Sequence[Box], scores: Any, limit: float) -> list[int]:
    """Return which boxes stay when each drops the lesser ones that it covers.

    Parameters
    ----------
    boxes : sequence of (int, int, int, int)
        N of them.
    scores : array (N,)
        Of the boxes; the greater one stays; of equals the first.
    limit : float
        Intersection over union above which the lesser box goes.

    Returns
    -------
    list of int
        Their numbers, the best first.
    """
    corners = np.array(boxes, np.float64).reshape(-1, 4)
    # From the first to the last pixel, as the reference measures boxes.
    corners[:, 2:] -= 1
    size = np.prod(corners[:, 2:] - corners[:, :2], 1)
    left = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    kept = []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(int(best))
        low = np.maximum(corners[left, :2], corners[best, :2])
        high = np.minimum(corners[left, 2:], corners[best, 2:])
        common = np.prod(np.clip(high - low, 0, None), 1)
        left = left[common <= limit * (size[left] + size[best] - common)]
    return kept


def join(found: Sequence[Proposal]) -> list[Proposal]:
    """Make one mask of the pieces of an object that tiles have cut.

    Masks of two tiles are pieces of one object when at least one of them was cut and
    they agree in what both tiles see: intersection over union of a half or more, the
    best pairs first, each mask once.

    Parameters
    ----------
    found : sequence of Proposal
        Of all tiles; `Proposal.is_cut` tells which of them are pieces.
    """
    home = list(range(len(found)))

    def root(i: int) -> int:
        while home[i] != i:
            i = home[i]
        return i

    members: dict[Box, list[int]] = {}
    for i, proposal in enumerate(found):
        members.setdefault(proposal.crop, []).append(i)
    for one, other in itertools.combinations(members, 2):
        shared = intersection(one, other)
        if shared is None:
            continue
        taken: set[int] = set()
        pairs = _agreements(found, members[one], members[other], shared)
        for _, i, j in sorted(pairs, reverse=True):
            if taken.isdisjoint((i, j)):
                taken.update((i, j))
                home[max(root(i), root(j))] = min(root(i), root(j))
    groups: dict[int, list[Proposal]] = {}
    for i, proposal in enumerate(found):
        groups.setdefault(root(i), []).append(proposal)
    return [g[0] if len(g) == 1 else _union(g) for g in groups.values()]


def _agreements(
    found: Sequence[Proposal], ones: list[int], others: list[int], shared: Box
) -> list[tuple[float, int, int]]:
    """Return pairs that agree where both of two tiles look: overlap and numbers."""
    seen = [
        {i: found[i].within(shared) for i in part if intersection(found[i].box, shared)}
        for part in (ones, others)
    ]
    pairs = []
    for (i, first), (j, second) in itertools.product(seen[0].items(), seen[1].items()):
        if not (found[i].is_cut or found[j].is_cut):
            continue
        common = np.count_nonzero(first & second)
        if common and 2 * common >= (union := np.count_nonzero(first | second)):
            pairs.append((float(common / union), i, j))
    return pairs


def _union(group: Sequence[Proposal]) -> Proposal:
    """Return all pieces as one; the largest speaks for them."""
    corners = np.array([p.box for p in group])
    (y0, x0), (y1, x1) = corners[:, :2].min(0).tolist(), corners[:, 2:].max(0).tolist()
    box = (y0, x0, y1, x1)
    mask = np.zeros((y1 - y0, x1 - x0), bool)
    for piece in group:
        mask[slices(piece.box, box)] |= piece.mask
    largest = max(group, key=lambda p: p.area)
    area = int(np.count_nonzero(mask))
    return replace(largest, box=box, bits=np.packbits(mask), area=area, is_cut=False)


def paint(proposals: Sequence[Proposal], shape: tuple[int, int]) -> LabelArray:
    """Return a map of objects; later masks lie over earlier ones.

    Parameters
    ----------
    proposals : sequence of Proposal
        The first is object 1.
    shape : (int, int)
        Rows and columns of the plane.

    Returns
    -------
    array (H, W) int32
        0 is background.
    """
    labels = np.zeros(shape, np.int32)
    for number, proposal in enumerate(proposals, 1):
        labels[slices(proposal.box)][proposal.mask] = number
    return labels
