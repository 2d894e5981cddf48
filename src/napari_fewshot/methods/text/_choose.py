"""`text`: the way of looking for phrases that suits the model that is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.methods._base import MethodSpec
from napari_fewshot.methods._params import default_of
from napari_fewshot.methods._registry import get_method
from napari_fewshot.methods.text._base import TextMethod
from napari_fewshot.methods.text._heat import Heat
from napari_fewshot.methods.text._params import TextParams
from napari_fewshot.ops import resize_image

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import Hooks, Plane, Sample, TextPrompt

# Per kind of model (`ModelSpec.text`) the methods that need no settings; of several the
# mean counts: what a patch says by itself, and what regions of like patches say, err
# differently.
BOTH = ("proxy", "maskclip")
BY_KIND = {
    "clip": "+".join(BOTH),
    "heat": "clipseg",
    "boxes": "grounding-dino",
    "concept": "sam3",
}


@dataclass(frozen=True)
class ChosenParams(TextParams):
    """Parameters of `text`."""


class ChosenMethod(TextMethod):
    """The method object."""

    spec = MethodSpec(
        name="text",
        summary="Looks for what you type, in the way that suits the model.",
        params=ChosenParams,
        reads_text=True,
        citation="Those of the methods it takes: ProxyCLIP and MaskCLIP, CLIPSeg, "
        "Grounding DINO, OWLv2 or SAM 3",
    )
    model_kinds = tuple(BY_KIND)

    def bank(self, text: Mapping[int, TextPrompt], model: Any, params: Any) -> Any:
        """Encode all words as the chosen method does."""
        method, values = chosen(model, params)
        return method.bank(text, model, values)

    def heat(
        self, model: Any, plane: Plane, bank: Any, params: Any, hooks: Hooks
    ) -> Heat:
        """Say where the phrases fit as the chosen method does."""
        method, values = chosen(model, params)
        return method.heat(model, plane, bank, values, hooks)

    def takes_exemplars(self, model: Any) -> bool:
        """Return whether the chosen method shows the model objects of supports."""
        return _method_for(model).takes_exemplars(model)

    def with_samples(
        self, bank: Any, samples: Sequence[Sample], model: Any, params: Any
    ) -> Any:
        """Return the bank with examples as the chosen method takes them."""
        method, values = chosen(model, params)
        return method.with_samples(bank, samples, model, values)


class BothMethod(TextMethod):
    """The mean of two ways of comparing cells with phrases."""

    spec = MethodSpec(
        name=BY_KIND["clip"],
        summary="Compares with the phrase what patches say, alone and in regions.",
        params=ChosenParams,
        reads_text=True,
    )

    def heat(
        self, model: Any, plane: Plane, bank: Any, params: Any, hooks: Hooks
    ) -> Heat:
        """Average the cosines of both, on the finer grid."""
        heats = []
        for name in BOTH:
            method: Any = get_method(name)
            values = _for_method(method, params)
            heats.append(method.heat(model, plane, bank, values, hooks))
        rows, columns = max((h.maps.shape[1:] for h in heats), key=np.prod)
        shape = (int(rows), int(columns))
        grounds = [h.background[None] for h in heats if h.background is not None]
        unlike = [h.negative for h in heats if h.negative is not None]
        return Heat(
            _mean([h.maps for h in heats], shape),
            "cosine",
            _mean(grounds, shape)[0] if grounds else None,
            _mean(unlike, shape) if unlike else None,
            heats[0].fits,
            heats[0].baseline,
        )


def _mean(maps: Sequence[FloatArray], shape: tuple[int, int]) -> FloatArray:
    """Return the mean of stacks of maps (C, h, w), brought to one grid."""
    fine = [np.stack([resize_image(m, shape) for m in one]) for one in maps]
    found: FloatArray = np.mean(fine, axis=0, dtype=np.float32)
    return found


def chosen(model: Any, params: TextParams) -> tuple[TextMethod, Any]:
    """Return the method for a model, and its parameters.

    Parameters
    ----------
    model : TextModel
        Its ``spec.text`` decides.
    params : TextParams
        Those that all text methods share are kept.
    """
    method = _method_for(model)
    return method, _for_method(method, params)


def _for_method(method: TextMethod, params: TextParams) -> Any:
    """Return parameters of a method; those that all share are kept."""
    cls: Any = method.spec.params
    known = {n: default_of(f) for n, f in cls.__dataclass_fields__.items()}
    mine = {n: getattr(params, n) for n in known if hasattr(params, n)}
    return cls(**{**known, **mine})


def _method_for(model: Any) -> TextMethod:
    name = BY_KIND.get(model.spec.text, BY_KIND["clip"])
    if hasattr(model, "boxes_like"):
        # Of the detectors, OWLv2 also looks for what examples look like.
        name = "owlv2"
    if name == BY_KIND["clip"]:
        return BothMethod()
    method: Any = get_method(name)
    found: TextMethod = method
    return found


METHOD = ChosenMethod()
