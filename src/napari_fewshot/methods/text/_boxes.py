"""Heat maps from boxes: what the methods on detectors have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from napari_fewshot.methods._params import param
from napari_fewshot.methods.text._base import TextMethod
from napari_fewshot.methods.text._heat import Heat
from napari_fewshot.methods.text._params import TextParams
from napari_fewshot.methods.text._phrases import phrase_bank

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import Hooks, Plane, TextPrompt

# Longest side of a heat map: boxes need no more cells.
CELLS = 256
# Least and greatest probability in a heat map.
FLOOR = 0.01


@dataclass(frozen=True)
class BoxParams(TextParams):
    """Which boxes count."""

    least_score: float = param(
        0.0,
        "Least score of a box; 0 is what the model's publishers use (0.3 for Grounding "
        "DINO, 0.1 for OWLv2).",
        low=0.0,
        high=1.0,
        step=0.01,
        at_low="the model's own",
    )
    overlap: float = param(
        0.5,
        "Of boxes that overlap more than this share, the best one is kept.",
        low=0.0,
        high=1.0,
        step=0.05,
        advanced=True,
    )
    largest: float = param(
        0.8,
        "Boxes over more than this share of the plane are dropped.",
        low=0.01,
        high=1.0,
        step=0.05,
        advanced=True,
    )


class BoxMethod(TextMethod):
    """Base of the methods that find boxes.

    All phrases of a run are looked for at once, so that classes and what is not meant
    compete: a box belongs to the phrase that fits it best.
    """

    model_kinds: ClassVar[tuple[str, ...]] = ("boxes",)

    def bank(self, text: Mapping[int, TextPrompt], model: Any, params: Any) -> Any:
        """Gather the phrases; the model reads them as they are."""
        return phrase_bank(text, model)

    def thresholds(self, params: Any) -> dict[str, float]:
        """Return further thresholds of the model's own."""
        return {}

    def and_examples(
        self, found: Any, model: Any, plane: Plane, bank: Any, params: Any, hooks: Hooks
    ) -> Any:
        """Return boxes with those of what looks like examples from supports.

        The latter have numbers after those of the phrases: their number, plus that of
        the class. Methods on models that look at examples override it.
        """
        return found

    def heat(
        self, model: Any, plane: Plane, bank: Any, params: Any, hooks: Hooks
    ) -> Heat:
        """Say where boxes are, with ``boxes`` and ``scores`` per class."""
        level = params.least_score or model.threshold
        found = model.detect(
            plane.image,
            bank.phrases,
            level,
            overlap=params.overlap,
            largest=params.largest,
            windows=params.windows,
            check=lambda *_: hooks.check(),
            **self.thresholds(params),
        )
        found = self.and_examples(found, model, plane, bank, params, hooks)
        shape = (int(plane.image.shape[0]), int(plane.image.shape[1]))
        boxes, scores, maps = {}, {}, []
        for number, words in enumerate(bank.classes):
            numbers = [*bank.numbers(words.positive), len(bank.phrases) + number]
            mine = found[np.isin(found.phrases, numbers)]
            boxes[words.value] = mine.boxes
            scores[words.value] = tuple(float(s) for s in mine.scores)
            maps.append(drawn(mine.boxes, mine.scores, level, shape))
        return Heat(np.stack(maps), "probability", boxes=boxes, scores=scores)


def drawn(
    boxes: FloatArray, scores: FloatArray, level: float, shape: tuple[int, int]
) -> FloatArray:
    """Return a heat map of boxes in which 0.5 is the least score that counts.

    The odds of a score are compared with those of the least score, so that a box that
    only just counts is just above 0.5, whatever scale a model scores on.

    Parameters
    ----------
    boxes : array (M, 4)
        (y0, x0, y1, x1) in pixels.
    scores : array (M,)
        In [0, 1]; where boxes overlap the best one counts.
    level : float
        Least score.
    shape : (int, int)
        Rows and columns of the plane.

    Returns
    -------
    array (h, w) float32
        The longer side is at most 256 cells.
    """
    scale = min(1.0, CELLS / max(shape))
    grid = tuple(max(1, round(n * scale)) for n in shape)
    found = np.full(grid, FLOOR, np.float32)
    step = np.array(grid * 2) / np.array(shape * 2)
    for box, value in zip(boxes, likely(scores, level), strict=True):
        low = np.floor(np.asarray(box)[:2] * step[:2]).astype(int)
        high = np.maximum(np.ceil(np.asarray(box)[2:] * step[2:]).astype(int), low + 1)
        part = found[low[0] : high[0], low[1] : high[1]]
        np.maximum(part, value, out=part)
    return found


def likely(scores: FloatArray, level: float) -> FloatArray:
    """Return scores as probabilities of which 0.5 is the least score that counts.

    Parameters
    ----------
    scores : array (M,)
        In [0, 1].
    level : float
        Least score.
    """
    ends = (1e-4, 1 - 1e-4)
    odds = [
        np.log(x / (1 - x)) for x in (np.clip(scores, *ends), np.clip(level, *ends))
    ]
    found = 1 / (1 + np.exp(odds[1] - odds[0]))
    limited: FloatArray = np.clip(found, FLOOR, 1 - FLOOR).astype(np.float32)
    return limited
