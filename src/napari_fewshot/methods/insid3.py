"""`insid3`: whole regions of the image that are like the object, with nothing trained.

INSID3 (arXiv 2603.28480): what an encoder says of position is taken off its features;
places like the object whose nearest place on the support lies in the mask are
candidates; the image falls into clusters of its own; the best cluster is the seed, and
others join as they are like it. As in the paper nothing is trained. Differences: a
plane is clustered on at most 48 x 48 cells; encoders that can't show their positional
part (all but the DINO family) have the supports' mean look taken off instead; scores of
clusters are blended with those of single cells and the boundary is calibrated on the
supports, not fixed at 0.2; with the prior of position on, nothing is taken off.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.methods._base import MethodSpec
from napari_fewshot.methods._params import param
from napari_fewshot.methods.grid import (
    GridMethod,
    GridParams,
    Look,
    thinned,
)
from napari_fewshot.ops import (
    average_linkage,
    centred,
    fit_factor,
    masked_average,
    position_basis,
    resize_image,
    scaled_shape,
    seed_and_aggregate,
    unit_rows,
    without_directions,
)
from napari_fewshot.ops.correspondence import backward_vote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import BoolArray, FloatArray
    from napari_fewshot.data import Embedding, Hooks
    from napari_fewshot.methods.grid import GridPlane, GridSupport
    from napari_fewshot.models import Encoder

# Longest side of the grid that is clustered; time grows with its fourth power.
MOST_SIDE = 48
MOST_CLUSTERS = 256
# Tokens of all supports that are searched for nearest neighbours.
MOST_TOKENS = 8192
# Share of the channels that positions may take, as 500 of 1024 in the paper.
RANK = 0.5
# Where nothing is like the class this share of the cells is looked at all the same.
BEST = 0.1
PLACELESS = "without position"
# How much single cells count beside their clusters.
CELLS = 0.5


@dataclass(frozen=True)
class Insid3Params(GridParams):
    """Parameters of `insid3`."""

    likeness: float = param(
        0.6,
        "How alike places must be to form one region: more gives smaller regions.",
        low=0.0,
        high=0.99,
        step=0.05,
    )


@dataclass(frozen=True, eq=False)
class _Shot:
    """Tokens (N, C) of one support, and which lie in its mask (N,)."""

    tokens: FloatArray
    inside: BoolArray


@dataclass(frozen=True, eq=False)
class _State:
    mean: FloatArray
    prototype: FloatArray
    shots: tuple[_Shot, ...]


class PlacelessEncoder:
    """An encoder that also tells its features without their positional part.

    Parameters
    ----------
    model : Encoder
        With ``blank_features(shape)``.
    """

    def __init__(self, model: Any) -> None:
        self.model, self.spec = model, model.spec
        # What is kept of planes must not be taken for that of the model itself.
        self.sha256 = f"{getattr(model, 'sha256', '')} {PLACELESS}"
        self.precision = getattr(model, "precision", "")
        self._bases: dict[tuple[int, int], FloatArray] = {}

    def encode(self, image: Any) -> Embedding:
        """Return the embedding with an extra map; see `Encoder.encode`."""
        found: Embedding = self.model.encode(image)
        shape = found.image_shape
        if shape not in self._bases:
            blank = self.model.blank_features(shape)
            self._bases[shape] = position_basis(blank, round(RANK * len(blank)))
        length = np.linalg.norm(found.array, axis=0, keepdims=True) + 1e-6
        rest = without_directions(found.array / length, self._bases[shape])
        return replace(found, extras={**found.extras, PLACELESS: rest})


class Insid3Method(GridMethod):
    """The method object."""

    spec = MethodSpec(
        name="insid3",
        summary="Finds whole regions of the image that are like the object.",
        params=Insid3Params,
        uses_model=True,
        citation="INSID3 (arXiv 2603.28480)",
    )

    def encoder_for(self, encoder: Encoder, params: Any) -> Encoder:
        """Take positions off, where the model can show them and they don't matter."""
        model = getattr(encoder, "model", encoder)
        if params.position == "on" or not hasattr(model, "blank_features"):
            return encoder
        return PlacelessEncoder(encoder)

    def learn(
        self, supports: Sequence[GridSupport], value: int, params: Any, hooks: Hooks
    ) -> _State:
        """Keep tokens of the supports, and the mean look of the class."""
        maps = [_placeless(s) for s in supports]
        mean = np.zeros(len(maps[0]), np.float32)
        if not any(PLACELESS in s.embedding.extras for s in supports):
            mean = np.mean([m.mean((1, 2)) for m in maps], 0)
        each = max(MOST_TOKENS // len(supports), 16)
        shots, empty, pooled = [], [], []
        for support, features in zip(supports, maps, strict=True):
            hooks.check()
            units = _unit(centred(features, mean))
            rows = np.concatenate([units, support.cover(value)[None]])
            some = thinned(rows.reshape(len(rows), -1).T, each, params.seed)
            if support.holds(value):
                pooled.append(masked_average(units, support.cover(value)))
                shots.append(some)
            else:
                empty.append(some)
        # What is on negative supports is background of every other one.
        rest = thinned(np.concatenate([shots[0][:0], *empty]), each, params.seed)
        both = [np.concatenate([rows, rest]) for rows in shots]
        joined = tuple(_Shot(rows[:, :-1], rows[:, -1] >= 0.5) for rows in both)
        return _State(mean, unit_rows(np.mean(pooled, 0)[None])[0], joined)

    def look(self, state: Any, query: GridPlane, params: Any, hooks: Hooks) -> Look:
        """Score the clusters of the query, blended with single cells."""
        units = _unit(centred(_placeless(query), state.mean))
        cells: FloatArray = np.tensordot(state.prototype, units, 1)
        small = _shrunk(units)
        grid = small.shape[1:]
        tokens = small.reshape(len(small), -1).T
        like = tokens @ state.prototype
        votes = np.zeros(len(tokens))
        for shot in state.shots:
            hooks.check()
            votes += backward_vote(shot.tokens @ tokens.T, shot.inside)
        wanted = np.ceil(len(state.shots) / 2)
        near = like > 0 if (like > 0).any() else like >= np.quantile(like, 1 - BEST)
        candidates = near & (votes >= wanted)
        hooks.check()
        own = small if state.mean.any() else _shrunk(query.unit)
        rows = own.reshape(len(own), -1).T
        clusters = average_linkage(rows, params.likeness, MOST_CLUSTERS)
        scores = seed_and_aggregate(rows, clusters, like, candidates)
        regions = resize_image(
            scores[clusters].reshape(grid).astype(np.float32), query.grid
        )
        maps = {
            "cells": cells,
            "regions": regions,
            "candidates": resize_image(
                candidates.reshape(grid).astype(np.float32), query.grid
            ),
        }
        return Look((regions + CELLS * cells).astype(np.float32), maps)


def _placeless(plane: GridPlane) -> FloatArray:
    """Return the cells without their positional part, if the encoder told them."""
    extras = plane.embedding.extras
    if PLACELESS not in extras:
        return plane.unit
    return replace(plane.embedding, array=extras[PLACELESS]).cells


def _unit(features: FloatArray) -> FloatArray:
    """Return cells (C, h, w) of length one."""
    length = np.linalg.norm(features, axis=0, keepdims=True)
    found: FloatArray = features / (length + 1e-6)
    return found


def _shrunk(features: FloatArray) -> FloatArray:
    """Return cells of length one on a grid that can be clustered."""
    height, width = features.shape[1:]
    shape = scaled_shape((height, width), fit_factor((height, width), MOST_SIDE))
    if shape == (height, width):
        return features
    cells = resize_image(np.moveaxis(features, 0, -1), shape)
    return _unit(np.moveaxis(cells, -1, 0))


METHOD = Insid3Method()
