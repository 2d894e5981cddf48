"""Batches of training tasks drawn from synthetic scenes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from napari_fewshot.adapt.synthesis import Scene, draw_scene

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_fewshot._types import AnyArray

# A target is worth learning from an image that shows at least this share of it.
VISIBLE = 0.0012
COMPLEMENT = 0.05


@dataclass
class Batch:
    """T tasks of N images; the first ones of each are the supports.

    Attributes
    ----------
    images : Tensor (T, N, 3, S, S) uint8
        Pixels.
    masks : Tensor (T, N, S, S) bool
        What is wanted.
    supports : int
        How many of the N images are supports.
    seed : int
        For whatever else is drawn at random in this step.
    """

    images: torch.Tensor
    masks: torch.Tensor
    supports: int
    seed: int


@dataclass(frozen=True)
class TaskStream:
    """Which tasks to draw.

    Attributes
    ----------
    seed : int
        Everything follows from it.
    size, tasks, images : int
        Side in pixels, tasks in a batch, images in a task.
    visits : int
        Tasks drawn from every scene.
    """

    seed: int
    size: int
    tasks: int
    images: int = 6
    visits: int = 2


def draw_group(stream: TaskStream, number: int) -> list[Batch]:
    """Return the batches of a group, repeatably.

    A group has ``tasks * visits`` scenes; each gives ``visits`` tasks, in different
    batches: ``visits ** 2`` batches in all.
    """
    rng = np.random.default_rng([stream.seed, number])
    count = stream.tasks * stream.visits
    scenes = [
        draw_scene(int(rng.integers(2**31)), stream.size, stream.images)
        for _ in range(count)
    ]
    order = np.concatenate([rng.permutation(count) for _ in range(stream.visits)])
    batches = []
    for start in range(0, len(order), stream.tasks):
        chosen = [scenes[i] for i in order[start : start + stream.tasks]]
        supports = int(rng.choice([1, 2, 3, 4], p=[0.4, 0.25, 0.15, 0.2]))
        supports = min(supports, stream.images - 1)
        drawn = [draw_task(scene, rng) for scene in chosen]
        batches.append(
            Batch(
                torch.from_numpy(np.stack([d[0] for d in drawn])),
                torch.from_numpy(np.stack([d[1] for d in drawn])),
                supports,
                int(rng.integers(2**31)),
            )
        )
    return batches


def draw_task(scene: Scene, rng: np.random.Generator) -> tuple[AnyArray, AnyArray]:
    """Return images (N, 3, S, S) and masks (N, S, S); the first shows the target."""
    for _ in range(8):
        target = scene.targets[rng.integers(len(scene.targets))]
        masks = scene.mask(target)
        if rng.random() < COMPLEMENT:
            masks = ~masks
        share = masks.mean((1, 2))
        shown = (share > VISIBLE) & (share < 0.98)
        if shown.sum() >= 2:
            break
    first = rng.permutation(np.flatnonzero(shown))[:1]
    rest = rng.permutation(np.setdiff1d(np.arange(len(masks)), first))
    order = np.concatenate([first, rest])
    images, masks = np.moveaxis(scene.images[order], -1, 1), masks[order]
    turns = int(rng.integers(4)) if scene.free or rng.random() < 0.3 else 0
    images, masks = np.rot90(images, turns, (2, 3)), np.rot90(masks, turns, (1, 2))
    if rng.random() < 0.5:
        images, masks = images[..., ::-1], masks[..., ::-1]
    if images.shape[1] == 3 and rng.random() < 0.3:
        images = images[:, rng.permutation(3)]
    return np.ascontiguousarray(images), np.ascontiguousarray(masks)


class TaskDataset(IterableDataset[Batch]):
    """Endless batches; workers take turns, so that their number changes nothing.

    Parameters
    ----------
    streams : sequence of TaskStream
        Taken in turn, group by group.
    first : int
        Group to begin with.
    """

    def __init__(self, streams: tuple[TaskStream, ...], first: int = 0) -> None:
        self.streams, self.first = streams, first

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches for ever."""
        torch.set_num_threads(1)
        info = get_worker_info()
        step, number = (1, 0) if info is None else (info.num_workers, info.id)
        group = self.first + number
        while True:
            stream = self.streams[group % len(self.streams)]
            yield from draw_group(stream, group)
            group += step
