"""Hand-made pixel features: brightness, edges, ridges and texture at several scales.

The set follows what pixel-classification tools use (Sommer et al. 2011;
Arganda-Carreras et al. 2017), made fast: coarse scales are computed on a shrunken copy
and interpolated back, so that the cost hardly grows with the scale.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from napari_fewshot._types import FloatArray

SIGMAS = (0.7, 1.5, 3.0, 6.0, 12.0, 24.0)
# A shrunken copy still has this many pixels per sigma.
PIXELS_PER_SIGMA = 2.0
TRUNCATE = 3.0
# Distances (pixels) and directions at which the context of a pixel is looked up.
CONTEXT_RADII = (6.0, 14.0, 28.0)
CONTEXT_SIGMAS = (1.5, 4.0, 8.0, 16.0)


def pixel_features(image: FloatArray, sigmas: tuple[float, ...] = SIGMAS) -> FloatArray:
    """Compute features of every pixel.

    Per channel (and the mean of three colour channels): the value, and at every sigma
    the Gaussian mean, gradient magnitude, both eigenvalues of the Hessian, the local
    standard deviation, and the difference from the next finer mean.

    Parameters
    ----------
    image : array (H, W, C)
        float32 in [0, 1].
    sigmas : tuple of float
        Scales in pixels, ascending.

    Returns
    -------
    array (H, W, F)
        float32, F = (1 + 6 len(sigmas)) per channel.
    """
    channels = [image[..., c] for c in range(image.shape[-1])]
    if image.shape[-1] == 3:
        channels.append(image.mean(axis=-1))
    height, width = image.shape[:2]
    per_channel = 1 + 6 * len(sigmas)
    features = np.empty((height, width, per_channel * len(channels)), np.float32)
    for index, channel in enumerate(channels):
        start = index * per_channel
        features[..., start] = channel
        finer = channel
        for number, sigma in enumerate(sigmas):
            at = start + 1 + 6 * number
            maps = _scale_features(channel, sigma)
            for offset, values in enumerate(maps):
                features[..., at + offset] = values
            features[..., at + 5] = finer - maps[0]
            finer = maps[0]
    return features


def position_features(
    shape: tuple[int, int],
    depth: float | None = None,
    frame: tuple[float, float, float, float] | None = None,
) -> FloatArray:
    """Return where every pixel lies: (row, column[, depth]), each in [0, 1].

    Parameters
    ----------
    shape : (int, int)
        Rows and columns.
    depth : float, optional
        Relative position along z.
    frame : (float, float, float, float), optional
        Where these rows and columns lie on a larger plane: minima, then maxima, as
        shares of it.

    Returns
    -------
    array (H, W, 2 or 3)
    """
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    maps = [(rows + 0.5) / shape[0], (columns + 0.5) / shape[1]]
    if frame is not None:
        low, size = frame[:2], (frame[2] - frame[0], frame[3] - frame[1])
        maps = [low[i] + maps[i] * size[i] for i in range(2)]
    if depth is not None:
        maps.append(np.full(shape, depth, np.float32))
    return np.stack(maps, axis=-1).astype(np.float32)


def context_features(probability: FloatArray) -> FloatArray:
    """Return what a first guess says around every pixel (auto-context, Tu & Bai 2010).

    Parameters
    ----------
    probability : array (H, W)
        First guess of one class.

    Returns
    -------
    array (H, W, F)
        The guess, its means at several scales, and its values at three distances in
        eight directions; beyond the frame the nearest value holds.
    """
    means = [smooth(probability, sigma) for sigma in CONTEXT_SIGMAS]
    maps = [probability, *means]
    height, width = probability.shape
    rows, columns = np.arange(height), np.arange(width)
    for radius in CONTEXT_RADII:
        for dy, dx in _directions(radius):
            at_rows = np.clip(rows + dy, 0, height - 1)
            at_columns = np.clip(columns + dx, 0, width - 1)
            maps.append(means[0][at_rows[:, None], at_columns[None, :]])
    return np.stack(maps, axis=-1).astype(np.float32)


def smooth(image: FloatArray, sigma: float) -> FloatArray:
    """Blur with a Gaussian; coarse scales on a shrunken copy.

    Parameters
    ----------
    image : array (H, W)
        float32.
    sigma : float
        In pixels.
    """
    from scipy import ndimage

    small, factor = _shrink(image, sigma)
    blurred = ndimage.gaussian_filter(
        small, sigma / factor, truncate=TRUNCATE, mode="nearest"
    )
    return _enlarge(blurred, image.shape, factor)


def _scale_features(channel: FloatArray, sigma: float) -> list[FloatArray]:
    from scipy import ndimage

    small, factor = _shrink(channel, sigma)
    local = sigma / factor

    def blur(values: FloatArray) -> Any:
        return ndimage.gaussian_filter(values, local, truncate=TRUNCATE, mode="nearest")

    mean = blur(small)
    deviation = np.sqrt(np.maximum(blur(small * small) - mean * mean, 0))
    gy, gx = _gradient(mean, 0), _gradient(mean, 1)
    gyy, gyx, gxx = _gradient(gy, 0), _gradient(gy, 1), _gradient(gx, 1)
    middle = (gyy + gxx) / 2
    spread = np.sqrt(((gyy - gxx) / 2) ** 2 + gyx**2)
    maps = [mean, np.hypot(gy, gx), middle + spread, middle - spread, deviation]
    return [_enlarge(m, channel.shape, factor) for m in maps]


def _gradient(values: FloatArray, axis: int) -> FloatArray:
    """Central differences along one axis, replicated at the frame."""
    padded = np.pad(
        values, [(int(axis == a), int(axis == a)) for a in (0, 1)], mode="edge"
    )
    ahead = padded[2:] if axis == 0 else padded[:, 2:]
    behind = padded[:-2] if axis == 0 else padded[:, :-2]
    difference: FloatArray = (ahead - behind) * np.float32(0.5)
    return difference


def _shrink(image: FloatArray, sigma: float) -> tuple[FloatArray, int]:
    """Average blocks so that sigma still spans enough pixels."""
    factor = max(1, int(sigma / PIXELS_PER_SIGMA))
    factor = min(factor, max(1, min(image.shape) // 8))
    if factor == 1:
        return image, 1
    height, width = (-(-n // factor) for n in image.shape)
    pads = [(0, height * factor - image.shape[0]), (0, width * factor - image.shape[1])]
    blocks = np.pad(image, pads, mode="edge").reshape(height, factor, width, factor)
    return blocks.mean(axis=(1, 3), dtype=np.float32), factor


def _enlarge(small: FloatArray, shape: tuple[int, ...], factor: int) -> FloatArray:
    """Interpolate linearly back to the full grid."""
    if factor == 1:
        return small.astype(np.float32, copy=False)
    for axis in (0, 1):
        at = (np.arange(shape[axis]) + 0.5) / factor - 0.5
        last = small.shape[axis] - 1
        low = np.clip(np.floor(at).astype(int), 0, last)
        high = np.minimum(low + 1, last)
        share: FloatArray = np.clip(at - low, 0, 1).astype(np.float32)
        start, end = small.take(low, axis), small.take(high, axis)
        small = start + (end - start) * np.expand_dims(share, 1 - axis)
    return small


def _directions(radius: float) -> list[tuple[int, int]]:
    angles = np.arange(8) * np.pi / 4
    return [
        (round(radius * np.sin(a)), round(radius * np.cos(a))) for a in angles.tolist()
    ]
