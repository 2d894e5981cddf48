"""Find a piece of one image in another, and bend its mask to fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray, BoolArray, FloatArray

Box = tuple[int, int, int, int]
# Settings of the total-variation flow (Zach et al. 2007): a smooth field that may
# still jump at organ borders; few steps, because the match has done the large move.
FLOW_ATTACHMENT, FLOW_TIGHTNESS = 8.0, 0.3
FLOW_WARPS, FLOW_STEPS = 5, 8
# Windows of less spread than this are flat: they resemble nothing.
FLAT = 1e-3


class Match(NamedTuple):
    """Where a piece was found.

    Attributes
    ----------
    dy, dx : int
        Move of the piece in pixels.
    score : float
        Normalised cross-correlation there, in [-1, 1].
    """

    dy: int
    dx: int
    score: float


def bounding_box(mask: BoolArray, margin: int) -> Box:
    """Return ``(top, bottom, left, right)`` of a mask with a margin, inside the frame.

    Parameters
    ----------
    mask : array (H, W)
        With foreground.
    margin : int
        In pixels.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return (
        max(0, int(rows[0]) - margin),
        min(mask.shape[0], int(rows[-1]) + 1 + margin),
        max(0, int(columns[0]) - margin),
        min(mask.shape[1], int(columns[-1]) + 1 + margin),
    )


def find_piece(
    image: FloatArray, piece: FloatArray, origin: tuple[int, int], reach: float
) -> Match:
    """Find a piece in an image near where it came from.

    Normalised cross-correlation, weighted by a Gaussian of the distance moved.

    Parameters
    ----------
    image : array (H, W)
        Where to look.
    piece : array (h, w)
        What to look for; may stick out of the frame.
    origin : (int, int)
        Row and column of the top-left corner that mean "not moved".
    reach : float
        Standard deviation of the move in pixels; infinity for "anywhere".

    Returns
    -------
    Match
    """
    from skimage.feature import match_template

    height, width = piece.shape
    if float(np.ptp(piece)) == 0.0:
        return Match(0, 0, 0.0)
    padded = np.pad(image, ((height, height), (width, width)), mode="edge")
    response = np.clip(np.nan_to_num(match_template(padded, piece)), -1, 1)
    # Over flat ground almost nothing is divided by almost nothing: any number.
    response[_spread(padded, piece.shape) < FLAT] = 0
    dy = np.arange(response.shape[0]) - height - origin[0]
    dx = np.arange(response.shape[1]) - width - origin[1]
    near = np.exp(-(dy[:, None] ** 2 + dx[None, :] ** 2) / (2 * reach**2))
    weighted = np.clip(response, 0, None) * near
    row, column = np.unravel_index(int(weighted.argmax()), weighted.shape)
    return Match(int(dy[row]), int(dx[column]), float(response[row, column]))


def _spread(image: FloatArray, size: tuple[int, ...]) -> FloatArray:
    """Return the standard deviation of every window of a size that fits inside."""
    from skimage.transform import integral_image

    rows, columns = size
    centred = image.astype(np.float64) - float(image.mean())
    sums = []
    for values in (centred, centred**2):
        whole = np.pad(integral_image(values), ((1, 0), (1, 0)))
        upper = whole[:-rows, columns:] - whole[:-rows, :-columns]
        lower = whole[rows:, columns:] - whole[rows:, :-columns]
        sums.append((lower - upper) / (rows * columns))
    mean, square = sums
    spread: FloatArray = np.sqrt(np.clip(square - mean**2, 0, None)).astype(np.float32)
    return spread


def bend_mask(
    image: FloatArray,
    support: FloatArray,
    mask: BoolArray,
    match: Match,
    *,
    margin: int,
    max_side: int,
) -> FloatArray:
    """Move a mask to its match and bend it to the image by optical flow.

    Parameters
    ----------
    image, support : array (H, W)
        The query and the support plane; they may differ in size.
    mask : array
        Mask on the support plane.
    match : Match
        How far to move.
    margin : int
        Pixels around the mask that take part in the registration.
    max_side : int
        The registration runs on a copy whose longest side is at most this; 0 moves the
        mask without bending it.

    Returns
    -------
    array (H, W)
        Soft mask on the image, in [0, 1].
    """
    from skimage.registration import optical_flow_tvl1

    soft: FloatArray = np.zeros(image.shape, np.float32)
    top, bottom, left, right = bounding_box(mask, margin)
    # The part of the moved window that lies inside the query.
    up, down = max(0, top + match.dy), min(image.shape[0], bottom + match.dy)
    begin, end = max(0, left + match.dx), min(image.shape[1], right + match.dx)
    if down - up < 4 or end - begin < 4:
        return soft
    here = np.s_[up:down, begin:end]
    there = np.s_[up - match.dy : down - match.dy, begin - match.dx : end - match.dx]
    moved = mask[there].astype(np.float32)
    if max_side == 0:
        soft[here] = moved
        return soft
    shape = (down - up, end - begin)
    factor = min(1.0, max_side / max(shape))
    small = (max(4, round(shape[0] * factor)), max(4, round(shape[1] * factor)))
    flow = optical_flow_tvl1(
        _resize(image[here], small),
        _resize(support[there], small),
        attachment=FLOW_ATTACHMENT,
        tightness=FLOW_TIGHTNESS,
        num_warp=FLOW_WARPS,
        num_iter=FLOW_STEPS,
        prefilter=False,
    )
    soft[here] = _follow(moved, flow, small)
    return soft


def _follow(moved: FloatArray, flow: AnyArray, small: tuple[int, int]) -> FloatArray:
    """Sample a mask along a flow that was found on a smaller grid."""
    from scipy import ndimage

    shape = moved.shape
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    dy = _resize(flow[0].astype(np.float32), shape) * (shape[0] / small[0])
    dx = _resize(flow[1].astype(np.float32), shape) * (shape[1] / small[1])
    bent: FloatArray = ndimage.map_coordinates(
        moved, [rows + dy, columns + dx], order=1, mode="nearest"
    )
    return bent


def _resize(image: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    from napari_fewshot.ops.resize import resize_image

    return resize_image(image, (shape[0], shape[1]))
