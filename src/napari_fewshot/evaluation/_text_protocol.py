"""The protocol of text prompts: which words, which labels were seen, which figures.

After MedCLIP-SAMv2 (Koleilat et al., 2024), whose figures can't be read without knowing
what was used beside the image: phrases that name the true subtype of each test image,
and hyper-parameters chosen on labelled images. Every row says both; a run that used
neither is *leak-free*.
"""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.errors import DataError
from napari_fewshot.evaluation._clicks import bootstrap_means, interval
from napari_fewshot.evaluation._metrics import (
    instance_metrics,
    overlap,
    surface_metrics,
)
from napari_fewshot.evaluation._slab import nsd_slab

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_fewshot._types import BoolArray

PROMPT_MODES = ("name", "template", "fixed", "ensemble", "oracle", "user")
HPARAM_MODES = ("fixed", "val3", "val-full")
# Tolerance of both surface Dices, in pixels.
TAU = 2.0
# Objects are parts of the mask; a pair of them matches from this IoU on.
OBJECT_IOU = 0.5
# The draws of the paper: one validation image for each of these seeds.
VAL_SEEDS = (0, 1, 2)
# A map is cut here, as a share of its range, when settings are compared.
VAL_LEVEL = 0.3
# The settings that the paper compares, by method; blocks count from 0.
GRIDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "m2ib": {"beta": (0.1, 1.0, 2.0), "var": (0.1, 1.0, 2.0), "layer": (7, 8, 9)},
}
GRIDS["medclip-samv2"] = GRIDS["m2ib"]
# The middle box covers this share of both sides.
CENTRE_SHARE = 0.5
# Boxes around single parts: so many largest ones.
MOST_BOXES = 64
SYLLABLES = "bcdfghjklmnpqrstvwxz", "aeiou"


@dataclass(frozen=True)
class Leak:
    """What a run knew of the truth.

    Attributes
    ----------
    prompts : str
        One of `PROMPT_MODES`.
    hparams : str
        One of `HPARAM_MODES`.
    """

    prompts: str
    hparams: str

    @property
    def mode(self) -> str:
        """``"leak-free"``, or ``"paper"`` if labels were used."""
        return "paper" if self.reasons else "leak-free"

    @property
    def reasons(self) -> tuple[str, ...]:
        """Which labels were used."""
        found = []
        if self.prompts == "oracle":
            found.append("each test image has a phrase of its true subtype")
        if self.hparams == "val3":
            found.append("settings were chosen by Dice on 3 labelled images")
        if self.hparams == "val-full":
            found.append("settings were chosen by Dice on all labelled val images")
        return tuple(found)


def plain_name(name: str) -> str:
    """Return the name of a class or folder as words.

    Parameters
    ----------
    name : str
        Such as ``"skin_lesion"``.
    """
    return " ".join(name.replace("_", " ").replace("-", " ").split())


def choose_phrases(
    mode: str,
    class_name: str,
    phrases: Sequence[str],
    by_image: Mapping[str, str],
    image: str,
) -> tuple[str, ...]:
    """Return what is typed for an image.

    Parameters
    ----------
    mode : str
        ``"name"`` and ``"template"``: the name of the class (which template it is put
        into is a parameter of methods). ``"fixed"``: the first phrase of the list.
        ``"ensemble"``, ``"user"``: all of the list. ``"oracle"``: the image's own.
    class_name : str
        As the data set has it.
    phrases : sequence of str
        The list.
    by_image : dict of str to str
        Phrases by name of the image.
    image : str
        Its name.

    Raises
    ------
    DataError
        If the mode needs phrases that are not there.
    """
    if mode in ("name", "template"):
        return (plain_name(class_name),)
    if mode == "oracle":
        if image not in by_image:
            raise DataError(
                f"The prompts have no phrase for {image}, which --prompt-mode oracle "
                "needs. Give --prompts with one phrase per image, or another mode."
            )
        return (by_image[image],)
    if not phrases:
        raise DataError(
            f"There are no phrases for {class_name}. Give --prompts FILE.json, or use "
            "--prompt-mode name."
        )
    return tuple(phrases[:1] if mode == "fixed" else phrases)


def validation_draw(
    names: Sequence[str], groups: Sequence[str] | None = None
) -> list[int]:
    """Draw the three labelled images that settings are chosen on.

    One image for each of the seeds 0, 1, 2; an image that was drawn before is replaced
    by the next of the same shuffle.

    Parameters
    ----------
    names : sequence of str
        Of all images that may be drawn. Their order does not matter.
    groups : sequence of str, optional
        Images of one group, such as a patient, are drawn once.

    Returns
    -------
    list of int
        Positions in ``names``; fewer than three where there are fewer images.
    """
    order = sorted(range(len(names)), key=lambda i: names[i])
    groups = list(names if groups is None else groups)
    found: list[int] = []
    for seed in VAL_SEEDS:
        taken = {groups[i] for i in found}
        shuffled = order.copy()
        random.Random(seed).shuffle(shuffled)
        found += [i for i in shuffled if groups[i] not in taken][:1]
    return found


