"""`text-head`: a small network that learns phrases on the supports, on a frozen CLIP.

Four kinds, each the part of a published system that can be trained on a few planes:
queries (SAT), the decoder of CLIPSeg, a head whose weights the phrase writes
(MulModSeg), and prompts for a frozen SAM (VLP-SAM). After training any phrase may be
asked for, those that were never painted too; how well that goes depends on the CLIP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_fewshot.errors import PromptError
from napari_fewshot.methods._base import MethodSpec
from napari_fewshot.methods._fusion import sigmoid
from napari_fewshot.methods._params import param
from napari_fewshot.methods._text_lessons import check_clip, fit_text_head, sam_for
from napari_fewshot.methods.grid import MapDecoder, decoder_for
from napari_fewshot.methods.grid._tokens import embed
from napari_fewshot.methods.text._base import TextFitted, TextMethod
from napari_fewshot.methods.text._heat import Heat
from napari_fewshot.methods.text._params import TextParams
from napari_fewshot.methods.text._words import TextBank, encode_bank

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import Hooks, Plane, Sample, TextPrompt
    from napari_fewshot.models.text_heads import TextHead


@dataclass(frozen=True)
class TextHeadParams(TextParams):
    """Parameters of `text-head`."""

    head: str = param(
        "",
        "File of a head that was trained before; empty trains one on the supports.",
    )
    kind: Literal["query", "clipseg", "dynamic", "vlp"] = param(
        "dynamic",
        "What is trained: layers that the phrase writes (dynamic), queries that look "
        "at the image (query), CLIPSeg's decoder (clipseg), or prompts for SAM (vlp).",
    )
    steps: int = param(
        200,
        "Steps of the training: more fits the supports better and takes longer.",
        low=1,
        high=100000,
        step=50,
    )
    rate: float = param(
        0.0,
        "Learning rate; 0 is what suits the kind.",
        low=0.0,
        high=1.0,
        step=1e-4,
        at_low="by kind",
        advanced=True,
    )
    again: bool = param(
        False,
        "Let a query head correct its own masks once, each half from the other.",
        advanced=True,
    )
    decoder: Literal["auto", "sam", "network", "map"] = param(
        "map",
        "Who draws the masks: the head itself (map), SAM, or the bundled network.",
    )


@dataclass(frozen=True, eq=False)
class HeadBank(TextBank):
    """Words of a run and the head that answers them.

    Attributes
    ----------
    head : TextHead
    sam : SamModel, optional
        For the kind ``"vlp"``.
    """

    head: Any = None
    sam: Any = None


class TextHeadMethod(TextMethod):
    """The method object."""

    spec = MethodSpec(
        name="text-head",
        summary="Learns your phrases on your supports; then any phrase may be asked.",
        params=TextHeadParams,
        reads_text=True,
        citation=(
            "SAT (npj Digit Med 2025); CLIPSeg (CVPR 2022); MulModSeg (WACV 2025); "
            "VLP-SAM (2025)"
        ),
    )
    learns = True

    def fit_text(
        self,
        text: Mapping[int, TextPrompt],
        params: Any,
        model: Any,
        hooks: Hooks,
        samples: Sequence[Sample] = (),
    ) -> TextFitted:
        """Train a head on the supports, or read one from a file.

        Parameters
        ----------
        text : dict of int to TextPrompt
            Per class; those without a support are asked for all the same.
        params : TextHeadParams
            Of this method.
        model : TextModel
            Of the CLIP kind.
        hooks : Hooks
            For progress and cancelling.
        samples : sequence of Sample
            Supports; not needed with ``head``.

        Raises
        ------
        PromptError
            If there is neither a head nor a support for a phrase.
        WeightsError
            If the file is missing, damaged or something else.
        ModelError
            If the head belongs to other models.
        """
        from napari_fewshot.models.text_heads import HeadSettings, load_head

        check_clip(model)
        if params.head:
            head = load_head(params.head)
            head.check(model)
            sam = sam_for(model) if head.kind == "vlp" else None
            source = "read from a file"
        else:
            if not samples:
                raise PromptError(
                    "The method 'text-head' learns phrases on supports, and there is "
                    "none. Add supports, or give head= a file of a trained one."
                )
            sam = sam_for(model) if params.kind == "vlp" else None
            settings = HeadSettings(
                params.kind, params.steps, params.rate, seed=params.seed
            )
            head = fit_text_head(
                samples,
                text,
                model,
                settings,
                hooks,
                templates=params.templates,
                sam=sam,
            )
            source = f"trained on {head.facts['planes']} planes"
        return self.with_head(text, params, model, head, sam, source)

    def with_head(
        self,
        text: Mapping[int, TextPrompt],
        params: Any,
        model: Any,
        head: TextHead,
        sam: Any = None,
        source: str = "",
    ) -> TextFitted:
        """Return a head, ready for planes.

        Parameters
        ----------
        text, params, model
            As for `fit_text`.
        head : TextHead
            Trained on features of this model.
        sam : SamModel, optional
            For the kind ``"vlp"``.
        source : str
            Where the head comes from, for the user.
        """
        words = encode_bank(text, model, head.templates)
        new = [t.name for t in text.values() if head.class_of(t.words) is None]
        notes = list(words.notes)
        if new:
            notes.append(
                f"The text head was not trained on {', '.join(map(repr, new))}; what "
                "it finds for it is a guess from what it was trained on."
            )
        bank = HeadBank(
            words.classes,
            words.background,
            words.nonsense,
            words.empty,
            tuple(notes),
            head,
            sam,
        )
        # SAM has drawn already where it was asked with tokens.
        drawn = head.kind == "vlp"
        decoder = MapDecoder() if drawn else decoder_for(params.decoder, model)
        choice = f"text-head ({head.kind}) on {model.spec.name}, {source}"
        return TextFitted(self, model, params, bank, decoder, choice.rstrip(", "))

    def heat(
        self, model: Any, plane: Plane, bank: Any, params: Any, hooks: Hooks
    ) -> Heat:
        """Ask the head for every phrase; the best of a class counts."""
        from napari_fewshot.models.text_heads import look

        pixels = np.ascontiguousarray(plane.image)
        seen = look(model, pixels)
        hooks.check()
        embedding = None if bank.sam is None else embed(bank.sam, pixels)
        hooks.check()
        rows, values = [], []
        for words in bank.classes:
            value = bank.head.class_of(words.prompt.words)
            rows += [words.positive, words.negative]
            values += [value] * len(words.positive) + [None] * len(words.negative)
        logits = bank.head.answer(
            seen,
            np.concatenate(rows).astype(np.float32),
            values,
            sam=bank.sam,
            embedding=embedding,
            again=params.again,
        )
        maps, begin = [], 0
        for words in bank.classes:
            middle = begin + len(words.positive)
            end = middle + len(words.negative)
            maps.append(_odds(logits[begin:middle], logits[middle:end]))
            begin = end
        return Heat(sigmoid(np.stack(maps)), "probability")


METHOD = TextHeadMethod()


def _odds(positive: FloatArray, negative: FloatArray) -> FloatArray:
    """Return the best of what it is, less what it is not where that is likely."""
    best: FloatArray = positive.max(0)
    if len(negative):
        best = np.minimum(best, best - negative.max(0))
    return best
