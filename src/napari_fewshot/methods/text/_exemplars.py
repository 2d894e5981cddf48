"""Objects of the supports as examples, for models that look at examples and phrases.

CLIPSeg takes them as part of its condition, OWLv2 looks for boxes that are like them,
and SAM 3 sees them beside the query, each with the phrase (Lüddecke & Ecker, CVPR 2022;
Minderer et al., NeurIPS 2023; for SAM 3 see `models.grounding`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.methods._params import param
from napari_fewshot.methods.text._params import TextParams

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from napari_fewshot._types import BoolArray, FloatArray
    from napari_fewshot.data import Sample

# Objects much smaller than the largest one show little: less than this share of it.
LEAST = 0.1
# A crop is larger than its object by this share of the longer side, on each side.
MARGIN = 0.15
# Pixels of margin at least.
MARGIN_PIXELS = 2


@dataclass(frozen=True)
class ExemplarParams(TextParams):
    """How many objects of the supports a model is shown."""

    exemplars: int = param(
        3,
        "With supports: so many of their objects, the largest, are shown to the model "
        "as examples of each phrase.",
        low=0,
        high=8,
        at_low="none",
    )


@dataclass(frozen=True, eq=False)
class Exemplar:
    """One object of a support.

    Attributes
    ----------
    image : array (H, W, C) float32
        Its plane, in [0, 1].
    mask : array (H, W) bool
        The object.
    sample : int
        Number of the sample that it is from.
    """

    image: FloatArray = field(repr=False)
    mask: BoolArray = field(repr=False)
    sample: int = 0

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(y0, x0, y1, x1) round the object in pixels, inclusive-exclusive."""
        rows, columns = (np.flatnonzero(self.mask.any(axis)) for axis in (1, 0))
        return (
            int(rows[0]),
            int(columns[0]),
            int(rows[-1]) + 1,
            int(columns[-1]) + 1,
        )

    @property
    def crop(self) -> FloatArray:
        """The object with a little of what is round it, (h, w, C)."""
        y0, x0, y1, x1 = self.box
        more = max(MARGIN_PIXELS, round(MARGIN * max(y1 - y0, x1 - x0)))
        found: FloatArray = self.image[
            max(0, y0 - more) : y1 + more, max(0, x0 - more) : x1 + more
        ]
        return found


def exemplars_of(
    samples: Sequence[Sample], values: Collection[int], most: int
) -> dict[int, tuple[Exemplar, ...]]:
    """Choose objects of supports as examples.

    The largest object of every support, then the second of every support, and so on;
    objects that the edge of the plane cuts come last.

    Parameters
    ----------
    samples : sequence of Sample
        The supports.
    values : collection of int
        Classes of interest; those without an object in the supports are left out.
    most : int
        Objects per class.

    Returns
    -------
    dict of int to tuple of Exemplar
        Never an empty tuple.
    """
    found = {}
    for value in values:
        ranked: list[tuple[bool, int, int, Exemplar]] = []
        for number, sample in enumerate(samples):
            ranked += _ranked(sample, value, number)
        largest = max((-area for _, _, area, _ in ranked), default=0)
        good = [row for row in ranked if -row[2] >= LEAST * largest]
        good.sort(key=lambda row: row[:3])
        if chosen := tuple(row[3] for row in good[:most]):
            found[value] = chosen
    return found


def _ranked(
    sample: Sample, value: int, number: int
) -> list[tuple[bool, int, int, Exemplar]]:
    """Return the objects of a support with what they are sorted by."""
    from scipy import ndimage

    every, count = ndimage.label(sample.labels == value, np.ones((3, 3), int))
    if not count:
        return []
    areas = np.bincount(every.ravel())[1:]
    edges = (every[0], every[-1], every[:, 0], every[:, -1])
    cut = set(np.concatenate(edges).tolist())
    order = sorted(range(1, count + 1), key=lambda i: (i in cut, -int(areas[i - 1])))
    return [
        (
            which in cut,
            rank,
            -int(areas[which - 1]),
            Exemplar(sample.image, every == which, number),
        )
        for rank, which in enumerate(order)
    ]


def with_exemplars(bank: Any, samples: Sequence[Sample], most: int) -> Any:
    """Return phrases with examples from supports.

    Parameters
    ----------
    bank : PhraseBank
        Of all classes.
    samples : sequence of Sample
        The supports.
    most : int
        Examples per class.
    """
    values = [words.value for words in bank.classes]
    return replace(bank, exemplars=exemplars_of(samples, values, most))


def without_samples(bank: Any, numbers: Collection[int]) -> Any:
    """Return phrases without the examples of some samples; the same if there are none.

    Parameters
    ----------
    bank : PhraseBank or TextBank
        Only the former has examples.
    numbers : collection of int
        Samples whose objects must not be seen.
    """
    if not has_exemplars(bank):
        return bank
    left = {
        value: kept
        for value, every in bank.exemplars.items()
        if (kept := tuple(e for e in every if e.sample not in numbers))
    }
    return replace(bank, exemplars=left)


def has_exemplars(bank: Any) -> bool:
    """Say whether words come with examples from supports.

    Parameters
    ----------
    bank : PhraseBank or TextBank
        Words of a run.
    """
    return bool(getattr(bank, "exemplars", None))
