"""What a text head learns from: labelled planes and the phrases of their classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.errors import ModelError, PromptError
from napari_fewshot.methods.grid import decoder_for
from napari_fewshot.methods.grid._tokens import embed
from napari_fewshot.methods.text._words import MODALITY, NONSENSE, ensembled
from napari_fewshot.ops import mask_to_grid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_fewshot.data import Hooks, Sample, TextPrompt
    from napari_fewshot.models.text_heads import (
        HeadSettings,
        Lesson,
        Phrases,
        Shown,
        TextHead,
    )

# Supports that are learnt from; of more, evenly spaced ones.
MOST_SUPPORTS = 32


def fit_text_head(
    samples: Sequence[Sample],
    text: Mapping[int, TextPrompt],
    model: Any,
    settings: HeadSettings,
    hooks: Hooks,
    *,
    templates: str = "medical",
    modalities: Sequence[str] = (),
    sam: Any = None,
    checkpoint: Any = None,
) -> TextHead:
    """Fit a head on labelled planes; the CLIP stays as it is.

    Parameters
    ----------
    samples : sequence of Sample
        Labelled planes.
    text : dict of int to TextPrompt
        Phrases of the classes; those without a support are not learnt.
    model : TextModel
        Of the CLIP kind.
    settings : HeadSettings
        Kind, steps, learning rate.
    hooks : Hooks
        Progress and cancelling.
    templates : str
        Sentences that phrases are put into; see `TEMPLATES`.
    modalities : sequence of str, optional
        One per sample, such as ``"CT"``; default those of the prompts. Sentences name
        them, and steps of the training take turns.
    sam : SamModel, optional
        For the kind ``"vlp"``.
    checkpoint : path, optional
        File from which an interrupted fit goes on.

    Returns
    -------
    TextHead

    Raises
    ------
    PromptError
        If no class has both a phrase and a support.
    SupportError
        If nothing is painted.
    ModelError
        If the model has no tower, or ``"vlp"`` no SAM.
    Cancelled
        If the hooks say so.
    """
    from pathlib import Path

    from napari_fewshot.models.text_heads import TextHead, fit_module

    check_clip(model)
    learnt = learnable(samples, text)
    if modalities and len(modalities) != len(samples):
        raise PromptError(
            f"There are {len(samples)} labelled planes and {len(modalities)} "
            "modalities. Name one modality per plane, or none at all."
        )
    lessons = _lessons(samples, learnt, model, modalities, sam, hooks)
    named = sorted({item.modality for item in lessons})
    phrases = phrases_of(learnt, model, templates, named)
    place = None if checkpoint is None else Path(checkpoint)
    module, losses = fit_module(
        lessons, phrases, settings, hooks, sam=sam, checkpoint=place
    )
    return TextHead(
        settings.kind,
        module,
        lessons[0].seen.sizes,
        str(model.spec.name),
        str(getattr(model, "sha256", "")),
        "" if sam is None else str(sam.spec.name),
        "" if sam is None else str(sam.sha256),
        templates,
        {value: tuple(prompt.words) for value, prompt in learnt.items()},
        _shown(lessons, learnt) if settings.kind == "vlp" else {},
        {
            "steps": len(losses),
            "planes": len(samples),
            "loss": float(np.mean(losses[-10:])) if losses else None,
            "modalities": named,
            "seed": settings.seed,
        },
        phrases.centre,
    )


def learnable(
    samples: Sequence[Sample], text: Mapping[int, TextPrompt]
) -> dict[int, TextPrompt]:
    """Return the classes that have a phrase and a support.

    Raises
    ------
    PromptError
        If there are none.
    """
    painted = {int(v) for s in samples for v in np.unique(s.labels) if v}
    found = {v: t for v, t in text.items() if v in painted}
    if not found:
        raise PromptError(
            f"The phrases are for the classes {_listed(text)}, the supports show "
            f"{_listed(painted)}. Give phrases for classes that the supports show."
        )
    return found


def check_clip(model: Any) -> None:
    """Refuse models that are not of the CLIP kind.

    Raises
    ------
    ModelError
        Naming the model.
    """
    if getattr(getattr(model, "spec", None), "text", "") != "clip":
        name = getattr(getattr(model, "spec", None), "name", str(model))
        raise ModelError(
            f"Text heads read features of a CLIP; {name} is none. Choose one such as "
            "biomedclip, or clip/vit_b_16."
        )


def phrases_of(
    text: Mapping[int, TextPrompt],
    model: Any,
    templates: str,
    modalities: Sequence[str] = ("",),
) -> Phrases:
    """Encode what is asked for while a head learns.

    Parameters
    ----------
    text : dict of int to TextPrompt
        Of the classes.
    model : TextModel
        Who encodes.
    templates : str
        A key of `TEMPLATES`.
    modalities : sequence of str
        "" is the one that the prompts name.
    """
    import torch

    from napari_fewshot.models.text_heads import Phrases

    device = getattr(model, "device", "cpu")
    classes = {}
    for value, prompt in text.items():
        for modality in modalities:
            said = modality or prompt.modality or MODALITY
            rows = ensembled(prompt.words, model, templates, said)
            classes[value, modality] = torch.from_numpy(rows).to(device)
    known = {w.casefold() for t in text.values() for w in t.words}
    denied = {n for t in text.values() for n in t.negatives}
    absent = [*sorted(n for n in denied if n.casefold() not in known), *NONSENSE]
    rows = ensembled(absent, model, templates)
    return Phrases(classes, torch.from_numpy(rows).to(device))


def sam_for(model: Any) -> Any:
    """Return the installed SAM that learnt tokens go to.

    Raises
    ------
    ModelError
        If there is none.
    """
    decoder: Any = decoder_for("sam", model)
    return decoder.model


def _lessons(
    samples: Sequence[Sample],
    text: Mapping[int, TextPrompt],
    model: Any,
    modalities: Sequence[str],
    sam: Any,
    hooks: Hooks,
) -> list[Lesson]:
    """Look at every support and at its mirror image."""
    import torch

    from napari_fewshot.models.text_heads import Lesson, check_sam, look

    if sam is not None:
        check_sam(sam)
    numbers = np.arange(len(samples))
    if len(samples) > MOST_SUPPORTS:
        spaced = np.linspace(0, len(samples) - 1, MOST_SUPPORTS)
        numbers = np.unique(spaced.round().astype(int))
    found = []
    for done, number in enumerate(numbers.tolist()):
        hooks.report("Looking at the supports", done, len(numbers))
        sample = samples[number]
        modality = modalities[number] if modalities else ""
        for mirrored in (False, True):
            hooks.check()
            image = sample.image[:, ::-1] if mirrored else sample.image
            labels = sample.labels[:, ::-1] if mirrored else sample.labels
            pixels = np.ascontiguousarray(image)
            seen = look(model, pixels)
            shape = int(seen.pixels.shape[2]) // 2, int(seen.pixels.shape[3]) // 2
            covers = {
                value: torch.from_numpy(mask_to_grid(labels == value, shape)).to(
                    seen.cells.device
                )
                for value in text
                if (labels == value).any()
            }
            if not covers:
                nothing = torch.zeros(shape, device=seen.cells.device)
                covers = {next(iter(text)): nothing}
            embedding = None if sam is None else embed(sam, pixels)
            found.append(Lesson(seen, covers, modality, embedding))
    return found


def _shown(
    lessons: Sequence[Lesson], text: Mapping[int, TextPrompt]
) -> dict[int, Shown]:
    """Pool what all supports show of every class."""
    from napari_fewshot.models.text_heads import shown_by

    found = {}
    for value in text:
        holding = [item for item in lessons if value in item.covers]
        shown = shown_by(
            [item.seen for item in holding], [item.covers[value] for item in holding]
        )
        if shown is not None:
            found[value] = shown
    return found


def _listed(values: Any) -> str:
    return ", ".join(map(str, sorted(values))) or "none"
