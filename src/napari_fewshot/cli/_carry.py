"""``propagate``: what the command does."""

from __future__ import annotations

import csv
import io as text_io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.progress import TimeRemainingColumn as TimeLeft

from napari_fewshot.data import Hooks
from napari_fewshot.errors import DataError
from napari_fewshot.io import (
    labels_suffix,
    open_prompts,
    stem_of,
    write_text,
)
from napari_fewshot.session._propagate import propagate

if TYPE_CHECKING:
    from pathlib import Path

    from napari_fewshot.data import Prediction
    from napari_fewshot.data import Progress as Report


def carry(
    stack: Path,
    masks: Path | None,
    prompts: Path | None,
    out: Path,
    planes: str | None,
    scale: str | None,
    channels: str | None,
    **options: Any,
) -> None:
    """Propagate in one stack and write labels, a record and a report.

    Parameters
    ----------
    stack, masks, prompts : path
        As the command has them.
    out : path
        Folder for the results.
    planes, scale, channels : str, optional
        As typed.
    **options
        Of `propagate`.

    Raises
    ------
    FewShotError
        If it can't be done.
    """
    if masks is None and prompts is None:
        raise DataError("No plane is annotated: give --masks FILE or --prompts FILE.")
    target = out / f"{stem_of(stack)}_labels{labels_suffix(stack)}"
    with _bar() as bar:
        task = bar.add_task("Propagating", total=None)

        def show(report: Report) -> None:
            total = report.total or None
            bar.update(
                task, description=report.stage, completed=report.done, total=total
            )

        found = propagate(
            stack,
            open_prompts(prompts) if prompts is not None else None,
            masks,
            planes=parse_range(planes),
            scale=_numbers(scale, float),
            channels=_numbers(channels, int),
            **options,
            hooks=Hooks(show),
            out=target,
        )
    record = {target.name: found.provenance}
    write_text(out / "provenance.json", json.dumps(record, indent=1))
    write_text(out / "report.csv", report_of(found))
    print(f"{target}: {len(found.classes)} objects")


def parse_range(text: str | None) -> range | None:
    """Return the planes of ``first-last``, both counted.

    Raises
    ------
    DataError
        If it is of another form.
    """
    if text is None:
        return None
    first, _, last = text.partition("-")
    if not first.isdigit() or not (last or first).isdigit():
        raise DataError(f"--planes {text} is not of the form first-last, e.g. 10-25.")
    return range(int(first), int(last or first) + 1)


def report_of(found: Prediction) -> str:
    """Return a table as CSV: a row per object.

    Parameters
    ----------
    found : Prediction
        Of `propagate`.
    """
    planes: dict[int, list[int]] = {value: [] for value in found.classes}
    pixels = dict.fromkeys(found.classes, 0)
    told = found.provenance["objects"]
    # Plane by plane: a large result is a store on disk.
    for plane, index in enumerate(np.ndindex(*found.labels.shape[:-2])):
        values, counts = np.unique(np.asarray(found.labels[index]), return_counts=True)
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            if value:
                planes[value].append(plane)
                pixels[value] += count
    buffer = text_io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(
        ["object", "first", "last", "planes", "pixels", "expected_quality", "ended"]
    )
    for value, held in planes.items():
        ends = [held[0], held[-1]] if held else ["", ""]
        why = "; ".join(f"{p}: {w}" for p, w in told[str(value)]["ended"].items())
        score = f"{found.scores[value]:.3f}"
        writer.writerow([value, *ends, len(held), pixels[value], score, why])
    return buffer.getvalue()


def _numbers(text: str | None, kind: type[float]) -> list[float] | None:
    return None if text is None else [kind(word) for word in text.split(",")]


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeLeft(),
        console=Console(stderr=True),
    )
