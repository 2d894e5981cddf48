"""`Concept`: what to look for, ready to be shared: supports, how, and how good."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_fewshot.data._support import SupportSet


@dataclass(frozen=True, eq=False)
class Concept:
    """Annotated examples with the method that learns from them.

    Attributes
    ----------
    support : SupportSet
        Only the planes that teach; the others of a stack read as zero.
    classes : dict of int to str
        Names of the label values.
    colours : dict of int to str
        ``#rrggbb`` of the label values.
    method, model : str
        See `nf.list_methods` and `nf.list_models`.
    params : dict
        Parameters of the method, as they were chosen.
    weights_sha256 : str
        SHA-256 of the weights of the model; "" when it has none or it is not known.
    scores : dict of int to float
        Dice to expect per class, from the supports alone; empty if not assessed.
    score_intervals : dict of int to (float, float)
        80 % interval of the score.
    support_scores : dict of str to dict of int to float
        Leave-one-out Dice of every support.
    author, licence, notes : str
        Words for whoever opens the file.
    provenance : dict
        JSON-able record of the run that gave the scores.
    version : str
        Of napari-fewshot that wrote the file; "" before it is written.
    """

    support: SupportSet
    classes: Mapping[int, str] = field(default_factory=dict)
    colours: Mapping[int, str] = field(default_factory=dict)
    method: str = "auto"
    model: str = "auto"
    params: Mapping[str, Any] = field(default_factory=dict)
    weights_sha256: str = ""
    scores: Mapping[int, float] = field(default_factory=dict)
    score_intervals: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    support_scores: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    author: str = ""
    licence: str = ""
    notes: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict, repr=False)
    version: str = ""
