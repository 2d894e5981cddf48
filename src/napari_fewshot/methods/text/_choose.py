"""`text`: the way of looking for phrases that suits the model that is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_fewshot.methods._base import MethodSpec
from napari_fewshot.methods._params import default_of
from napari_fewshot.methods._registry import get_method
from napari_fewshot.methods.text._base import TextMethod
from napari_fewshot.methods.text._params import TextParams

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_fewshot.data import Hooks, Plane, Sample, TextPrompt
    from napari_fewshot.methods.text._heat import Heat

# Per kind of model (`ModelSpec.text`) the method that needs no settings.
BY_KIND = {
    "clip": "clearclip",
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
        citation="That of the method it takes: ClearCLIP, CLIPSeg, Grounding DINO, "
        "OWLv2 or SAM 3",
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
    cls: Any = method.spec.params
    known = {n: default_of(f) for n, f in cls.__dataclass_fields__.items()}
    mine = {n: getattr(params, n) for n in known if hasattr(params, n)}
    return method, cls(**{**known, **mine})


def _method_for(model: Any) -> TextMethod:
    name = BY_KIND.get(model.spec.text, BY_KIND["clip"])
    if hasattr(model, "boxes_like"):
        # Of the detectors, OWLv2 also looks for what examples look like.
        name = "owlv2"
    method: Any = get_method(name)
    found: TextMethod = method
    return found


METHOD = ChosenMethod()
