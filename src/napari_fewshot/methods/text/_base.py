"""`TextMethod`: a phrase becomes a heat map, a heat map becomes masks.

A text method says where a phrase fits (`TextMethod.heat`). Everything else is here or
beside it: encoding the words once per run, competition of classes, presence, prompts
for a decoder, masks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from napari_fewshot.data import Embedding, PlanePrompts
from napari_fewshot.errors import PromptError
from napari_fewshot.methods._base import Reliability
from napari_fewshot.methods.grid import Explanation, GridPlane, MapDecoder, decoder_for
from napari_fewshot.methods.text._asks import Drawing
from napari_fewshot.methods.text._exemplars import has_exemplars, with_exemplars
from napari_fewshot.methods.text._masks import draw_masks
from napari_fewshot.methods.text._refine import refine_masks
from napari_fewshot.methods.text._words import encode_bank, refuse_same

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_fewshot._types import FloatArray, LabelArray
    from napari_fewshot.data import Hooks, Plane, Sample, TextPrompt
    from napari_fewshot.methods._base import FittedMethod, MethodSpec
    from napari_fewshot.methods.grid import Decoder
    from napari_fewshot.methods.text._heat import Found, Heat


@dataclass
class TextFitted:
    """Words that were encoded, ready for planes; see `FittedMethod`."""

    method: TextMethod
    model: Any
    params: Any
    bank: Any
    decoder: Decoder
    choice: str = ""
    # What phrases asked for in vain on the planes so far.
    heard: dict[str, None] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the words."""
        return (*self.bank.notes, *self.heard)

    def predict(self, plane: Plane, hooks: Hooks) -> dict[int, FloatArray]:
        """Return a probability map (H, W) per class."""
        return self.find(plane, hooks).maps

    def predict_objects(
        self, plane: Plane, hooks: Hooks
    ) -> tuple[dict[int, FloatArray], dict[int, LabelArray]]:
        """Return probability maps, and single objects where they are found."""
        found = self.find(plane, hooks)
        return found.maps, found.objects

    def heat(self, plane: Plane, hooks: Hooks) -> Heat:
        """Return where the phrases fit on a plane."""
        hooks.check()
        return self.method.heat(self.model, plane, self.bank, self.params, hooks)

    def find(self, plane: Plane, hooks: Hooks) -> Found:
        """Return masks with all that led to them."""
        heat = self.heat(plane, hooks)
        query = on_heat(plane, heat, self.model.spec.name)
        found = draw_masks(heat, query, self, hooks)
        if self.params.refine:
            seed = self.params.seed
            found.maps.update(
                refine_masks(found.maps, query, self.decoder, seed, hooks)
            )
        self.heard.update(dict.fromkeys(found.notes))
        return found

    def show(self, plane: Plane, hooks: Hooks) -> dict[int, dict[str, FloatArray]]:
        """Return heat maps (H, W) per class; no masks are drawn."""
        plain = replace(self.params, rescore=False, refine=False)
        drawn = replace(self, decoder=MapDecoder(), params=plain)
        return drawn.find(plane, hooks).heats

    def explain(self, plane: Plane, hooks: Hooks) -> dict[int, Explanation]:
        """Return every intermediate per class, for layers that the user may look at."""
        found = self.find(plane, hooks)
        return {
            value: Explanation(
                probability,
                found.heats.get(value, {}),
                found.prompts.get(value, PlanePrompts()),
                found.candidates.get(value),
                found.scores.get(value, ()),
            )
            for value, probability in found.maps.items()
        }


