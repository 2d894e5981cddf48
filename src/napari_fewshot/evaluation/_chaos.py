"""The volume protocol of few-shot medical papers (CHAOS-T2 and alike).

Five contiguous folds over the scans sorted by number. A fold is scored with one scan as
the support: the first scan of the next fold (``extra_scan``: ALPNet, ADNet), or the
third of the fold's scans followed by that extra one, which is then a query as well
(``index_2``: Q-Net, FAMNet, FoB).

EP1: three support slices at 1/6, 1/2 and 5/6 of those that hold the class; the query's
slices, from the first to the last that holds it, are split in three chunks, each
segmented with its own support slice. EP2: the slice at 1/2 alone, and all slices of the
query. Wang et al. (PANet, ICCV 2019), Ouyang et al. (ALPNet, ECCV 2020) and Hansen et
al. (ADNet, Medical Image Analysis 78, 2022) established it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.errors import DataError
from napari_fewshot.evaluation._metrics import surface_metrics

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_fewshot._types import AnyArray, BoolArray

N_FOLDS = 5
SUPPORT_RULES = ("extra_scan", "index_2")
# Episode -> where among the slices that hold the class the support slices lie.
PERCENTS = {"EP1": (1 / 6, 1 / 2, 5 / 6), "EP2": (1 / 2,)}
THIRD = 2


@dataclass(frozen=True)
class VolumeRules:
    """Which variant of the protocol is run.

    Attributes
    ----------
    support_rule : {"extra_scan", "index_2"}
        Which scan supports a fold.
    episode : {"EP1", "EP2"}
        Three support slices within the known extent, or one for all slices.
    limit_volumes : int, optional
        Queries of each fold at most, the first ones; None is all, as published.
    """

    support_rule: str = "extra_scan"
    episode: str = "EP1"
    limit_volumes: int | None = None

    def check(self) -> None:
        """Refuse what has no meaning.

        Raises
        ------
        DataError
            For an unknown rule or episode, or a limit below 1.
        """
        if self.support_rule not in SUPPORT_RULES:
            raise DataError(
                f"There is no support rule {self.support_rule!r}; use "
                f"{' or '.join(SUPPORT_RULES)}."
            )
        if self.episode not in PERCENTS:
            raise DataError(
                f"There is no episode {self.episode!r}; use {' or '.join(PERCENTS)}."
            )
        if self.limit_volumes is not None and self.limit_volumes < 1:
            raise DataError(f"--limit-volumes is {self.limit_volumes}; give 1 or more.")

    @property
    def flags(self) -> dict[str, Any]:
        """What a figure has to be read with; ``dice`` is pooled over a volume."""
        is_known = self.episode == "EP1"
        return {
            "support_rule": self.support_rule,
            "episode": self.episode,
            "extent_oracle": is_known,
            "chunk_rule": "linspace" if is_known else "none",
            "dice_flavour": "volume",
            "limit_volumes": self.limit_volumes,
        }


@dataclass(frozen=True, eq=False)
class Volume:
    """One scan: image and labels, (Z, Y, X)."""

    name: str
    image: AnyArray
    labels: AnyArray


@dataclass(frozen=True)
class VolumeEpisode:
    """One query volume with its support slices: indices only.

    Attributes
    ----------
    fold, value : int
        Number of the fold, and the class.
    support, query : int
        Numbers of the scans.
    support_planes : tuple of int
        Slices of the support.
    chunks : tuple of tuple of int
        Slices of the query that go with each of them.
    """

    fold: int
    value: int
    support: int
    support_planes: tuple[int, ...]
    query: int
    chunks: tuple[tuple[int, ...], ...]

    @property
    def planes(self) -> list[int]:
        """All slices of the query that are scored, in order."""
        return [z for chunk in self.chunks for z in chunk]


@dataclass(frozen=True)
class VolumeScore:
    """Figures of one query volume.

    Attributes
    ----------
    dice : float
        Of all scored slices pooled: 2 TP / (2 TP + FP + FN).
    slice_dice : float
        Mean of the Dice of single slices that hold the class.
    hd95 : float or None
        95th percentile of the surface distance; inf when nothing was found, None when
        not asked for.
    """

    dice: float
    slice_dice: float
    hd95: float | None = None


def volume_episodes(
    volumes: Sequence[Volume],
    values: Sequence[int],
    rules: VolumeRules | None = None,
) -> Iterator[VolumeEpisode]:
    """Yield every episode, class by class and fold by fold.

    With ``extra_scan`` every scan is a query exactly once per class. Scans without the
    class are left out.

    Parameters
    ----------
    volumes : sequence of Volume
        Sorted by scan number.
    values : sequence of int
        Classes.
    rules : VolumeRules, optional
        Default: ``extra_scan``, EP1, all volumes.

    Raises
    ------
    DataError
        If there are too few scans.
    """
    rules = rules or VolumeRules()
    count, least = len(volumes), N_FOLDS
    if rules.support_rule == "index_2":
        least = THIRD * N_FOLDS
    if count < least:
        raise DataError(
            f"The volume protocol with {rules.support_rule} needs at least {least} "
            f"scans; there are {count}."
        )
    percents = PERCENTS[rules.episode]
    held = {v: [_planes_with(volume, v) for volume in volumes] for v in values}
    for value, (fold, (support, queries)) in itertools.product(
        values, enumerate(_folds(count, rules.support_rule))
    ):
        theirs = held[value][support]
        if not theirs:
            continue
        planes = tuple(theirs[int(p * len(theirs))] for p in percents)
        found = [q for q in queries if held[value][q]]
        for query in found[: rules.limit_volumes]:
            if rules.episode == "EP1":
                chunks = _chunks(held[value][query])
            else:
                chunks = (tuple(range(len(volumes[query].labels))),)
            yield VolumeEpisode(fold, value, support, planes, query, chunks)


def _folds(count: int, support_rule: str) -> list[tuple[int, list[int]]]:
    """Return support and queries of every fold."""
    bounds = np.linspace(0, count, N_FOLDS + 1).astype(int)
    folds = []
    for first, last in itertools.pairwise(bounds.tolist()):
        scans = [*range(first, last), last % count]
        at = THIRD if support_rule == "index_2" else len(scans) - 1
        folds.append((scans[at], scans[:at] + scans[at + 1 :]))
    return folds


def score_volume(
    masks: BoolArray, truth: BoolArray, spacing: tuple[float, ...] | None = None
) -> VolumeScore:
    """Score one query volume.

    Parameters
    ----------
    masks, truth : array (Z, Y, X)
        Scored slices; the truth is not empty.
    spacing : tuple of float, optional
        Pixel size (z, y, x) for HD95, which takes a while; None leaves it out.
    """
    both = (masks & truth).sum(axis=(1, 2))
    size = masks.sum(axis=(1, 2)) + truth.sum(axis=(1, 2))
    holds = truth.any(axis=(1, 2))
    hd95 = None
    if spacing is not None:
        hd95 = surface_metrics(masks, truth, spacing, 1.0)["hd95"]
    return VolumeScore(
        float(2 * both.sum() / size.sum()),
        float(np.mean(2 * both[holds] / size[holds])),
        hd95,
    )


def _planes_with(volume: Volume, value: int) -> list[int]:
    held = np.flatnonzero((volume.labels == value).any(axis=(1, 2)))
    return [int(z) for z in held]


def _chunks(planes: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    extent = list(range(planes[0], planes[-1] + 1))
    cuts = np.linspace(0, len(extent), len(PERCENTS["EP1"]) + 1).astype(int)
    return tuple(tuple(extent[a:b]) for a, b in itertools.pairwise(cuts))
