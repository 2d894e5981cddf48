"""What a batch says when it is done."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# Choices of `auto` that are told.
MOST_CHOICES = 3


def told(
    rows: Sequence[Mapping[str, Any]], records: Mapping[str, Any], out: Path
) -> str:
    """Return what came of a batch, and what there is to know of it.

    Parameters
    ----------
    rows : sequence of dict
        Of the report, one per image.
    records : dict of str to dict
        Provenance per file.
    out : Path
        Where the files are.

    Returns
    -------
    str
        A sentence; then every note once, a line each.
    """
    done = [row for row in rows if row["status"] != "failed"]
    scores = [
        float(value)
        for row in done
        for name, value in row.items()
        if name.startswith("expected dice")
    ]
    text = f"{len(done)} of {len(rows)} written to {out}"
    if scores:
        text += f", expected Dice {sum(scores) / len(scores):.2f}"
    kept = [records.get(str(row.get("file", "")), {}) for row in done]
    notes = [note for record in kept for note in record.get("notes", ())]
    # What concerns the files, such as numbers that a format does not keep.
    notes += [str(row["message"]) for row in done if row.get("message")]
    return "\n".join([f"{text}.", *_choices(kept), *dict.fromkeys(notes)])


def _choices(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what `auto` used, most frequent first."""
    used = Counter(r.get("choice", "") for r in records if r.get("method") == "auto")
    used.pop("", None)
    total = used.total()
    lines = []
    for choice, count in used.most_common(MOST_CHOICES):
        images = f" ({count} image{'s' * (count > 1)})" if count < total else ""
        lines.append(f"auto used {choice}{images}.")
    return lines