class TextMethod(ABC):
    """Base of the methods that read phrases; see the module.

    Attributes
    ----------
    spec : MethodSpec
        With ``reads_text=True`` and parameters derived from `TextParams`.
    model_kinds : tuple of str
        Kinds of text models that it runs on; see `ModelSpec.text`.
    learns : bool
        Whether it learns from supports, too.
    exemplary : bool
        Whether its models look at objects of supports as examples of the phrases.
    """

    spec: ClassVar[MethodSpec]
    model_kinds: ClassVar[tuple[str, ...]] = ("clip",)
    learns: ClassVar[bool] = False
    exemplary: ClassVar[bool] = False

    @abstractmethod
    def heat(
        self, model: Any, plane: Plane, bank: Any, params: Any, hooks: Hooks
    ) -> Heat:
        """Say where the phrases of a bank fit on a plane.

        Parameters
        ----------
        model : TextModel
            Of one of ``model_kinds``.
        plane : Plane
            Its pixels are floats in [0, 1].
        bank : TextBank
            From `bank`.
        params : TextParams
            Of this method.
        hooks : Hooks
            Called at least every second.
        """

    def drawing(self, params: Any) -> Drawing:
        """Return how masks are drawn; methods that follow a paper override it."""
        return Drawing()

    def bank(self, text: Mapping[int, TextPrompt], model: Any, params: Any) -> Any:
        """Encode all words once; models that read phrases as they are override it."""
        return encode_bank(text, model, params.templates, vocabulary=params.vocabulary)

    def takes_exemplars(self, model: Any) -> bool:
        """Return whether a model is shown objects of supports by this method."""
        return self.exemplary

    def with_samples(
        self, bank: Any, samples: Sequence[Sample], model: Any, params: Any
    ) -> Any:
        """Return a bank with examples from supports, where the model takes them."""
        if not self.takes_exemplars(model):
            return bank
        return with_exemplars(bank, samples, params.exemplars)

    def fit_text(
        self,
        text: Mapping[int, TextPrompt],
        params: Any,
        model: Any,
        hooks: Hooks,
        samples: Sequence[Sample] = (),
    ) -> TextFitted:
        """Encode the words of a run.

        Parameters
        ----------
        text : dict of int to TextPrompt
            Per class; not empty.
        params : TextParams
            Of this method.
        model : TextModel
            Who reads.
        hooks : Hooks
            For progress and cancelling.
        samples : sequence of Sample
            Supports: models that take examples are shown objects of them.
        """
        refuse_same(text)
        hooks.report("Reading the phrases")
        decoder = decoder_for(params.decoder, model)
        words = self.bank(text, model, params)
        shown = ""
        if samples:
            words = self.with_samples(words, samples, model, params)
            shown = " with examples" if has_exemplars(words) else ""
        choice = f"{self.spec.name} on {model.spec.name}{shown}, "
        choice += f"masks by {decoder.name}"
        return TextFitted(self, model, params, words, decoder, choice)

    def fit(
        self,
        samples: Sequence[Sample],
        classes: Sequence[int],
        params: Any,
        encoder: Any,
        hooks: Hooks,
    ) -> FittedMethod:
        """Refuse supports without a phrase; see `Method.fit`."""
        raise PromptError(
            f"The method {self.spec.name!r} looks for phrases, and there is none. Type "
            "what to look for, or choose a method that learns from supports."
        )

    def fold_params(self, params: Any, fitted: FittedMethod) -> Any:
        """Return the parameters; there is nothing to leave out."""
        return params

    def assess(
        self,
        samples: Sequence[Sample],
        classes: Sequence[int],
        params: Any,
        encoder: Any,
        hooks: Hooks,
        fitted: FittedMethod,
    ) -> Reliability:
        """Return that nothing is known without supports."""
        return Reliability()


def on_heat(plane: Plane, heat: Heat, name: str) -> GridPlane:
    """Return a plane on the grid of its heat maps.

    Parameters
    ----------
    plane : Plane
        Its pixels.
    heat : Heat
        Its maps take the place of features.
    name : str
        Of the model.
    """
    shape = (int(plane.image.shape[0]), int(plane.image.shape[1]))
    maps = np.ascontiguousarray(heat.maps, np.float32)
    return GridPlane(plane, Embedding(maps, shape, f"heat of {name}"))