def grid_points(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return every combination of settings.

    Parameters
    ----------
    grid : dict of str to sequence
        Values by name of the parameter.
    """
    return [
        dict(zip(grid, values, strict=True))
        for values in itertools.product(*grid.values())
    ]


def choose_point(
    points: Sequence[dict[str, Any]], scores: Sequence[Sequence[float]]
) -> tuple[dict[str, Any], float]:
    """Return the settings with the best mean score, the first of equals.

    Parameters
    ----------
    points : sequence of dict
        Not empty.
    scores : sequence of sequence of float
        Of each point, one per labelled image.
    """
    means = [float(np.mean(s)) for s in scores]
    best = int(np.argmax(means))
    return points[best], means[best]


def random_phrase(seed: int, words: int = 2) -> str:
    """Return a phrase without meaning that can be spoken, the same for the same seed.

    Parameters
    ----------
    seed : int
        Number of the phrase.
    words : int
        How many, each of three syllables.
    """
    drawn = random.Random(f"phrase {seed}")
    return " ".join(
        "".join(drawn.choice(letters) for _ in range(3) for letters in SYLLABLES)
        for _ in range(words)
    )


def bound_boxes(kind: str, truth: BoolArray) -> list[tuple[int, int, int, int]]:
    """Return the boxes that bound what a decoder of boxes can do.

    Parameters
    ----------
    kind : str
        ``"oracle-box"``: one around everything. ``"oracle-boxes"``: one around every
        connected part, the largest 64 at most. ``"whole-box"``: the plane.
        ``"centre-box"``: the middle half of both sides.
    truth : array (H, W) bool
        The reference.

    Returns
    -------
    list of (int, int, int, int)
        y0, x0, y1, x1, inclusive-exclusive. Empty for an oracle without foreground.

    Raises
    ------
    DataError
        If there is no such kind.
    """
    height, width = truth.shape
    if kind == "whole-box":
        return [(0, 0, height, width)]
    if kind == "centre-box":
        margins = (round(n * (1 - CENTRE_SHARE) / 2) for n in truth.shape)
        top, left = margins
        return [(top, left, height - top, width - left)]
    if kind not in ("oracle-box", "oracle-boxes"):
        raise DataError(f"There is no bound {kind!r}.")
    from skimage.measure import label, regionprops

    numbers = truth.astype(int) if kind == "oracle-box" else label(truth)
    parts = sorted(regionprops(numbers), key=lambda part: -part.area)
    return [part.bbox for part in parts[:MOST_BOXES]]


def mask_figures(p: BoolArray, r: BoolArray) -> dict[str, float]:
    """Return the figures of a mask on one image.

    Parameters
    ----------
    p, r : array (H, W) bool
        Prediction and reference.

    Returns
    -------
    dict
        ``dice``, ``iou``, ``nsd_2d``, ``nsd_slab``: 1 if both are empty, 0 if one is.
        ``hd95`` in pixels: NaN, inf. ``precision``: NaN without a prediction;
        ``recall``: NaN without a reference. ``f1_parts``: F1 of connected parts that
        match at IoU 0.5; 1 if there are none at all.
    """
    from skimage.measure import label

    dice, iou = overlap(p, r)
    both = int((p & r).sum())
    surface = surface_metrics(p, r, (1.0, 1.0), TAU)
    parts = instance_metrics(
        label(p, connectivity=2), label(r, connectivity=2), (OBJECT_IOU,)
    )
    found = {
        "dice": dice,
        "iou": iou,
        "nsd_2d": surface["nsd"],
        "nsd_slab": nsd_slab(p, r, TAU),
        "f1_parts": parts[f"f1@{OBJECT_IOU:g}"],
    }
    if not p.any() and not r.any():
        found = dict.fromkeys(found, 1.0)
    found["hd95"] = surface["hd95"]
    found["precision"] = both / int(p.sum()) if p.any() else float("nan")
    found["recall"] = both / int(r.sum()) if r.any() else float("nan")
    return found


def spread(values: Sequence[float], groups: Sequence[str]) -> dict[str, Any]:
    """Return mean, standard deviation over images, and the interval of the mean.

    Parameters
    ----------
    values : sequence of float
        One per image; those that are not finite are left out.
    groups : sequence of str
        Images of one group are resampled together.

    Returns
    -------
    dict
        ``mean``, ``std`` (of the values, not of their mean), ``low`` and ``high``
        (95 %, bootstrap over groups), ``n``. None where there is nothing to tell.
    """
    kept = [(v, g) for v, g in zip(values, groups, strict=True) if math.isfinite(v)]
    if not kept:
        return {"mean": None, "std": None, "low": None, "high": None, "n": 0}
    finite = np.array([v for v, _ in kept])
    drawn = bootstrap_means(finite[:, None], [g for _, g in kept], [""] * len(kept))
    low, high = (float(v) for v in interval(drawn)[:, 0])
    is_known = math.isfinite(low)
    return {
        "mean": float(finite.mean()),
        "std": float(finite.std(ddof=1)) if len(finite) > 1 else None,
        "low": low if is_known else None,
        "high": high if is_known else None,
        "n": len(finite),
    }
