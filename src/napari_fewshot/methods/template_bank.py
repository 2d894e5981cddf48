"""`template-bank`: the supports most like a query answer for it.

After VESSA (arXiv 2511.19759), whose code is not public: a template is retrieved by a
descriptor of the whole image, features are matched, matches become prompts of a
decoder. The paper trains a segmenter guided by references and lets it teach another one
on unlabelled images; here nothing is trained. Its loop, in which accepted answers join
the bank, runs over the supports alone: a template is accepted by how well it explains
others. Answers of queries never join by themselves, so that the order of queries does
not matter; whoever accepts a mask adds it as a support.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.methods._base import MethodSpec
from napari_fewshot.methods._params import param
from napari_fewshot.methods._validation import dice
from napari_fewshot.methods.grid import (
    GridMethod,
    GridParams,
    Look,
    Segment,
    house_ask,
    house_segment,
    thinned,
)
from napari_fewshot.ops import attend_to_mask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import BoolArray, FloatArray
    from napari_fewshot.data import Hooks
    from napari_fewshot.methods.grid import Ask, Decoder, GridPlane, GridSupport

# Cells kept of every template.
MOST_CELLS = 1500
# A template is tried on so many others before it is accepted.
TRIALS = 3
# Templates that explain others worse than this share of the best are not asked.
LEAST_TRUST = 0.5
# How fast a template that looks different loses its say (cosine of descriptors).
LIKENESS = 0.05
# Matched points that are added to the prompts of one part.
MATCHES = 3


@dataclass(frozen=True)
class BankParams(GridParams):
    """Parameters of `template-bank`."""

    templates: int = param(
        3, "How many of the most similar supports answer for an image.", low=1, high=100
    )


@dataclass(frozen=True, eq=False)
class _Template:
    descriptor: FloatArray
    cells: FloatArray = field(repr=False)
    cover: FloatArray = field(repr=False)
    trust: float = 1.0

    def explains(self, query: GridPlane) -> FloatArray:
        """Return the share of the class in every cell of a query, (h, w)."""
        rows = query.unit.reshape(len(query.unit), -1).T
        return attend_to_mask(rows, self.cells, self.cover).reshape(query.grid)


class BankMethod(GridMethod):
    """The method object."""

    spec = MethodSpec(
        name="template-bank",
        summary="Asks the supports that look most like the image; good for many.",
        params=BankParams,
        uses_model=True,
        citation="VESSA (arXiv 2511.19759)",
    )

    def learn(
        self, supports: Sequence[GridSupport], value: int, params: Any, hooks: Hooks
    ) -> tuple[_Template, ...]:
        """Keep templates that explain other supports."""
        bank = [_template(s, value, params.seed + i) for i, s in enumerate(supports)]
        for number, template in enumerate(bank):
            hooks.report("Comparing the supports", number, len(bank))
            trials = [
                supports[(number + step) % len(bank)]
                for step in range(1, min(TRIALS, len(bank) - 1) + 1)
            ]
            found = [_agreement(template, t, value) for t in trials]
            trust = float(np.mean(found)) if found else 1.0
            bank[number] = replace(template, trust=trust)
        best = max(t.trust for t in bank)
        return tuple(t for t in bank if t.trust >= LEAST_TRUST * best)

    def look(self, state: Any, query: GridPlane, params: Any, hooks: Hooks) -> Look:
        """Let the nearest templates answer, each by its likeness and trust."""
        here = descriptor_of(query)
        likeness = np.array([float(t.descriptor @ here) for t in state])
        order = np.argsort(-likeness, kind="stable")[: params.templates]
        weight = np.exp((likeness[order] - likeness[order[0]]) / LIKENESS)
        weight = weight * np.array([state[i].trust + 1e-3 for i in order])
        total = np.zeros(query.grid)
        for i, share in zip(order, weight / weight.sum(), strict=True):
            hooks.check()
            total += share * state[i].explains(query)
        return Look(total.astype(np.float32))

    def segment(
        self,
        state: Any,
        look: Look,
        odds: FloatArray,
        query: GridPlane,
        decoder: Decoder,
        params: Any,
        hooks: Hooks,
    ) -> Segment:
        """Prompt with every part of the map, its surest cells and the map itself."""
        make_ask = partial(_ask, raw=look.raw, mask=decoder.as_mask(query, odds))
        return Segment(
            *house_segment(odds, query, decoder, params.edges, hooks, make_ask)
        )


METHOD = BankMethod()


def descriptor_of(plane: GridPlane) -> FloatArray:
    """Return what a plane looks like as a whole, (2 C,) of unit length.

    Mean and spread of its features: retrieval must not depend on where things are.
    """
    flat = plane.unit.reshape(len(plane.unit), -1)
    found = np.concatenate([flat.mean(1), flat.std(1)])
    unit: FloatArray = found / (np.linalg.norm(found) + 1e-9)
    return unit


def _template(support: GridSupport, value: int, seed: int) -> _Template:
    """Keep as many cells inside as outside where there are enough."""
    cells = support.unit.reshape(len(support.unit), -1).T
    cover = support.cover(value).ravel()
    known = support.is_known.ravel()
    known = known if (known & (cover >= 0.5)).any() else np.ones_like(known)
    sides = [np.flatnonzero(known & s) for s in (cover >= 0.5, cover < 0.5)]
    at = np.concatenate([thinned(side, MOST_CELLS // 2, seed) for side in sides])
    return _Template(descriptor_of(support), cells[at], cover[at])


def _agreement(template: _Template, other: GridSupport, value: int) -> float:
    """Return the Dice of what a template says of another support, at its size."""
    truth = other.cover(value) >= 0.5
    said = template.explains(other)
    level = np.quantile(said, 1 - truth.mean()) if truth.any() else 0.5
    return dice(said >= max(float(level), 1e-6), truth)


def _ask(
    part: BoolArray,
    odds: FloatArray,
    query: GridPlane,
    *,
    raw: FloatArray,
    mask: FloatArray,
) -> Ask:
    """Add the best matched cells of a part, and the map, to the usual prompts."""
    ask = house_ask(part, odds, query)
    rows, columns = np.nonzero(part)
    order = np.argsort(-raw[rows, columns], kind="stable")[:MATCHES]
    points = query.to_pixels(np.stack([rows[order], columns[order]], 1))
    labels = np.ones(len(points), np.int8)
    return replace(
        ask,
        points=np.concatenate([ask.points, points]),
        labels=np.concatenate([ask.labels, labels]),
        mask=mask,
    )
