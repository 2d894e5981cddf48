"""What is for supports and what for phrases, from one set of arguments."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari_fewshot.data import TextChoice, TextPrompt
from napari_fewshot.errors import ModelError, PromptError
from napari_fewshot.methods import get_method, make_params
from napari_fewshot.models import get_model_spec

SHARES = ("learnt", "equal", "gate", "alone")


def normalise_text(text: Any) -> dict[int, TextPrompt]:
    """Return ``{class: TextPrompt}``; a lone string is class 1."""
    if text is None:
        return {}
    if not isinstance(text, Mapping):
        text = {1: text}
    return {
        int(v): t if isinstance(t, TextPrompt) else TextPrompt(t)
        for v, t in text.items()
    }


def sides(
    method: str,
    model: str,
    checkpoint: Any,
    params: Mapping[str, Any],
    *,
    has_support: bool,
    reading: TextChoice | None = None,
) -> tuple[dict[str, Any], TextChoice]:
    """Tell apart what is for supports and what is for phrases.

    Parameters
    ----------
    method, model : str
        Of either kind.
    checkpoint : path, optional
        Weights for the model.
    params : dict
        Parameters of either method.
    has_support : bool
        Whether there are supports besides the text.
    reading : TextChoice, optional
        What was chosen for the text already.

    Returns
    -------
    how : dict
        ``method``, ``model``, ``checkpoint`` and ``params`` for supports and prompts.
    reading : TextChoice
        For the text.

    Raises
    ------
    ModelError
        If there is no such method or model.
    TypeError, ValueError
        For unknown parameters or values outside their limits.
    """
    reading = reading or TextChoice()
    named = get_method(method).spec.reads_text
    if named:
        reading, method = replace(reading, method=method), "auto"
    reads = model != "auto" and bool(get_model_spec(model).text)
    alone = checkpoint is not None and model == "auto" and (named or not has_support)
    if reads or alone:
        reading = replace(reading, model=model, checkpoint=checkpoint)
        if method == "auto":
            model, checkpoint = "auto", None
    reader = get_method(reading.method)
    theirs = {**reading.params}
    mine: dict[str, Any] = {}
    learner = get_method(method).spec.params
    if not has_support and method != "auto":
        raise ModelError(
            f"The method {method!r} learns from supports, and there is none. Add one, "
            "or leave the method to the text: method='text'."
        )
    alone = not has_support or getattr(reader, "learns", False)
    for name, value in params.items():
        fits_reader = name in reader.spec.params.__dataclass_fields__
        if alone or (fits_reader and name not in learner.__dataclass_fields__):
            theirs[name] = value
        else:
            mine[name] = value
    make_params(reader.spec.params, theirs)
    make_params(learner, mine)
    how = {"method": method, "model": model, "checkpoint": checkpoint, "params": mine}
    return how, replace(reading, params=theirs)


def reading_of(
    text_method: str | None, text_model: Any, share: str = "learnt"
) -> TextChoice:
    """Return how to read, from a method and a model or the path of its weights.

    Parameters
    ----------
    text_method : str, optional
        A method that reads text.
    text_model : str or path, optional
        A model that reads text, or a file or folder with its weights.
    share : str
        See `TextChoice`.

    Raises
    ------
    PromptError
        For an unknown share.
    """
    if share not in SHARES:
        raise PromptError(
            f"There is no text_share {share!r}. Use one of: {', '.join(SHARES)}."
        )
    reading = TextChoice(method=text_method or "text", share=share)
    if text_model is None:
        return reading
    is_path = isinstance(text_model, os.PathLike) or Path(str(text_model)).exists()
    if is_path:
        return replace(reading, checkpoint=os.fspath(text_model))
    return replace(reading, model=str(text_model))


def changed_reading(
    reading: TextChoice,
    method: str | None,
    model: str | None,
    checkpoint: Any,
    share: str | None,
    params: Mapping[str, Any] | None,
) -> TextChoice:
    """Return how to read after a change; None keeps what is set.

    Parameters
    ----------
    reading : TextChoice
        As it is.
    method, model, checkpoint, share, params
        See `TextChoice`. Another method forgets the parameters, another model its own
        weights.

    Raises
    ------
    ModelError
        If the method or the model reads no text, or there is none.
    TypeError, ValueError
        For unknown parameters or values outside their limits.
    """
    name = reading.method if method is None else method
    spec = get_method(name).spec
    if not spec.reads_text:
        raise ModelError(
            f"The method {name!r} reads no text. Choose one that does: 'text' suits "
            "any model."
        )
    if model not in (None, "auto") and not get_model_spec(str(model)).text:
        raise ModelError(
            f"The model {model!r} reads no text. Choose one that does; see "
            "napari-fewshot models list."
        )
    values = reading.params if params is None else params
    if params is None and name != reading.method:
        values = {}
    make_params(spec.params, values)
    file = reading.checkpoint if model in (None, reading.model) else None
    file = file if checkpoint is None else os.fspath(checkpoint)
    wanted = reading_of(name, None, share or reading.share).share
    return TextChoice(name, model or reading.model, file, dict(values), wanted)
