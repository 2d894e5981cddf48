"""`vlp`: what supports look like and what the phrase says become one prompt for SAM.

VLP-SAM (Sakurai et al., Vision and language reference prompt into SAM for few-shot
segmentation, 2025) trains an encoder that turns a support, its prior map and a map of
the phrase into prompts. This form needs no training: both maps are made in the same
space of words, weighed by what either does on the supports (`choose_blend`), and the
joined map prompts the decoder. `text-head` learns tokens for SAM on your supports.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.errors import PromptError, WeightsError
from napari_fewshot.methods._base import MethodSpec, Reliability
from napari_fewshot.methods._looks import network_of
from napari_fewshot.methods._params import default_of
from napari_fewshot.methods._registry import get_method
from napari_fewshot.methods._validation import HeldOut, dice, split_folds, summarise
from napari_fewshot.methods.grid import GridParams, MapDecoder
from napari_fewshot.methods.text._base import TextFitted, TextMethod
from napari_fewshot.methods.text._fused import judged_planes, weighed
from napari_fewshot.methods.text._heat import Heat
from napari_fewshot.methods.text._params import TextParams

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import Hooks, Plane, Sample, TextPrompt
    from napari_fewshot.methods.text._blend import Blend

# Who makes the two maps. That of the supports compares cells in the space of words, or
# in that of the bundled network, whichever tells more on supports that were left out.
BY_IMAGE, BY_TEXT = "panet", "clearclip"


@dataclass(frozen=True)
class VlpParams(TextParams):
    """Parameters of `vlp`."""


@dataclass
class VlpFitted(TextFitted):
    """Both maps with a blend per class; see `TextFitted`."""

    image: Any = None
    blends: dict[int, Blend] = field(default_factory=dict)
    reliability: Reliability = field(default_factory=Reliability)

    def heat(self, plane: Plane, hooks: Hooks) -> Heat:
        """Return the joined maps, calibrated."""
        read = by_text(self, plane, hooks)
        seen = {} if self.image is None else self.image.predict(plane, hooks)
        maps = [
            self.blends[words.value](seen[words.value], read[words.value])
            if words.value in self.blends
            else read[words.value]
            for words in self.bank.classes
        ]
        return Heat(np.stack(maps).astype(np.float32), "probability")


class VlpMethod(TextMethod):
    """The method object."""

    spec = MethodSpec(
        name="vlp",
        summary="Joins what the supports look like and what the phrase says.",
        params=VlpParams,
        reads_text=True,
        citation="VLP-SAM (Sakurai et al., 2025), without training",
    )
    learns = True

    def heat(
        self, model: Any, plane: Plane, bank: Any, params: Any, hooks: Hooks
    ) -> Heat:
        """Say where the phrase fits, as without supports."""
        found: Heat = _reader().heat(model, plane, bank, params, hooks)
        return found

    def fit_text(
        self,
        text: Mapping[int, TextPrompt],
        params: Any,
        model: Any,
        hooks: Hooks,
        samples: Sequence[Sample] = (),
    ) -> TextFitted:
        """Encode the words, learn the looks, and weigh them; see `TextMethod`.

        Parameters
        ----------
        text, params, model, hooks
            As for any text method.
        samples : sequence of Sample
            The supports; without any the text decides alone.

        Raises
        ------
        PromptError
            If the supports hold a class that has no phrase.
        """
        plain = super().fit_text(text, params, model, hooks)
        if not samples:
            return plain
        classes = sorted({int(v) for s in samples for v in np.unique(s.labels) if v})
        missing = [v for v in classes if v not in text]
        if missing:
            raise PromptError(
                f"Class {missing[0]} has supports but no phrase. Type one, or choose "
                "method='auto', which takes supports and phrases class by class."
            )
        fitted = VlpFitted(method=self, **_fields(plain))
        judged, planes = _look(fitted, samples, classes, hooks)
        _weigh(fitted, samples, classes, judged, planes, hooks)
        shares = ", ".join(dict.fromkeys(b.told for b in fitted.blends.values()))
        fitted.choice = f"vlp on {model.spec.name} ({shares}), masks by "
        fitted.choice += fitted.decoder.name
        return fitted


def by_text(fitted: TextFitted, plane: Plane, hooks: Hooks) -> dict[int, FloatArray]:
    """Return what the phrases alone say, (H, W) per class; 0.5 is the boundary.

    Parameters
    ----------
    fitted : TextFitted
        With the words.
    plane : Plane
        Where.
    hooks : Hooks
        For cancelling.
    """
    simple = replace(fitted.params, rescore=False, presence=False)
    alone = TextFitted(_reader(), fitted.model, simple, fitted.bank, MapDecoder())
    return alone.predict(plane, hooks)


def _look(
    fitted: VlpFitted, samples: Sequence[Sample], classes: Sequence[int], hooks: Hooks
) -> tuple[list[HeldOut], list[Plane]]:
    """Learn from the supports; return what that says of supports left out, and these.

    What is learnt becomes ``fitted.image``.
    """
    method = get_method(BY_IMAGE)
    values: Any = _params(method.spec.params, fitted.params)
    is_copy = len(split_folds(samples, classes)) == 1
    tried = []
    for encoder in (fitted.model, *_network()):
        look = method.fit(samples, classes, values, encoder, hooks)
        judged, planes = judged_planes(
            look,
            samples,
            classes,
            method,
            values,
            encoder,
            hooks,
            is_copy=is_copy,
        )
        worth = [
            dice(item.maps[v] >= 0.5, item.labels == v)
            for item in judged
            for v in classes
        ]
        tried.append((float(np.mean(worth)), look, judged, planes))
    _, fitted.image, judged, planes = max(tried, key=lambda one: one[0])
    return judged, planes


def _network() -> list[Any]:
    """Return the bundled network, if it is there."""
    try:
        return [network_of(None)]
    except WeightsError:
        return []


def _weigh(
    fitted: VlpFitted,
    samples: Sequence[Sample],
    classes: Sequence[int],
    judged: Sequence[HeldOut],
    planes: Sequence[Plane],
    hooks: Hooks,
) -> None:
    """Choose a blend per class on supports that were left out."""
    is_copy = len(split_folds(samples, classes)) == 1
    said = [by_text(fitted, plane, hooks) for plane in planes]
    fitted.blends, mixed = weighed(judged, said, classes, is_copy=is_copy)
    fitted.reliability = summarise(mixed, classes, is_copy=is_copy)


def _reader() -> Any:
    return get_method(BY_TEXT)


def _fields(plain: TextFitted) -> dict[str, Any]:
    names = ("model", "params", "bank", "decoder", "choice")
    return {name: getattr(plain, name) for name in names}


def _params(cls: type[Any], params: VlpParams) -> GridParams:
    """Return parameters of the image side: its map is drawn later, not here."""
    known = {n: default_of(f) for n, f in cls.__dataclass_fields__.items()}
    found: GridParams = cls(**{**known, "seed": params.seed, "decoder": "map"})
    return found


METHOD = VlpMethod()
