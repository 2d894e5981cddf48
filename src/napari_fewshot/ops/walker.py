"""Random walkers (Grady, IEEE TPAMI 2006): rough masks and clicks settle on edges."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.ops.clicks import interior_distance
from napari_fewshot.ops.matching import bounding_box
from napari_fewshot.ops.resize import fit_factor, resize_image, scaled_shape

if TYPE_CHECKING:
    from napari_fewshot._types import BoolArray, FloatArray, LabelArray

BETA = 1000.0
SMOOTHING = 0.7
MIN_PIXELS = 8
# A refined mask that agrees less than this with the rough one has leaked.
MIN_AGREEMENT = 0.6
# Clicks walk on a small copy: edges matter, not pixels, and a click must not wait.
CLICK_SIDE, CLICK_BETA = 128, 400.0
MOST_ODDS = 4.0
LEVELS = np.linspace(-3.5, 2.5, 13)
LEVEL_SHARPNESS = 8.0


def walk_boundary(image: FloatArray, soft: FloatArray, band: float) -> FloatArray:
    """Refine a soft mask by a random walker between its core and its surroundings.

    Parameters
    ----------
    image : array (H, W)
        float32 in [0, 1].
    soft : array (H, W)
        Rough mask, boundary at 0.5.
    band : float
        Pixels further than this from the rough mask are certainly background.

    Returns
    -------
    array (H, W)
        Refined soft mask, or the rough one if the two disagree.
    """
    from scipy import ndimage

    mask = soft > 0.5
    if mask.sum() < MIN_PIXELS:
        return soft
    top, bottom, left, right = bounding_box(mask, int(np.ceil(band)) + 2)
    window = np.s_[top:bottom, left:right]
    inside = interior_distance(mask[window])
    outside = ndimage.distance_transform_edt(~mask[window])
    seeds = np.zeros(inside.shape, np.int32)
    seeds[inside > inside.max() / 2] = 1
    seeds[outside > band] = 2
    smoothed = ndimage.gaussian_filter(image, SMOOTHING)[window]
    if not (seeds == 2).any() or float(np.ptp(smoothed)) == 0.0:
        return soft
    refined = np.zeros_like(soft)
    refined[window] = _walk(smoothed[..., None], seeds, BETA)
    both = 2 * int((mask & (refined > 0.5)).sum())
    size = int(mask.sum()) + int((refined > 0.5).sum())
    return refined if both / size >= MIN_AGREEMENT else soft


def walk_from_clicks(
    image: FloatArray,
    positive: BoolArray,
    negative: BoolArray,
    guess: FloatArray,
    freedom: float,
) -> FloatArray:
    """Return the log-odds that a walker meets what is wanted first.

    The border of the image counts as negative where it is not positive. Few clicks do
    not say how far the object reaches: zero is then moved to where the object stands
    out best from its surroundings, see `standing_out`.

    Parameters
    ----------
    image : array (H, W, C)
        float32 in [0, 1].
    positive, negative : array (H, W) bool
        Pixels that are known; at least one is positive.
    guess : array (H, W)
        Somebody else's probabilities, for the choice of zero.
    freedom : float
        How far zero moves there, from 0 (it stays) to 1.

    Returns
    -------
    array (H, W) float32
    """
    shape = (image.shape[0], image.shape[1])
    size = scaled_shape(shape, fit_factor(shape, CLICK_SIDE))
    seeds = np.zeros(size, np.int32)
    seeds[[0, -1]] = 2
    seeds[:, [0, -1]] = 2
    for known, label in ((negative, 2), (positive, 1)):
        at = np.argwhere(known) * (np.array(size) / np.array(shape))
        rows, columns = at.astype(int).T
        seeds[rows, columns] = label
    small = resize_image(image, size)
    chance = np.clip(_walk(small, seeds, CLICK_BETA), 1e-4, 1 - 1e-4)
    odds = np.clip(np.log(chance / (1 - chance)), -MOST_ODDS, MOST_ODDS)
    if freedom > 0:
        level = standing_out(small, odds, resize_image(guess, size))
        odds = odds - freedom * level
    found: FloatArray = resize_image(odds.astype(np.float32), shape)
    return found


def standing_out(image: FloatArray, odds: FloatArray, guess: FloatArray) -> float:
    """Return the level of a map whose region stands out best.

    Every level of `LEVELS` cuts out a region; it stands out by the gradient along its
    boundary, by the contrast of what lies on both sides, and by its overlap with a
    guess. The levels are averaged, the outstanding ones with most weight.

    Parameters
    ----------
    image : array (H, W, C)
        float32.
    odds : array (H, W)
        Any map that falls away from the object.
    guess : array (H, W)
        Probabilities.

    Returns
    -------
    float
        0 if nothing stands out.
    """
    from scipy import ndimage

    edges = ndimage.gaussian_gradient_magnitude(image.mean(-1), 0.7)
    regions = odds[None] >= LEVELS[:, None, None]
    smaller, larger = _shrunk(regions), _grown(regions)
    inner, outer = regions & ~_shrunk(smaller), _grown(larger) & ~regions
    edge = _means(smaller ^ larger, edges[..., None])[0][:, 0]
    inside, spread_in = _means(inner, image)
    outside, spread_out = _means(outer, image)
    step = np.linalg.norm(inside - outside, axis=1)
    contrast = step / np.sqrt(spread_in.sum(1) + spread_out.sum(1) + 1e-4)
    size = regions.sum((1, 2))
    overlap = 2 * (regions * guess).sum((1, 2)) / np.maximum(guess.sum() + size, 1e-9)
    scores = np.stack([edge, contrast, overlap], 1)
    # A region without any inside or any surroundings does not count.
    scores[~inner.any((1, 2)) | ~outer.any((1, 2))] = 0
    score = (scores / np.maximum(scores.max(0), 1e-9)).prod(1)
    if score.max() <= 0:
        return 0.0
    weight = np.exp(LEVEL_SHARPNESS * (score / score.max() - 1))
    return float((weight * LEVELS).sum() / weight.sum())


def _grown(masks: BoolArray) -> BoolArray:
    """Dilate masks (N, H, W) by one pixel up, down, left and right."""
    grown = masks.copy()
    grown[:, 1:] |= masks[:, :-1]
    grown[:, :-1] |= masks[:, 1:]
    grown[:, :, 1:] |= masks[:, :, :-1]
    grown[:, :, :-1] |= masks[:, :, 1:]
    return grown


def _shrunk(masks: BoolArray) -> BoolArray:
    """Erode masks (N, H, W) likewise; outside the image there is nothing."""
    shrunk = _grown(np.logical_not(masks))
    np.logical_not(shrunk, out=shrunk)
    shrunk[:, [0, -1]] = False
    shrunk[:, :, [0, -1]] = False
    return shrunk


def _means(masks: BoolArray, image: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and variance (N, C) of an image (H, W, C) in each mask (N, H, W)."""
    flat = masks.reshape(len(masks), -1).astype(np.float64)
    pixels = image.reshape(-1, image.shape[-1]).astype(np.float64)
    count = np.maximum(flat.sum(1, keepdims=True), 1)
    mean = flat @ pixels / count
    variance = np.maximum(flat @ pixels**2 / count - mean**2, 0)
    return mean, variance


