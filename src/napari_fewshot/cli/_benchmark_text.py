"""``benchmark text``: phrases on labelled images, by the protocol of MedCLIP-SAMv2.

Phrases go to `session.segment` and `session.where` as they do for users. What there is
to look for (`_text_data`) is worked on image by image (`_text_runs`, `_text_engines`);
rows, bounds, comparisons and conditions come out (`_text_report`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_fewshot.cli._benchmark import environment
from napari_fewshot.cli._fewshot_journal import Journal
from napari_fewshot.cli._text_data import TextSet, text_sets
from napari_fewshot.cli._text_options import BOXES, TextOptions
from napari_fewshot.cli._text_pages import csv_text, markdown
from napari_fewshot.cli._text_prompts import read_prompts
from napari_fewshot.cli._text_report import TextReport
from napari_fewshot.cli._text_runs import TextRuns
from napari_fewshot.errors import Cancelled, DataError, FewShotError
from napari_fewshot.io import write_text

if TYPE_CHECKING:
    import os

    from napari_fewshot.cli._text_options import TextContender

Echo = Callable[[str], None]


def run_text_benchmark(
    root: str | os.PathLike[str],
    options: TextOptions | None = None,
    echo: Echo = print,
) -> dict[str, Any]:
    """Run a text benchmark and return its table.

    Parameters
    ----------
    root : path
        Folder of data sets or tasks, see `_text_data`.
    options : TextOptions, optional
        What to run.
    echo : callable
        Receives each line as it is ready.

    Returns
    -------
    dict
        ``rows`` per data set, class, method and model; ``macro`` with the means of the
        first method; ``bounds`` in the shape of rows; ``sensitivity`` per phrase;
        ``conditions`` (what was known of the truth); ``manifest`` (digests of the
        files); ``environment``. With several methods also ``compared``,
        ``significance`` and ``failed``.

    Raises
    ------
    DataError
        If the folder holds nothing to score, or an option has no meaning.
    FewShotError
        If the only method can't be run.
    """
    options = options or TextOptions()
    options.check()
    contenders = options.contenders()
    path = options.prompts_path
    prompts = {} if path is None else read_prompts(path)
    beside = (
        None if options.json_path is None else options.json_path.with_suffix(".jsonl")
    )
    journal = Journal(beside, resume=options.resume)
    if len(journal):
        echo(f"going on: {len(journal)} images are known")
    runs = TextRuns(Path(root), options, journal)
    report = TextReport(contenders, options)
    for line in report.conditions_lines():
        echo(line)
    sets = text_sets(Path(root), options.datasets, prompts, original=options.original)
    _work(sets, contenders, runs, report, echo)
    if report.is_empty:
        raise DataError("Nothing could be scored. " + " ".join(report.reasons))
    table = report.table()
    for line in report.lines(table):
        echo(line)
    table["environment"] = {**environment(), **report.described()}
    _write(table, report, options)
    return table


def _work(
    sets: Iterable[TextSet],
    contenders: list[TextContender],
    runs: TextRuns,
    report: TextReport,
    echo: Echo,
) -> None:
    """Let every contender look for everything; one that can't is left out."""
    for found in sets:
        if not found.cases:
            echo(f"{found.dataset:18s} {found.class_name:22s} n/a: in no image")
            report.missing += 1
            continue
        for contender in contenders:
            try:
                result = runs.run(found, contender)
            except Cancelled:
                raise
            except FewShotError as error:
                if len(contenders) == 1:
                    raise
                report.fail(contender, found, error)
                continue
            echo(report.add(result))
            report.add_sensitivity(result, runs.sensitivity(found, contender, result))
        for kind in runs.options.bounds:
            if kind in BOXES:
                echo(report.add(runs.bound(found, kind)))


def _write(table: dict[str, Any], report: TextReport, options: TextOptions) -> None:
    if options.json_path is not None:
        write_text(options.json_path, json.dumps(table, indent=1, allow_nan=False))
    if options.csv_path is not None:
        write_text(options.csv_path, csv_text(report.results))
    if options.markdown_path is not None:
        write_text(options.markdown_path, markdown(table))
