"""What ``benchmark text`` asks for every image: masks, heat maps, boxes, nonsense."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import PromptSet, TextPrompt
from napari_fewshot.evaluation import (
    area_under_roc,
    best_dice,
    binary_dice,
    bound_boxes,
    mask_figures,
    plain_name,
    pointing_game,
)
from napari_fewshot.session import check_text, segment, where

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from napari_fewshot._types import AnyArray, BoolArray, FloatArray
    from napari_fewshot.cli._text_data import TextSet
    from napari_fewshot.cli._text_options import TextOptions
    from napari_fewshot.data import Image

HEAT = "heat map"
# Heat maps are cut here, by definition.
CUT = 0.5
# What is shown saturates where a phrase is far from the cut. With more pixels than this
# share at either end the order of values is taken from a cut in the middle of them.
MOST_TIES = 0.01
MIDDLE = {"cut": "percentile", "level": 0.5}


@dataclass
class TextEngine:
    """A method on a model, asked as users ask it.

    Attributes
    ----------
    method, model : str
    options : TextOptions
    used : dict
        What the runs say of the model: its name, the digest of its weights, notes.
    """

    method: str
    model: str
    options: TextOptions
    used: dict[str, Any] = field(default_factory=dict)

    @property
    def _how(self) -> dict[str, Any]:
        checkpoint = self.options.checkpoint
        return {
            "method": self.method,
            "model": self.model,
            "checkpoint": None if checkpoint is None else str(checkpoint),
            "device": self.options.device,
        }

    def mask(
        self, image: Image, phrases: Sequence[str], params: Mapping[str, Any]
    ) -> tuple[BoolArray, float]:
        """Return the mask (H, W) of phrases, and the seconds that it took.

        Parameters
        ----------
        image : Image
            One plane.
        phrases : sequence of str
            Alternatives.
        params : dict
            Of the method.
        """
        start = time.perf_counter()
        text = {1: TextPrompt(phrases)}
        found = segment(image, text=text, **self._how, **params)
        seconds = time.perf_counter() - start
        self._note(found.provenance)
        return as_plane_mask(found.labels), seconds

    def heat(
        self, image: Image, phrases: Sequence[str], params: Mapping[str, Any]
    ) -> FloatArray:
        """Return the heat map (H, W) of phrases; 0.5 is where it is cut.

        Parameters
        ----------
        image : Image
            One plane.
        phrases : sequence of str
            Alternatives.
        params : dict
            Of the method.
        """
        found = where(image, {1: TextPrompt(phrases)}, **self._how, **params)
        heat: FloatArray = np.asarray(found[1].maps[HEAT], np.float32)
        return heat

    def order(
        self,
        image: Image,
        phrases: Sequence[str],
        params: Mapping[str, Any],
        heat: FloatArray,
    ) -> FloatArray:
        """Return a heat map (H, W) in which values that differ can be told apart.

        Parameters
        ----------
        image : Image
            One plane.
        phrases : sequence of str
            Alternatives.
        params : dict
            Of the method.
        heat : array (H, W)
            From `heat`; given back where it is not saturated.
        """
        ends = max(float((heat == end).mean()) for end in (heat.min(), heat.max()))
        if ends <= MOST_TIES:
            return heat
        return self.heat(image, phrases, {**params, **MIDDLE})

    def check(
        self, image: Image, found: TextSet, params: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Compare the map of every phrase of a set with maps of nonsense.

        Parameters
        ----------
        image : Image
            One plane.
        found : TextSet
            Its class, and the other classes of the data set.
        params : dict
            Of the method.

        Returns
        -------
        list of dict
            Rows of `session.check_text`, one per phrase.
        """
        rows = []
        others = dict(enumerate(map(TextPrompt, found.others), 2))
        for phrase in found.phrases or (plain_name(found.class_name),):
            text = {1: TextPrompt(phrase), **others}
            table: pd.DataFrame = check_text(image, text, **self._how, **params)
            mine: Any = table[table["class"] == 1].to_dict("records")
            rows += mine
        return rows

    def _note(self, provenance: Mapping[str, Any]) -> None:
        read = provenance.get("text", provenance)
        self.used["model"] = read.get("model") or self.model
        self.used["weights_sha256"] = read.get("weights_sha256")
        notes = self.used.setdefault("notes", [])
        notes += [n for n in provenance.get("notes", ()) if n not in notes]


def box_mask(
    image: Image, kind: str, truth: BoolArray, options: TextOptions
) -> tuple[BoolArray, float]:
    """Return what a model that answers boxes makes of a bound, and the seconds.

    Parameters
    ----------
    image : Image
        One plane.
    kind : str
        See `evaluation.bound_boxes`.
    truth : array (H, W) bool
        In pixels of the mask, which may be another size than the image.
    options : TextOptions
        With the model of the boxes.
    """
    shape = image.plane_shape
    boxes = bound_boxes(kind, resized(truth, shape))
    if not boxes:
        return np.zeros(shape, bool), 0.0
    start = time.perf_counter()
    checkpoint = options.box_checkpoint
    found = segment(
        image,
        prompts={1: PromptSet(boxes=boxes)},
        model=options.box_model,
        checkpoint=None if checkpoint is None else str(checkpoint),
        device=options.device,
    )
    return as_plane_mask(found.labels), time.perf_counter() - start


def as_plane_mask(labels: Any) -> BoolArray:
    """Return class 1 of labels of a single plane, (H, W).

    Parameters
    ----------
    labels : array (..., H, W)
        Leading axes have length one.
    """
    plane = np.asarray(labels)
    mask: BoolArray = plane.reshape(plane.shape[-2:]) == 1
    return mask


def score_mask(mask: BoolArray, truth: BoolArray) -> dict[str, float]:
    """Return the figures of a mask after it is brought to the size of the truth.

    Parameters
    ----------
    mask, truth : array (H, W) bool
        Perhaps of two sizes.
    """
    return mask_figures(resized(mask, truth.shape), truth)


def score_heat(
    heat: FloatArray, order: FloatArray, truth: BoolArray
) -> dict[str, float]:
    """Return the figures of a heat map after it is brought to the size of the truth.

    Parameters
    ----------
    heat, order : array (H, W)
        From `TextEngine.heat` and `TextEngine.order`.
    truth : array (H, W) bool
        Perhaps of another size.

    Returns
    -------
    dict
        ``coarse_dice``, ``coarse_nsd_2d``, ``coarse_nsd_slab`` of the map where it is
        cut, before any decoder; ``auc``, ``pointing``, ``best_dice`` of all of it.
    """
    here = resized(order, truth.shape)
    cut = resized(heat, truth.shape) > CUT
    coarse = mask_figures(cut, truth)
    return {
        "coarse_dice": binary_dice(cut, truth),
        "coarse_nsd_2d": coarse["nsd_2d"],
        "coarse_nsd_slab": coarse["nsd_slab"],
        "auc": area_under_roc(here, truth),
        "pointing": pointing_game(here, truth),
        "best_dice": best_dice(here, truth)[0],
    }


def resized(plane: Any, shape: Sequence[int]) -> AnyArray:
    """Return a plane (H, W) resized to a shape by its nearest pixels.

    Parameters
    ----------
    plane : array (H, W)
        Of any dtype, which is kept.
    shape : (int, int)
        Wanted.
    """
    rows, columns = (
        np.minimum((np.arange(n) + 0.5) * m / n, m - 1).astype(int)
        for n, m in zip(shape, plane.shape, strict=True)
    )
    found: AnyArray = plane[rows][:, columns]
    return found
