"""Heat maps: their scale, where they become a mask, its parts and boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray, BoolArray, FloatArray

BINS = 256
# A map whose values differ by less, relative to their size, is the same everywhere.
FLAT = 1e-6
EIGHT = np.ones((3, 3), bool)


def finite(values: FloatArray) -> FloatArray:
    """Return values without NaN and infinity: they become the least or the largest.

    Parameters
    ----------
    values : array of any shape
        NaN counts as the least finite value; all is 0 where nothing is finite.
    """
    good = np.isfinite(values)
    if good.all():
        return np.asarray(values, np.float32)
    low, high = (
        (float(values[good].min()), float(values[good].max())) if good.any() else (0, 0)
    )
    found: FloatArray = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    return found.astype(np.float32)


def is_flat(values: FloatArray) -> bool:
    """Whether values are the same everywhere, but for rounding."""
    low, high = float(values.min()), float(values.max())
    return high - low <= FLAT * max(1.0, abs(low), abs(high))


def normalised(
    values: FloatArray, way: Literal["range", "rank", "spread"] = "range"
) -> FloatArray:
    """Bring a map to a common scale.

    Parameters
    ----------
    values : array (H, W)
        Finite.
    way : {"range", "rank", "spread"}
        From 0 to 1 between the extremes; the share of values below, equal ones in the
        middle of theirs; or the mean 0 and the standard deviation 1.

    Returns
    -------
    array (H, W) float32
        0 everywhere where the values are all the same.
    """
    if is_flat(values):
        return np.zeros(values.shape, np.float32)
    wide = values.astype(np.float64)
    if way == "rank":
        _, where, counts = np.unique(wide, return_inverse=True, return_counts=True)
        middle = np.cumsum(counts) - (counts + 1) / 2
        found = middle[where.reshape(wide.shape)] / max(1, wide.size - 1)
    elif way == "spread":
        found = (wide - wide.mean()) / wide.std()
    else:
        found = (wide - wide.min()) / (wide.max() - wide.min())
    return found.astype(np.float32)


def two_means(values: FloatArray) -> float | None:
    """Return the level between two groups of values.

    The two groups whose values lie nearest to their means: k-means with two centres,
    not from random beginnings but by trying every split of the sorted values. The level
    lies midway between the means, as that of k-means does.

    Parameters
    ----------
    values : array of any shape
        Finite.

    Returns
    -------
    float or None
        None if all values are the same.
    """
    if is_flat(values):
        return None
    # Deviations: sums of large numbers would drown the differences.
    base = float(values.min())
    ordered = np.sort(values.ravel().astype(np.float64)) - base
    sums = np.cumsum(ordered)
    below = np.arange(1, ordered.size)
    between = sums[:-1] ** 2 / below + (sums[-1] - sums[:-1]) ** 2 / (
        ordered.size - below
    )
    # Equal values are never parted.
    at = int(np.where(np.diff(ordered) > 0, between, -1.0).argmax())
    low, high = sums[at] / (at + 1), (sums[-1] - sums[at]) / (ordered.size - at - 1)
    return base + float(low + high) / 2


def otsu(values: FloatArray) -> float | None:
    """Return Otsu's level: the edge above the lower class of a histogram.

    The criterion is that of `two_means`, over 256 bins; the level differs, which is
    not midway between the means (Otsu, IEEE Trans. SMC 1979).

    Parameters
    ----------
    values : array of any shape
        Finite.

    Returns
    -------
    float or None
        None if all values are the same.
    """
    if is_flat(values):
        return None
    flat = values.ravel().astype(np.float64)
    low, high = float(flat.min()), float(flat.max())
    bins = np.minimum(((flat - low) / (high - low) * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS).astype(np.float64)
    sums = np.cumsum(np.bincount(bins, flat - low, minlength=BINS))
    below = np.cumsum(counts)[:-1]
    above = flat.size - below
    between = sums[:-1] ** 2 / below + (sums[-1] - sums[:-1]) ** 2 / np.maximum(
        above, 1
    )
    return low + (high - low) * (int(between.argmax()) + 1) / BINS


def cut_level(
    values: FloatArray,
    way: Literal["two-means", "otsu", "percentile", "fixed"],
    share: float,
) -> float | None:
    """Return the level at and above which a map is inside.

    Parameters
    ----------
    values : array (H, W)
        Finite.
    way : {"two-means", "otsu", "percentile", "fixed"}
        See `two_means` and `otsu`; the share of the plane that is left out; the share
        of the range between the extremes.
    share : float
        In [0, 1], for the last two.

    Returns
    -------
    float or None
        Between two values of the map, so that none of them lies on it; None if all
        values are the same and nothing stands out.
    """
    if is_flat(values):
        return None
    if way == "two-means":
        level = two_means(values)
    elif way == "otsu":
        level = otsu(values)
    elif way == "percentile":
        level = float(np.quantile(values, share))
    else:
        level = float(values.min()) * (1 - share) + float(values.max()) * share
    return None if level is None else _apart(values, level)


def _apart(values: FloatArray, level: float) -> float:
    """Move a level midway between the values next to it, or just below the least."""
    above = values[values >= np.float32(level)]
    below = values[values < np.float32(level)]
    if not above.size:
        # Rounding alone brings a level above the largest value.
        return _apart(values, float(values.max()))
    if not below.size:
        return float(above.min()) - 1e-3 * float(np.ptp(values))
    return (float(below.max()) + float(above.min())) / 2


def stretched(values: FloatArray, level: float) -> FloatArray:
    """Bring a map to [0, 1] so that a level becomes one half; the order is kept.

    Linear from the least value to the level, and from there to the largest.

    Parameters
    ----------
    values : array (H, W)
        Finite.
    level : float
        May lie outside the range of the values, which then stay on one side of 0.5.
    """
    down = max(level - float(values.min()), 1e-12)
    up = max(float(values.max()) - level, 1e-12)
    found = 0.5 + 0.5 * np.where(
        values >= level, (values - level) / up, (values - level) / down
    )
    return np.clip(found, 0, 1).astype(np.float32)


def clipped_log_odds(probability: FloatArray, limit: float) -> FloatArray:
    """Return log-odds of probabilities, within plus and minus a limit (mask prompts).

    Parameters
    ----------
    probability : array of any shape
        In [0, 1].
    limit : float
        Of the log-odds.
    """
    p = probability.astype(np.float64)
    with np.errstate(divide="ignore"):
        odds = np.log(p) - np.log1p(-p)
    found: FloatArray = np.clip(odds, -limit, limit).astype(np.float32)
    return found


def largest_parts(mask: BoolArray, count: int = 0, most: int = 64) -> list[BoolArray]:
    """Return the connected parts of a mask (8 neighbours), the largest first.

    Parameters
    ----------
    mask : array (H, W) bool
        May be empty.
    count : int
        Only so many; 0 for all.
    most : int
        Never more than this.
    """
    from scipy import ndimage

    labels, number = ndimage.label(mask, EIGHT)
    sizes = np.bincount(labels.ravel(), minlength=number + 1)[1:]
    order = np.argsort(-sizes, kind="stable")[: min(count or most, most)]
    return [labels == i + 1 for i in order]


def keep_largest(mask: BoolArray, count: int) -> BoolArray:
    """Return a mask (H, W) with only so many of its largest parts; 0 keeps all."""
    if not count or not mask.any():
        return mask
    parts = largest_parts(mask, count, count)
    found: BoolArray = np.any(parts, axis=0)
    return found


def box_round(mask: BoolArray, margin: float) -> FloatArray:
    """Return the box of a mask, enlarged on each side, clipped to the plane.

    Parameters
    ----------
    mask : array (H, W) bool
        Not empty.
    margin : float
        Share of the box's sides.

    Returns
    -------
    array (4,) float32
        Minima, then maxima (exclusive), in pixels.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    low = np.array([rows[0], columns[0]], float)
    high = np.array([rows[-1] + 1, columns[-1] + 1], float)
    pad = margin * (high - low)
    box = np.concatenate([low - pad, high + pad])
    found: FloatArray = np.clip(box, 0, np.tile(mask.shape, 2)).astype(np.float32)
    return found


def tidy_boxes(
    boxes: AnyArray, scores: AnyArray, shape: tuple[int, int], largest: float
) -> tuple[FloatArray, FloatArray]:
    """Return boxes that may be objects, clipped to the plane, the best first.

    Parameters
    ----------
    boxes : array (M, 4)
        Minima, then maxima; those with NaN or without area are dropped.
    scores : array (M,)
        Of the boxes.
    shape : (int, int)
        Of the plane.
    largest : float
        Boxes over a larger share of the plane are dropped: detectors return the whole
        plane where they find nothing.

    Returns
    -------
    boxes : array (N, 4) float32
    scores : array (N,) float32
    """
    given = np.asarray(boxes, np.float64).reshape(-1, 4)
    worth = np.asarray(scores, np.float64).reshape(-1)
    good = np.isfinite(given).all(1) & np.isfinite(worth)
    inside = np.clip(np.nan_to_num(given), 0, np.tile(shape, 2))
    sides = inside[:, 2:] - inside[:, :2]
    good &= (sides > 0).all(1) & (sides.prod(1) <= largest * shape[0] * shape[1])
    order = np.flatnonzero(good)[np.argsort(-worth[good], kind="stable")]
    return inside[order].astype(np.float32), worth[order].astype(np.float32)
