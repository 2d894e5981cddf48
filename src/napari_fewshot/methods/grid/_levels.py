"""Decoders without SAM: the bundled network, and levels of a similarity map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.methods.grid._edges import upsampled
from napari_fewshot.ops import fit_factor, mask_to_grid, resize_image, scaled_shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import AnyArray, BoolArray, FloatArray
    from napari_fewshot.data import Hooks
    from napari_fewshot.methods.grid._asks import Ask
    from napari_fewshot.methods.grid._tokens import GridPlane

# Masks from a similarity map are cut out of a copy of at most this size.
MAP_SIDE = 192
# A map is cut at levels this far apart, so many below the value at the prompted points.
STEP, LEVELS = 0.25, 20
# Stability that a mask must gain to leave the map's own boundary by one.
NEARNESS = 0.1
NETWORK_SIDE = 256


class OnMap:
    """Logits of a decoder as a small copy of the plane, of `_map_shape`."""

    def as_mask(self, query: GridPlane, odds: FloatArray) -> FloatArray:
        """See `Decoder.as_mask`."""
        return resize_image(odds.astype(np.float32), _map_shape(query))

    def to_grid(self, query: GridPlane, logits: FloatArray) -> FloatArray:
        """See `Decoder.to_grid`."""
        return np.stack([mask_to_grid(one > 0, query.grid) for one in logits])

    def restore(self, query: GridPlane, logits: FloatArray) -> FloatArray:
        """See `Decoder.restore`."""
        return np.stack([resize_image(one, query.shape) for one in logits])


@dataclass(frozen=True, eq=False)
class NetworkDecoder(OnMap):
    """The bundled network follows the prompts; it sees no supports here."""

    model: Any

    @property
    def name(self) -> str:
        """Name of the network."""
        return str(self.model.spec.name)

    def decode(
        self,
        query: GridPlane,
        odds: FloatArray,
        asks: Sequence[Ask],
        hooks: Hooks,
        *,
        several: bool = False,
        **guidance: Any,
    ) -> tuple[FloatArray, FloatArray]:
        """See `Decoder.decode`; without an earlier mask the similarity is one."""
        features = self.model.features(query.plane.image, NETWORK_SIDE)
        guess = resize_image(odds.astype(np.float32), _map_shape(query))
        found = []
        for ask in asks:
            hooks.check()
            past = guess if ask.mask is None else ask.mask
            full = self.model.decode(
                features, None, query.shape, ask.as_prompts(), past=past
            )
            found.append(resize_image(full, _map_shape(query))[None])
        logits = np.stack(found)
        sure = 1 / (1 + np.exp(-np.abs(logits)))
        return logits, sure.mean((2, 3))


@dataclass(frozen=True, eq=False)
class MapDecoder(OnMap):
    """Cuts masks out of the calibrated similarity map.

    The map is cut at falling levels; of each level the connected parts that hold a
    positive point count, without those that hold a negative one, inside the box. The
    mask that changes least from level to level is the answer, as stability decides
    among masks of SAM; ``several`` adds a smaller and a larger one.
    """

    name: str = "similarity map"

    def decode(
        self,
        query: GridPlane,
        odds: FloatArray,
        asks: Sequence[Ask],
        hooks: Hooks,
        *,
        several: bool = False,
        **guidance: Any,
    ) -> tuple[FloatArray, FloatArray]:
        """See `Decoder.decode`."""
        shape = _map_shape(query)
        # Levels of a map that follows the image's edges follow them, too.
        smooth = resize_image(upsampled(odds, query, "guided"), shape)
        factor = np.array(shape) / np.array(query.shape)
        plain = _Cuts(smooth)
        found, scores = [], []
        for ask in asks:
            hooks.check()
            past = ask.mask
            cuts = plain if past is None else _Cuts(0.5 * (smooth + past))
            masks, stable = _masks_of(cuts, ask, factor)
            keep = slice(None) if several else slice(0, 1)
            found.append(masks[keep])
            scores.append(stable[keep])
        return np.stack(found), np.stack(scores)


def _map_shape(query: GridPlane) -> tuple[int, int]:
    return scaled_shape(query.shape, fit_factor(query.shape, MAP_SIDE))


class _Cuts:
    """The connected parts of a map above levels; each level is looked at once."""

    def __init__(self, odds: FloatArray) -> None:
        self.odds = odds
        self._known: dict[int, tuple[AnyArray, AnyArray]] = {}

    def at(self, level: int) -> tuple[AnyArray, AnyArray]:
        """Return parts (r, c) int above ``level * STEP``, and their sizes."""
        from scipy import ndimage

        if level not in self._known:
            parts, count = ndimage.label(self.odds >= level * STEP)
            sizes = np.bincount(parts.ravel(), minlength=count + 1)
            self._known[level] = parts, sizes
        return self._known[level]

    def region(
        self, level: int, seeds: AnyArray, negative: AnyArray, allowed: BoolArray | None
    ) -> tuple[AnyArray, float]:
        """Return which parts hold seeds and no negative, and their area if allowed."""
        parts, sizes = self.at(level)
        kept = np.zeros(len(sizes), bool)
        kept[parts[seeds[:, 0], seeds[:, 1]]] = True
        kept[parts[negative[:, 0], negative[:, 1]]] = False
        kept[0] = False
        if allowed is None:
            return kept, float(sizes[kept].sum())
        return kept, float((kept[parts] & allowed).sum())


def _masks_of(
    cuts: _Cuts, ask: Ask, factor: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return three masks as logits (3, r, c), the stablest first, and their scores."""
    odds = cuts.odds
    at = [_pixels(p, factor, odds.shape) for p in (ask.positive, ask.negative)]
    allowed = None if ask.box is None else _inside(ask.box, factor, odds.shape)
    seeds = at[0]
    if not len(seeds):
        inside = odds if allowed is None else np.where(allowed, odds, -np.inf)
        seeds = np.array([np.unravel_index(inside.argmax(), odds.shape)])
    top = int(np.ceil(odds[seeds[:, 0], seeds[:, 1]].max() / STEP))
    levels = top - 1 - np.arange(LEVELS)
    regions = [cuts.region(int(n), seeds, at[1], allowed) for n in levels]
    areas = np.array([area for _, area in regions])
    steps = areas[:-1] / np.maximum(areas[1:], 1)
    stable = np.minimum(np.append(steps, steps[-1]), np.insert(steps, 0, steps[0]))
    # Of equally stable masks the one whose level is nearest to the map's own boundary.
    stable = stable - NEARNESS * np.abs(levels * STEP)
    # All of the plane is stable at any lower level: it counts where nothing else does.
    some = (areas > 0) & ((areas < odds.size) | bool((odds > 0).all()))
    best = int(np.argmax(np.where(some if some.any() else areas > 0, stable, -np.inf)))
    chosen = [best, max(0, best - 4), min(LEVELS - 1, best + 4)]
    logits = []
    for i in chosen:
        mask = regions[i][0][cuts.at(int(levels[i]))[0]]
        mask = mask if allowed is None else mask & allowed
        logits.append(np.where(mask, np.maximum(odds - levels[i] * STEP, 0.1), -2.0))
    scores = np.clip(stable[chosen], 0, 1).astype(np.float32)
    return np.stack(logits).astype(np.float32), scores


def _pixels(points: FloatArray, factor: FloatArray, shape: tuple[int, ...]) -> Any:
    at = ((np.asarray(points).reshape(-1, 2) + 0.5) * factor).astype(int)
    return np.clip(at, 0, np.array(shape) - 1)


def _inside(
    box: FloatArray | None, factor: FloatArray, shape: tuple[int, ...]
) -> BoolArray:
    if box is None:
        return np.ones(shape, bool)
    allowed = np.zeros(shape, bool)
    low = np.floor(np.asarray(box[:2]) * factor).astype(int).clip(0)
    high = np.maximum(np.ceil(np.asarray(box[2:]) * factor).astype(int), low + 1)
    allowed[low[0] : high[0], low[1] : high[1]] = True
    return allowed
