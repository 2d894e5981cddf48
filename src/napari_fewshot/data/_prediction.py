"""`Prediction`: labels with their scores and where they came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from napari_fewshot._types import AnyArray, LabelArray
    from napari_fewshot.data._prompts import PromptSet


@dataclass(frozen=True, eq=False)
class Prediction:
    """The result of a segmentation.

    Attributes
    ----------
    labels : array
        int32, the query's shape without its channel axis: numpy, or a zarr array when
        it is large or ``out=`` was given.
    classes : dict of int to str
        Names of the label values.
    probabilities : dict of int to array
        Per class, float16, the shape of ``labels``; empty when not kept. The decision
        boundary is 0.5.
    scores : dict of int to float
        Expected Dice on this query, in [0, 1].
    score_intervals : dict of int to (float, float)
        80 % interval of the score.
    plane_scores : dict of int to array
        Expected Dice of every plane, ``(planes,)`` float32; NaN where not segmented.
    present : dict of int to bool
        Whether the class was found anywhere.
    instances : array, optional
        int32 object numbers when they were asked for.
    prompts : dict of int to PromptSet
        Prompts that were given or generated.
    support_scores : dict of str to dict of int to float
        Leave-one-out Dice of every support: a low one disagrees with the others.
    choice : str
        One line on what ``auto`` chose and why.
    provenance : dict
        JSON-able record: method, model, weights_sha256, params, versions, inputs,
        seconds, score_kind, executor, device, precision, seed.
    plane_novelty : array, optional
        How unlike the supports every plane is, ``(planes,)`` float32; above 1 it is
        unfamiliar, and masks there are guesses. NaN where not segmented.
    suggested : int, optional
        The plane whose annotation would teach most.
    redundant : tuple of str
        Supports that teach nothing new beside the others.
    tracks : Tracks, optional
        Objects through time or depth, where they were linked: ``.table``, ``.points``
        and ``.graph`` are those of a napari Tracks layer.
    """

    labels: Any
    classes: dict[int, str] = field(default_factory=dict)
    probabilities: dict[int, AnyArray] = field(default_factory=dict)
    scores: dict[int, float] = field(default_factory=dict)
    score_intervals: dict[int, tuple[float, float]] = field(default_factory=dict)
    plane_scores: dict[int, np.ndarray[Any, Any]] = field(default_factory=dict)
    present: dict[int, bool] = field(default_factory=dict)
    instances: LabelArray | None = None
    prompts: dict[int, PromptSet] = field(default_factory=dict)
    support_scores: dict[str, dict[int, float]] = field(default_factory=dict)
    choice: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)
    plane_novelty: np.ndarray[Any, Any] | None = None
    suggested: int | None = None
    redundant: tuple[str, ...] = ()
    tracks: Any = None
