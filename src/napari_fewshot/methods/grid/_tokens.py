"""Planes on the grid of an embedding: what the methods of this package compute on."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.models import Recent, digest
from napari_fewshot.ops import mask_to_grid, resize_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import AnyArray, BoolArray, FloatArray
    from napari_fewshot.data import Embedding, Hooks, Plane, Sample
    from napari_fewshot.models import Encoder

# Embeddings of this process: leaving supports out in turn encodes none of them anew.
KEPT_BYTES = 192 * 2**20
EPSILON = 1e-6


@dataclass(frozen=True, eq=False)
class GridPlane:
    """A plane with its embedding.

    Attributes
    ----------
    plane : Plane
        Its pixels, position and pixel size.
    embedding : Embedding
        What the encoder made of it.
    """

    plane: Plane
    embedding: Embedding = field(repr=False)

    @property
    def features(self) -> FloatArray:
        """The cells that show the plane, (C, h, w) float32, as they were encoded."""
        return self.embedding.cells

    @cached_property
    def unit(self) -> FloatArray:
        """The same, every cell of length one."""
        length = np.linalg.norm(self.features, axis=0, keepdims=True)
        found: FloatArray = self.features / (length + EPSILON)
        return found

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of cells, (h, w)."""
        return int(self.features.shape[1]), int(self.features.shape[2])

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of pixels, (H, W)."""
        return int(self.plane.image.shape[0]), int(self.plane.image.shape[1])

    def to_pixels(self, cells: AnyArray) -> FloatArray:
        """Return the centres of cells in pixels of the plane.

        Parameters
        ----------
        cells : array (N, 2)
            (row, column) on the grid, may be fractional; 0 is the middle of the first.

        Returns
        -------
        array (N, 2) float32
            (row, column); whole numbers are centres of pixels. Never outside the plane.
        """
        at = (np.asarray(cells, float).reshape(-1, 2) + 0.5) * self._step - 0.5
        found: FloatArray = np.clip(at, 0, np.array(self.shape) - 1).astype(np.float32)
        return found

    def to_cells(self, points: AnyArray) -> AnyArray:
        """Return the cells (N, 2) int that points (N, 2) of the plane lie in."""
        at = (np.asarray(points, float).reshape(-1, 2) + 0.5) / self._step
        found: AnyArray = np.clip(at.astype(int), 0, np.array(self.grid) - 1)
        return found

    def to_image(self, values: FloatArray) -> FloatArray:
        """Return a map on the grid (h, w) at the size of the plane, (H, W)."""
        return resize_image(values.astype(np.float32), self.shape)

    def cover_of(self, mask: BoolArray) -> FloatArray:
        """Return the share of every cell that a mask (H, W) covers; never all zero.

        An object smaller than half a cell gets the cell that holds most of it.
        """
        share = mask_to_grid(mask, self.grid)
        if 0 < share.max() < 0.5:
            share = share.copy()
            share[share == share.max()] = 1.0
        return share

    @property
    def _step(self) -> AnyArray:
        step: AnyArray = np.array(self.shape) / np.array(self.grid)
        return step


@dataclass(frozen=True, eq=False)
class GridSupport(GridPlane):
    """A labelled plane with its embedding.

    Attributes
    ----------
    sample : Sample
        The plane with its labels; the same object as ``plane``.
    """

    sample: Sample = field(kw_only=True)

    def cover(self, value: int) -> FloatArray:
        """Return the share of every cell that belongs to a class, (h, w) in [0, 1]."""
        if value not in self._covers:
            self._covers[value] = self.cover_of(self.sample.labels == value)
        found: FloatArray = self._covers[value]
        return found

    def holds(self, value: int) -> bool:
        """Whether the class is anywhere on it; otherwise it is a negative support."""
        return bool(self.cover(value).any())

    @cached_property
    def is_known(self) -> BoolArray:
        """Which cells (h, w) somebody labelled, at least half of their pixels."""
        off = self.sample.ignored
        if off is None:
            return np.ones(self.grid, bool)
        return mask_to_grid(~off, self.grid) >= 0.5

    @cached_property
    def _covers(self) -> dict[int, FloatArray]:
        return {}


@dataclass(frozen=True)
class _Kept:
    embedding: Embedding

    @property
    def nbytes(self) -> int:
        extras = sum(a.nbytes for a in self.embedding.extras.values())
        return int(self.embedding.array.nbytes + extras)


_KEPT: Recent[_Kept] = Recent(KEPT_BYTES)


def embed(encoder: Any, image: FloatArray) -> Embedding:
    """Return the embedding of a plane (H, W, C), computed or kept.

    Parameters
    ----------
    encoder : Encoder
        Any model with ``encode``.
    image : array (H, W, C)
        Floats in [0, 1].
    """
    pixels = np.ascontiguousarray(image)
    weights = f"{encoder.spec.name} {getattr(encoder, 'sha256', '')}"
    key = f"{digest(pixels)} {weights} {getattr(encoder, 'precision', '')}"
    held = _KEPT.get(key)
    if held is None:
        held = _Kept(encoder.encode(pixels))
        _KEPT.put(key, held)
    return held.embedding


def on_grid(encoder: Encoder, plane: Plane, hooks: Hooks) -> GridPlane:
    """Encode a query plane."""
    hooks.check()
    found = GridPlane(plane, embed(encoder, plane.image))
    hooks.check()
    return found


def supports_on_grid(
    encoder: Encoder, samples: Sequence[Sample], hooks: Hooks
) -> list[GridSupport]:
    """Encode the supports, telling how far it got."""
    found = []
    for number, sample in enumerate(samples):
        hooks.report("Learning from the supports", number, len(samples))
        embedding = embed(encoder, sample.image)
        found.append(GridSupport(sample, embedding, sample=sample))
    return found


def cells_of(
    supports: Sequence[GridSupport], value: int, share: float = 0.5
) -> tuple[FloatArray, FloatArray]:
    """Return the unit-length cells inside and outside a class over all supports.

    Parameters
    ----------
    supports : sequence of GridSupport
        At least one.
    value : int
        The class.
    share : float
        Cells covered by at least this much are inside; outside are those that the
        class does not touch. Cells that nobody labelled are neither, unless nothing
        else is inside.

    Returns
    -------
    inside, outside : array (N, C), (M, C)
    """
    covers = [s.cover(value) for s in supports]
    inside = [c >= share for c in covers]
    sure = [c & s.is_known for c, s in zip(inside, supports, strict=True)]
    if any(c.any() for c in sure):
        inside = sure
    outside = [s.is_known & (c <= 0) for c, s in zip(covers, supports, strict=True)]
    pairs = list(zip(supports, inside, outside, strict=True))
    return (
        np.concatenate([s.unit[:, chosen].T for s, chosen, _ in pairs]),
        np.concatenate([s.unit[:, chosen].T for s, _, chosen in pairs]),
    )


def thinned(rows: AnyArray, most: int, seed: int) -> AnyArray:
    """Return at most so many of the rows (N, C), drawn evenly with a fixed seed."""
    if len(rows) <= most:
        return rows
    chosen = np.random.default_rng(seed).choice(len(rows), most, replace=False)
    found: AnyArray = rows[np.sort(chosen)]
    return found
