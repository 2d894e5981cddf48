"""Frozen request in, prediction out: the seam that executors carry.

A `SegmentRequest` captures every input on the thread of the user; `run` is a pure
function of it and may be called in any process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_fewshot.data import TextChoice

if TYPE_CHECKING:
    from napari_fewshot._types import BoolArray, FloatArray, LabelArray
    from napari_fewshot.data import Image, PromptSet, SupportSet, TextPrompt
    from napari_fewshot.inference._evidence import Evidence
    from napari_fewshot.methods import Lesson, Reliability


@dataclass(frozen=True, eq=False)
class SegmentRequest:
    """Everything a segmentation depends on.

    Attributes
    ----------
    query : Image
    support : SupportSet
    prompts : dict of int to PromptSet
    text : dict of int to TextPrompt
    reading : TextChoice
        How the text is read; method and model below are for supports and prompts.
    method, model : str
    params : dict
        Parameters of the method, as the user gave them.
    planes : tuple of int, optional
        Planes to segment; None is all.
    keep_probabilities : bool, optional
        None: kept for a single plane, not for stacks.
    classes : dict of int to str
        Names of the classes.
    checkpoint, device : str, optional
    task : str
        ``"segment"``, or besides: only make the embeddings of the planes, so that later
        prompts need not wait; find all objects; carry objects over the planes; say what
        to expect of the supports; tell how the planes come out as they do; show where
        phrases fit; or say whether they are understood. See `run_task`.
    options : dict
        Of the task; see `run_task`.
    region : (int, int, int, int), optional
        Segment only this part of every plane: row and column minima, then maxima.
    inside : array, optional
        Segment only where this is not 0: (H, W), or the shape of the labels.
    first : (float, float), optional
        Row and column of what is wanted first, where planes come in tiles.
    """

    query: Image
    support: SupportSet
    prompts: Mapping[int, PromptSet] = field(default_factory=dict)
    text: Mapping[int, TextPrompt] = field(default_factory=dict)
    reading: TextChoice = field(default_factory=TextChoice)
    method: str = "auto"
    model: str = "auto"
    params: Mapping[str, Any] = field(default_factory=dict)
    planes: Sequence[int] | None = None
    keep_probabilities: bool | None = None
    classes: Mapping[int, str] = field(default_factory=dict)
    checkpoint: str | None = None
    device: str = "auto"
    task: str = "segment"
    options: Mapping[str, Any] = field(default_factory=dict)
    region: tuple[int, int, int, int] | None = None
    inside: Any = None
    first: tuple[float, float] | None = None


@dataclass(frozen=True, eq=False)
class PlaneResult:
    """The finished labels of one plane, sent as soon as they are there.

    Attributes
    ----------
    plane : int
        Flat plane number.
    labels : array (H, W)
        int32 class labels.
    scores : dict of int to float
        Expected Dice per class on this plane.
    instances : array (H, W), optional
    probabilities : dict of int to array (H, W), float16
        Empty unless they are kept.
    candidates : dict of int to array (M, H, W) bool
        Masks that the prompts of a class may mean, the best first.
    candidate_scores : dict of int to tuple of float
        Predicted intersection over union of each.
    novelty : float
        How unlike the supports the plane is; above 1 it is unfamiliar. 0: not known.
    evidence : dict of int to Evidence
        Intermediates per class, where the task was to explain.
    region : (int, int, int, int), optional
        The part of the plane that the arrays are of: row and column minima, then
        maxima. None: all of it. A part may come again, better.
    digest : str
        Fingerprint of the pixels that were segmented.
    linked : bool
        Whether object numbers hold over all planes already.
    follow : int
        So many planes come after it that were segmented together with it.
    lessons : tuple of Lesson, optional
        What the planes up to this one leave for the next ones to learn from; None
        where planes do not help one another, and within a block of those that do.
    notes : tuple of str
        What was noted up to this plane, beside what supports alone say.
    """

    plane: int
    labels: LabelArray
    scores: Mapping[int, float]
    instances: LabelArray | None = None
    probabilities: Mapping[int, FloatArray] = field(default_factory=dict)
    candidates: Mapping[int, BoolArray] = field(default_factory=dict)
    candidate_scores: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    novelty: float = 0.0
    evidence: Mapping[int, Evidence] = field(default_factory=dict)
    region: tuple[int, int, int, int] | None = None
    digest: str = ""
    linked: bool = False
    follow: int = 0
    lessons: tuple[Lesson, ...] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Summary:
    """What is known when all planes are done: everything but the planes themselves.

    Attributes
    ----------
    classes : dict of int to str
    scores, score_intervals, present : dict
        As in `Prediction`.
    support_scores : dict of str to dict of int to float
        Leave-one-out Dice of every support.
    choice : str
        One line on what ``auto`` chose and why.
    provenance : dict
    suggested : int, optional
        The plane whose annotation would teach most: unsure and unlike the supports.
    redundant : tuple of str
        Supports that teach nothing new beside the others.
    fillable : dict of int to bool
        Whether holes of a class are filled, where that was asked for.
    reliability : Reliability, optional
        What the supports say of themselves: whoever puts several runs together needs
        it.
    tracks : Tracks, optional
        Objects through time or depth, where they were linked.
    """

    classes: Mapping[int, str]
    scores: Mapping[int, float]
    score_intervals: Mapping[int, tuple[float, float]]
    present: Mapping[int, bool]
    support_scores: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    choice: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)
    suggested: int | None = None
    redundant: tuple[str, ...] = ()
    fillable: Mapping[int, bool] = field(default_factory=dict)
    reliability: Reliability | None = None
    tracks: Any = None


OnPlane = Callable[[PlaneResult], None]
