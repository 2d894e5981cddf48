"""An encoder's cells on a finer grid, beside fixed filters that see single pixels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import Embedding, as_plane
from napari_fewshot.methods.grid import embed
from napari_fewshot.ops import fit_factor, pixel_features, resize_image, scaled_shape

if TYPE_CHECKING:
    from napari_fewshot._types import FloatArray
    from napari_fewshot.models import Encoder, ModelSpec

# Longest side of the grid, and how many numbers an embedding may hold (10 MB).
FINE_SIDE, MOST_NUMBERS = 112, 2_500_000
# The bundled network has more to say than its embedding: its maps of strides 4 and 8.
BUNDLED, LEVELS = "incontext/small", (1, 2)
# Filters are computed on a copy of this longest side.
FILTER_SIDE = 256
SIGMAS = (1.0, 2.0, 4.0, 8.0, 16.0)


class FineEncoder:
    """An encoder with the filters beside its own features, on one fine grid.

    Parameters
    ----------
    encoder : Encoder
        Any.
    """

    def __init__(self, encoder: Any) -> None:
        self.encoder = encoder
        found: ModelSpec = encoder.spec
        self.spec = replace(found, name=f"{found.name} + filters")
        self.sha256 = str(getattr(encoder, "sha256", ""))
        self.precision = str(getattr(encoder, "precision", ""))

    def encode(self, image: Any) -> Embedding:
        """Return features of one plane; see `Encoder.encode`.

        Parameters
        ----------
        image : array (H, W) or (H, W, C)
            Floats in [0, 1].

        Returns
        -------
        Embedding
            (C, h, w): the encoder's channels, then those of the filters.
        """
        plane = as_plane(np.asarray(image))
        shape = (plane.shape[0], plane.shape[1])
        maps = pyramid(self.encoder, plane)
        small = scaled_shape(shape, fit_factor(shape, FILTER_SIDE, FILTER_SIDE))
        fine = filter_features(resize_image(plane, small))
        channels = sum(m.shape[-1] for m in maps) + fine.shape[-1]
        grid = _fine_grid(small, maps[0].shape, channels)
        every = np.concatenate([to_grid(f, grid) for f in (*maps, fine)], -1)
        array = np.ascontiguousarray(np.moveaxis(every, -1, 0), np.float32)
        return Embedding(array, shape, self.spec.name)


def pyramid(encoder: Any, plane: FloatArray) -> list[FloatArray]:
    """Return what an encoder says of a plane, (h, w, C) each, the finest first.

    Parameters
    ----------
    encoder : Encoder
        The bundled network gives its strides 4 and 8, others their embedding.
    plane : array (H, W, C)
        Floats in [0, 1].
    """
    if encoder.spec.name == BUNDLED:
        network = getattr(encoder, "model", encoder)
        found = network.features(plane, FILTER_SIDE).maps
        return [found[i][0].permute(1, 2, 0).float().cpu().numpy() for i in LEVELS]
    return [np.moveaxis(embed(encoder, plane).cells, 0, -1)]


def to_grid(maps: FloatArray, grid: tuple[int, int]) -> FloatArray:
    """Return maps (r, c, F) on a grid (h, w, F), linear; quicker than `resize_image`.

    Parameters
    ----------
    maps : array (r, c, F)
        float32.
    grid : (int, int)
        New rows and columns, finer or up to twice as coarse.
    """
    for axis, count in enumerate(grid):
        length = maps.shape[axis]
        at = np.clip((np.arange(count) + 0.5) * length / count - 0.5, 0, length - 1)
        low = at.astype(int)
        share = np.expand_dims((at - low).astype(np.float32), (1 - axis, 2))
        start = maps.take(low, axis)
        end = maps.take(np.minimum(low + 1, length - 1), axis)
        maps = start + (end - start) * share
    return maps


def filter_features(image: FloatArray) -> FloatArray:
    """Return edges and texture of the brightness, and the colours, at several scales.

    Parameters
    ----------
    image : array (H, W, C)
        Floats in [0, 1].

    Returns
    -------
    array (H, W, F)
        Standardised by the brightness of the plane, so that exposure matters less.
    """
    from scipy import ndimage

    grey = image.mean(-1, keepdims=True)
    centre, size = float(grey.mean()), max(float(grey.std()), 1e-3)
    maps = [pixel_features(((grey - centre) / size).astype(np.float32), SIGMAS)]
    if image.shape[-1] > 1:
        tint = image - grey
        maps += [ndimage.gaussian_filter(tint, (s, s, 0)) / size for s in (1.0, 4.0)]
        maps.append((tint - tint.mean((0, 1))) / size)
    return np.concatenate(maps, -1).astype(np.float32)


def _fine_grid(
    shape: tuple[int, int], coarse: tuple[int, ...], channels: int
) -> tuple[int, int]:
    """Return rows and columns: fine, unless that takes too much room."""
    side = min(FINE_SIDE, int((MOST_NUMBERS / channels) ** 0.5))
    grid = scaled_shape(shape, fit_factor(shape, side))
    rows, columns = (max(2, a, b) for a, b in zip(grid, coarse[:2], strict=True))
    return rows, columns


def eyes(encoder: Encoder, wish: str) -> Encoder:
    """Return the encoder, with filters beside it if wished.

    Parameters
    ----------
    encoder : Encoder
        Any.
    wish : {"filters", "none"}
        See `HeadParams`.
    """
    if wish == "none" or encoder.spec.name == "filters":
        return encoder
    return FineEncoder(encoder)
