"""Planes of a stack help one another: the best of them become supports.

Neighbouring planes look alike, supports from another scan often do not. After every
plane has been segmented by itself, each mask is judged by what it teaches about the
supports (`ReverseJudge`); the best ones nearby then join the supports for a second
opinion, which is added to the first one. So masks agree from slice to slice, and what
one plane shows well is found on planes that show it badly.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.methods._fusion import LIMIT, log_odds, sigmoid
from napari_fewshot.methods._second_opinion import MIN_AREA, second_looks, shares
from napari_fewshot.models.contexts import join_contexts
from napari_fewshot.ops.main_object import is_single, main_object, nearness

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from napari_fewshot._types import BoolArray, FloatArray
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
# A mask teaches with the objects that weigh at least this share of its heaviest one;
# the log-odds of the others become at most so much.
TEACHING_KEEP, DROPPED = 0.3, -1.0


def block_size(shape: tuple[int, ...], classes: int) -> int:
    """Return how many planes of a shape (H, W) wait for one another, at least two."""
    one = 4 * int(np.prod(shape)) * max(classes, 1)
    return int(np.clip(BLOCK_BYTES // one, 2, BLOCK))


@dataclass(frozen=True)
class Lesson:
    """What a block of planes leaves for the next one to learn from.

    With the pixels of its plane it is all that whoever goes on with the next block
    needs to know.

    Attributes
    ----------
    value : int
        The class.
    plane : int
        Where the plane is in its stack.
    score : float
        How much it teaches.
    shape : (int, int)
        Of the plane.
    mask : bytes
        What was found, packed.
    """

    value: int
    plane: int
    score: float
    shape: tuple[int, int]
    mask: bytes = field(repr=False)

    @classmethod
    def of(cls, value: int, plane: int, score: float, mask: BoolArray) -> Lesson:
        """Pack a mask (H, W)."""
        rows, columns = mask.shape
        packed = zlib.compress(np.packbits(mask).tobytes(), 1)
        return cls(value, plane, score, (int(rows), int(columns)), packed)

    def unpacked(self) -> BoolArray:
        """Return the mask (H, W)."""
        bits = np.frombuffer(zlib.decompress(self.mask), np.uint8)
        flat = np.unpackbits(bits, count=self.shape[0] * self.shape[1])
        found: BoolArray = flat.astype(bool).reshape(self.shape)
        return found


@dataclass(frozen=True)
class _Teacher:
    """A segmented plane: where it is, how much it teaches, and what each look reads."""

    index: int
    score: float
    contexts: Mapping[str, Any]
    mask: BoolArray


@dataclass
class Neighbours:
    """What is known of the planes before, and how planes are looked at again.

    Attributes
    ----------
    fused : Fused
        The fit whose looks take part.
    judge : ReverseJudge
        Who judges masks.
    one_object : bool
        Whether classes of which the supports show one object are one object here, too.
    """

    fused: Fused
    judge: ReverseJudge
    one_object: bool = False
    _before: dict[int, list[_Teacher]] = field(default_factory=dict)

    @property
    def looks(self) -> dict[str, LookFitted]:
        """Looks that give second opinions, by name."""
        return second_looks(self.fused.fits)

    @property
    def lessons(self) -> tuple[Lesson, ...]:
        """What the blocks up to now leave for the next one; see `recall`."""
        return tuple(
            Lesson.of(value, t.index, t.score, t.mask)
            for value, known in self._before.items()
            for t in known
        )

    def recall(
        self, lessons: Sequence[Lesson], plane_of: Callable[[int], Plane]
    ) -> None:
        """Go on where another run has stopped, behind one of its blocks.

        Parameters
        ----------
        lessons : sequence of Lesson
            What that run had left.
        plane_of : callable
            Number of a plane to the plane as methods see it.
        """
        self._before.clear()
        for lesson in lessons:
            given = shares(self.looks, self.fused.recipes[lesson.value])
            mask = lesson.unpacked()
            contexts = self._contexts(plane_of(lesson.plane), mask, given)
            teacher = _Teacher(lesson.plane, lesson.score, contexts, mask)
            self._before.setdefault(lesson.value, []).append(teacher)

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
            if not given and not self.one_object:
                continue
            now = [log_odds(m[value]) for m in maps]
            near = self._near(value, now[0].shape) if now else None
            if given:
                now = self._agreed(numbers, planes, value, now, near, given, hooks)
            if self.one_object:
                now = _single(now, near, 1.0)
            for i, odds in enumerate(now):
                found[i][value] = sigmoid(odds)
        return found

    def _agreed(
        self,
        numbers: Sequence[int],
        planes: Sequence[Plane],
        value: int,
        own: list[FloatArray],
        near: FloatArray | None,
        given: Mapping[str, float],
        hooks: Hooks,
    ) -> list[FloatArray]:
        """Add what the best planes teach the others, again and again."""
        now = own
        known: list[_Teacher] = []
        for _ in range(ROUNDS):
            shown = _single(now, near, TEACHING_KEEP)
            known = self._teachers(numbers, planes, value, shown, given, hooks)
            now = [
                odds + self._opinion(numbers[i], plane, value, known, given, hooks)
                for i, (plane, odds) in enumerate(zip(planes, own, strict=True))
            ]
        self._keep(value, known)
        return now

    def _near(self, value: int, shape: Any) -> FloatArray | None:
        """Return how near pixels (H, W) are to the single object of the supports.

        None where the supports show several: then nothing is dropped.
        """
        masks = [mask for _, mask in self.judge.supports.get(value, ())]
        if not masks or not all(is_single(mask) for mask in masks):
            return None
        rows, columns = shape
        near: FloatArray = np.max(
            [nearness(mask, (rows, columns)) for mask in masks], axis=0
        )
        return near

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
            contexts = self._contexts(plane, mask, given)
            known.append(_Teacher(numbers[i], score, contexts, mask))
        return known

    def _contexts(
        self, plane: Plane, mask: BoolArray, given: Mapping[str, float]
    ) -> dict[str, Any]:
        """Return what each look reads of a segmented plane."""
        contexts = {}
        for name in given:
            look = self.looks[name]
            features = look.model.features(plane.image, look.params.side)
            contexts[name] = look.model.context([features], [mask])
        return contexts

    def _opinion(
        self,
        index: int,
        plane: Plane,
        value: int,
        known: Sequence[_Teacher],
        given: Mapping[str, float],
        hooks: Hooks,
    ) -> FloatArray:
        """Return what the looks add, with supports and the best other planes."""
        hooks.check()
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


def _single(
    odds: Sequence[FloatArray], near: FloatArray | None, keep: float
) -> list[FloatArray]:
    """Drop what lies apart from a single object, as the supports show it.

    A second organ that looks alike would teach the other planes to find it, too.
    """
    if near is None:
        return list(odds)
    block = np.stack(odds)
    kept = main_object(block, near, keep)
    return list(np.where(kept, block, np.minimum(block, DROPPED)))
