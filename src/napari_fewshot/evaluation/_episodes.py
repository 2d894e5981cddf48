"""What one episode of a benchmark gave, and the rows and means over many.

An episode is one draw of supports with its queries; in the volume protocol, one query
volume.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.evaluation._protocol import Row

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class EpisodeScore:
    """Figures of one method on one episode.

    Attributes
    ----------
    dataset, class_name : str
    shots : int
        Number of supports.
    group : str
        The draw, or the fold.
    queries : tuple of str
        Names of the queries.
    figures : dict of str to tuple of float
        One value per query of each figure, ``dice`` among them.
    expected : tuple of float
        Dice that the method itself expected of each query; empty if it says nothing.
    fit_seconds, query_seconds : float
        To learn from the supports; for all queries together.
    planes : int
        How many planes the queries have.
    """

    dataset: str
    class_name: str
    shots: int
    group: str
    queries: tuple[str, ...]
    figures: Mapping[str, tuple[float, ...]]
    expected: tuple[float, ...] = ()
    fit_seconds: float = 0.0
    query_seconds: float = 0.0
    planes: int = 1

    @property
    def name(self) -> str:
        """Name of the episode, the same for every method."""
        asked = "+".join(self.queries)
        words = (self.dataset, self.class_name, str(self.shots), self.group, asked)
        return "/".join(words)

    def mean(self, figure: str = "dice") -> float:
        """Return the mean of a figure over the queries."""
        return float(np.mean(self.figures[figure]))

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON, which knows neither inf nor NaN."""
        figures = {
            name: [v if math.isfinite(v) else str(v) for v in values]
            for name, values in self.figures.items()
        }
        return {**asdict(self), "figures": figures}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> EpisodeScore:
        """Return what `as_dict` wrote."""
        figures = {
            name: tuple(float(v) for v in values)
            for name, values in found["figures"].items()
        }
        lists = {name: tuple(found[name]) for name in ("queries", "expected")}
        return cls(**{**found, **lists, "figures": figures})


def row_of(scores: Sequence[EpisodeScore], *, by_group: bool = False) -> Row:
    """Return the row of episodes of one data set, class and number of supports.

    Parameters
    ----------
    scores : sequence of EpisodeScore
        At least one.
    by_group : bool
        Dice is a mean over folds of means over volumes, as in papers on volumes, and
        there is no IoU. Else both are means over all queries of all draws.
    """
    first = scores[0]
    dices = [d for s in scores for d in s.figures["dice"]]
    queries = [s.query_seconds / s.planes for s in scores]
    totals = [(s.fit_seconds + s.query_seconds) / s.planes for s in scores]
    return Row(
        first.dataset,
        first.class_name,
        first.shots,
        dice=mean_of(scores, "dice", by_group=by_group),
        iou=None if by_group else float(np.mean([d / (2 - d) for d in dices])),
        seconds_per_image=float(np.mean(totals)),
        fit_seconds=float(np.mean([s.fit_seconds for s in scores])),
        query_seconds=float(np.mean(queries)),
        n_queries=len(dices),
    )


def mean_of(
    scores: Sequence[EpisodeScore], figure: str, *, by_group: bool = False
) -> float | None:
    """Return the mean of a figure over queries, or over groups of their means.

    Parameters
    ----------
    scores : sequence of EpisodeScore
        Of one row.
    figure : str
        Values that are not finite are left out; None if none is.
    by_group : bool
        As for `row_of`.
    """
    groups: dict[str, list[float]] = {}
    for score in scores:
        values = [v for v in score.figures[figure] if math.isfinite(v)]
        groups.setdefault(score.group if by_group else "", []).extend(values)
    means = [np.mean(values) for values in groups.values() if values]
    return float(np.mean(means)) if means else None
