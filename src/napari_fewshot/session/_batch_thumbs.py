"""Small pictures of results: the image with the outlines of what was found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import apply_window, intensity_window
from napari_fewshot.io import atomic_write

if TYPE_CHECKING:
    from pathlib import Path

    from napari_fewshot._types import AnyArray, ByteArray
    from napari_fewshot.data import Image

SIDE = 256
QUALITY = 82
# Colours that people with colour blindness tell apart (Okabe and Ito, 2008).
COLOURS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (204, 121, 167),
)


def save_thumbnail(path: Path, image: Image, labels: Any, plane: int) -> None:
    """Write a JPEG of one plane with outlines.

    Parameters
    ----------
    path : Path
        Where to.
    image : Image
        What was segmented.
    labels : array
        Class labels of ``image.label_shape``.
    plane : int
        Flat plane number.

    Raises
    ------
    StorageError
        If it can't be written.
    """
    from PIL import Image as Picture

    # Labels as the planes of an image, so that both are read alike.
    colours = _grey(_thinned(image, plane))
    mask = np.asarray(labels[_thin_key(image, plane, image.label_axes)])
    height, width = mask.shape
    share = SIDE / max(height, width)
    size = max(1, round(width * share)), max(1, round(height * share))
    resized = Picture.fromarray(colours).resize(size, Picture.Resampling.BILINEAR)
    # Values are repeated or left out, never mixed.
    rows = np.arange(size[1]) * height // size[1]
    columns = np.arange(size[0]) * width // size[0]
    drawn = _outlined(np.asarray(resized), mask[rows[:, None], columns])
    with atomic_write(path) as temporary:
        Picture.fromarray(drawn).save(temporary, "JPEG", quality=QUALITY)


def _step(image: Image) -> int:
    return max(1, max(image.plane_shape) // SIDE)


def _thin_key(image: Image, plane: int, axes: str) -> tuple[Any, ...]:
    """Return the key of every n-th row and column of a plane."""
    index = iter(image.plane_index(plane))
    thin = slice(None, None, _step(image))
    return tuple(
        next(index) if a in "tz" else slice(None) if a == "c" else thin for a in axes
    )


def _thinned(image: Image, plane: int) -> AnyArray:
    pixels = np.asarray(image.array[_thin_key(image, plane, image.axes)])
    left = "".join(a for a in image.axes if a not in "tz")
    if "c" not in left:
        return pixels[..., None]
    return np.moveaxis(pixels, left.index("c"), -1)[..., list(image.channels)]


def _grey(pixels: AnyArray) -> ByteArray:
    """Return colours from one, two or three channels, with their contrast."""
    pixels = np.nan_to_num(pixels.astype(np.float32))
    shown = apply_window(pixels, intensity_window([pixels]))
    if shown.shape[-1] != 3:
        shown = np.repeat(shown.mean(axis=-1, keepdims=True), 3, axis=-1)
    colours: ByteArray = (255 * shown).astype(np.uint8)
    return colours


def _outlined(colours: ByteArray, mask: AnyArray) -> ByteArray:
    """Draw the inner border of every class."""
    padded = np.pad(mask, 1, mode="edge")
    inner = padded[1:-1, 1:-1]
    edge = np.zeros(mask.shape, bool)
    for rows, columns in ((0, 1), (2, 1), (1, 0), (1, 2)):
        height, width = mask.shape
        other = padded[rows : rows + height, columns : columns + width]
        edge |= inner != other
    edge &= mask > 0
    drawn = colours.copy()
    palette = np.array(COLOURS, np.uint8)
    drawn[edge] = palette[(mask[edge].astype(np.int64) - 1) % len(COLOURS)]
    return drawn
