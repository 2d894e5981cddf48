"""``segment``: many files, one after the other, resumable.

What is done is `napari_fewshot.session._batch`; here are its words and exit codes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from napari_fewshot.cli._given import Given, open_given
from napari_fewshot.cli._phrases import parse_text
from napari_fewshot.cli._told import told
from napari_fewshot.errors import Cancelled, DataError, StorageError
from napari_fewshot.io import open_prompts
from napari_fewshot.models import get_model_spec
from napari_fewshot.session import load_concept
from napari_fewshot.session._asked import region_of
from napari_fewshot.session._batch import Batch
from napari_fewshot.session._batch_api import estimate_many, extras_of
from napari_fewshot.session._batch_inputs import Asked
from napari_fewshot.session._batch_items import Item, find_files, items_of
from napari_fewshot.session._batch_rows import printable
from napari_fewshot.session._batch_table import read_jobs
from napari_fewshot.session._concepts import fill_in
from napari_fewshot.session._estimate import Estimate, total

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["BatchOptions", "find_files", "run_batch"]

DONE, FAILED_ALL, FAILED_SOME, INTERRUPTED = 0, 1, 3, 130


@dataclass(frozen=True)
class BatchOptions:
    """Options of ``segment`` as typed."""

    supports: Sequence[tuple[str, str]]
    project: Path | None
    out: Path
    method: str | None
    model: str | None
    axes: str | None
    scale: str | None
    channels: str | None
    classes: Sequence[str]
    params: Sequence[str]
    text: Sequence[str]
    prompts: Path | None
    checkpoint: Path | None
    device: str
    executor: str
    overwrite: bool
    concept: Path | None = None
    text_method: str | None = None
    text_model: str | None = None
    text_share: str = "learnt"
    modality: str | None = None
    jobs: Path | None = None
    format: str | None = None
    measure: bool = False
    workers: int = 1
    region: str | None = None
    inside: Path | None = None
    level: str = "auto"
    dry_run: bool = False


def run_batch(queries: Sequence[str], options: BatchOptions) -> int:
    """Segment all queries; returns the exit code.

    Parameters
    ----------
    queries : sequence of str
        Files, folders and globs.
    options : BatchOptions
        Everything else.

    Raises
    ------
    FewShotError
        If nothing can be started: no query, bad supports, unknown method.
    """
    options, given, items = prepare(queries, options)
    if options.dry_run:
        return _tell(asked_of(options, given), items)
    batch = Batch(asked_of(options, given))
    console = Console(stderr=True)
    try:
        with _progress_bar() as bar:
            task = bar.add_task("Segmenting", total=len(items))
            batch.run(
                items,
                lambda p: bar.update(task, description=p.stage, completed=p.done),
                lambda name, reason: console.print(
                    f"{name}: {reason}", style="red", markup=False
                ),
            )
    except (KeyboardInterrupt, Cancelled):
        console.print("Interrupted. What was finished is kept.")
        return INTERRUPTED
    except StorageError as error:
        console.print(str(error), style="red", markup=False)
    print(told(batch.rows, batch.records.all, options.out))
    if batch.stopped:
        # A report that could not be written is no success.
        return FAILED_ALL if batch.n_failed == len(batch.rows) else FAILED_SOME
    return _exit_code(batch)


def prepare(
    queries: Sequence[str], options: BatchOptions
) -> tuple[BatchOptions, Given, list[Item]]:
    """Open what was typed and find the images; returns options with a method.

    Parameters
    ----------
    queries, options
        As for `run_batch`.

    Raises
    ------
    FewShotError
        If nothing can be started.
    """
    concept = None if options.concept is None else load_concept(options.concept)
    method, model = options.method or "auto", options.model or "auto"
    params: dict[str, Any] = {}
    if concept is not None:
        method, model, params = fill_in(concept, options.method, options.model, {})
    options = replace(options, method=method, model=model)
    get_model_spec(model)
    given = open_given(options, concept, params)
    rows = [] if options.jobs is None else read_jobs(options.jobs)
    has_own = bool(rows) and not queries and all(i.supports or i.text for i in rows)
    is_alone = options.prompts is not None or given.text or has_own
    if len(given.supports) or not is_alone:
        given.supports.check()
    items = [*items_of(list(queries)), *rows]
    if not items and given.query is not None:
        items = items_of([given.query])
    if not items:
        raise DataError("No image was named. Name files, a folder, or a pattern.")
    return options, given, items


def asked_of(options: BatchOptions, given: Given) -> Asked:
    """Return what is wanted of every image.

    Parameters
    ----------
    options : BatchOptions
        With a method and a model.
    given : Given
        The evidence.
    """
    prompts = open_prompts(options.prompts) if options.prompts else None
    where = _where(options)
    extras = extras_of(prompts, options.checkpoint, where)
    return Asked(
        out=options.out,
        supports=given.supports,
        how={
            "text": given.text or None,
            **given.reader(),
            "method": options.method,
            "model": options.model,
            "device": options.device,
            "checkpoint": options.checkpoint,
            "executor": options.executor,
        },
        params=given.params,
        record=[options.method, options.model, given.record(), *extras],
        options=image_options(options),
        prompts=prompts,
        where=where,
        format=options.format,
        overwrite=options.overwrite,
        measures=options.measure,
        workers=options.workers,
        read_text=lambda words: parse_text(words, options.modality),
    )


def _where(options: BatchOptions) -> dict[str, Any]:
    """Return which part of every image is segmented; empty for all of it.

    Raises
    ------
    DataError
        If the region is anything but four numbers.
    """
    found: dict[str, Any] = {}
    if options.region is not None:
        words = options.region.split(",")
        are_numbers = all(w.strip().isdecimal() for w in words)
        found["region"] = region_of(words if are_numbers else options.region)
    if options.inside is not None:
        found["inside"] = options.inside
    return found


def image_options(options: BatchOptions) -> dict[str, Any]:
    """Return how images are opened.

    Parameters
    ----------
    options : BatchOptions
        As typed.

    Raises
    ------
    ValueError
        For a word that is no number.
    """
    scale, channels = options.scale, options.channels
    return {
        "axes": options.axes,
        "scale": None if scale is None else [float(s) for s in scale.split(",")],
        "channels": None if channels is None else [int(c) for c in channels.split(",")],
        "level": "auto" if options.level == "auto" else int(options.level),
    }


def _tell(asked: Asked, items: Sequence[Item]) -> int:
    """Print what every image would take, and all of them; returns the exit code."""
    told = estimate_many(asked, items)
    fine = [t for _, t in told if isinstance(t, Estimate)]
    for item, found in told:
        print(f"{printable(item.name)}: {found}")
        if isinstance(found, Estimate) and not found.fits:
            print("  does not fit: " + " ".join([*found.reasons, *found.advice]))
    if fine:
        print(f"All {len(told)}: {total(fine)}")
    n_good = sum(t.fits for t in fine)
    if n_good == len(told):
        return DONE
    return FAILED_SOME if n_good else FAILED_ALL


def _exit_code(batch: Batch) -> int:
    """0 all done, 1 all failed, 3 some failed."""
    if not batch.n_failed:
        return DONE
    return FAILED_ALL if batch.n_failed == len(batch.rows) else FAILED_SOME


def _progress_bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
