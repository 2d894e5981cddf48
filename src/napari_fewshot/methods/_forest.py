"""A forest of extremely randomised trees over pixel features, with fair sampling."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import AnyArray, FloatArray, LabelArray

MIN_LEAF = 3
# Rows of features that are classified at once: bounds the memory of the votes.
BLOCK = 1 << 18


def sample_pixels(
    features: Sequence[FloatArray],
    labels: Sequence[LabelArray],
    per_class: int,
    rng: np.random.Generator,
) -> tuple[FloatArray, AnyArray]:
    """Draw the same number of pixels per image and class, background included.

    Parameters
    ----------
    features : sequence of array (H, W, F)
        One per image.
    labels : sequence of array (H, W)
        One per image; pixels below zero are left out.
    per_class : int
        Pixels per image and class; fewer where an image has fewer.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    x : array (N, F)
    y : array (N,)
    """
    xs, ys = [], []
    for maps, mask in zip(features, labels, strict=True):
        flat, values = maps.reshape(-1, maps.shape[-1]), mask.ravel()
        for value in np.unique(values[values >= 0]):
            index = np.flatnonzero(values == value)
            if index.size > per_class:
                index = rng.choice(index, per_class, replace=False)
            xs.append(flat[index])
            ys.append(values[index])
    return np.concatenate(xs), np.concatenate(ys)


class Forest:
    """Extremely randomised trees (Geurts et al. 2006) that speak class labels.

    Parameters
    ----------
    x : array (N, F)
        Features.
    y : array (N,)
        Class of every row, 0 is background.
    trees : int
        Number of trees.
    seed : int
        Makes the result repeatable.
    """

    def __init__(self, x: FloatArray, y: AnyArray, trees: int, seed: int) -> None:
        from sklearn.ensemble import ExtraTreesClassifier

        self._trees: Any = ExtraTreesClassifier(
            trees, min_samples_leaf=MIN_LEAF, n_jobs=-1, random_state=seed
        )
        with warnings.catch_warnings():
            # scikit-learn's threads reset the filters of the whole process and may
            # leave them so: then every later call warns, thousands of times.
            self._trees.fit(x, y)

    def predict(self, features: FloatArray, classes: Sequence[int]) -> FloatArray:
        """Return the probability of every class against its strongest rival.

        Parameters
        ----------
        features : array (H, W, F)
            Features of a plane.
        classes : sequence of int
            Classes wanted, without background.

        Returns
        -------
        array (len(classes), H, W)
            float32; 0.5 where a class ties with the best other class (background
            included), so that the decision boundary is 0.5 with any number of classes.
        """
        flat = features.reshape(-1, features.shape[-1])
        with warnings.catch_warnings():
            votes = np.concatenate(
                [
                    self._trees.predict_proba(flat[at : at + BLOCK]).astype(np.float32)
                    for at in range(0, len(flat), BLOCK)
                ]
            )
        known = list(self._trees.classes_)
        maps = np.zeros((len(classes), len(flat)), np.float32)
        for row, value in enumerate(classes):
            if value not in known:
                continue
            mine = votes[:, known.index(value)]
            others = np.delete(votes, known.index(value), axis=1)
            rival = others.max(axis=1) if others.shape[1] else np.zeros_like(mine)
            maps[row] = mine / np.maximum(mine + rival, 1e-6)
        return maps.reshape(len(classes), *features.shape[:2])