def _walk(image: FloatArray, seeds: LabelArray, beta: float) -> FloatArray:
    """Chance of label 1 against label 2, (H, W), from an image (H, W, C)."""
    if seeds.all() or float(np.ptp(image)) == 0.0:
        # Nothing to decide, or no edge to decide by.
        certain: FloatArray = (seeds == 1).astype(np.float32)
        return certain
    return random_walk(image, seeds, beta)[0]  # type: ignore[no-any-return]


def random_walk(image: FloatArray, seeds: LabelArray, beta: float) -> FloatArray:
    """Return the chances (K, H, W) that a walker from a pixel meets each label first.

    Parameters
    ----------
    image : array (H, W, C)
        Not the same everywhere.
    seeds : array (H, W)
        Labels 1..K, each somewhere; 0 is not known, somewhere too.
    beta : float
        How unlikely steps over edges are (Grady, IEEE TPAMI 28:1768, 2006).
    """
    from skimage.segmentation import random_walker
    from threadpoolctl import threadpool_limits

    # Threads of the vector products cost more than they bring, and go on spinning while
    # the network computes.
    with threadpool_limits(1, "blas"), warnings.catch_warnings():
        # The solver's tolerance lets probabilities stick out of [0, 1] a little.
        warnings.simplefilter("ignore", UserWarning)
        walked = random_walker(
            image,
            seeds,
            beta=beta,
            mode="cg_j",
            tol=1e-3,
            return_full_prob=True,
            channel_axis=-1,
        )
    chances: FloatArray = np.clip(walked, 0, 1).astype(np.float32)
    return chances
