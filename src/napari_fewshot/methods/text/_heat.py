"""What text methods hand on: heat maps of a plane, and the masks made from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_fewshot._types import BoolArray, FloatArray, LabelArray
    from napari_fewshot.data import PlanePrompts


@dataclass(frozen=True, eq=False)
class Heat:
    """Where phrases fit on one plane.

    Attributes
    ----------
    maps : array (C, h, w) float32
        One per class in the order of the bank, at any resolution; the grid covers the
        whole plane. Larger fits better; what the numbers mean is told by ``kind``.
    kind : str
        ``"cosine"``: cosines of cells with phrases, comparable between phrases, so
        that classes and background compete. ``"relevance"``: each map in [0, 1] by
        itself, by how much a place explains the phrase. ``"probability"``: calibrated,
        0.5 is the boundary.
    background : array (h, w), optional
        Of a cosine: the best fit of what is neither class.
    negative : array (C, h, w), optional
        Of a cosine: the best fit of what the class is not; -1 where nothing is named.
    fits : array (C,), optional
        Cosine of the whole plane with each class.
    baseline : float, optional
        The same with phrases that mean nothing, the best of them.
    objects : dict of int to array (M, H, W) bool
        Single objects per class value, from models that find them one by one.
    scores : dict of int to tuple of float
        Of the objects.
    boxes : dict of int to array (M, 4)
        Boxes per class value, from models that find boxes: minima, then maxima.
    """

    maps: FloatArray = field(repr=False)
    kind: str = "cosine"
    background: FloatArray | None = field(default=None, repr=False)
    negative: FloatArray | None = field(default=None, repr=False)
    fits: FloatArray | None = None
    baseline: float | None = None
    objects: Mapping[int, BoolArray] = field(default_factory=dict, repr=False)
    scores: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    boxes: Mapping[int, FloatArray] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, eq=False)
class Found:
    """Masks of all classes on one plane, and how they came about.

    Attributes
    ----------
    maps : dict of int to array (H, W) float32
        Probabilities; 0.5 is the boundary.
    objects : dict of int to array (H, W) int32
        Numbers of single objects, where the method finds them.
    heats : dict of int to dict of str to array (H, W) float32
        Heat maps per class for the user: ``"heat map"`` in [0, 1], and others.
    prompts : dict of int to PlanePrompts
        Given to the decoder.
    present : dict of int to bool
        Whether the phrase fits anything here.
    candidates : dict of int to array (M, H, W) bool
    scores : dict of int to tuple of float
        Of the candidates.
    notes : list of str
        What a phrase asked for that could not be satisfied.
    """

    maps: dict[int, FloatArray] = field(repr=False)
    objects: dict[int, LabelArray] = field(default_factory=dict, repr=False)
    heats: dict[int, dict[str, FloatArray]] = field(default_factory=dict, repr=False)
    prompts: dict[int, PlanePrompts] = field(default_factory=dict)
    present: dict[int, bool] = field(default_factory=dict)
    candidates: dict[int, BoolArray] = field(default_factory=dict, repr=False)
    scores: dict[int, tuple[float, ...]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
