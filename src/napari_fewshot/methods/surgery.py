"""`surgery`: a second path through the last blocks, less what all phrases share.

CLIP Surgery (Li et al., A closer look at the explainability of contrastive
language-image pre-training, 2023). From the sixth block before the end a second path
adds up what attention of values to values makes of the tower's tokens, without any
perceptron. Then what a cell has in common with all phrases is subtracted: with one
phrase alone the phrase of no words, with several the mean of all of them, each weighted
by how well it fits the whole plane.

This form differs: words of the background and of what the class is not are among the
several; of phrases and synonyms of a class the best counts. A single phrase is
compared with no words only, as published. Maps are brought to [0, 1] each by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.methods._base import MethodSpec
from napari_fewshot.methods.text._attention import DUAL, dual_path
from napari_fewshot.methods.text._dense import DenseMethod
from napari_fewshot.methods.text._heat import Heat
from napari_fewshot.methods.text._params import TextParams
from napari_fewshot.methods.text._relevance import rescaled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from napari_fewshot._types import FloatArray
    from napari_fewshot.methods.text._seen import Seen
    from napari_fewshot.methods.text._words import TextBank

# What cosines of the whole plane are multiplied with before their softmax.
SHARPNESS = 2.0


class SurgeryMethod(DenseMethod):
    """The method object."""

    spec = MethodSpec(
        name="surgery",
        summary="Shows where the model sees the phrase, less what all phrases share.",
        params=TextParams,
        reads_text=True,
        citation="CLIP Surgery (Li et al., 2023)",
    )

    def begins(self, depth: int) -> int:
        """Return where the paths part."""
        return max(0, depth - DUAL)

    def cells(
        self, model: Any, tokens: Tensor, images: Sequence[FloatArray], params: Any
    ) -> tuple[Tensor, tuple[int, int], Tensor]:
        """Follow both paths; see `DenseMethod.cells`."""
        tower = model.tower
        second, own = dual_path(tower, tokens, self.begins(tower.depth))
        return tower.project(second)[:, tower.prefix :], tower.grid, own

    def compared(self, seen: Seen, bank: TextBank, params: Any) -> FloatArray:
        """Return one map per class (C, h, w): the best of its phrases."""
        rows, columns, width = seen.cells.shape
        cells = seen.cells.reshape(-1, width)
        found = []
        for words in bank.classes:
            others = [w.mean[None] for w in bank.classes if w is not words]
            if not others and not len(words.negative):
                maps = [cells @ (row - bank.empty) for row in words.positive]
            else:
                rest = np.concatenate([*others, words.negative, bank.background])
                maps = [
                    surgery(cells, seen.pooled, np.concatenate([row[None], rest]))[:, 0]
                    for row in words.positive
                ]
            found.append(np.max(maps, 0).reshape(rows, columns))
        return np.stack(found).astype(np.float32)

    def heat_of(self, maps: FloatArray, bank: TextBank) -> Heat:
        """Return relevance."""
        return Heat(rescaled(maps), "relevance")


def surgery(cells: FloatArray, pooled: FloatArray, texts: FloatArray) -> FloatArray:
    """Return how well cells fit texts beyond what they have in common with all.

    With Z the cells, T the texts and z the whole plane, all of length one:
    w = softmax(2 z T') over its mean; feature f of cell n, text c is w_c Z_n T_c
    (channel by channel); the result sums f less its mean over the texts. The sum over
    channels makes products of f cosines, so only those are computed.

    Parameters
    ----------
    cells : array (N, E)
        Rows of length one.
    pooled : array (E,)
        The plane as a whole, of length one.
    texts : array (C, E)
        Rows of length one.

    Returns
    -------
    array (N, C)
    """
    logits = SHARPNESS * (texts @ pooled)
    odds = np.exp(logits - logits.max())
    weights = odds / odds.mean()
    weighted = (cells @ texts.T) * weights
    found: FloatArray = weighted - weighted.mean(1, keepdims=True)
    return found


METHOD = SurgeryMethod()
