"""Planes of a stack help one another: the best of them become supports.

Neighbouring planes look alike, supports from another scan often do not. After every
plane has been segmented by itself, each mask is judged by what it teaches about the
supports (`ReverseJudge`); the best ones nearby then join the supports for a second
opinion, which is added to the first one. So masks agree from slice to slice, and what
one plane shows well is found on planes that show it badly.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.methods._fusion import LIMIT, log_odds, sigmoid
from napari_fewshot.methods._second_opinion import MIN_AREA, second_looks, shares
from napari_fewshot.models.contexts import join_contexts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import Hooks, Plane
    from napari_fewshot.methods._fusion import Fused
    from napari_fewshot.methods._looks import LookFitted
    from napari_fewshot.methods.reverse import ReverseJudge

# Planes that are segmented before any of them is handed out, in maps of so many bytes.
BLOCK, BLOCK_BYTES = 12, 128 * 2**20
# How many planes join the supports, how often, and what a plane further away loses.
TEACHERS, ROUNDS, FADING = 3, 2, 0.03
# The second opinion weighs this much times the share that its looks have in the first.
WEIGHT = 4.0


def block_size(shape: tuple[int, ...], classes: int) -> int:
    """Return how many planes of a shape (H, W) wait for one another, at least two."""
    one = 4 * int(np.prod(shape)) * max(classes, 1)
    return int(np.clip(BLOCK_BYTES // one, 2, BLOCK))


@dataclass(frozen=True)
class _Teacher:
    """A segmented plane: where it is, how much it teaches, and what each look reads."""

    index: int
    score: float
    contexts: Mapping[str, Any]


@dataclass
class Neighbours:
    """What is known of the planes before, and how planes are looked at again.

    Attributes
    ----------
    fused : Fused
        The fit whose looks take part.
    judge : ReverseJudge
        Who judges masks.
    """

    fused: Fused
    judge: ReverseJudge
    _before: dict[int, list[_Teacher]] = field(default_factory=dict)

    @property
    def looks(self) -> dict[str, LookFitted]:
        """Looks that give second opinions, by name."""
        return second_looks(self.fused.fits)

    def agree(
        self,
        numbers: Sequence[int],
        planes: Sequence[Plane],
        maps: Sequence[Mapping[int, FloatArray]],
        hooks: Hooks,
    ) -> list[dict[int, FloatArray]]:
        """Return maps of consecutive planes after their second opinion.

        Parameters
        ----------
        numbers : sequence of int
            Where the planes are in their stack.
        planes : sequence of Plane
            A block of planes, one after the other.
        maps : sequence of dict of int to array (H, W)
            Probabilities per class, of each plane by itself.
        hooks : Hooks
            For cancelling.
        """
        found = [dict(m) for m in maps]
        for value, recipe in self.fused.recipes.items():
            given = shares(self.looks, recipe)
            if not given:
                continue
            own = [log_odds(m[value]) for m in maps]
            now = list(own)
            for _ in range(ROUNDS):
                known = self._teachers(numbers, planes, value, now, given, hooks)
                for i, plane in enumerate(planes):
                    hooks.check()
                    more = self._opinion(numbers[i], plane, value, known, given)
                    now[i] = own[i] + more
            self._keep(value, known)
            for i, odds in enumerate(now):
                found[i][value] = sigmoid(odds)
        return found

    def _teachers(
        self,
        numbers: Sequence[int],
        planes: Sequence[Plane],
        value: int,
        odds: Sequence[FloatArray],
        given: Mapping[str, float],
        hooks: Hooks,
    ) -> list[_Teacher]:
        """Judge the masks of a block; those of the block before stay as they were."""
        known = list(self._before.get(value, ()))
        for i, plane in enumerate(planes):
            hooks.check()
            mask = odds[i] > 0
            if mask.sum() < MIN_AREA:
                continue
            score = self.judge.score(plane.image, value, mask)
            contexts = {}
            for name in given:
                look = self.looks[name]
                features = look.model.features(plane.image, look.params.side)
                contexts[name] = look.model.context([features], [mask])
            known.append(_Teacher(numbers[i], score, contexts))
        return known

    def _opinion(
        self,
        index: int,
        plane: Plane,
        value: int,
        known: Sequence[_Teacher],
        given: Mapping[str, float],
    ) -> FloatArray:
        """Return what the looks add, with supports and the best other planes."""
        others = [t for t in known if t.index != index]
        others.sort(key=lambda t: FADING * abs(t.index - index) - t.score)
        shape = plane.image.shape[:2]
        total = np.zeros(shape, np.float32)
        if not others:
            return total
        for name, share in given.items():
            look = self.looks[name]
            teachers = [t.contexts[name] for t in others[:TEACHERS]]
            context = join_contexts(
                [look.contexts[value], *teachers], [look.supports] + [1] * len(teachers)
            )
            features = look.model.features(plane.image, look.params.side)
            logits = look.model.decode(features, context, shape)
            total += WEIGHT * share * np.clip(logits, -LIMIT, LIMIT)
        return total

    def _keep(self, value: int, known: Sequence[_Teacher]) -> None:
        """Remember the best planes of the block for the next one."""
        self._before[value] = sorted(known, key=lambda t: -t.score)[:TEACHERS]
