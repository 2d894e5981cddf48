"""One level of the Haar wavelet transform, and features with bands left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_fewshot._types import FloatArray


def haar(maps: FloatArray) -> FloatArray:
    """Return the four bands of one level of the orthonormal Haar transform.

    Parameters
    ----------
    maps : array (..., h, w)
        An odd last row or column is repeated first.

    Returns
    -------
    array (4, ..., ceil(h / 2), ceil(w / 2))
        Mean, change along the row axis, along the column axis, and of both (LL, HL, LH,
        HH). The sum of squares stays the same where h and w are even.
    """
    pads = [(0, 0)] * (maps.ndim - 2) + [(0, n % 2) for n in maps.shape[-2:]]
    even = np.pad(maps, pads, mode="edge")
    a, b = even[..., ::2, ::2], even[..., ::2, 1::2]
    c, d = even[..., 1::2, ::2], even[..., 1::2, 1::2]
    bands: FloatArray = np.stack(
        [a + b + c + d, a + b - c - d, a - b + c - d, a - b - c + d]
    )
    bands /= 2
    return bands


def inverse_haar(bands: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """Return what `haar` took apart.

    Parameters
    ----------
    bands : array (4, ..., ceil(h / 2), ceil(w / 2))
        As `haar` returns them.
    shape : (int, int)
        Rows and columns, (h, w).

    Returns
    -------
    array (..., h, w)
    """
    mean, down, along, both = bands
    rows, columns = mean.shape[-2:]
    maps = np.empty((*mean.shape[:-2], 2 * rows, 2 * columns), bands.dtype)
    maps[..., ::2, ::2] = mean + down + along + both
    maps[..., ::2, 1::2] = mean + down - along - both
    maps[..., 1::2, ::2] = mean - down + along - both
    maps[..., 1::2, 1::2] = mean - down - along + both
    maps /= 2
    found: FloatArray = maps[..., : shape[0], : shape[1]]
    return found


def masked_bands(
    maps: FloatArray, drop: float, random: np.random.Generator
) -> FloatArray:
    """Leave out random places of every band: an augmentation of features.

    After DINO-AugSeg (arXiv 2601.08078): a decoder that is trained on a few images
    must not rely on single coefficients. What is kept is not scaled up.

    Parameters
    ----------
    maps : array (C, h, w)
        Features.
    drop : float
        Share that is left out, in [0, 1].
    random : Generator
        Draws one mask per band, the same for all channels.

    Returns
    -------
    array (C, h, w)
    """
    bands = haar(maps)
    kept = random.random((4, 1, *bands.shape[-2:])) >= drop
    shape = (int(maps.shape[-2]), int(maps.shape[-1]))
    return inverse_haar(bands * kept, shape).astype(maps.dtype)
