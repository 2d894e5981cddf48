"""How good is a mask, without its truth? Segment the supports back with it.

Reverse classification accuracy (Valindria et al., IEEE TMI 2017): the query with the
mask in question becomes the support, the known supports become queries, and their Dice
tells how much the mask teaches. A mask of the wrong thing teaches the wrong thing. The
bundled network is the student, at low resolution: a few hundredths of a second a mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.methods._looks import is_thin
from napari_fewshot.methods._validation import dice

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_fewshot._types import BoolArray, FloatArray
    from napari_fewshot.data import Sample

SIDE = 128
# More supports than this cost time and change little.
MAX_SUPPORTS = 2
# The student makes mistakes of its own: straight line from its Dice to that of the
# mask, measured on nine public data sets and rounded.
OFFSET, SLOPE = 0.1, 0.85


@dataclass(frozen=True)
class ReverseJudge:
    """Judges masks by what they teach about the supports.

    Attributes
    ----------
    model : InContextModel
        The student.
    supports : dict of int to tuple of (Features, mask)
        Encoded supports that show each class.
    blind : frozenset of int
        Classes too thin for the student's eyes: of their masks it says nothing.
    """

    model: Any
    supports: Mapping[int, tuple[tuple[Any, BoolArray], ...]]
    blind: frozenset[int] = frozenset()

    @classmethod
    def fit(
        cls, model: Any, samples: Sequence[Sample], classes: Sequence[int]
    ) -> ReverseJudge:
        """Encode the supports that show each class.

        Parameters
        ----------
        model : InContextModel
            The student.
        samples : sequence of Sample
            The supports.
        classes : sequence of int
            Classes that may be judged.
        """
        supports = {}
        for value in classes:
            shown = [s for s in samples if (s.labels == value).any()]
            step = max(1, len(shown) // MAX_SUPPORTS)
            chosen = shown[::step][:MAX_SUPPORTS]
            supports[value] = tuple(
                (model.features(s.image, SIDE), s.labels == value) for s in chosen
            )
        thin = frozenset(v for v in classes if is_thin(samples, v))
        return cls(model, supports, thin)

    def score(self, image: FloatArray, value: int, mask: BoolArray) -> float:
        """Return the mean Dice of the supports when the mask is their teacher.

        Parameters
        ----------
        image : array (H, W, C)
            The query.
        value : int
            The class.
        mask : array (H, W) bool
            The mask in question.

        Returns
        -------
        float
            In [0, 1]; 0 for an empty mask.
        """
        known = self.supports.get(value, ())
        if not known or not mask.any():
            return 0.0
        teacher = self.model.context([self.model.features(image, SIDE)], [mask])
        found = [
            dice(self.model.decode(features, teacher, truth.shape) > 0, truth)
            for features, truth in known
        ]
        return float(np.mean(found))

    def expected_dice(
        self, image: FloatArray, value: int, mask: BoolArray
    ) -> float | None:
        """Return the Dice that a mask is expected to have; None if nobody can tell."""
        if value in self.blind:
            return None
        return OFFSET + SLOPE * self.score(image, value, mask)
