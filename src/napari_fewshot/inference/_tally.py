"""What a run gathers while planes pass by."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_fewshot.methods import Reliability


@dataclass
class Tally:
    """Scores and presence of every class, and a digest of the planes."""

    reliability: Reliability
    present: dict[int, bool] = field(default_factory=dict)
    plane_scores: dict[int, list[float]] = field(default_factory=dict)
    absent_scores: dict[int, list[float]] = field(default_factory=dict)
    worth: dict[int, float] = field(default_factory=dict)
    digest: Any = field(default_factory=lambda: hashlib.blake2b(digest_size=16))

    def add(self, value: int, score: float, is_present: bool) -> None:
        """Note the score of a class on a plane."""
        self.present[value] = self.present.get(value, False) or is_present
        target = self.plane_scores if is_present else self.absent_scores
        target.setdefault(value, []).append(score)

    def note(self, plane: int, scores: Mapping[int, float], novelty: float) -> None:
        """Note what annotating a plane would teach: more if unsure or unfamiliar."""
        if scores:
            doubt = 1.0 - min(scores.values())
            self.worth[plane] = doubt * (1.0 + min(novelty, 2.0))

    @property
    def suggested(self) -> int | None:
        """The plane that would teach most; None if there is nothing to choose from."""
        if len(self.worth) < 2:
            return None
        return max(self.worth, key=lambda plane: self.worth[plane])

    def scores(self) -> dict[int, float]:
        """Return the mean score per class, of planes that show it if any does."""
        found = {}
        for value in self.present:
            values = self.plane_scores.get(value) or self.absent_scores[value]
            found[value] = float(np.mean(values))
        return found

    def intervals(self) -> dict[int, tuple[float, float]]:
        """Shift the leave-one-out interval to the score of this query."""
        found = {}
        for value, score in self.scores().items():
            low, high = self.reliability.intervals.get(value, (0.0, 1.0))
            shift = score - self.reliability.scores.get(value, score)
            found[value] = (max(0.0, low + shift), min(1.0, high + shift))
        return found
