"""Scores of windows, to scores of planes and of the whole query."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.inference._tally import Tally
from napari_fewshot.methods import Reliability

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_fewshot.inference._request import PlaneResult, Summary


@dataclass
class WindowTally:
    """What windows say of their planes.

    The score of a class on a plane is the mean over its windows, weighted by how much
    of the class they show; where no window shows it, the plain mean.
    """

    _windows: dict[int, dict[int, dict[str, Any]]] = field(default_factory=dict)
    _sums: dict[int, dict[int, list[float]]] = field(default_factory=dict)

    def add(self, plane: int, window: int, fact: Mapping[str, Any]) -> None:
        """Take a fact of `fact_of`; of two on one window the first counts."""
        windows = self._windows.setdefault(plane, {})
        if window in windows:
            return
        windows[window] = dict(fact)
        sums = self._sums.setdefault(plane, {})
        for key, score in fact["scores"].items():
            area = fact["areas"].get(key, 0)
            mine = sums.setdefault(int(key), [0.0, 0.0, 0.0, 0.0])
            for i, term in enumerate((area * score, area, score, 1.0)):
                mine[i] += term

    def scores(self, plane: int) -> dict[int, float]:
        """Return the score of every class on a plane, as far as it is known."""
        return {
            v: weighted / area if area else plain / count
            for v, (weighted, area, plain, count) in self._sums.get(plane, {}).items()
        }

    def novelty(self, plane: int) -> float:
        """Return the mean novelty of the windows of a plane."""
        windows = self._windows.get(plane, {}).values()
        found = [w["novelty"] for w in windows if w["novelty"]]
        return float(np.mean(found)) if found else 0.0

    def fingerprint(self) -> str:
        """Return a fingerprint of all windows, in whichever order they came."""
        digest = hashlib.blake2b(digest_size=16)
        for plane in sorted(self._windows):
            for window in sorted(self._windows[plane]):
                digest.update(self._windows[plane][window]["digest"].encode())
        return digest.hexdigest()

    def summary(self, found: Summary) -> dict[str, Any]:
        """Return what is known of the query as a whole, as fields of a `Summary`.

        Parameters
        ----------
        found : Summary
            Of the windows; its intervals are moved to the scores of the planes.
        """
        tally = Tally(Reliability())
        for plane, sums in sorted(self._sums.items()):
            scores = self.scores(plane)
            for value, score in scores.items():
                tally.add(value, score, sums[value][1] > 0)
            tally.note(plane, scores, self.novelty(plane))
        scores = tally.scores()
        intervals = {}
        for value, score in scores.items():
            low, high = found.score_intervals.get(value, (score, score))
            shift = score - found.scores.get(value, score)
            intervals[value] = max(0.0, low + shift), min(1.0, high + shift)
        return {
            "scores": scores,
            "score_intervals": intervals,
            "present": tally.present,
            "suggested": tally.suggested,
        }


def fact_of(result: PlaneResult, cell: tuple[slice, slice]) -> dict[str, Any]:
    """Return what a window says, JSON-able.

    Parameters
    ----------
    result : PlaneResult
        Of the window.
    cell : (slice, slice)
        Its cell, in its own pixels: so that nothing is counted twice.
    """
    mine = result.labels[cell]
    return {
        "scores": {str(v): float(s) for v, s in result.scores.items()},
        "areas": {str(v): int((mine == v).sum()) for v in result.scores},
        "novelty": float(result.novelty),
        "digest": result.digest,
    }
