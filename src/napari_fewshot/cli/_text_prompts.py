"""Files of phrases for ``benchmark text``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from napari_fewshot.errors import DataError
from napari_fewshot.evaluation import plain_name
from napari_fewshot.io import SUFFIXES, stem_of, suffix_of

if TYPE_CHECKING:
    from pathlib import Path


def read_prompts(path: Path) -> dict[str, Any]:
    """Return a file of phrases.

    It holds phrases, one or a list, by class (number or name), perhaps by data set
    first; or one phrase per image, by file name.

    Parameters
    ----------
    path : path
        JSON.

    Raises
    ------
    DataError
        If it can't be read.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"The prompts {path} can't be read ({error}). Give a JSON file such as "
            '{"skin": {"1": ["skin lesion", "mole"]}}.'
        ) from error
    if not isinstance(found, dict) or not found:
        raise DataError(
            f"{path.name} must hold phrases by class, data set or image, such as "
            '{"skin": {"1": ["skin lesion", "mole"]}}.'
        )
    return found


def phrases_for(
    prompts: Mapping[str, Any], dataset: str, value: int, class_name: str
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the phrases of a class, and those by name of an image.

    Parameters
    ----------
    prompts : dict
        From `read_prompts`.
    dataset, class_name : str
        As they are called.
    value : int
        Of the class.

    Raises
    ------
    DataError
        If what stands there is no text.
    """
    node: Any = prompts.get(dataset, prompts)
    if isinstance(node, Mapping):
        keys = (str(value), class_name, plain_name(class_name))
        key = next((k for k in keys if k in node), None)
        node = (
            {k: v for k, v in node.items() if _is_file(k)} if key is None else node[key]
        )
    if isinstance(node, Mapping):
        by_image = {_stem(str(k)): as_phrases(v) for k, v in node.items()}
        return (), {k: v[0] for k, v in by_image.items() if v}
    return as_phrases(node), {}


def as_phrases(node: Any) -> tuple[str, ...]:
    """Return what is meant as phrases, without empty ones.

    Parameters
    ----------
    node : str or list of str
        From a file.

    Raises
    ------
    DataError
        For anything else.
    """
    listed = (node,) if isinstance(node, str) else node
    if not isinstance(listed, (list, tuple)) or not all(
        isinstance(text, str) for text in listed
    ):
        raise DataError(f"A phrase is a text or a list of them, not {node!r:.80}.")
    return tuple(text for text in listed if text.strip())


def _is_file(name: str) -> bool:
    return suffix_of(name) in SUFFIXES


def _stem(name: str) -> str:
    return stem_of(name) if _is_file(name) else name
