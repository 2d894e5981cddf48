"""Everything in an image, without being asked: masks for a grid of points, sifted.

The automatic mask generator of Kirillov et al., Segment Anything, ICCV 2023, section 5
and appendix B, for any promptable model. The masks are those of the generator of the
`segment_anything` package with the same settings. What makes it faster: candidates that
the model itself thinks little of never reach the size of the plane, the others are
measured only where they can be, and points are decoded in the batches that are fastest.

At any time there are in memory one part of the plane with its embedding, the logits of
one batch of points, at most `RESTORED` restored pixels, and the masks that passed, cut
to their boxes at one bit per pixel.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import Hooks, Progress
from napari_fewshot.methods._params import param
from napari_fewshot.ops.clicks import interior_distance
from napari_fewshot.ops.proposals import (
    Box,
    Proposal,
    box_of,
    join,
    layer_boxes,
    near_edge,
    point_grid,
    slices,
    stability_score,
    suppress,
    tile_boxes,
    window_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_fewshot._types import AnyArray, BoolArray, FloatArray
    from napari_fewshot.data import Embedding

    Encode = Callable[[AnyArray, Hooks], Embedding]

# Pixels of restored logits that are held at a time.
RESTORED = 2**24
# Planes with a longer side are tiled if the user says nothing, and how.
WHOLE, TILE, TILE_OVERLAP = 4096, 2048, 0.125


@dataclass(frozen=True)
class EverythingParams:
    """Settings of everything mode; defaults are those of the reference."""

    points_per_side: int = param(
        32,
        "Points of the grid along each side; more find smaller objects.",
        low=1,
        high=512,
    )
    predicted_iou: float = param(
        0.88,
        "Masks that the model expects to fit worse are dropped.",
        low=0.0,
        high=1.0,
        step=0.01,
    )
    stability: float = param(
        0.95,
        "Masks that change more with their threshold are dropped.",
        low=0.0,
        high=1.0,
        step=0.01,
    )
    stability_offset: float = param(
        1.0,
        "How far the threshold is moved for that.",
        low=0.0,
        high=100.0,
        advanced=True,
    )
    overlap: float = param(
        0.7,
        "Of two masks whose boxes overlap more, the worse is dropped.",
        low=0.0,
        high=1.0,
        step=0.01,
    )
    min_area: int = param(
        0, "Smaller masks are dropped.", low=0, high=10**9, unit="pixels"
    )
    max_area: int = param(
        0,
        "Larger masks are dropped; 0 is no limit.",
        low=0,
        high=10**9,
        unit="pixels",
    )
    crop_layers: int = param(
        0,
        "Also look at 4, 16, ... crops of the image, for small objects.",
        low=0,
        high=4,
        advanced=True,
    )
    crop_overlap: float = param(
        512 / 1500,
        "Share of the image that neighbouring crops have in common.",
        low=0.0,
        high=0.9,
        advanced=True,
    )
    crop_points_factor: int = param(
        1,
        "Points per side are divided by this for every layer of crops.",
        low=1,
        high=16,
        advanced=True,
    )
    tile: int = param(
        0,
        "Side of tiles that are looked at one by one, each with all points; 0: tiles "
        f"of {TILE} for images with a side over {WHOLE}.",
        low=0,
        high=10**6,
        unit="pixels",
        advanced=True,
    )


@dataclass(frozen=True, eq=False)
class View:
    """A part of the plane that the model looks at by itself.

    Attributes
    ----------
    box : (int, int, int, int)
        Where it is.
    points : array (N, 2)
        Prompts as (row, column) in pixels of the part.
    """

    box: Box
    points: AnyArray


def find_objects(
    model: Any,
    encode: Encode,
    pixels: AnyArray,
    params: EverythingParams,
    region: BoolArray | None = None,
    hooks: Hooks | None = None,
) -> list[Proposal]:
    """Return masks of everything in a plane.

    Parameters
    ----------
    model : SamModel or like it
        With ``decode``, ``restore`` and ``batch_for``.
    encode : callable
        Takes a part of the plane and hooks, returns its embedding.
    pixels : array (H, W) or (H, W, C)
        The plane, as the model takes it.
    params : EverythingParams
        What passes.
    region : array (H, W) bool, optional
        Points are placed inside, and masks are kept that lie in it for the most part.
    hooks : Hooks, optional
        Progress in points; may cancel between batches.

    Returns
    -------
    list of Proposal
        The largest first.

    Raises
    ------
    Cancelled
        If the hooks say so.
    """
    hooks = hooks or Hooks()
    shape = (int(pixels.shape[0]), int(pixels.shape[1]))
    side = tile_side(shape, params)
    search = _Search(model, encode, params, shape, region, hooks, is_tiled=side > 0)
    views = _views(shape, side, params, region)
    search.total = sum(len(v.points) for v in views)
    found: list[Proposal] = []
    for view in views:
        found += search.look(view, pixels[slices(view.box)])
    if side:
        found = join(found)
        found = _best(found, [p.predicted_iou for p in found], params.overlap)
    elif len(views) > 1:
        # What a smaller crop shows is larger and clearer.
        areas = [(y1 - y0) * (x1 - x0) for y0, x0, y1, x1 in (p.crop for p in found)]
        found = _best(found, [1 / a for a in areas], params.overlap)
    return sorted(found, key=lambda p: -p.area)


def tile_side(shape: tuple[int, int], params: EverythingParams) -> int:
    """Return the side of the tiles that a plane is cut into; 0 is not at all."""
    side = params.tile
    if not side and not params.crop_layers and max(shape) > WHOLE:
        side = TILE
    return side if side < max(shape) else 0


def _views(
    shape: tuple[int, int],
    tile: int,
    params: EverythingParams,
    region: BoolArray | None,
) -> list[View]:
    """Return the parts of the plane to look at, with their points."""
    if tile:
        boxes = [(b, 0) for b in tile_boxes(shape, tile, int(tile * TILE_OVERLAP))]
    else:
        boxes = [
            (b, layer)
            for layer in range(params.crop_layers + 1)
            for b in layer_boxes(shape, layer, params.crop_overlap)
        ]
    views = []
    for box, layer in boxes:
        size = (box[2] - box[0], box[3] - box[1])
        per_side = params.points_per_side // params.crop_points_factor**layer
        points = point_grid(size, max(1, per_side))
        if region is not None:
            points = _inside(points, region[slices(box)])
        if len(points):
            views.append(View(box, points))
    return views


def _inside(points: AnyArray, region: BoolArray) -> AnyArray:
    """Return the points inside a region; its middle if it lies between them all."""
    at = np.minimum(points.astype(int), np.array(region.shape) - 1)
    kept: AnyArray = points[region[at[:, 0], at[:, 1]]]
    if len(kept) or not region.any():
        return kept
    deepest = np.unravel_index(interior_distance(region).argmax(), region.shape)
    return np.array([deepest], np.float64)


@dataclass
class _Search:
    """What all views of a plane have in common, and how far the work has come."""

    model: Any
    encode: Encode
    params: EverythingParams
    shape: tuple[int, int]
    region: BoolArray | None
    hooks: Hooks
    is_tiled: bool
    done: int = 0
    total: int = 0

    def __post_init__(self) -> None:
        self.start = time.perf_counter()

    def look(self, view: View, pixels: AnyArray) -> list[Proposal]:
        """Return the masks found in one view, in pixels of the plane."""
        self._report()
        steady = Hooks(
            lambda p: self.hooks.on_progress(Progress(p.stage, self.done, self.total)),
            self.hooks.is_cancelled,
            self.hooks.started,
        )
        embedding = self.encode(pixels, steady)
        found: list[Proposal] = []
        batch = self.model.batch_for(embedding) if len(view.points) > 1 else 1
        for begin in range(0, len(view.points), batch):
            self._report()
            points = view.points[begin : begin + batch]
            found += self._ask(embedding, view, points)
            self.done += len(points)
        return _best(found, [p.predicted_iou for p in found], self.params.overlap)

    def _report(self) -> None:
        spent = time.perf_counter() - self.start
        left = spent / self.done * (self.total - self.done) if self.done else None
        self.hooks.report("Looking for objects", self.done, self.total, left)

    def _ask(
        self, embedding: Embedding, view: View, points: AnyArray
    ) -> list[Proposal]:
        """Return what passes of the candidates of some points."""
        logits, scores = self.model.decode(embedding, points=points[:, None])
        least = self.params.predicted_iou
        number, candidate = np.nonzero(scores > least if least else scores == scores)
        shape = embedding.image_shape
        step = max(1, RESTORED // (shape[0] * shape[1]))
        found = []
        for begin in range(0, len(number), step):
            which = number[begin : begin + step], candidate[begin : begin + step]
            low = logits[which]
            full = self.model.restore(low, shape)
            for k, (i, j) in enumerate(zip(*which, strict=True)):
                offset = self.params.stability_offset
                window = window_of(low[k], -offset, shape, embedding.valid)
                if window is not None:
                    part = full[k][slices(window)]
                    point, score = points[i], float(scores[i, j])
                    found.append(self._judge(part, window, view, point, score))
        return [p for p in found if p is not None]

    def _judge(
        self, logits: FloatArray, window: Box, view: View, point: AnyArray, score: float
    ) -> Proposal | None:
        """Return the mask in a window of the view if it passes."""
        params, (top, left, _, _) = self.params, view.box
        stability = stability_score(logits, params.stability_offset)
        mask = logits > 0
        area = int(np.count_nonzero(mask))
        too_large = bool(params.max_area) and area > params.max_area
        if stability < params.stability or area < max(1, params.min_area) or too_large:
            return None
        inner = box_of(mask)
        mask = mask[slices(inner)]
        dy, dx = window[0] + top, window[1] + left
        box = (inner[0] + dy, inner[1] + dx, inner[2] + dy, inner[3] + dx)
        is_cut = near_edge(box, view.box, self.shape)
        # A tile is all that is seen of its objects; a crop comes besides the plane.
        if (is_cut and not self.is_tiled) or not self._belongs(mask, box):
            return None
        return Proposal(
            box,
            np.packbits(mask),
            area,
            score,
            stability,
            (float(point[0]) + top, float(point[1]) + left),
            view.box,
            is_cut,
        )

    def _belongs(self, mask: BoolArray, box: Box) -> bool:
        """Whether most of a mask lies in the region."""
        if self.region is None:
            return True
        inside = np.count_nonzero(mask & self.region[slices(box)])
        return bool(2 * inside > np.count_nonzero(mask))


def _best(
    found: Sequence[Proposal], scores: Sequence[float], limit: float
) -> list[Proposal]:
    return [found[i] for i in suppress([p.box for p in found], scores, limit)]
