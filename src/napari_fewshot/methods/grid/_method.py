"""`GridMethod`: what all methods on embeddings share.

A method of this package says how it learns a class (`GridMethod.learn`) and where it
sees it on the grid of an embedding (`GridMethod.look`); those that make prompts also
say how (`GridMethod.segment`). Everything else is here: encoding, leaving supports out,
calibrating, the prior of position, the size of the target, sharp edges.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from napari_fewshot.errors import ModelError
from napari_fewshot.methods._base import Reliability
from napari_fewshot.methods._fusion import sigmoid
from napari_fewshot.methods._validation import (
    COPY_DISCOUNT,
    HeldOut,
    split_folds,
    summarise,
)
from napari_fewshot.methods.grid._calibrate import (
    Boundary,
    fit_boundary,
    position_prior,
    sized,
    top_of,
)
from napari_fewshot.methods.grid._decoders import decoder_for
from napari_fewshot.methods.grid._edges import upsampled
from napari_fewshot.methods.grid._house import house_segment
from napari_fewshot.methods.grid._judging import HeldLook, calibrate, copies_of, judge
from napari_fewshot.methods.grid._levels import MapDecoder
from napari_fewshot.methods.grid._tokens import (
    GridPlane,
    GridSupport,
    on_grid,
    supports_on_grid,
)
from napari_fewshot.methods.grid._vocabulary import (
    Explanation,
    Look,
    Segment,
    joined,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot._types import FloatArray, LabelArray
    from napari_fewshot.data import Hooks, Plane, Sample
    from napari_fewshot.methods._base import FittedMethod, MethodSpec
    from napari_fewshot.methods.grid._asks import Decoder
    from napari_fewshot.models import Encoder


@dataclass
class GridFitted:
    """What a method on embeddings learnt; see `FittedMethod`."""

    method: GridMethod
    encoder: Encoder
    params: Any
    decoder: Decoder
    supports: list[GridSupport]
    states: dict[int, Any]
    boundaries: dict[int, Boundary] = field(default_factory=dict)
    placed: set[int] = field(default_factory=set)
    floors: dict[int, float] = field(default_factory=dict)
    drawn: set[int] = field(default_factory=set)
    judged: list[HeldOut] = field(default_factory=list)
    is_copy: bool = True
    choice: str = ""

    def predict(self, plane: Plane, hooks: Hooks) -> dict[int, FloatArray]:
        """Return a probability map (H, W) per class."""
        return self.predict_objects(plane, hooks)[0]

    def predict_objects(
        self, plane: Plane, hooks: Hooks
    ) -> tuple[dict[int, FloatArray], dict[int, LabelArray]]:
        """Return probability maps, and single objects of classes that have them."""
        query = on_grid(self.encoder, plane, hooks)
        maps, objects = {}, {}
        for value in self.states:
            _, _, segment = self._see(value, query, hooks)
            maps[value] = sigmoid(segment.odds)
            if segment.objects is not None:
                objects[value] = segment.objects
        return maps, objects

    def explain(self, plane: Plane, hooks: Hooks) -> dict[int, Explanation]:
        """Return every intermediate per class, for layers that the user may look at."""
        query = on_grid(self.encoder, plane, hooks)
        found = {}
        for value, state in self.states.items():
            look, odds, segment = self._see(value, query, hooks)
            probability = sigmoid(segment.odds)
            if value not in self.drawn and (odds > 0).any():
                # The map did better on the supports, but the prompts may be dragged.
                segment = self.method.segment(
                    state, look, odds, query, self.decoder, self.params, hooks
                )
            maps = {"similarity": look.raw, **look.maps, "certainty": sigmoid(odds)}
            found[value] = Explanation(
                probability,
                {name: query.to_image(m) for name, m in maps.items()},
                joined(segment.asks),
                segment.candidates,
                segment.scores,
            )
        return found

    def _see(
        self, value: int, query: GridPlane, hooks: Hooks
    ) -> tuple[Look, FloatArray, Segment]:
        """Look for a class, calibrate what is seen, and draw its mask."""
        look = self.method.look(self.states[value], query, self.params, hooks)
        odds = self.odds(value, look, query, self.supports)
        return look, odds, self.segment(value, look, odds, query, hooks)

    def odds(
        self,
        value: int,
        look: Look,
        query: GridPlane,
        supports: Sequence[GridSupport],
    ) -> FloatArray:
        """Return calibrated log-odds (h, w): boundary, position, presence, size."""
        odds = self.boundaries.get(value, Boundary())(look.raw)
        if value in self.placed:
            odds = odds + position_prior(supports, value, query)
        if value in self.floors and top_of(odds) < self.floors[value]:
            # Nothing here is like the class, as on the negative supports.
            return odds - float(odds.max()) - 1.0
        if self.params.target_area > 0:
            odds = sized(odds, self.params.target_area / 100)
        return odds

    def segment(
        self,
        value: int,
        look: Look,
        odds: FloatArray,
        query: GridPlane,
        hooks: Hooks,
    ) -> Segment:
        """Return the mask of a class from its calibrated log-odds."""
        if not (odds > 0).any() or value not in self.drawn:
            return Segment(upsampled(odds, query, self.params.edges))
        state = self.states[value]
        return self.method.segment(
            state, look, odds, query, self.decoder, self.params, hooks
        )


class GridMethod(ABC):
    """Base of the methods on embeddings; see the module.

    Attributes
    ----------
    spec : MethodSpec
        With ``uses_model=True`` and parameters derived from `GridParams`.
    makes_prompts : bool
        Whether `segment` is the method itself: then it is used with the similarity map
        in place of a decoder, too.
    always_draws : bool
        Whether it is used even where the map alone does better on the supports: it
        finds what the map does not, such as single objects.
    copy_discount : float
        What the Dice on copies of a single support counts for.
    """

    spec: ClassVar[MethodSpec]
    makes_prompts: ClassVar[bool] = False
    always_draws: ClassVar[bool] = False
    copy_discount: ClassVar[float] = COPY_DISCOUNT

    def encoder_for(self, encoder: Encoder, params: Any) -> Encoder:
        """Return what planes are encoded by; the encoder itself by default."""
        return encoder

    @abstractmethod
    def learn(
        self, supports: Sequence[GridSupport], value: int, params: Any, hooks: Hooks
    ) -> Any:
        """Return what the supports say about one class; it must be picklable.

        Parameters
        ----------
        supports : sequence of GridSupport
            At least one holds the class; others may be negative.
        value : int
            The class.
        params : GridParams
            Of this method.
        hooks : Hooks
            Called at least every second.
        """

    @abstractmethod
    def look(self, state: Any, query: GridPlane, params: Any, hooks: Hooks) -> Look:
        """Say where a class is on the grid of a query.

        Parameters
        ----------
        state
            From `learn`.
        query : GridPlane
            The plane.
        params, hooks
            As for `learn`.
        """

    def boundary(
        self, raws: Sequence[FloatArray], covers: Sequence[FloatArray], params: Any
    ) -> Boundary:
        """Return where a similarity becomes a yes; see `fit_boundary`."""
        return fit_boundary(raws, covers)

    def tune(
        self,
        state: Any,
        supports: Sequence[GridSupport],
        value: int,
        decoder: Decoder,
        params: Any,
        hooks: Hooks,
    ) -> Any:
        """Fit to the answers of the decoder on the supports; by default nothing.

        Parameters
        ----------
        state
            From `learn`; not changed.
        supports, value, params, hooks
            As for `learn`.
        decoder : Decoder
            Who will draw the masks.
        """
        return state

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
        """Return the mask of a class; by default prompts for every part of the map.

        Parameters
        ----------
        state, look
            From `learn` and `look`.
        odds : array (h, w)
            Calibrated log-odds; some are positive.
        query : GridPlane
            The plane.
        decoder : Decoder
            Who draws masks.
        params, hooks
            As for `learn`.
        """
        mask, asks = house_segment(odds, query, decoder, params.edges, hooks)
        return Segment(mask, asks)

    def fit(
        self,
        samples: Sequence[Sample],
        classes: Sequence[int],
        params: Any,
        encoder: Encoder | None,
        hooks: Hooks,
    ) -> GridFitted:
        """Encode and learn, then calibrate on supports left out; see `Method.fit`."""
        if encoder is None:
            raise ModelError(
                f"The method {self.spec.name!r} needs a model; try model='filters'."
            )
        decoder = decoder_for(params.decoder, encoder)
        encoder = self.encoder_for(encoder, params)
        supports = supports_on_grid(encoder, samples, hooks)
        states = self._learn(supports, classes, decoder, params, hooks)
        fitted = GridFitted(self, encoder, params, decoder, supports, states)
        is_map = isinstance(decoder, MapDecoder)
        fitted.drawn = set(classes) if self.makes_prompts or not is_map else set()
        looks = self._held_looks(fitted, samples, classes, hooks)
        for value in classes:
            calibrate(fitted, value, looks)
        if params.leave_one_out:
            judge(fitted, looks, hooks)
        fitted.choice = describe(fitted)
        return fitted

    def fold_params(self, params: Any, fitted: FittedMethod) -> Any:
        """Return the parameters; leave-one-out is part of the fit."""
        return params

    def assess(
        self,
        samples: Sequence[Sample],
        classes: Sequence[int],
        params: Any,
        encoder: Encoder | None,
        hooks: Hooks,
        fitted: FittedMethod,
    ) -> Reliability:
        """Return what leaving supports out said during the fit; see `Method.assess`."""
        if not params.leave_one_out or not isinstance(fitted, GridFitted):
            return Reliability()
        return summarise(
            fitted.judged,
            classes,
            is_copy=fitted.is_copy,
            discount=self.copy_discount,
        )

    def _learn(
        self,
        supports: Sequence[GridSupport],
        classes: Sequence[int],
        decoder: Decoder,
        params: Any,
        hooks: Hooks,
    ) -> dict[int, Any]:
        """Learn every class, then fit what depends on the decoder."""
        found = {}
        for value in classes:
            state = self.learn(supports, value, params, hooks)
            found[value] = self.tune(state, supports, value, decoder, params, hooks)
        return found

    def _held_looks(
        self,
        fitted: GridFitted,
        samples: Sequence[Sample],
        classes: Sequence[int],
        hooks: Hooks,
    ) -> list[HeldLook]:
        """Look at every support without having learnt from it."""
        supports, params = fitted.supports, fitted.params
        folds = split_folds(samples, classes)
        fitted.is_copy = len(folds) == 1
        found = []
        if fitted.is_copy:
            for query in copies_of(fitted, samples, hooks):
                looks = {
                    v: self.look(s, query, params, hooks)
                    for v, s in fitted.states.items()
                }
                found.append(HeldLook(query, looks, supports, fitted.states))
            return found
        held: dict[int, HeldLook] = {}
        for number, fold in enumerate(folds):
            hooks.report("Checking the supports", number, len(folds))
            rest = [s for i, s in enumerate(supports) if i not in fold]
            states = self._learn(rest, classes, fitted.decoder, params, hooks)
            for i in fold:
                looks = {
                    v: self.look(s, supports[i], params, hooks)
                    for v, s in states.items()
                }
                held[i] = HeldLook(supports[i], looks, rest, states)
        return [held[i] for i in sorted(held)]


def describe(fitted: GridFitted) -> str:
    """Return one line: whose embeddings, who drew, whether position counted."""
    words = [f"on {fitted.encoder.spec.name}"]
    if fitted.drawn:
        words.append(f"masks by {fitted.decoder.name}")
    if fitted.placed:
        words.append("with position")
    return ", ".join(words)
