"""Heads: classifiers of cells that are fitted on the supports in seconds.

Each cell is described by the model's features, by fixed filters and by where it lies;
what a head learns is the share of the cell that the class covers. Where objects lie
anywhere, position says nothing and a head learns to overlook it. Features are counted
from their mean over the plane, mostly: exposure and stain differ from plane to plane.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from napari_fewshot.methods._fine import eyes, to_grid
from napari_fewshot.methods._params import param
from napari_fewshot.methods.grid import GridMethod, GridParams, Look
from napari_fewshot.ops import resize_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import AnyArray, FloatArray
    from napari_fewshot.data import Hooks
    from napari_fewshot.methods.grid import GridPlane, GridSupport
    from napari_fewshot.models import Encoder

# Cells that a head learns from, over all supports.
MOST_ROWS = 5000
# Longest side of the grid that networks with convolutions are fitted on.
COARSE_SIDE = 64
# Supports that networks are fitted on; more are drawn from.
MOST_SUPPORTS = 16
# How much of the mean of a plane is taken off its features.
CENTRED = 0.7
# Features that hardly vary are not blown up to the size of the others.
LEAST_SPREAD = 1e-3


@dataclass(frozen=True)
class HeadParams(GridParams):
    """Parameters of the fitted heads."""

    extra: Literal["filters", "none"] = param(
        "filters",
        "What a head sees beside the model's features: edges, texture and colour of "
        "single pixels (filters), or nothing.",
    )


@dataclass(frozen=True, eq=False)
class Rows:
    """Cells to learn from.

    Attributes
    ----------
    values : array (N, F)
        Standardised features.
    cover : array (N,)
        Share of the cell that the class covers, in [0, 1].
    weight : array (N,)
        Inside and outside weigh the same; the mean is 1.
    """

    values: FloatArray = field(repr=False)
    cover: FloatArray = field(repr=False)
    weight: FloatArray = field(repr=False)


@dataclass(frozen=True, eq=False)
class Scale:
    """Mean and spread of features over the supports.

    Attributes
    ----------
    centre, size : array (F, 1, 1)
    """

    centre: FloatArray = field(repr=False)
    size: FloatArray = field(repr=False)

    def __call__(self, maps: FloatArray) -> FloatArray:
        """Return maps (F, h, w) or (F, N, 1), standardised."""
        found: FloatArray = ((maps - self.centre) / self.size).astype(np.float32)
        return found


class Head(Protocol):
    """A fitted classifier of rows; picklable."""

    def __call__(self, values: FloatArray) -> FloatArray:
        """Return log-odds (N,) of rows (N, F)."""


@dataclass(frozen=True, eq=False)
class HeadState:
    """A head and the scale of what it reads."""

    head: Head
    scale: Scale


class FineMethod(GridMethod):
    """Base of the methods that see the filters beside the encoder's features."""

    def encoder_for(self, encoder: Encoder, params: Any) -> Encoder:
        """Put filters beside the encoder's features if wished."""
        return eyes(encoder, params.extra)


class HeadMethod(FineMethod):
    """Base of the methods that classify cells one by one."""

    @abstractmethod
    def fit_head(self, rows: Rows, params: Any, hooks: Hooks) -> Head:
        """Return a head fitted on rows."""

    def learn(
        self, supports: Sequence[GridSupport], value: int, params: Any, hooks: Hooks
    ) -> HeadState:
        """Fit a head on cells of the supports."""
        values, cover = draw_rows(supports, value, MOST_ROWS, params.seed)
        scale = scale_of([values.T[:, :, None]])
        scaled = scale(values.T[:, :, None])[:, :, 0].T
        head = self.fit_head(Rows(scaled, cover, balance(cover)), params, hooks)
        return HeadState(head, scale)

    def look(self, state: Any, query: GridPlane, params: Any, hooks: Hooks) -> Look:
        """Return the log-odds of every cell."""
        hooks.check()
        found = state.scale(described(query))
        odds = state.head(found.reshape(len(found), -1).T)
        return Look(odds.reshape(query.grid).astype(np.float32))


@dataclass(frozen=True, eq=False)
class NetState:
    """A fitted network and the scale of what it reads."""

    net: Any
    scale: Scale


