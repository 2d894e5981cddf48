"""Supports left out in turn: they calibrate a method and say what to expect of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.methods._fusion import sigmoid
from napari_fewshot.methods._validation import (
    HeldOut,
    altered_copies,
    dice,
    held_sample,
)
from napari_fewshot.methods.grid._calibrate import position_prior, top_of
from napari_fewshot.methods.grid._tokens import GridSupport, supports_on_grid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_fewshot._types import BoolArray
    from napari_fewshot.data import Hooks, Sample
    from napari_fewshot.methods.grid._method import GridFitted
    from napari_fewshot.methods.grid._vocabulary import Look

# Masks of a decoder replace those of the map unless they are worse by more than this.
MAY_LOSE = 0.005
# The prior of position is used if it helps by more than this (Dice).
MUST_GAIN = 0.01


@dataclass(frozen=True, eq=False)
class HeldLook:
    """A labelled plane seen by a method that has not learnt from it.

    Attributes
    ----------
    query : GridSupport
    looks : dict of int to Look
        Per class.
    rest : sequence of GridSupport
        What was learnt from.
    states : dict of int
        What was learnt.
    """

    query: GridSupport
    looks: Mapping[int, Look]
    rest: Sequence[GridSupport]
    states: Mapping[int, Any] = field(repr=False)


def copies_of(
    fitted: GridFitted, samples: Sequence[Sample], hooks: Hooks
) -> list[GridSupport]:
    """Return turned copies of the only support; itself where encoding takes long."""
    first = next(
        s for s in fitted.supports if any(s.holds(value) for value in fitted.states)
    )
    if fitted.encoder.spec.needs_download:
        return [first]
    copies = altered_copies(first.sample, fitted.params.seed)
    return supports_on_grid(fitted.encoder, copies, hooks)


def calibrate(fitted: GridFitted, value: int, looks: Sequence[HeldLook]) -> None:
    """Choose boundary, use of position and floor of one class, in place."""
    # Cells of which nobody knows what they are do not count.
    raws = [h.looks[value].raw[h.query.is_known] for h in looks]
    covers = [h.query.cover(value)[h.query.is_known] for h in looks]
    fitted.boundaries[value] = fitted.method.boundary(raws, covers, fitted.params)
    if _use_position(fitted, value, looks):
        fitted.placed.add(value)
    tops = [
        (top_of(fitted.odds(value, h.looks[value], h.query, h.rest)), h) for h in looks
    ]
    without = [top for top, h in tops if not h.query.holds(value)]
    within = [top for top, h in tops if h.query.holds(value)]
    if without and within and max(without) < np.median(within):
        fitted.floors[value] = (max(without) + float(np.median(within))) / 2


def _use_position(fitted: GridFitted, value: int, looks: Sequence[HeldLook]) -> bool:
    """Decide by what it does to supports that were left out."""
    wish = fitted.params.position
    if wish != "auto":
        return bool(wish == "on")
    if fitted.is_copy:
        # Copies are where the original is: they can't tell. Stacks are aligned.
        return any(s.plane.position is not None for s in fitted.supports)
    gains = []
    for held in looks:
        known = held.query.is_known
        truth = known & (held.query.cover(value) >= 0.5)
        odds = fitted.boundaries[value](held.looks[value].raw)
        prior = position_prior(held.rest, value, held.query)
        if truth.any():
            with_prior = dice(known & (odds + prior > 0), truth)
            gains.append(with_prior - dice(known & (odds > 0), truth))
    return bool(gains) and float(np.mean(gains)) > MUST_GAIN


def judge(fitted: GridFitted, looks: Sequence[HeldLook], hooks: Hooks) -> None:
    """Segment the left-out supports; drop the decoder per class if it does worse."""
    tried = set(fitted.drawn)
    with_decoder = _held_maps(fitted, looks, hooks) if tried else []
    if tried and (fitted.method.always_draws or fitted.params.decoder != "auto"):
        fitted.judged = with_decoder
        return
    fitted.drawn = set()
    plain = _held_maps(fitted, looks, hooks)
    keep = {
        v for v in tried if _dice_of(with_decoder, v) >= _dice_of(plain, v) - MAY_LOSE
    }
    fitted.drawn = keep
    fitted.judged = [
        replace(
            p,
            maps={v: (with_decoder[i] if v in keep else p).maps[v] for v in p.maps},
        )
        for i, p in enumerate(plain)
    ]


def _held_maps(
    fitted: GridFitted, looks: Sequence[HeldLook], hooks: Hooks
) -> list[HeldOut]:
    found, own = [], fitted.states
    for number, held in enumerate(looks):
        hooks.report("Checking the supports", number, len(looks))
        maps = {}
        fitted.states = dict(held.states)
        for value, look in held.looks.items():
            odds = fitted.odds(value, look, held.query, held.rest)
            segment = fitted.segment(value, look, odds, held.query, hooks)
            maps[value] = sigmoid(segment.odds)
        found.append(held_sample(held.query.sample, maps))
    fitted.states = own
    return found


def _dice_of(judged: Sequence[HeldOut], value: int) -> float:
    pairs: list[tuple[BoolArray, BoolArray]] = [
        (j.maps[value] >= 0.5, j.labels == value) for j in judged
    ]
    found = [dice(m, t) for m, t in pairs if m.any() or t.any()]
    return float(np.mean(found)) if found else 1.0
