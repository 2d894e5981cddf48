"""Supports to samples: the planes a method learns from, and their fingerprint."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.data import IGNORED, Sample
from napari_fewshot.methods import complete_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot.data import Hooks, Support, SupportSet

# More planes of one densely labelled volume cost time and teach little.
MAX_PLANES_PER_SUPPORT = 24


def teaching_planes(support: Support) -> tuple[int, ...]:
    """Return the planes that are used: all, or evenly spaced ones of a long stack."""
    planes = support.used_planes
    if len(planes) <= MAX_PLANES_PER_SUPPORT:
        return planes
    index = np.linspace(0, len(planes) - 1, MAX_PLANES_PER_SUPPORT).round().astype(int)
    return tuple(planes[i] for i in index)


def collect_samples(
    supports: SupportSet, hooks: Hooks
) -> tuple[list[Sample], list[str]]:
    """Read all teaching planes; labels that are not known are guessed.

    Returns
    -------
    samples : list of Sample
    digests : list of str
        One fingerprint per sample, of pixels and labels.
    """
    samples: list[Sample] = []
    digests: list[str] = []
    for group, support in enumerate(supports):
        source = support.source
        for plane in teaching_planes(support):
            hooks.check()
            labels = support.label_plane(plane)
            ignored = labels == IGNORED
            name = support.name or f"support {group + 1}"
            if source.n_planes > 1:
                name = f"{name}, plane {plane}"
            samples.append(
                Sample(
                    source.plane(plane),
                    source.relative_position(plane),
                    source.pixel_size,
                    labels=np.where(ignored, 0, labels).astype(np.int32),
                    ignored=ignored if ignored.any() else None,
                    group=group,
                    name=_unique(name, [s.name for s in samples]),
                )
            )
            digest = hashlib.blake2b(labels.tobytes(), digest_size=16)
            digest.update(source.plane_digest(plane).encode())
            digest.update(repr(source.window_of(plane)).encode())
            digests.append(digest.hexdigest())
    return complete_labels(samples, hooks), digests


def _unique(name: str, taken: Sequence[str]) -> str:
    if name not in taken:
        return name
    number = 2
    while f"{name} ({number})" in taken:
        number += 1
    return f"{name} ({number})"
