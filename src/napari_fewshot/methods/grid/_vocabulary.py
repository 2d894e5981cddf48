"""Words of the methods on embeddings: parameters, looks, segments, explanations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_fewshot.data import PlanePrompts
from napari_fewshot.methods._params import CommonParams, param

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_fewshot._types import BoolArray, FloatArray, LabelArray
    from napari_fewshot.methods.grid._asks import Ask


@dataclass(frozen=True)
class GridParams(CommonParams):
    """Parameters of every method on embeddings."""

    decoder: Literal["auto", "sam", "network", "map"] = param(
        "auto",
        "Who draws the masks: SAM, the bundled network, or levels of the similarity "
        "map. auto takes SAM if the model is a SAM, or one is installed beside a "
        "downloaded model, and keeps it only if it does better on the supports.",
    )
    position: Literal["auto", "on", "off"] = param(
        "auto",
        "Look where the supports' objects are: on for aligned anatomy, off for objects "
        "that lie anywhere; auto tries it on the supports.",
    )
    target_area: float = param(
        0.0,
        "Share of the plane that the class should cover; 0 leaves it as found.",
        low=0.0,
        high=99.0,
        step=0.5,
        unit="% of the plane",
        at_low="as found",
    )
    edges: Literal["guided", "walker", "none"] = param(
        "guided",
        "How edges are found between cells: follow the image (guided), walk to the "
        "nearest strong edge (walker; few large objects), or neither.",
        advanced=True,
    )


@dataclass(frozen=True, eq=False)
class Look:
    """What a method sees of one class on the grid.

    Attributes
    ----------
    raw : array (h, w)
        Larger is surer; no fixed scale, it is calibrated on the supports.
    maps : dict of str to array (h, w)
        Intermediate maps for the user, by name, such as ``"similarity"``.
    """

    raw: FloatArray = field(repr=False)
    maps: Mapping[str, FloatArray] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, eq=False)
class Segment:
    """The mask of one class at the size of the plane, and how it came about.

    Attributes
    ----------
    odds : array (H, W)
        Log-odds.
    asks : tuple of Ask
        The prompts that led to it.
    candidates : array (M, H, W) bool
        Masks that were considered, the best first; may be empty.
    scores : tuple of float
        Of the candidates.
    objects : array (H, W) int32, optional
        Numbers of single objects from 1, where the method finds them one by one.
    """

    odds: FloatArray = field(repr=False)
    asks: tuple[Ask, ...] = ()
    candidates: BoolArray | None = field(default=None, repr=False)
    scores: tuple[float, ...] = ()
    objects: LabelArray | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class Explanation:
    """Every intermediate of one class on one plane.

    Attributes
    ----------
    probability : array (H, W) float32
        What `GridFitted.predict` returns.
    maps : dict of str to array (H, W) float32
        ``"similarity"`` and what else the method computes.
    prompts : PlanePrompts
        Points and boxes that were made.
    candidates : array (M, H, W) bool, optional
    scores : tuple of float
    """

    probability: FloatArray = field(repr=False)
    maps: Mapping[str, FloatArray] = field(repr=False)
    prompts: PlanePrompts
    candidates: BoolArray | None = field(default=None, repr=False)
    scores: tuple[float, ...] = ()


def joined(asks: Sequence[Ask]) -> PlanePrompts:
    """Return several sets of prompts as one, without masks."""
    parts = [ask.as_prompts() for ask in asks]
    if not parts:
        return PlanePrompts()
    # The same place may be asked for many times.
    return PlanePrompts(
        np.unique(np.concatenate([p.positive for p in parts]), axis=0),
        np.unique(np.concatenate([p.negative for p in parts]), axis=0),
        np.unique(np.concatenate([p.boxes for p in parts]), axis=0),
    )
