"""Leave-one-out: how good a method is on images like the supports.

With several supports, each is segmented by what the others taught. With a single one,
the method segments turned, stretched and re-lit copies of it: better than nothing, and
the interval is widened accordingly.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import Plane, Sample
from napari_fewshot.methods._base import Reliability
from napari_fewshot.ops import soft_dice

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_fewshot._types import BoolArray, FloatArray, LabelArray
    from napari_fewshot.data import Hooks
    from napari_fewshot.methods._base import FittedMethod, Method
    from napari_fewshot.models import Encoder

MAX_FOLDS = 5
N_COPIES = 3
# Before any evidence the Dice of two images is taken to differ by this much (standard
# deviation), with the weight of so many observations.
PRIOR_SPREAD, PRIOR_WEIGHT = 0.15, 2.0
# Copies of one image are easier than other images: their Dice counts for this much, and
# for this much where supports are registered, as a bent copy is found more easily.
COPY_DISCOUNT, REGISTERED_DISCOUNT = 0.9, 0.8


@dataclass(frozen=True, eq=False)
class HeldOut:
    """A sample and what a method said of it without having learnt from it.

    Attributes
    ----------
    name : str
        Of the sample.
    labels : array (H, W)
        Its truth.
    maps : dict of int to array (H, W)
        Probability per class.
    ignored : array (H, W) bool, optional
        Where the truth is not known; labels and maps are zero there.
    """

    name: str
    labels: LabelArray = field(repr=False)
    maps: Mapping[int, FloatArray] = field(repr=False)
    ignored: BoolArray | None = field(default=None, repr=False)


def held_sample(sample: Sample, maps: Mapping[int, FloatArray]) -> HeldOut:
    """Return what was said of a sample; where nobody knows the truth, nothing counts.

    There both the labels and the maps are zero: such pixels change no Dice.

    Parameters
    ----------
    sample : Sample
        That was left out.
    maps : dict of int to array (H, W)
        What was said of it.
    """
    off = sample.ignored
    if off is None:
        return HeldOut(sample.name, sample.labels, maps)
    known = {v: np.where(off, 0, m).astype(np.float32) for v, m in maps.items()}
    return HeldOut(sample.name, np.where(off, 0, sample.labels), known, off)


def split_folds(samples: Sequence[Sample], classes: Sequence[int]) -> list[list[int]]:
    """Split sample numbers into at most five folds to leave out in turn.

    Samples of one support stay together, unless there is only one support. If leaving
    out some fold would leave a class without foreground, nothing is left out.

    Parameters
    ----------
    samples : sequence of Sample
        All samples.
    classes : sequence of int
        Classes that have to stay learnable.

    Returns
    -------
    list of list of int
        Covers every sample; a single fold means that leaving out is impossible.
    """
    groups = sorted({s.group for s in samples})
    if len(groups) > 1:
        units = [[i for i, s in enumerate(samples) if s.group == g] for g in groups]
    else:
        units = [[i] for i in range(len(samples))]
    folds: list[list[int]] = [[] for _ in range(min(MAX_FOLDS, len(units)))]
    for number, unit in enumerate(units):
        folds[number % len(folds)] += unit
    present = [set(np.unique(s.known_labels).tolist()) for s in samples]
    for fold in folds:
        left = set().union(*(p for i, p in enumerate(present) if i not in fold))
        if not set(classes) <= left:
            return [list(range(len(samples)))]
    return folds


def held_out(
    method: Method,
    samples: Sequence[Sample],
    classes: Sequence[int],
    params: Any,
    encoder: Encoder | None,
    hooks: Hooks,
    fitted: FittedMethod,
) -> list[HeldOut]:
    """Segment every sample without having learnt from it (or copies of a single one).

    Parameters
    ----------
    method : Method
        What to judge.
    samples, classes, params, encoder, hooks
        As for `Method.fit`.
    fitted : FittedMethod
        The fit on all samples, used on copies of a single sample.

    Returns
    -------
    list of HeldOut
        In the order of ``samples``, or the copies.
    """
    folds = split_folds(samples, classes)
    if len(folds) == 1:
        copies = [c for s in samples[:1] for c in altered_copies(s, params.seed)]
        return [_judge(fitted, copy, hooks) for copy in copies]
    found: dict[int, HeldOut] = {}
    for number, fold in enumerate(folds):
        hooks.report("Checking the supports", number, len(folds))
        rest = [s for i, s in enumerate(samples) if i not in fold]
        light = method.fold_params(params, fitted)
        part = method.fit(rest, classes, light, encoder, hooks)
        for i in fold:
            found[i] = _judge(part, samples[i], hooks)
    return [found[i] for i in range(len(samples))]


def leave_one_out(
    method: Method,
    samples: Sequence[Sample],
    classes: Sequence[int],
    params: Any,
    encoder: Encoder | None,
    hooks: Hooks,
    fitted: FittedMethod,
    discount: float = COPY_DISCOUNT,
) -> Reliability:
    """Estimate the quality of a method from the supports.

    Parameters
    ----------
    method, samples, classes, params, encoder, hooks, fitted
        As for `held_out`.
    discount : float
        As for `summarise`.

    Returns
    -------
    Reliability
        Empty and ``"uncalibrated"`` when ``params.leave_one_out`` is off.
    """
    if not params.leave_one_out:
        return Reliability()
    judged = held_out(method, samples, classes, params, encoder, hooks, fitted)
    is_copy = len(split_folds(samples, classes)) == 1
    return summarise(judged, classes, is_copy=is_copy, discount=discount)


def summarise(
    judged: Sequence[HeldOut],
    classes: Sequence[int],
    *,
    is_copy: bool,
    discount: float = COPY_DISCOUNT,
) -> Reliability:
    """Turn held-out maps into scores with intervals.

    Parameters
    ----------
    judged : sequence of HeldOut
        What was said of the samples.
    classes : sequence of int
        Classes to score. An image counts for a class that it holds, or in which the
        class was found wrongly.
    is_copy : bool
        Whether these were copies of a single support.
    discount : float
        What the Dice of copies counts for.
    """
    scores, intervals, confidence = {}, {}, {}
    per_support: dict[str, dict[int, float]] = {}
    for value in classes:
        dices, sure = [], []
        for item in judged:
            mask, truth = item.maps[value] >= 0.5, item.labels == value
            if not mask.any() and not truth.any():
                continue
            dices.append(dice(mask, truth))
            sure.append(soft_dice(item.maps[value]))
            if not is_copy:
                per_support.setdefault(item.name, {})[value] = dices[-1]
        counts = discount if is_copy else 1.0
        scores[value] = counts * float(np.mean(dices)) if dices else 0.0
        confidence[value] = float(np.mean(sure)) if sure else 1.0
        # Copies are not independent images: together they weigh as one.
        counted = [float(np.mean(dices))] if is_copy and dices else dices
        intervals[value] = _interval(scores[value], counted)
    return Reliability(scores, intervals, per_support, confidence, "leave-one-out")


def dice(mask: Any, truth: Any) -> float:
    """Return 2|A & B| / (|A| + |B|) of two masks; 1 when both are empty."""
    size = int(mask.sum()) + int(truth.sum())
    return 1.0 if size == 0 else 2.0 * int((mask & truth).sum()) / size


def altered_copies(sample: Sample, seed: int, count: int = N_COPIES) -> list[Sample]:
    """Return turned, stretched, shifted and re-lit copies of a sample.

    Parameters
    ----------
    sample : Sample
        The only support.
    seed : int
        Makes the copies repeatable.
    count : int
        How many.
    """
    rng = np.random.default_rng(seed + 1)
    return [_altered(sample, rng, number) for number in range(count)]


def _altered(sample: Sample, rng: np.random.Generator, number: int) -> Sample:
    from scipy import ndimage

    shape = np.array(sample.labels.shape)
    angle = np.deg2rad(rng.uniform(-10, 10))
    zoom = rng.uniform(0.9, 1.1, 2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn / zoom[:, None]
    centre = (shape - 1) / 2
    offset = centre - matrix @ (centre + rng.uniform(-0.06, 0.06, 2) * shape)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    at = np.tensordot(matrix, np.stack([rows, columns]), axes=1) + offset[:, None, None]
    bend = rng.normal(0, 1, (2, *shape))
    width = float(shape.max()) / 12
    bend = np.stack([ndimage.gaussian_filter(b, width) for b in bend])
    at += bend / (np.abs(bend).max() + 1e-9) * shape.max() * 0.02
    labels = ndimage.map_coordinates(sample.labels, at, order=0, mode="nearest")
    ignored = None
    if sample.ignored is not None:
        off = sample.ignored.astype(np.uint8)
        ignored = ndimage.map_coordinates(off, at, order=0, mode="nearest") > 0
    channels = [
        ndimage.map_coordinates(sample.image[..., c], at, order=1, mode="nearest")
        for c in range(sample.image.shape[-1])
    ]
    image = np.stack(channels, -1) ** rng.uniform(0.75, 1.35)
    image = np.clip(
        image * rng.uniform(0.9, 1.1) + rng.normal(0, 0.02, image.shape), 0, 1
    )
    return Sample(
        image.astype(np.float32),
        sample.position,
        sample.pixel_size,
        labels=labels.astype(np.int32),
        ignored=ignored,
        group=sample.group,
        name=f"{sample.name} (copy {number + 1})",
    )


def _judge(fitted: FittedMethod, sample: Sample, hooks: Hooks) -> HeldOut:
    plane = Plane(sample.image, sample.position, sample.pixel_size)
    return held_sample(sample, fitted.predict(plane, hooks))


def _interval(centre: float, dices: Sequence[float]) -> tuple[float, float]:
    """80 % interval for one more image, with a prior on the spread."""
    from scipy import stats

    count = len(dices)
    spread = float(np.sum((np.asarray(dices) - np.mean(dices)) ** 2)) if count else 0.0
    variance = (spread + PRIOR_WEIGHT * PRIOR_SPREAD**2) / (
        max(count - 1, 0) + PRIOR_WEIGHT
    )
    freedom = max(count - 1, 0) + PRIOR_WEIGHT
    reach = float(stats.t.ppf(0.9, freedom)) * float(
        np.sqrt(variance * (1 + 1 / max(count, 1)))
    )
    return max(0.0, centre - reach), min(1.0, centre + reach)
