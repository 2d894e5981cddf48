"""Whether a plane looks like the supports, and which of them teach the same.

A plane is described by mean and deviation of the bundled network's features. Its
distance to the nearest support is compared with the distances among the supports and
to altered copies of one of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.methods import altered_copies

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import Hooks, Sample

# Described at most; evenly chosen of more.
MOST = 32
# A plane is unfamiliar if it is further away than so many usual distances. With few
# supports usual distances are known badly: with one there are those of copies only.
LIMIT, FEW = 1.4, 2.6
# A support this much nearer to an earlier one than a copy of itself, which the others
# would have segmented this well, teaches nothing new.
ALIKE, KNOWN = 0.35, 0.85


@dataclass(frozen=True, eq=False)
class Familiarity:
    """Compares planes with supports.

    Attributes
    ----------
    model : InContextModel
        Who describes planes.
    known : array (K, D)
        Descriptions of the supports.
    limit : float
        Distance at which a plane begins to be unfamiliar.
    redundant : tuple of str
        Supports that are nearly copies of an earlier one.
    """

    model: Any
    known: FloatArray = field(repr=False)
    limit: float
    redundant: tuple[str, ...] = ()

    @classmethod
    def fit(
        cls,
        model: Any,
        samples: Sequence[Sample],
        scores: Mapping[str, Mapping[int, float]],
        hooks: Hooks,
    ) -> Familiarity:
        """Describe the supports.

        Parameters
        ----------
        model : InContextModel
            With kept encodings.
        samples : sequence of Sample
            At least one.
        scores : dict of str to dict of int to float
            Leave-one-out Dice per support and class.
        hooks : Hooks
            For cancelling.
        """
        chosen = samples
        if len(samples) > MOST:
            at = np.linspace(0, len(samples) - 1, MOST).round().astype(int)
            chosen = [samples[i] for i in at]
        found = []
        for sample in chosen:
            hooks.check()
            found.append(describe(model, sample.image))
        known = np.stack(found)
        copies = [describe(model, c.image) for c in altered_copies(chosen[0], 0)]
        near = float(np.median(np.linalg.norm(np.stack(copies) - known[0], axis=1)))
        among = _nearest(known)
        usual = max([near, *among.tolist()])
        redundant = tuple(
            sample.name
            for number, sample in enumerate(chosen)
            if _is_known(scores.get(sample.name, {}))
            and _to_earlier(known, number) < ALIKE * near
        )
        limit = usual * (LIMIT + FEW / len(known))
        return cls(model, known, max(limit, 1e-6), redundant)

    def novelty(self, image: FloatArray) -> float:
        """Return how unlike the supports a plane (H, W, C) is; above 1: unfamiliar."""
        away = np.linalg.norm(self.known - describe(self.model, image), axis=1)
        return float(away.min() / self.limit)


def describe(model: Any, image: FloatArray) -> FloatArray:
    """Return mean and deviation of every feature of a plane (H, W, C)."""
    cells = model.encode(image).cells
    found: FloatArray = np.concatenate([cells.mean((1, 2)), cells.std((1, 2))])
    return found


def _nearest(known: FloatArray) -> FloatArray:
    """Distance of every support to the nearest other one; empty for a single one."""
    if len(known) < 2:
        return np.zeros(0, np.float32)
    away = np.linalg.norm(known[:, None] - known[None], axis=2)
    np.fill_diagonal(away, np.inf)
    nearest: FloatArray = away.min(1)
    return nearest


def _to_earlier(known: FloatArray, number: int) -> float:
    """Distance of a support to the nearest one before it."""
    away = np.linalg.norm(known[:number] - known[number], axis=1)
    return float(away.min(initial=np.inf))


def _is_known(scores: Mapping[int, float]) -> bool:
    return bool(scores) and min(scores.values()) >= KNOWN
