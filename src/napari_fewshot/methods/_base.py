"""The seam between methods and everything above them.

A method learns from labelled planes and returns one probability map per class for a
new plane. The convention that makes methods interchangeable and fusable: **0.5 is
always the method's own decision boundary**, whatever it does inside.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import Hooks, Plane, Sample
    from napari_fewshot.methods._params import CommonParams
    from napari_fewshot.models import Encoder


class FittedMethod(Protocol):
    """What `Method.fit` returns; picklable, never changed by `predict`.

    One that finds single objects also has ``predict_objects(plane, hooks)``: it returns
    what `predict` does, and ``{class: (H, W) int32 object numbers}``, perhaps empty.

    Attributes
    ----------
    choice : str
        One line for the user: what was chosen and why ("" when there is no choice).
    """

    choice: str

    def predict(self, plane: Plane, hooks: Hooks) -> dict[int, FloatArray]:
        """Return ``{class: (H, W) float32 probability}`` for every class of the fit."""


@dataclass(frozen=True)
class Reliability:
    """How good a method is expected to be, from the supports alone.

    Attributes
    ----------
    scores : dict of int to float
        Expected Dice per class, in [0, 1].
    intervals : dict of int to (float, float)
        80 % interval of the score.
    support_scores : dict of str to dict
        ``{support name: {class: Dice when this support was left out}}``.
    confidence : dict of int to float
        Mean self-assessed Dice (see `ops.soft_dice`) on the left-out supports: what the
        same number on a query is compared with.
    kind : str
        ``"leave-one-out"`` or ``"uncalibrated"``.
    """

    scores: Mapping[int, float] = field(default_factory=dict)
    intervals: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    support_scores: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    confidence: Mapping[int, float] = field(default_factory=dict)
    kind: str = "uncalibrated"


class Method(Protocol):
    """A few-shot method.

    Attributes
    ----------
    spec : MethodSpec
        Name, words for the user and parameters.
    """

    spec: MethodSpec

    def fit(
        self,
        samples: Sequence[Sample],
        classes: Sequence[int],
        params: Any,
        encoder: Encoder | None,
        hooks: Hooks,
    ) -> FittedMethod:
        """Learn from labelled planes.

        Parameters
        ----------
        samples : sequence of Sample
            At least one holds foreground; some may be negative.
        classes : sequence of int
            Classes to learn, each with foreground somewhere.
        params : dataclass
            An instance of ``spec.params``.
        encoder : Encoder, optional
            The model for methods with ``spec.uses_model``.
        hooks : Hooks
            For progress and cancelling; called at least every second of work.
        """

    def fold_params(self, params: Any, fitted: FittedMethod) -> Any:
        """Return parameters for the fits of leave-one-out: lighter, same character."""

    def assess(
        self,
        samples: Sequence[Sample],
        classes: Sequence[int],
        params: Any,
        encoder: Encoder | None,
        hooks: Hooks,
        fitted: FittedMethod,
    ) -> Reliability:
        """Estimate the quality from the supports by leave-one-out."""


@dataclass(frozen=True)
class MethodSpec:
    """Words and facts about a method.

    Attributes
    ----------
    name : str
        What users type, e.g. ``"pixel"``.
    summary : str
        One sentence in plain words.
    params : type
        Frozen dataclass of parameters, derived from `CommonParams`.
    uses_model : bool
        Whether it needs an encoder.
    reads_text : bool
        Whether it looks for phrases; see `methods.text`.
    citation : str
        Where the idea comes from.
    licence : str
        Licence of this implementation.
    """

    name: str
    summary: str
    params: type[CommonParams]
    uses_model: bool = False
    reads_text: bool = False
    citation: str = ""
    licence: str = "BSD-3-Clause"
