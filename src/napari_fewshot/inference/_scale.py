"""Supports at the pixel size of the query: one micrometre is one micrometre.

Methods look at a plane as a whole, so it is not enough to zoom a support: the part of
it that is as large as the query is cut out, or, where it shows less than the query, it
is continued by its mirror image.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.ops import resize_image, resize_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import AnyArray, LabelArray
    from napari_fewshot.data import Sample

# Pixel sizes within this factor count as equal.
SAME = 1.15
# Beyond this factor the two images can hardly show the same things.
MOST = 16.0
# Parts that are cut out of one support.
MOST_PARTS = 4
# A support is continued by at most so many mirror images along an axis.
MOST_MIRRORED = 3
# napari gives this to layers whose scale nobody has set.
UNSET = (1.0, 1.0)


def at_query_scale(
    samples: Sequence[Sample],
    shape: tuple[int, int],
    pixel_size: tuple[float, float] | None,
) -> tuple[list[Sample], list[str]]:
    """Return the supports at the pixel size of a query.

    Parameters
    ----------
    samples : sequence of Sample
        As they were annotated.
    shape : (int, int)
        Rows and columns of a plane of the query.
    pixel_size : (float, float), optional
        Of the query along (y, x), in the unit of the samples.

    Returns
    -------
    samples : list of Sample
        Those of another pixel size are replaced by parts at that of the query.
    notes : list of str
        What was done, and what could not be known, in words for the user.
    """
    found: list[Sample] = []
    notes: list[str] = []
    for sample in samples:
        if not is_known(sample.pixel_size) or not is_known(pixel_size):
            if is_known(sample.pixel_size) != is_known(pixel_size):
                notes.append(_unknown(sample, pixel_size))
            found.append(sample)
            continue
        factor = np.array(sample.pixel_size) / np.array(pixel_size)
        if (np.maximum(factor, 1 / factor) <= SAME).all():
            found.append(sample)
            continue
        if (np.maximum(factor, 1 / factor) > MOST).any():
            notes.append(
                f"The pixels of {sample.name} are {factor.max():.3g} times as large as "
                "the query's: too far apart, sizes are compared in pixels. Check the "
                "scale of both images."
            )
            found.append(sample)
            continue
        found += _parts(sample, shape, factor, pixel_size)
        notes.append(
            f"{sample.name} was rescaled by a factor of {factor.mean():.3g}, to the "
            "query's pixel size."
        )
    return found, list(dict.fromkeys(notes))


def is_known(size: tuple[float, float] | None) -> bool:
    """Whether a pixel size says anything: 1 by 1 is what nobody has set."""
    return size is not None and tuple(size) != UNSET


def _unknown(sample: Sample, pixel_size: tuple[float, float] | None) -> str:
    whose = sample.name if is_known(pixel_size) else "the image to segment"
    return (
        f"The pixel size of {whose} is not known; sizes are compared in pixels. Set "
        "its scale if the images were taken at different magnifications."
    )


def _parts(
    sample: Sample,
    shape: tuple[int, int],
    factor: AnyArray,
    pixel_size: tuple[float, float] | None,
) -> list[Sample]:
    """Cut out parts that show as much as the query does, at its pixel size."""
    full = np.array(sample.labels.shape)
    size = np.minimum(np.maximum(np.round(np.array(shape) / factor), 4), full)
    windows = foreground_windows(sample.labels, (int(size[0]), int(size[1])))
    found = []
    for number, (top, left) in enumerate(windows):
        window = np.s_[top : top + int(size[0]), left : left + int(size[1])]
        wanted = np.maximum(np.round(size * factor), 4).astype(int)
        rows, columns = (int(n) for n in np.minimum(wanted, shape))
        image = resize_image(sample.image[window], (rows, columns))
        labels = resize_labels(sample.labels[window], (rows, columns))
        ignored = sample.ignored
        if ignored is not None:
            off = ignored[window].astype(np.int32)
            ignored = resize_labels(off, (rows, columns)) > 0
        beyond = np.minimum(np.array(shape), MOST_MIRRORED * np.array(image.shape[:2]))
        down, right = (int(n) for n in beyond - np.array(image.shape[:2]))
        beside = ((0, down), (0, right))
        part = replace(
            sample,
            image=np.pad(image, (*beside, (0, 0)), "symmetric"),
            labels=np.pad(labels, beside, "symmetric"),
            ignored=None if ignored is None else np.pad(ignored, beside, "symmetric"),
            pixel_size=pixel_size,
            name=sample.name
            if len(windows) == 1
            else f"{sample.name} (part {number + 1})",
        )
        found.append(part)
    return found


def foreground_windows(
    labels: LabelArray, size: tuple[int, int]
) -> list[tuple[int, int]]:
    """Choose windows that show the most foreground not shown by another one."""
    left = labels != 0
    corners = [
        (top, column)
        for top in _starts(labels.shape[0], size[0])
        for column in _starts(labels.shape[1], size[1])
    ]
    if not left.any():
        return [corners[len(corners) // 2]]
    total = int(left.sum())
    chosen: list[tuple[int, int]] = []
    left = left.copy()
    for _ in range(MOST_PARTS):
        shown = [int(left[t : t + size[0], c : c + size[1]].sum()) for t, c in corners]
        best = int(np.argmax(shown))
        # What little is left at the rims is not worth another encoding.
        if shown[best] <= 0.05 * total and chosen:
            break
        top, column = corners[best]
        chosen.append((top, column))
        left[top : top + size[0], column : column + size[1]] = False
    return chosen


def _starts(length: int, size: int) -> list[int]:
    """Return where windows begin that overlap by half and cover a length."""
    if size >= length:
        return [0]
    count = int(np.ceil((length - size) / max(size / 2, 1))) + 1
    return sorted({int(n) for n in np.linspace(0, length - size, count).round()})
