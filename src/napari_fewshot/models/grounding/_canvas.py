"""Supports beside a query on one canvas.

SAM 3 takes boxes as examples only of the image itself. So a piece of a support is put
to the left of the query, the box marks its object there, and of what is found only
what lies on the query is kept. Adjacent planes of a volume serve as supports, too.
Our own arrangement; no published figures tell how well it does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torchvision.transforms.v2 import functional as resizing

from napari_fewshot.errors import PromptError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import AnyArray, FloatArray

# Width of the column of supports, as a share of the query's.
COLUMN = 0.5
# Most of a panel's side that its box covers: around the object something is to be seen.
COVER = 0.7


@dataclass(frozen=True, eq=False)
class Canvas:
    """Pieces of supports, one above the other, to the left of a query.

    Attributes
    ----------
    pixels : array (H, column + W, 3) uint8
    boxes : array (N, 4) float32
        (y0, x0, y1, x1) of the supports' objects on the canvas.
    column : int
        Columns of the supports; the query follows.
    """

    pixels: AnyArray = field(repr=False)
    boxes: FloatArray
    column: int


def canvas_of(query: AnyArray, exemplars: Sequence[tuple[AnyArray, Any]]) -> Canvas:
    """Put pieces of supports beside a query.

    Pieces keep their pixel size, unless the object would fill its panel.

    Parameters
    ----------
    query : array (H, W, 3) uint8
        The plane to search.
    exemplars : sequence of (array (h, w, 3) uint8, box)
        A box is (y0, x0, y1, x1) in pixels of its plane, inclusive-exclusive.

    Returns
    -------
    Canvas

    Raises
    ------
    PromptError
        If there are more supports than rows, or a box does not fit its plane.
    """
    rows, columns = query.shape[:2]
    count = len(exemplars)
    edges = np.linspace(0, rows, count + 1).round().astype(int)
    if count > rows // 8:
        raise PromptError(
            f"{count} examples are too many for a plane of {rows} rows. Give fewer."
        )
    width = max(8, round(COLUMN * columns))
    pixels = np.empty((rows, width + columns, 3), np.uint8)
    pixels[:, width:] = query
    places = []
    for top, end, (plane, box) in zip(edges[:-1], edges[1:], exemplars, strict=True):
        panel, place = _panel(
            plane, checked_boxes(box, plane.shape)[0], end - top, width
        )
        pixels[top:end, :width] = panel
        places.append(place + np.array([top, 0, top, 0], np.float32))
    return Canvas(pixels, np.stack(places).astype(np.float32), width)


def checked_boxes(boxes: Any, shape: Sequence[int]) -> FloatArray:
    """Return boxes (N, 4) cut to a plane.

    Parameters
    ----------
    boxes : array (4,) or (N, 4)
        (y0, x0, y1, x1).
    shape : sequence of int
        Begins with rows and columns of the plane.

    Raises
    ------
    PromptError
        If they are no boxes, or one lies beside the plane.
    """
    try:
        found = np.asarray(boxes, np.float32).reshape(-1, 4)
    except (ValueError, TypeError) as error:
        raise PromptError(
            "A box has four numbers: top, left, bottom and right."
        ) from error
    limits = np.array([shape[0], shape[1]] * 2, np.float32)
    cut: FloatArray = np.clip(found, 0, limits)
    if not np.isfinite(found).all() or (cut[:, 2:] <= cut[:, :2]).any():
        raise PromptError(
            "A box is empty or lies beside the plane; it is (top, left, bottom, right) "
            f"within {int(limits[0])} rows and {int(limits[1])} columns."
        )
    return cut


def _panel(
    plane: AnyArray, box: FloatArray, rows: int, columns: int
) -> tuple[AnyArray, FloatArray]:
    """Return a piece (rows, columns, 3) of a plane around a box, and the box on it."""
    sides = box[2:] - box[:2]
    room = np.array([rows, columns]) * COVER
    scale = float(min(1.0, (room / sides).min()))
    if scale < 1:
        before = plane.shape[:2]
        shape = [max(1, round(n * scale)) for n in before]
        x = torch.from_numpy(np.ascontiguousarray(plane)).permute(2, 0, 1)
        plane = resizing.resize(x, shape, antialias=True).permute(1, 2, 0).numpy()
        box = box * np.tile(np.array(shape) / np.array(before), 2)
    middle = (box[:2] + box[2:]) / 2
    size = np.array([rows, columns])
    shape_now = np.array(plane.shape[:2])
    # Inside the plane where it is large enough, else the plane in the middle.
    slack = shape_now - size
    start = np.where(
        slack >= 0,
        np.clip(np.rint(middle - size / 2), 0, np.maximum(slack, 0)),
        slack // 2,
    ).astype(int)
    fill = np.median(plane.reshape(-1, 3), axis=0).astype(np.uint8)
    panel = np.broadcast_to(fill, (rows, columns, 3)).copy()
    source = np.maximum(start, 0)
    target = np.maximum(-start, 0)
    extent = np.minimum(shape_now - source, size - target)
    panel[target[0] : target[0] + extent[0], target[1] : target[1] + extent[1]] = plane[
        source[0] : source[0] + extent[0], source[1] : source[1] + extent[1]
    ]
    found: FloatArray = (box - np.tile(start, 2)).astype(np.float32)
    return panel, found
