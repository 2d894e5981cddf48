"""What the robots of ``benchmark clicks`` work on: single objects or whole classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.cli._benchmark import read_item
from napari_fewshot.data import apply_window, intensity_window
from napari_fewshot.evaluation import Pair, make_pair, spread_objects
from napari_fewshot.io import open_labels

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_fewshot._types import AnyArray, BoolArray

OBJECTS_PER_IMAGE = 3


@dataclass(frozen=True, eq=False)
class Item:
    """One image with the mask of one class."""

    name: str
    pair: Pair
    instances: AnyArray | None


@dataclass(frozen=True, eq=False)
class Task:
    """One object to be worked on."""

    item: Item
    truth: BoolArray
    number: str


def split_limit(limit: int | None, parts: int) -> list[int | None]:
    """Split the limit of a data set over its classes."""
    if limit is None:
        return [None] * parts
    return [limit // parts + (i < limit % parts) for i in range(parts)]


def read_items(
    folder: Path, facts: dict[str, Any], value: int, *, original: bool
) -> list[Item]:
    """Return images with masks, and their single objects where they are known."""
    items = []
    for item in facts["items"]:
        image, labels, group = read_item(folder, item)
        make = _original_pair if original else make_pair
        pair = make(image, labels, value, group)
        if pair is None:
            continue
        single = None
        path = folder / str(item.get("instances", ""))
        if "instances" in item and path.is_file():
            single = _fit(np.asarray(open_labels(path)), pair.mask.shape)
        items.append(Item(str(item["image"]), pair, single))
    return items


def _original_pair(
    image: AnyArray, labels: AnyArray, value: int, group: str
) -> Pair | None:
    """Return what `make_pair` does, without resizing."""
    mask = labels == value
    if mask.ndim == 3:
        z = int(np.argmax(mask.sum(axis=(1, 2))))
        image, mask = image[z], mask[z]
    if not mask.any():
        return None
    plane = image.astype(np.float32)
    plane = plane[..., None] if plane.ndim == 2 else plane[..., :3]
    return Pair(apply_window(plane, intensity_window([plane])), mask, group)


def _fit(labels: AnyArray, shape: tuple[int, ...]) -> AnyArray:
    rows, columns = (
        np.minimum((np.arange(n) + 0.5) * m / n, m - 1).astype(int)
        for n, m in zip(shape, labels.shape, strict=True)
    )
    fitted: AnyArray = labels[rows][:, columns]
    return fitted


def choose_tasks(
    queries: Sequence[Item], most: int | None, *, whole: bool
) -> list[Task]:
    """Return what to work on: single objects, or the whole class; image by image."""
    from skimage.measure import label

    tasks = []
    for item in queries:
        if whole:
            tasks.append([Task(item, item.pair.mask, "all")])
            continue
        objects = item.instances
        if objects is None:
            # Without known objects, every connected part is one.
            objects = label(item.pair.mask, connectivity=2)
        tasks.append(
            [
                Task(item, objects == value, str(value))
                for value in spread_objects(objects, OBJECTS_PER_IMAGE)
            ]
        )
    if most is not None:
        tasks = _few(tasks, most)
    return [task for group in tasks for task in group]


def _few(tasks: Sequence[Sequence[Task]], most: int) -> list[list[Task]]:
    """Keep some objects, of as many images as possible."""
    ranked = sorted(
        ((rank, i) for i, group in enumerate(tasks) for rank in range(len(group)))
    )[:most]
    return [
        [group[rank] for rank, at in ranked if at == i] for i, group in enumerate(tasks)
    ]
