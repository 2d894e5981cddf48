"""`repri`: a small classifier per image, fitted with the image's own pixels.

RePRI (Boudiaf et al., CVPR 2021) fits a vector and a bias on the supports while the
query's pixels should be classified surely and in the expected proportion. The paper
trains the encoder on base classes by cross-entropy; here it is taken as it is, and
the first estimate of the proportion is held near that of the supports. If a
size is wished for (`target_area`), it is the proportion from the start, as with the
paper's known proportions. The boundary is calibrated on supports that are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.methods._base import MethodSpec
from napari_fewshot.methods._params import param
from napari_fewshot.methods.grid import GridMethod, GridParams, Look, thinned
from napari_fewshot.methods.panet import SCALE, class_prototype
from napari_fewshot.ops import RepriTerms, repri_loss

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import AnyArray, FloatArray
    from napari_fewshot.data import Hooks
    from napari_fewshot.methods.grid import GridPlane, GridSupport

# Of the paper: step length, and when the proportion is estimated anew.
RATE, UPDATE = 0.025, 10
# Tokens of all supports, and of the query, that take part.
MOST_TOKENS = 4096
# The proportion stays within this factor of the supports' mean, and off 0 and 1.
REACH, HOLD = 2.0, 1e-4


@dataclass(frozen=True)
class RepriParams(GridParams):
    """Parameters of `repri`."""

    steps: int = param(
        49,
        "Steps of the fit on each image; 0 compares with the mean look only.",
        low=0,
        high=500,
        step=10,
        advanced=True,
    )


@dataclass(frozen=True, eq=False)
class _State:
    prototype: FloatArray
    tokens: FloatArray
    truth: FloatArray
    shots: int
    area: float


class RepriMethod(GridMethod):
    """The method object."""

    spec = MethodSpec(
        name="repri",
        summary="Fits a small classifier to supports and image together; follows the "
        "size you expect.",
        params=RepriParams,
        uses_model=True,
        citation="RePRI (Boudiaf et al., CVPR 2021)",
    )

    def learn(
        self, supports: Sequence[GridSupport], value: int, params: Any, hooks: Hooks
    ) -> _State:
        """Keep a fair sample of tokens with their labels, and the first classifier."""
        each = max(MOST_TOKENS // len(supports), 16)
        rows = []
        for support in supports:
            hooks.check()
            cells = np.concatenate([support.unit, support.cover(value)[None]])
            rows.append(thinned(cells.reshape(len(cells), -1).T, each, params.seed))
        both = np.concatenate(rows)
        areas = [float(s.cover(value).mean()) for s in supports if s.holds(value)]
        prototype = class_prototype(supports, value)
        area = float(np.mean(areas))
        return _State(prototype, both[:, :-1], both[:, -1], len(areas), area)

    def look(self, state: Any, query: GridPlane, params: Any, hooks: Hooks) -> Look:
        """Fit the classifier to this query; return its logits."""
        tokens = query.unit.reshape(len(query.unit), -1).T
        some = thinned(tokens, MOST_TOKENS, params.seed)
        weight, bias = fit_classifier(state, some, params, hooks)
        unit = weight / (np.linalg.norm(weight) + 1e-6)
        raw = (SCALE * (tokens @ unit) - bias).reshape(query.grid).astype(np.float32)
        return Look(raw)


def fit_classifier(
    state: _State, query: FloatArray, params: RepriParams, hooks: Hooks
) -> tuple[AnyArray, float]:
    """Minimise RePRI's objective by gradient steps.

    Parameters
    ----------
    state : _State
        Of the supports.
    query : array (M, C)
        Tokens of unit length.
    params : RepriParams
        Steps and the size that is wished for.
    hooks : Hooks
        For cancelling.

    Returns
    -------
    weight : array (C,)
    bias : float
    """
    weight = np.asarray(state.prototype, np.float64)
    bias = float((SCALE * query @ weight).mean() / (np.linalg.norm(weight) + 1e-6))
    wished = params.target_area / 100
    share = wished or _share(query, weight, bias, state.area)
    terms = RepriTerms(share, 1 / max(state.shots, 1), 1 / max(state.shots, 1), SCALE)
    for step in range(params.steps):
        hooks.check()
        if step == UPDATE:
            now = wished or _share(query, weight, bias, state.area)
            terms = replace(terms, proportion=now, kl=terms.kl + 1)
        _, by_weight, by_bias = repri_loss(
            weight, bias, state.tokens, state.truth, query, terms
        )
        weight, bias = weight - RATE * by_weight, bias - RATE * by_bias
    return weight, bias


def _share(query: FloatArray, weight: AnyArray, bias: float, area: float) -> float:
    """Return the mean probability of the class, as far as the supports' area allows."""
    logits = SCALE * query @ weight / (np.linalg.norm(weight) + 1e-6) - bias
    share = float((1 / (1 + np.exp(-logits))).mean())
    return float(np.clip(np.clip(share, area / REACH, area * REACH), HOLD, 1 - HOLD))


METHOD = RepriMethod()
