"""`linear`: logistic regression on cells, the plainest head that is fitted.

Targets are the shares that the class covers; large weights are avoided as strongly as
suits a few images, whose cells are far from independent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.methods._base import MethodSpec
from napari_fewshot.methods._heads import HeadMethod, HeadParams, Rows
from napari_fewshot.methods._params import param

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray, FloatArray
    from napari_fewshot.data import Hooks

ROUNDS = 60


@dataclass(frozen=True)
class LinearParams(HeadParams):
    """Parameters of `linear`."""

    strength: float = param(
        30.0,
        "How strongly large weights are avoided: higher suits fewer supports.",
        low=1e-3,
        high=1e6,
        advanced=True,
    )


@dataclass(frozen=True, eq=False)
class LinearHead:
    """Log-odds are ``values @ weights + bias``."""

    weights: FloatArray
    bias: float

    def __call__(self, values: FloatArray) -> FloatArray:
        """Return log-odds (N,) of rows (N, F)."""
        found: FloatArray = values @ self.weights + self.bias
        return found


class LinearMethod(HeadMethod):
    """The method object."""

    spec = MethodSpec(
        name="linear",
        summary="Weighs the features of every place to tell object from background.",
        params=LinearParams,
        uses_model=True,
        citation="Logistic regression (Cox 1958)",
    )

    def fit_head(self, rows: Rows, params: Any, hooks: Hooks) -> LinearHead:
        """Fit by L-BFGS."""
        return fit_logistic(rows, params.strength, hooks)


def fit_logistic(rows: Rows, strength: float, hooks: Hooks) -> LinearHead:
    """Fit weighted logistic regression on soft targets.

    Parameters
    ----------
    rows : Rows
        What to learn from.
    strength : float
        Half of it times the sum of squared weights is added to the log loss.
    hooks : Hooks
        Asked in every round.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    ones = np.ones((len(rows.values), 1), np.float32)
    x = np.concatenate([rows.values, ones], 1)
    ridge = np.full(x.shape[1], strength, np.float32)
    ridge[-1] = 0

    def loss(w: AnyArray) -> tuple[float, AnyArray]:
        hooks.check()
        z = x @ w.astype(np.float32)
        value = rows.weight * (np.logaddexp(0, z) - rows.cover * z)
        slope = x.T @ (rows.weight * (expit(z) - rows.cover)) + ridge * w
        return float(value.sum() + 0.5 * (ridge * w * w).sum()), slope.astype(float)

    start = np.zeros(x.shape[1])
    found = minimize(
        loss, start, jac=True, method="L-BFGS-B", options={"maxiter": ROUNDS}
    ).x
    return LinearHead(found[:-1].astype(np.float32), float(found[-1]))


METHOD = LinearMethod()
