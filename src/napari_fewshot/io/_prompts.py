"""Prompts from a JSON file."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from napari_fewshot.data import PromptSet
from napari_fewshot.errors import DataError, PromptError

if TYPE_CHECKING:
    import os

FORM = 'Prompts look like {"1": {"points": [[40, 50]], "point_labels": [1]}}'


def open_prompts(path: str | os.PathLike[str]) -> dict[int, PromptSet]:
    """Read prompts per class.

    Parameters
    ----------
    path : path
        JSON: an object with a key per class (its number), each an object with the
        fields of `PromptSet`: points as (row, column), point_labels, boxes, ...

    Returns
    -------
    dict of int to PromptSet

    Raises
    ------
    DataError
        If the file can't be read or has another form.
    PromptError
        If the prompts of a class can't be used.
    """
    name = Path(path).name
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"The prompts file {path} can't be read ({error.strerror}). Check its name."
        ) from error
    except ValueError as error:
        raise DataError(f"{name} can't be read as JSON ({error}). {FORM}.") from error
    if not isinstance(content, dict):
        raise DataError(f"{name} holds no prompts by class. {FORM}.")
    return {_number(k, name): _prompts(k, v, name) for k, v in content.items()}


def _number(key: str, name: str) -> int:
    if not key.isdecimal():
        raise DataError(
            f"In {name} the key {key!r} is not the number of a class. {FORM}."
        )
    return int(key)


def _prompts(key: str, given: object, name: str) -> PromptSet:
    known = [f.name for f in fields(PromptSet)]
    if not isinstance(given, dict) or not set(given) <= set(known):
        raise DataError(
            f"In {name}, class {key} must be an object with any of "
            f"{', '.join(known)}. {FORM}."
        )
    try:
        return PromptSet(**given)
    except PromptError as error:
        raise PromptError(f"In {name}, class {key}: {error}") from error
    except (TypeError, ValueError) as error:
        raise DataError(
            f"In {name}, class {key} can't be read ({error}). {FORM}."
        ) from error
