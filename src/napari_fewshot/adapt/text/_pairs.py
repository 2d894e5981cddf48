"""Images with captions: from a table or from Python, and how they are divided."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_fewshot.errors import DataError

COLUMNS = ("image", "caption")
# Fewer say nothing, however they are divided.
FEWEST = 4
# Draws until captions differ on both sides.
DRAWS = 100
# A caption is cut by the model anyhow; a table with longer fields is something else.
LONGEST = 100_000


@dataclass(frozen=True, eq=False)
class Pair:
    """An image and what it shows.

    Attributes
    ----------
    image : path or array (H, W) or (H, W, C)
        A path is read when it is needed.
    caption : str
        Not empty.
    """

    image: Any = field(repr=False)
    caption: str

    @property
    def key(self) -> str:
        """Name of the image: the path, or a digest of the pixels."""
        if isinstance(self.image, (str, os.PathLike)):
            return os.fspath(self.image)
        pixels = np.ascontiguousarray(self.image)
        told = f"{pixels.shape} {pixels.dtype} ".encode() + pixels.tobytes()
        return hashlib.sha256(told).hexdigest()

    def pixels(self, read: Callable[[Any], Any] | None) -> Any:
        """Return the pixels; paths are opened by ``read``."""
        if not isinstance(self.image, (str, os.PathLike)):
            return np.asarray(self.image)
        if read is None:
            raise DataError("Images are given as paths, and nobody opens them.")
        return read(self.image)


def read_pairs(path: str | os.PathLike[str]) -> list[Pair]:
    """Read a table of images and captions.

    Parameters
    ----------
    path : path
        CSV in UTF-8 with the columns ``image`` (a path, from the folder of the table)
        and ``caption``; others are overlooked.

    Raises
    ------
    DataError
        If it is no such table, or an image is missing; the message names the line.
    """
    table = Path(path)
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [c for c in COLUMNS if c not in (reader.fieldnames or ())]
            if missing:
                raise DataError(
                    f"{table} has no column {missing[0]!r}. The first line names the "
                    "columns: image,caption."
                )
            rows = [
                (reader.line_num, row["image"] or "", row["caption"] or "")
                for row in reader
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{table} can't be read as a table ({error}). Save it as CSV in UTF-8."
        ) from error
    found = []
    for line, image, caption in rows:
        place = table.parent / image.strip()
        if not image.strip() or not place.is_file():
            raise DataError(
                f"{table}, line {line}: there is no image {image.strip()!r}. Give "
                "paths from the folder of the table."
            )
        found.append((place, caption))
    return as_pairs(found, str(table))


def as_pairs(given: Sequence[Any], source: str = "The pairs") -> list[Pair]:
    """Check pairs of images and captions.

    Parameters
    ----------
    given : sequence of Pair or (image, caption)
        Images are paths or arrays.
    source : str
        Where they come from, for messages.

    Raises
    ------
    DataError
        If there are too few, a caption is empty, or all are the same.
    """
    found = []
    for number, item in enumerate(given, 1):
        if isinstance(item, Pair):
            image, caption = item.image, item.caption
        elif isinstance(item, Sequence) and not isinstance(item, str):
            if len(item) != 2:
                raise DataError(f"{source}: number {number} is no image and caption.")
            image, caption = item
        else:
            raise DataError(f"{source}: number {number} is no image and caption.")
        if not isinstance(caption, str) or not caption.strip():
            raise DataError(
                f"{source}: number {number} has no caption. Say what the image shows, "
                "or leave it out."
            )
        found.append(Pair(image, " ".join(caption[:LONGEST].split())))
    if len(found) < FEWEST:
        raise DataError(
            f"{source}: {len(found)} images with captions are too few to learn from "
            f"and to check what was learnt. Give at least {FEWEST}; hundreds are "
            "better."
        )
    if len({p.caption.casefold() for p in found}) < 2:
        raise DataError(
            f"{source}: all captions are the same, so that there is nothing to tell "
            "apart. Say what differs from image to image."
        )
    return found


def split_pairs(
    pairs: Sequence[Pair], share: float, seed: int
) -> tuple[list[Pair], list[Pair]]:
    """Divide pairs for training and validation; an image is on one side only.

    Parameters
    ----------
    pairs : sequence of Pair
        At least four.
    share : float
        Of the images for validation; at least two are, and two are not.
    seed : int
        Of the draw.

    Returns
    -------
    training, validation : list of Pair

    Raises
    ------
    DataError
        If there are fewer than four images, or hardly any captions differ.
    """
    keys = [p.key for p in pairs]
    images = sorted(set(keys))
    if len(images) < FEWEST:
        raise DataError(
            f"The captions are of {len(images)} images only. Give at least {FEWEST}."
        )
    count = int(np.clip(round(share * len(images)), 2, len(images) - 2))
    for attempt in range(DRAWS):
        rng = np.random.default_rng([seed, attempt])
        held_out = {images[i] for i in rng.permutation(len(images))[:count]}
        sides = (
            [p for p, k in zip(pairs, keys, strict=True) if k not in held_out],
            [p for p, k in zip(pairs, keys, strict=True) if k in held_out],
        )
        if all(len({p.caption.casefold() for p in side}) > 1 for side in sides):
            return sides
    raise DataError(
        "Nearly all captions are the same, so that those held out tell nothing apart. "
        "Say what differs from image to image."
    )
