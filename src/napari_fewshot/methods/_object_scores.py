"""What candidate masks look like, and how well each is expected to fit an object.

Every candidate is described by how alike it is to the prototypes, how that differs
from the ring round it, by its shape beside those of the supports' objects, and by
edges. A small forest learns on the supports what intersection over union to expect of
such a candidate, as a promptable model predicts it of its own masks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.ops import (
    Candidate,
    ShapeBank,
    as_rows,
    best_apart,
    object_overlaps,
    rings_of,
    shape_table,
    unit_rows,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import AnyArray, BoolArray, FloatArray, LabelArray

TREES, LEAF = 50, 5
# Trees of the forests that only say at which level to stop.
FEW_TREES = 20
# Level of the score where nothing can be left out, and those that are tried.
LEVEL, LEVELS = 0.35, np.linspace(0.2, 0.6, 9)
# Score of a usual object where nothing can be left out.
USUAL = 0.7
SMALL = 1e-3


@dataclass(frozen=True, eq=False)
class Guide:
    """Which colour, or brightness, the class has beside the rest of its plane.

    Fisher's linear discriminant of the smoothed, standardised colours.

    Attributes
    ----------
    direction : array (C,)
    middle : float
    """

    direction: FloatArray
    middle: float

    def __call__(self, image: FloatArray) -> FloatArray:
        """Return a landscape (H, W) that is above 0 inside, of an image (H, W, C)."""
        found: FloatArray = colours_of(image) @ self.direction - self.middle
        return found


def colours_of(image: FloatArray) -> FloatArray:
    """Return colours (H, W, C), smoothed by a pixel and counted from the mean."""
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(image, (1, 1, 0))
    found: FloatArray = (smooth - smooth.mean((0, 1))) / max(float(smooth.std()), SMALL)
    return found


def fit_guide(inside: FloatArray, outside: FloatArray) -> Guide:
    """Return the discriminant of colours (N, C) and (M, C) from `colours_of`."""
    first, second = inside.mean(0), outside.mean(0)
    spread = _covariance(inside) + _covariance(outside)
    spread += SMALL * np.eye(len(first))
    direction = np.linalg.solve(spread, first - second).astype(np.float32)
    # Log-odds of a normal distribution each: no larger than those of a map.
    return Guide(direction, float((first + second) @ direction / 2))


def _covariance(rows: FloatArray) -> FloatArray:
    away = rows - rows.mean(0)
    found: FloatArray = away.T @ away / max(len(rows), 1)
    return found


@dataclass(frozen=True, eq=False)
class View:
    """A plane as candidates are described on it, all at one size (H, W).

    Attributes
    ----------
    features : array (C, h, w)
        Of length one in every cell.
    odds : array (H, W)
        Log-odds of the class.
    brightness : array (H, W)
        Standardised.
    """

    features: FloatArray = field(repr=False)
    odds: FloatArray = field(repr=False)
    brightness: FloatArray = field(repr=False)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.odds.shape[0]), int(self.odds.shape[1])

    def means(self, rows: Any) -> FloatArray:
        """Return the mean embedding of candidates, (N, C), of length one.

        Parameters
        ----------
        rows : sparse array (N, H W)
            From `as_rows`.
        """
        from scipy.sparse import csr_array

        height, width = self.features.shape[1:]
        down = np.arange(self.shape[0]) * height // self.shape[0]
        across = np.arange(self.shape[1]) * width // self.shape[1]
        cell = (down[:, None] * width + across).ravel()
        ones = np.ones(cell.size, np.float32)
        to_cells = csr_array(
            (ones, cell, np.arange(cell.size + 1)), (cell.size, height * width)
        )
        flat = self.features.reshape(len(self.features), -1)
        return unit_rows((rows @ to_cells) @ flat.T)


def described(
    candidates: Sequence[Candidate],
    view: View,
    prototypes: FloatArray,
    bank: ShapeBank,
) -> FloatArray:
    """Return what a forest sees of candidates, (N, F) float32.

    Parameters
    ----------
    candidates : sequence of Candidate
        One at least.
    view : View
        Where.
    prototypes : array (P, C)
        Of single objects, of length one.
    bank : ShapeBank
        Of the same objects.
    """
    from scipy import ndimage

    rows = as_rows(candidates, view.shape)
    rings = as_rows(rings_of(candidates, view.shape), view.shape)
    rims = as_rows([_rim(c) for c in candidates], view.shape)
    mine, around = view.means(rows), view.means(rings)
    usual = unit_rows(prototypes.mean(0)[None])[0]
    odds, light = view.odds, view.brightness
    edges = ndimage.gaussian_gradient_magnitude(light, 1.0)
    inside, outside = (
        {
            name: _mean(some, values)
            for name, values in (
                ("odds", odds),
                ("light", light),
                ("square", light**2),
                ("unsure", odds < 1),
                ("class", odds > 0),
            )
        }
        for some in (rows, rings)
    )
    shapes = shape_table(candidates)
    columns = [
        mine @ usual,
        around @ usual,
        (mine - around) @ usual,
        (mine @ prototypes.T).max(1),
        (mine * around).sum(1),
        inside["odds"],
        outside["odds"],
        inside["odds"] - outside["odds"],
        inside["unsure"],
        outside["class"],
        np.log(shapes[:, 0]) - bank.size,
        shapes[:, 1],
        bank.likeness_of(shapes[:, 0], shapes[:, 1]),
        np.array([c.quality for c in candidates]),
        inside["light"] - outside["light"],
        np.sqrt(np.maximum(inside["square"] - inside["light"] ** 2, 0)),
        _mean(rims, edges),
        _mean(rows, edges),
        np.array([c.mask.mean() for c in candidates]),
    ]
    found: FloatArray = np.stack(columns, 1).astype(np.float32)
    return found


def _mean(rows: Any, values: AnyArray) -> FloatArray:
    """Return the mean of values (H, W) over each candidate, (N,)."""
    total = rows @ values.ravel().astype(np.float32)
    found: FloatArray = total / np.maximum(np.diff(rows.indptr), 1)
    return found


def _rim(one: Candidate) -> Candidate:
    """Return the outermost pixels of a candidate."""
    from scipy import ndimage

    inner = ndimage.binary_erosion(np.pad(one.mask, 1))[1:-1, 1:-1]
    return Candidate(one.place, one.mask & ~inner)


@dataclass(frozen=True, eq=False)
class Lesson:
    """Candidates of a support, described, with the truth.

    Attributes
    ----------
    table : array (N, F)
        From `described`.
    overlap : array (N, K)
        Intersection over union with the support's objects.
    rows : sparse array (N, H W)
        The candidates.
    """

    table: FloatArray = field(repr=False)
    overlap: FloatArray = field(repr=False)
    rows: Any = field(repr=False)


def lesson_of(
    candidates: Sequence[Candidate],
    view: View,
    objects: LabelArray,
    prototypes: FloatArray,
    bank: ShapeBank,
) -> Lesson:
    """Return what the candidates of a support teach; see `described`."""
    rows = as_rows(candidates, view.shape)
    table = described(candidates, view, prototypes, bank)
    return Lesson(table, object_overlaps(rows, objects), rows)


@dataclass(frozen=True, eq=False)
class Scorer:
    """Expects of each candidate an intersection over union with an object.

    Attributes
    ----------
    forest
        Fitted.
    level : float
        Candidates expected to fit worse are not taken.
    usual : float
        Mean score of the objects that are found.
    """

    forest: Any = field(repr=False)
    level: float = LEVEL
    usual: float = USUAL

    def __call__(self, table: FloatArray) -> FloatArray:
        """Return scores (N,) of candidates described by rows (N, F)."""
        found: FloatArray = self.forest.predict(table).astype(np.float32)
        return found


def fit_scorer(lessons: Sequence[Lesson], seed: int) -> Scorer:
    """Learn from candidates of supports; the level from supports left out.

    Parameters
    ----------
    lessons : sequence of Lesson
        One per support, one candidate at least in all.
    seed : int
        Of the forest.
    """
    forest = _grow(lessons, seed, TREES)
    if len(lessons) < 2:
        return Scorer(forest)
    hits, misses = np.zeros(len(LEVELS)), np.zeros(len(LEVELS))
    good: list[float] = []
    for number, lesson in enumerate(lessons):
        rest = [other for i, other in enumerate(lessons) if i != number]
        scores = _grow(rest, seed, FEW_TREES).predict(lesson.table)
        chosen = best_apart(lesson.rows, scores, 0.0)
        worth = np.array([s for _, s in chosen])
        fits = np.array([lesson.overlap[i].max(initial=0) >= 0.5 for i, _ in chosen])
        good += worth[fits].tolist()
        for k, level in enumerate(LEVELS):
            taken = worth >= level
            found = int((fits & taken).sum())
            hits[k] += found
            misses[k] += int(taken.sum()) + lesson.overlap.shape[1] - 2 * found
    precision = hits / np.maximum(hits + misses, 1)
    # Neighbouring levels are averaged: a lone peak is an accident of few supports.
    steady = np.convolve(np.pad(precision, 1, mode="edge"), np.ones(3) / 3, "valid")
    best = np.flatnonzero(steady >= steady.max() - 1e-9)
    usual = float(np.mean(good)) if good else USUAL
    return Scorer(forest, float(LEVELS[best].mean()), usual)


def _grow(lessons: Sequence[Lesson], seed: int, trees: int) -> Any:
    from sklearn.ensemble import ExtraTreesRegressor

    table = np.concatenate([x.table for x in lessons])
    worth = np.concatenate([x.overlap.max(1, initial=0) for x in lessons])
    forest = ExtraTreesRegressor(
        trees, min_samples_leaf=LEAF, max_features=0.5, random_state=seed
    )
    return forest.fit(table, worth)


def pixels_of(mask: BoolArray, colours: FloatArray, most: int) -> FloatArray:
    """Return at most so many colours (N, C) under a mask (H, W), evenly spread."""
    found = colours[mask]
    step = max(1, len(found) // most)
    return found[::step]
