"""`clipseg`: a network that was trained to make a map from a phrase."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from napari_fewshot.methods._base import MethodSpec
from napari_fewshot.methods._fusion import sigmoid
from napari_fewshot.methods._params import param
from napari_fewshot.methods.text._base import TextMethod
from napari_fewshot.methods.text._exemplars import ExemplarParams
from napari_fewshot.methods.text._heat import Heat
from napari_fewshot.methods.text._phrases import phrase_bank

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import Hooks, Plane, TextPrompt


@dataclass(frozen=True)
class ClipSegParams(ExemplarParams):
    """Parameters of `clipseg`."""

    weight: float = param(
        0.5,
        "What examples from supports count beside the phrase: 0 nothing, 1 alone.",
        low=0.0,
        high=1.0,
        step=0.05,
        advanced=True,
    )


class ClipSegMethod(TextMethod):
    """The method object."""

    spec = MethodSpec(
        name="clipseg",
        summary="A network trained to mark what you type; fair on photographs, skin "
        "and endoscopy, poor on radiology.",
        params=ClipSegParams,
        reads_text=True,
        citation="Lüddecke & Ecker, Image segmentation using text and image prompts, "
        "CVPR 2022",
    )
    model_kinds: ClassVar[tuple[str, ...]] = ("heat",)
    exemplary: ClassVar[bool] = True

    def bank(self, text: Mapping[int, TextPrompt], model: Any, params: Any) -> Any:
        """Gather the phrases; the model reads them as they are."""
        return phrase_bank(text, model)

    def heat(
        self, model: Any, plane: Plane, bank: Any, params: Any, hooks: Hooks
    ) -> Heat:
        """Say where the phrases fit, 0.5 being the boundary.

        The best of a class's phrases counts. Where a phrase of what it is not fits,
        its log-odds are taken off. Objects of supports are mixed into the condition of
        the phrases of their class.
        """

        def seen(image: Any, phrases: Sequence[str], *shown: Any) -> FloatArray:
            found: FloatArray = model.heat(
                image,
                phrases,
                *shown,
                windows=params.windows,
                check=lambda *_: hooks.check(),
            )
            return found

        def looked(phrases: Sequence[str], *shown: Any) -> FloatArray:
            logits = seen(plane.image, phrases, *shown)
            if not params.flips:
                return logits
            mirrored = seen(np.ascontiguousarray(plane.image[:, ::-1]), phrases, *shown)
            both: FloatArray = ((logits + mirrored[..., ::-1]) / 2).astype(np.float32)
            return both

        logits = looked(bank.phrases)
        maps = []
        for words in bank.classes:
            odds = logits[bank.numbers(words.positive)].max(0)
            if examples := bank.exemplars.get(words.value):
                shown = [(e.image, e.mask) for e in examples]
                odds = looked(words.positive, shown, params.weight).max(0)
            if words.negative:
                against = logits[bank.numbers(words.negative)].max(0)
                odds = odds - np.maximum(against, 0)
            maps.append(sigmoid(odds))
        return Heat(np.stack(maps).astype(np.float32), "probability")


METHOD = ClipSegMethod()
