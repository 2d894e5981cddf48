"""`pixel`: a pixel classifier with position and context.

Multi-scale features feed a forest, as in pixel-classification tools. Two things are
added. *Position*: where a pixel lies helps a lot in aligned anatomy and rarely harms
elsewhere; it is dropped when the supports say so. A *second look*: a second forest
also sees the first one's guesses around each pixel (auto-context, Tu & Bai 2010);
its training guesses come from supports that were left out, so that it learns to repair
the mistakes that happen on new images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_fewshot.data import IGNORED
from napari_fewshot.methods._base import MethodSpec, Reliability
from napari_fewshot.methods._forest import Forest, sample_pixels
from napari_fewshot.methods._params import CommonParams, param
from napari_fewshot.methods._validation import leave_one_out, split_folds
from napari_fewshot.ops import (
    context_features,
    fit_factor,
    pixel_features,
    position_features,
    resize_image,
    resize_labels,
    scaled_shape,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import FloatArray, LabelArray
    from napari_fewshot.data import Hooks, Plane, Sample
    from napari_fewshot.methods._base import FittedMethod
    from napari_fewshot.models import Encoder

PIXELS_PER_CLASS = 4000
# Features see several pixels around: small planes are enlarged to this longest side.
MIN_SIDE = 192
MAX_PIXELS = 120_000
FOLD_SHARE = 0.5
FOLD_TREES = 30
# Position is given up only if guesses without it are better by this much Dice: with few
# supports the comparison is noisy, and position rarely harms.
POSITION_MARGIN = 0.05


@dataclass(frozen=True)
class PixelParams(CommonParams):
    """Parameters of `pixel`."""

    trees: int = param(
        60, "Trees of the forest: more is steadier and slower.", low=5, high=1000
    )
    max_side: int = param(
        768,
        "Larger planes are shrunk to this longest side first.",
        low=64,
        high=8192,
        unit="pixels",
    )
    position: Literal["auto", "on", "off"] = param(
        "auto",
        "Whether it matters where in the frame an object lies: on for aligned anatomy, "
        "off for free objects; auto tries both when there are two or more supports.",
    )
    context: bool = param(
        True,
        "Take a second look that also sees the first guess around every pixel; needs "
        "two or more supports.",
    )


@dataclass
class PixelFitted:
    """What `pixel` learnt."""

    classes: tuple[int, ...]
    factor: float
    use_position: bool
    use_depth: bool
    first: Forest
    second: Forest | None
    choice: str = ""

    def predict(self, plane: Plane, hooks: Hooks) -> dict[int, FloatArray]:
        """Return a probability map per class."""
        hooks.check()
        shape = plane.image.shape[:2]
        small = scaled_shape(shape, self.factor)
        features = pixel_features(resize_image(plane.image, small))
        if self.use_position:
            depth: float | None = 0.5 if plane.position is None else plane.position
            depth = depth if self.use_depth else None
            where = position_features(small, depth, plane.frame)
            features = np.concatenate([features, where], axis=-1)
        hooks.check()
        maps = self.first.predict(features, self.classes)
        if self.second is not None:
            hooks.check()
            maps = self.second.predict(_with_context(features, maps), self.classes)
        return {
            value: resize_image(p, (shape[0], shape[1]))
            for value, p in zip(self.classes, maps, strict=True)
        }


@dataclass
class _Training:
    """Features and labels of all samples, and what to leave out together."""

    features: list[FloatArray]
    positions: list[FloatArray]
    labels: list[LabelArray]
    folds: list[list[int]]
    classes: tuple[int, ...]
    params: PixelParams

    def forest(
        self,
        index: Sequence[int],
        use_position: bool,
        guesses: Sequence[FloatArray] | None,
        *,
        is_fold: bool,
    ) -> Forest:
        """Train on some samples."""
        params = self.params
        rng = np.random.default_rng(params.seed)
        share = FOLD_SHARE if is_fold else 1.0
        per_class = int(min(PIXELS_PER_CLASS, MAX_PIXELS / len(self.labels)) * share)
        inputs = [self.inputs(i, use_position, guesses) for i in index]
        x, y = sample_pixels(inputs, [self.labels[i] for i in index], per_class, rng)
        trees = min(FOLD_TREES, params.trees) if is_fold else params.trees
        return Forest(x, y, trees, params.seed)

    def inputs(
        self, i: int, use_position: bool, guesses: Sequence[FloatArray] | None
    ) -> FloatArray:
        """Return the features of a sample that a forest sees."""
        found = self.features[i]
        if use_position:
            found = np.concatenate([found, self.positions[i]], axis=-1)
        return found if guesses is None else _with_context(found, guesses[i])

    def left_out_guesses(self, use_position: bool, hooks: Hooks) -> list[FloatArray]:
        """Guess every sample with a forest that never saw its support."""
        guesses: dict[int, FloatArray] = {}
        for number, fold in enumerate(self.folds):
            hooks.report("Learning from the supports", number, len(self.folds) + 1)
            rest = [i for i in range(len(self.labels)) if i not in fold]
            forest = self.forest(rest, use_position, None, is_fold=True)
            for i in fold:
                hooks.check()
                inputs = self.inputs(i, use_position, None)
                guesses[i] = forest.predict(inputs, self.classes)
        return [guesses[i] for i in range(len(self.labels))]

    def score(self, guesses: Sequence[FloatArray]) -> float:
        """Mean Dice of guesses over classes."""
        found = []
        for row, value in enumerate(self.classes):
            truth = [labels == value for labels in self.labels]
            masks = [
                (g[row] >= 0.5) & (labels >= 0)
                for g, labels in zip(guesses, self.labels, strict=True)
            ]
            both = sum(int((a & b).sum()) for a, b in zip(truth, masks, strict=True))
            size = sum(
                int(a.sum() + b.sum()) for a, b in zip(truth, masks, strict=True)
            )
            found.append(2 * both / max(size, 1))
        return float(np.mean(found))


class PixelMethod:
    """The method object."""

    spec = MethodSpec(
        name="pixel",
        summary="Learns what the pixels of each class look like, and where they lie.",
        params=PixelParams,
        citation="Extremely randomised trees (Geurts et al., Machine Learning 2006) on "
        "multi-scale features, with auto-context (Tu & Bai, TPAMI 2010)",
    )

    def fit(
        self,
        samples: Sequence[Sample],
        classes: Sequence[int],
        params: PixelParams,
        encoder: Encoder | None,
        hooks: Hooks,
    ) -> PixelFitted:
        """Learn from labelled planes; see `Method.fit`."""
        training, factor, use_depth = _prepare(samples, classes, params, hooks)
        use_position = params.position != "off"
        guesses = None
        if len(training.folds) > 1 and (params.context or params.position == "auto"):
            guesses = training.left_out_guesses(use_position, hooks)
            if params.position == "auto":
                plain = training.left_out_guesses(False, hooks)
                if training.score(plain) > training.score(guesses) + POSITION_MARGIN:
                    use_position, guesses = False, plain
        everything = range(len(training.labels))
        hooks.report(
            "Learning from the supports", len(training.folds), len(training.folds) + 1
        )
        first = training.forest(everything, use_position, None, is_fold=False)
        second = None
        if guesses is not None and params.context:
            hooks.check()
            second = training.forest(everything, use_position, guesses, is_fold=False)
        return PixelFitted(
            tuple(classes), factor, use_position, use_depth, first, second
        )

    def fold_params(self, params: PixelParams, fitted: FittedMethod) -> PixelParams:
        """Fewer trees, no second look, the position choice already made."""
        position = getattr(fitted, "use_position", True)
        return replace(
            params,
            trees=min(params.trees, FOLD_TREES),
            context=False,
            position="on" if position else "off",
        )

    def assess(
        self,
        samples: Sequence[Sample],
        classes: Sequence[int],
        params: PixelParams,
        encoder: Encoder | None,
        hooks: Hooks,
        fitted: FittedMethod,
    ) -> Reliability:
        """Estimate the quality by leave-one-out; see `Method.assess`."""
        return leave_one_out(self, samples, classes, params, encoder, hooks, fitted)


METHOD = PixelMethod()


def _prepare(
    samples: Sequence[Sample], classes: Sequence[int], params: PixelParams, hooks: Hooks
) -> tuple[_Training, float, bool]:
    factor = min(fit_factor(s.labels.shape, params.max_side, MIN_SIDE) for s in samples)
    use_depth = all(s.position is not None for s in samples)
    features, positions, labels = [], [], []
    for sample in samples:
        hooks.check()
        small = scaled_shape(sample.labels.shape, factor)
        features.append(pixel_features(resize_image(sample.image, small)))
        positions.append(
            position_features(small, sample.position if use_depth else None)
        )
        given = sample.known_labels
        kept = np.where(np.isin(given, [*classes, IGNORED]), given, 0)
        labels.append(resize_labels(kept, small))
    folds = split_folds(samples, classes)
    training = _Training(features, positions, labels, folds, tuple(classes), params)
    return training, factor, use_depth


def _with_context(features: FloatArray, guesses: FloatArray) -> FloatArray:
    return np.concatenate([features, *(context_features(g) for g in guesses)], axis=-1)
