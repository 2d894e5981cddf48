"""Supports that are annotated in part: a guess of the rest.

Methods that compare whole objects need whole masks. Where nobody knows the labels they
are guessed, from what is known on all supports: a forest says what pixels look like
(as in `pixel`, without position), a random walker what they hang together with; both
decide. ScribbleSup (Lin et al., CVPR 2016) makes scribbles into masks
alike, by graph cuts. Guesses teach where a method can't do without, and no score counts
them.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.errors import SupportError
from napari_fewshot.methods._forest import Forest, sample_pixels
from napari_fewshot.models import Recent
from napari_fewshot.ops import (
    fit_factor,
    pixel_features,
    resize_image,
    resize_labels,
    scaled_shape,
    spread_labels,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import FloatArray, LabelArray
    from napari_fewshot.data import Hooks, Sample

# Longest side of the planes that the forest sees, its trees, and pixels a label and
# plane; of many supports some.
SIDE, TREES, PIXELS, MOST = 384, 40, 1500, 12
# Certainties are held within this, so that neither of the two decides alone. Walkers
# count for less: far from every label they only meet the commonest first.
LEAST, WALK = 0.02, 0.25
KEPT_BYTES = 64 * 2**20

_KEPT: Recent[LabelArray] = Recent(KEPT_BYTES)


def complete_labels(samples: Sequence[Sample], hooks: Hooks) -> list[Sample]:
    """Return samples whose labels are guessed where they are ignored.

    Parameters
    ----------
    samples : sequence of Sample
        With ``labels`` of any value where ``ignored``.
    hooks : Hooks
        For progress and cancelling.

    Returns
    -------
    list of Sample
        Those without ignored pixels are the same objects.

    Raises
    ------
    SupportError
        If it is nowhere known what is background.
    """
    asked = [i for i, s in enumerate(samples) if s.ignored is not None]
    if not asked:
        return list(samples)
    values = sorted({int(v) for s in samples for v in np.unique(s.known_labels)} - {-1})
    if 0 not in values:
        raise SupportError(
            "Nothing on the supports is known to be background, so nothing says where "
            "objects end. Ignore less, or paint some background."
        )
    key = _key(samples)
    kept = [_KEPT.get(f"{key} {i}") for i in asked]
    found = list(samples)
    if any(labels is None for labels in kept):
        forest = _forest(samples, asked, hooks)
        kept = [_guess(samples[i], forest, values, hooks) for i in asked]
    for i, labels in zip(asked, kept, strict=True):
        if labels is not None:
            _KEPT.put(f"{key} {i}", labels)
            found[i] = replace(samples[i], labels=labels)
    return found


def _key(samples: Sequence[Sample]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for sample in samples:
        for array in (sample.image, sample.known_labels):
            digest.update(repr(array.shape).encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _forest(samples: Sequence[Sample], asked: Sequence[int], hooks: Hooks) -> Forest:
    """Learn what the pixels of each label look like."""
    others = [i for i in range(len(samples)) if i not in asked]
    shown = [*asked, *others][:MOST]
    # A label that only a later plane shows must be among them.
    for value in {int(v) for s in samples for v in np.unique(s.known_labels)} - {-1}:
        has = [i for i, s in enumerate(samples) if (s.known_labels == value).any()]
        shown += [] if set(has) & set(shown) else has[:1]
    features, labels = [], []
    for number, i in enumerate(shown):
        hooks.report("Completing the supports", number, len(shown) + len(asked))
        features.append(_described(samples[i]))
        labels.append(resize_labels(samples[i].known_labels, features[-1].shape[:2]))
    rng = np.random.default_rng(0)
    x, y = sample_pixels(features, labels, PIXELS, rng)
    return Forest(x, y, TREES, 0)


def _described(sample: Sample) -> FloatArray:
    shape = (sample.image.shape[0], sample.image.shape[1])
    small = scaled_shape(shape, fit_factor(shape, SIDE))
    return pixel_features(resize_image(sample.image, small))


def _guess(
    sample: Sample, forest: Forest, values: Sequence[int], hooks: Hooks
) -> LabelArray:
    """Return the labels of a plane, the unknown ones guessed."""
    hooks.check()
    shape = (sample.image.shape[0], sample.image.shape[1])
    looks = forest.predict(_described(sample), values)
    hooks.check()
    near = spread_labels(sample.image, sample.known_labels, values)
    odds = np.stack(
        [
            np.log(np.clip(resize_image(look, shape), LEAST, 1))
            + WALK * np.log(np.clip(walk, LEAST, 1))
            for look, walk in zip(looks, near, strict=True)
        ]
    )
    best = np.asarray(values, np.int32)[odds.argmax(0)]
    known = sample.known_labels
    found: LabelArray = np.where(known < 0, best, known).astype(np.int32)
    return found
