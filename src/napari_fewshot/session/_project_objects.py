"""Committed objects and prompts in a project folder: to JSON and back.

Arrays go to files of their own; the JSON holds their names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import PromptSet
from napari_fewshot.session._edits import expect_query
from napari_fewshot.session._object_rows import Pending
from napari_fewshot.session._objects import commit_object

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_fewshot._types import AnyArray
    from napari_fewshot.session._object_rows import ObjectRow
    from napari_fewshot.session._state import Document

    Keep = Callable[[AnyArray], str]
    Fetch = Callable[[str], Any]

PARTS = ("points", "point_labels", "boxes", "scribbles", "mask")


def object_entry(row: ObjectRow, keep: Keep) -> dict[str, Any]:
    """Return what the JSON says of an object.

    Parameters
    ----------
    row : ObjectRow
        The object.
    keep : callable
        Writes an array and returns its name.
    """
    return {
        "key": row.key,
        "number": row.number,
        "origin": row.origin,
        "value": row.value,
        "plane": row.plane,
        "corner": row.corner,
        "mask": keep(row.mask),
        "before": keep(row.before),
        **_prompts_entry(row.prompts, keep),
    }


def pending_entry(pending: Pending | None, keep: Keep) -> dict[str, Any] | None:
    """Return what the JSON says of prompts that are not committed yet."""
    if pending is None:
        return None
    entry = _prompts_entry(pending.prompts, keep)
    return {"value": pending.value, "plane": pending.plane, **entry}


def read_objects(
    document: Document, entries: Sequence[dict[str, Any]], fetch: Fetch
) -> Document:
    """Bring committed objects back, and with them their part of the result.

    Parameters
    ----------
    document : Document
        With a query.
    entries : sequence of dict
        From the JSON.
    fetch : callable
        Returns the array of a name.
    """
    query = expect_query(document)
    for count, entry in enumerate(entries):
        mask = np.zeros(query.plane_shape, bool)
        part = fetch(entry["mask"])
        top, left = entry["corner"]
        mask[top : top + part.shape[0], left : left + part.shape[1]] = part
        document = commit_object(
            document,
            entry["key"],
            mask,
            entry["value"],
            entry["plane"],
            _read_prompts(entry, fetch),
            policy="overwrite",
            number=entry.get("number"),
            origin=entry.get("origin", "prompts"),
            is_own=count > 0,
        )
    return document


def read_pending(entry: dict[str, Any] | None, fetch: Fetch) -> Pending | None:
    """Bring prompts back that were not committed yet."""
    if entry is None:
        return None
    return Pending(entry["plane"], entry["value"], _read_prompts(entry, fetch))


def _prompts_entry(prompts: PromptSet, keep: Keep) -> dict[str, Any]:
    given = {
        name: keep(value)
        for name in PARTS
        if (value := getattr(prompts, name)) is not None
    }
    return {"prompts": given, "candidate": prompts.candidate}


def _read_prompts(entry: dict[str, Any], fetch: Fetch) -> PromptSet:
    given = {part: fetch(name) for part, name in entry["prompts"].items()}
    return PromptSet(**given, candidate=entry.get("candidate"))
