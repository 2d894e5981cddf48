"""Where candidates of single objects come from on one plane.

They are cut out of the map of the class, out of a landscape of colours, and drawn by a
promptable model where there is one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.methods._object_scores import View, described
from napari_fewshot.methods.grid import Ask, MapDecoder, upsampled
from napari_fewshot.ops import (
    Candidate,
    as_rows,
    best_apart,
    candidates_of,
    cut_candidates,
    fit_factor,
    level_candidates,
    resize_image,
    scaled_shape,
)

if TYPE_CHECKING:
    from napari_fewshot._types import BoolArray, FloatArray
    from napari_fewshot.data import Hooks
    from napari_fewshot.methods.grid import Decoder, GridPlane

# Candidates are looked for on a copy of at most this side.
SIDE = 768
# Log-odds above which a place is plausible; how much the map counts beside colours.
PLAUSIBLE, MAP_SHARE, MAP_SURE = -2.0, 0.5, 4.0
# Areas of candidates, as factors of the usual one.
SMALLEST, LARGEST = 0.2, 6.0
# Points a promptable model is asked at, how many at once, and how far apart beside the
# root of the usual area.
MOST_POINTS, AT_ONCE, APART = 400, 16, 0.7


class Search:
    """Looks for candidates on one plane.

    Parameters
    ----------
    query : GridPlane
        The plane.
    state : InstanceState
        What objects are like.
    decoder : Decoder
        Who draws masks; levels of a map are cut without it.
    edges : str
        See `upsampled`.
    hooks : Hooks
        For cancelling.
    """

    def __init__(
        self,
        query: GridPlane,
        state: Any,
        decoder: Decoder,
        edges: str,
        hooks: Hooks,
    ) -> None:
        self.state, self.query, self.decoder = state, query, decoder
        self.edges, self.hooks = edges, hooks
        factor = min(1.0, fit_factor(query.shape, SIDE))
        self.shape = scaled_shape(query.shape, factor)
        self.bank = replace(
            state.bank, size=state.bank.size + 2 * float(np.log(factor))
        )
        usual = float(np.exp(self.bank.size))
        self.areas = max(4.0, SMALLEST * usual), LARGEST * usual
        self.asks: tuple[Ask, ...] = ()

    def view(self, odds: FloatArray) -> View:
        """Return the plane as candidates are described on it."""
        return view_of(self.query, odds, self.edges, self.shape)

    def candidates(
        self,
        view: View,
        odds: FloatArray,
        left: BoolArray | None = None,
        *,
        cuts_only: bool = False,
    ) -> list[Candidate]:
        """Return candidates in what is left of a plane; none may be found."""
        left = np.ones(self.shape, bool) if left is None else left
        chance = 1 / (1 + np.exp(-np.where(left, view.odds, -MAP_SURE)))
        found = cut_candidates(chance.astype(np.float32))
        image = resize_image(self.query.plane.image, self.shape)
        landscape = self.state.guide(image)
        landscape = landscape + MAP_SHARE * np.clip(view.odds, -MAP_SURE, MAP_SURE)
        found += level_candidates(landscape, (view.odds > PLAUSIBLE) & left, self.areas)
        if not cuts_only and not isinstance(self.decoder, MapDecoder):
            found += self._answers(odds)
        return found

    def best(
        self, found: list[Candidate], view: View, *, again: bool = False
    ) -> list[tuple[Candidate, float]]:
        """Return the candidates that stay, the best first, with their scores.

        Parameters
        ----------
        found : list of Candidate
            From `candidates`.
        view : View
            Where.
        again : bool
            Whether objects were taken away before: crumbs of them are left, so that
            only what is as good as a usual object counts.
        """
        scorer = self.state.scorer
        if not found or scorer is None:
            return []
        table = described(found, view, self.state.prototypes, self.bank)
        scores = np.clip(scorer(table), 0, 1)
        level = max(scorer.level, scorer.usual) if again else scorer.level
        chosen = best_apart(as_rows(found, view.shape), scores, level)
        return [(found[i], score) for i, score in chosen]

    def _answers(self, odds: FloatArray) -> list[Candidate]:
        """Ask a promptable model at points of the plausible part of the map."""
        points = self._points(odds)
        asks = tuple(Ask(p[None], np.ones(1, np.int8)) for p in points)
        self.asks = asks
        found = []
        share = np.array(self.shape) / np.array(self.query.shape)
        for begin in range(0, len(asks), AT_ONCE):
            self.hooks.check()
            part = asks[begin : begin + AT_ONCE]
            logits, scores = self.decoder.decode(
                self.query, odds, part, self.hooks, several=True
            )
            for masks, worth in zip(logits, scores, strict=True):
                for mask, score in zip(masks, worth, strict=True):
                    found += self._restored(mask, float(score), share)
        return found

    def _restored(
        self, logits: FloatArray, score: float, share: FloatArray
    ) -> list[Candidate]:
        """Return a mask of the decoder, if it is neither too small nor too large."""
        full = self.decoder.restore(self.query, logits[None])[0]
        if (share < 1).any():
            full = resize_image(full, self.shape)
        mask = full > 0
        if not self.areas[0] <= mask.sum() <= self.areas[1]:
            return []
        return candidates_of(mask.astype(np.int32), float(np.clip(score, 0, 1)))

    def _points(self, odds: FloatArray) -> FloatArray:
        """Return a grid of points (N, 2) where the class is plausible."""
        apart = APART * float(np.exp(self.state.bank.size / 2))
        area = float((odds > PLAUSIBLE).mean()) * np.prod(self.query.shape)
        apart = max(apart, (area / MOST_POINTS) ** 0.5, 2.0)
        axes = [np.arange(apart / 2, n, apart) for n in self.query.shape]
        points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
        cells = self.query.to_cells(points)
        kept: FloatArray = points[odds[cells[:, 0], cells[:, 1]] > PLAUSIBLE]
        return kept.astype(np.float32)


def view_of(
    query: GridPlane, odds: FloatArray, edges: str, shape: tuple[int, int]
) -> View:
    """Return a plane as candidates are described on it.

    Parameters
    ----------
    query : GridPlane
        The plane.
    odds : array (h, w)
        Log-odds on its grid.
    edges : str
        See `upsampled`.
    shape : (int, int)
        Rows and columns of the view.
    """
    grey = query.plane.image.mean(-1)
    grey = (grey - grey.mean()) / max(float(grey.std()), 1e-6)
    fine = upsampled(odds.astype(np.float32), query, edges)
    return View(
        query.unit,
        resize_image(fine, shape),
        resize_image(grey.astype(np.float32), shape),
    )
