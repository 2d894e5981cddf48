"""`finetune_clip` and `fit_text_head`: suiting models that read to one's own images."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_fewshot.data import Hooks, TextPrompt
from napari_fewshot.errors import DataError, PromptError
from napari_fewshot.inference._samples import collect_samples
from napari_fewshot.io import open_image
from napari_fewshot.session._asked import resolve_supports
from napari_fewshot.session._reading import normalise_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_fewshot._types import FloatArray
    from napari_fewshot.adapt.text import Finetuned
    from napari_fewshot.data import SupportSet
    from napari_fewshot.models.text_heads import TextHead


def finetune_clip(
    pairs: Any,
    out: str | os.PathLike[str],
    *,
    model: str = "auto",
    checkpoint: Any = None,
    device: str = "auto",
    hooks: Hooks | None = None,
    **settings: Any,
) -> Finetuned:
    """Fine-tune a CLIP on images with captions, by DHN-NCE.

    Parameters
    ----------
    pairs : path or sequence of (image, caption)
        A CSV with the columns ``image`` (paths from its folder) and ``caption``; or
        pairs, the images as paths or arrays (H, W) or (H, W, C).
    out : path
        Folder. The best weights come there, in open_clip's layout: give the folder as
        ``checkpoint``. A call that was stopped goes on there.
    model : str
        A CLIP; see `list_models`.
    checkpoint : path, optional
        Its weights, or a folder with them; default the installed ones.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
    hooks : Hooks, optional
        Progress and cancelling.
    **settings
        Of `FinetuneSettings`: ``epochs``, ``batch``, ``rate``, ``parts``, ...

    Returns
    -------
    Finetuned
        With the retrieval on held-out pairs before and after.

    Raises
    ------
    DataError, ModelError, WeightsError, StorageError
        All are `FewShotError`; the message says what to do next.
    TypeError
        For an unknown setting.
    Cancelled
        If the hooks say so; the best so far is in the folder.
    """
    from napari_fewshot.adapt.text import (
        FinetuneSettings,
        as_pairs,
        finetune,
        read_pairs,
    )
    from napari_fewshot.models import load_text_model

    known = [f.name for f in fields(FinetuneSettings)]
    wrong = [name for name in settings if name not in known]
    if wrong:
        raise TypeError(f"Unknown setting {wrong[0]!r}. Settings: {', '.join(known)}.")
    how = FinetuneSettings(**settings)
    is_table = isinstance(pairs, (str, os.PathLike))
    every = read_pairs(pairs) if is_table else as_pairs(pairs)
    loaded = load_text_model(model, checkpoint, device)
    return finetune(every, loaded, Path(out), how, hooks or Hooks(), _one_plane)


def fit_text_head(
    support: Any,
    text: Any = None,
    *,
    kind: str = "dynamic",
    model: str = "auto",
    checkpoint: Any = None,
    sam: Any = None,
    device: str = "auto",
    templates: str = "medical",
    modalities: Sequence[str] = (),
    steps: int = 200,
    rate: float = 0.0,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    hooks: Hooks | None = None,
) -> TextHead:
    """Train a small head that finds phrases, on annotated examples; the CLIP stays.

    Parameters
    ----------
    support : Support, SupportSet, (image, labels) or a list of them
        The annotated examples.
    text : str, TextPrompt, or dict of int to these, optional
        Phrases per class; default the names of the classes.
    kind : {"query", "clipseg", "dynamic", "vlp"}
        What is trained; see the method ``text-head``.
    model, checkpoint, device
        The CLIP, as for `finetune_clip`.
    sam : SamModel or path, optional
        For ``"vlp"``: a loaded SAM, or its weights; default the installed one.
    templates : {"medical", "natural", "none"}
        Sentences that phrases are put into.
    modalities : sequence of str, optional
        One per support, such as ``"CT"``; steps of the training take turns.
    steps, rate, seed
        Of the training; rate 0 is what suits the kind.
    out : path, optional
        File for the head, which the method ``text-head`` takes as ``head``. A call that
        was stopped goes on, from a file beside it.
    hooks : Hooks, optional
        Progress and cancelling.

    Returns
    -------
    TextHead

    Raises
    ------
    SupportError, PromptError, ModelError, WeightsError, StorageError
        All are `FewShotError`; the message says what to do next.
    Cancelled
        If the hooks say so.
    """
    from napari_fewshot.methods import _text_lessons as lessons
    from napari_fewshot.models import load_model, load_text_model
    from napari_fewshot.models.text_heads import HeadSettings, save_head

    hooks = hooks or Hooks()
    supports = resolve_supports(support).check()
    phrases = normalise_text(text) or _named(supports)
    if modalities and len(modalities) != len(supports):
        raise PromptError(
            f"There are {len(supports)} supports and {len(modalities)} modalities. "
            "Name one per support, or none at all."
        )
    loaded = load_text_model(model, checkpoint, device)
    if kind == "vlp" and sam is None:
        sam = lessons.sam_for(loaded)
    elif isinstance(sam, (str, os.PathLike)):
        sam = load_model("auto", checkpoint=os.fspath(sam), device=device)
    samples, _ = collect_samples(supports, hooks)
    target = None if out is None else Path(out)
    head = lessons.fit_text_head(
        samples,
        phrases,
        loaded,
        HeadSettings(kind, steps, rate, seed=seed),
        hooks,
        templates=templates,
        modalities=[modalities[s.group] for s in samples] if modalities else (),
        sam=sam if kind == "vlp" else None,
        checkpoint=None if target is None else target.with_name(target.name + ".part"),
    )
    if target is not None:
        save_head(head, target)
    return head


def _named(supports: SupportSet) -> Mapping[int, TextPrompt]:
    """Return the names of classes as phrases.

    Raises
    ------
    PromptError
        If they have none.
    """
    values, names = supports.label_values, supports.class_names
    given = {v for s in supports for v in (s.classes or {})}
    found = {v: TextPrompt(names[v]) for v in values if v in given}
    if not found:
        raise PromptError(
            "The classes of the supports have no names. Say what they are: "
            "text={1: 'nucleus'}."
        )
    return found


def _one_plane(path: Any) -> FloatArray:
    """Open an image with a caption; it has one plane."""
    image = open_image(path)
    if image.n_planes != 1:
        raise DataError(
            f"{path} has {image.n_planes} planes; a caption belongs to one. Save the "
            "planes one by one."
        )
    return image.plane(0)