class NetMethod(FineMethod):
    """Base of the methods that fit a network with convolutions."""

    @abstractmethod
    def fit_net(
        self,
        supports: Sequence[GridSupport],
        value: int,
        maps: list[FloatArray],
        covers: list[FloatArray],
        params: Any,
        hooks: Hooks,
    ) -> Any:
        """Return a network fitted on maps (F, h, w) and covers (h, w) of supports."""

    @abstractmethod
    def ask_net(self, net: Any, maps: FloatArray) -> FloatArray:
        """Return the log-odds (h, w) of maps (F, h, w)."""

    def learn(
        self, supports: Sequence[GridSupport], value: int, params: Any, hooks: Hooks
    ) -> NetState:
        """Fit a network on a small grid; of many supports on some."""
        shown = spread_over(supports, value, MOST_SUPPORTS)
        maps = [coarse(described(s)) for s in shown]
        scale = scale_of(maps)
        scaled = [scale(m) for m in maps]
        covers = [coarse(s.cover(value)[None])[0] for s in shown]
        net = self.fit_net(shown, value, scaled, covers, params, hooks)
        return NetState(net, scale)

    def look(self, state: Any, query: GridPlane, params: Any, hooks: Hooks) -> Look:
        """Return the log-odds of every cell."""
        hooks.check()
        found = self.ask_net(state.net, state.scale(coarse(described(query))))
        return Look(resize_image(found, query.grid))


def described(plane: GridPlane) -> FloatArray:
    """Return the features of every cell and where it lies, (F, h, w).

    Parameters
    ----------
    plane : GridPlane
        Any.
    """
    rows, columns = np.meshgrid(
        *(np.linspace(-1, 1, n, dtype=np.float32) for n in plane.grid), indexing="ij"
    )
    place = np.stack([rows, columns, rows**2, columns**2, rows * columns])
    usual = plane.features.mean((1, 2), keepdims=True)
    found: FloatArray = np.concatenate([plane.features - CENTRED * usual, place])
    return found


def coarse(maps: FloatArray) -> FloatArray:
    """Return maps (F, h, w) on a grid that networks are quick on, (F, h', w')."""
    longest = max(maps.shape[1:])
    if longest <= COARSE_SIDE:
        return maps
    rows, columns = (max(2, round(n * COARSE_SIDE / longest)) for n in maps.shape[1:])
    small = to_grid(np.moveaxis(maps, 0, -1), (rows, columns))
    return np.ascontiguousarray(np.moveaxis(small, -1, 0))


def scale_of(maps: Sequence[FloatArray]) -> Scale:
    """Return the mean and the spread of features over maps (F, h, w)."""
    rows = np.concatenate([m.reshape(len(m), -1) for m in maps], 1)
    centre, size = rows.mean(1), rows.std(1) + LEAST_SPREAD
    return Scale(centre[:, None, None], size[:, None, None])


def draw_rows(
    supports: Sequence[GridSupport], value: int, most: int, seed: int
) -> tuple[FloatArray, FloatArray]:
    """Return features (N, F) and covers (N,) of cells, drawn evenly over supports.

    As many cells inside as outside are drawn where there are enough; none that nobody
    labelled.

    Parameters
    ----------
    supports : sequence of GridSupport
        At least one holds the class.
    value : int
        The class.
    most : int
        Of all cells together, but at least some of each support.
    seed : int
        Makes the draw repeatable.
    """
    random = np.random.default_rng(seed)
    half = max(16, most // (2 * len(supports)))
    rows, covers = [], []
    for support in supports:
        cover = support.cover(value).ravel()
        known = support.is_known.ravel()
        sides = [
            np.flatnonzero(known & (cover >= 0.5)),
            np.flatnonzero(known & (cover < 0.5)),
        ]
        spare = [max(0, half - len(side)) for side in sides]
        chosen = [
            random.permutation(side)[: half + other]
            for side, other in zip(sides, spare[::-1], strict=True)
        ]
        at = np.sort(np.concatenate(chosen))
        rows.append(described(support).reshape(-1, cover.size)[:, at].T)
        covers.append(cover[at])
    return np.concatenate(rows), np.concatenate(covers)


def balance(cover: AnyArray) -> FloatArray:
    """Return weights (N,) that make inside and outside weigh the same; mean 1."""
    total = np.array([(1 - cover).sum(), cover.sum()], float)
    per_side = len(cover) / 2 / np.maximum(total, 1e-6)
    weight: FloatArray = ((1 - cover) * per_side[0] + cover * per_side[1]).astype(
        np.float32
    )
    return weight


def spread_over(
    supports: Sequence[GridSupport], value: int, most: int
) -> list[GridSupport]:
    """Return at most so many supports, evenly spread; one holds the class at least."""
    if len(supports) <= most:
        return list(supports)
    holding = [s for s in supports if s.holds(value)]
    pool = holding if len(holding) >= most else list(supports)
    at = np.linspace(0, len(pool) - 1, most).round().astype(int)
    chosen = [pool[i] for i in at]
    if not any(s.holds(value) for s in chosen):
        chosen[0] = holding[0]
    return chosen
