"""The volume protocol of few-shot medical papers (CHAOS-T2 and alike).

Five contiguous folds over the scans sorted by number; the support is the first scan of
the next fold (``extra_scan``). EP1: three support slices at 1/6, 1/2 and 5/6 of those
that hold the class; the query's slices, from the first to the last that holds it, are
split in three chunks, each segmented with its own support slice. Dice is pooled
over a volume. Wang et al. (PANet, ICCV 2019) and Ouyang et al. (ALPNet, ECCV 2020)
established it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.errors import DataError

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray, BoolArray

N_FOLDS = 5
PERCENTS = (1 / 6, 1 / 2, 5 / 6)
FLAGS = {
    "support_rule": "extra_scan",
    "episode": "EP1",
    "extent_oracle": True,
    "chunk_rule": "linspace",
    "dice_flavour": "volume",
}
# (support plane, support mask, query planes) -> masks of the query planes.
SegmentChunk = Callable[["AnyArray", "BoolArray", "AnyArray"], "BoolArray"]


@dataclass(frozen=True, eq=False)
class Volume:
    """One scan: image and labels, (Z, Y, X)."""

    name: str
    image: AnyArray
    labels: AnyArray


@dataclass(frozen=True)
class VolumeEpisode:
    """One query volume with its three supports: indices only."""

    fold: int
    value: int
    support: int
    support_planes: tuple[int, ...]
    query: int
    chunks: tuple[tuple[int, ...], ...]


def volume_episodes(
    volumes: Sequence[Volume], values: Sequence[int]
) -> Iterator[VolumeEpisode]:
    """Yield every episode; every scan is a query exactly once per class.

    Parameters
    ----------
    volumes : sequence of Volume
        Sorted by scan number.
    values : sequence of int
        Classes.

    Raises
    ------
    DataError
        If there are fewer scans than folds.
    """
    count = len(volumes)
    if count < N_FOLDS:
        raise DataError(f"The volume protocol needs at least {N_FOLDS} scans.")
    bounds = np.linspace(0, count, N_FOLDS + 1).astype(int)
    for fold in range(N_FOLDS):
        support = int(bounds[fold + 1]) % count
        for value in values:
            held = _planes_with(volumes[support], value)
            if not held:
                continue
            planes = tuple(held[int(p * len(held))] for p in PERCENTS)
            for query in range(int(bounds[fold]), int(bounds[fold + 1])):
                found = _planes_with(volumes[query], value)
                if found:
                    yield VolumeEpisode(
                        fold, value, support, planes, query, _chunks(found)
                    )


def score_volumes(
    volumes: Sequence[Volume],
    values: Sequence[int],
    segment: SegmentChunk,
    on_episode: Callable[[VolumeEpisode, float], None] = lambda e, d: None,
) -> dict[int, float]:
    """Run the protocol.

    Parameters
    ----------
    volumes : sequence of Volume
        Sorted by scan number.
    values : sequence of int
        Classes.
    segment : callable
        Segments the planes of a chunk with one support plane.
    on_episode : callable
        Told the Dice of every volume.

    Returns
    -------
    dict of int to float
        Volume Dice per class: mean over volumes, then over folds.
    """
    found: dict[tuple[int, int], list[float]] = {}
    for episode in volume_episodes(volumes, values):
        support, query = volumes[episode.support], volumes[episode.query]
        both = size = 0
        for plane, chunk in zip(episode.support_planes, episode.chunks, strict=True):
            if not chunk:
                continue
            mask = support.labels[plane] == episode.value
            masks = segment(support.image[plane], mask, query.image[list(chunk)])
            truth = query.labels[list(chunk)] == episode.value
            both += int((masks & truth).sum())
            size += int(masks.sum()) + int(truth.sum())
        dice = 2 * both / size
        found.setdefault((episode.value, episode.fold), []).append(dice)
        on_episode(episode, dice)
    return {
        value: float(np.mean([np.mean(d) for (v, _), d in found.items() if v == value]))
        for value in values
        if any(v == value for v, _ in found)
    }


def copy_support(image: Any, mask: BoolArray, queries: AnyArray) -> BoolArray:
    """Segment by copying the support's mask: the floor that needs no image."""
    return np.repeat(mask[None], len(queries), axis=0)


def _planes_with(volume: Volume, value: int) -> list[int]:
    held = np.flatnonzero((volume.labels == value).any(axis=(1, 2)))
    return [int(z) for z in held]


def _chunks(planes: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    extent = list(range(planes[0], planes[-1] + 1))
    cuts = np.linspace(0, len(extent), len(PERCENTS) + 1).astype(int)
    return tuple(tuple(extent[a:b]) for a, b in itertools.pairwise(cuts))
