"""``benchmark few-shot``: methods on the very same episodes.

Requests go to `inference.run` as they do for users. Episodes (`_fewshot_tasks`) are
worked on by engines (`_fewshot_engines`); tables, comparisons and plots come out
(`_fewshot_report`, `_fewshot_plots`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_fewshot import __version__
from napari_fewshot.cli._benchmark import environment
from napari_fewshot.cli._fewshot_journal import Journal
from napari_fewshot.cli._fewshot_options import Contender, FewShotOptions
from napari_fewshot.cli._fewshot_plots import draw_plot
from napari_fewshot.cli._fewshot_report import Report, Result, csv_text
from napari_fewshot.cli._fewshot_tasks import Cell, Task, cells
from napari_fewshot.errors import Cancelled, DataError, FewShotError
from napari_fewshot.io import write_text

if TYPE_CHECKING:
    import os

    from napari_fewshot.evaluation import EpisodeScore

Echo = Callable[[str], None]


def run_benchmark(
    root: str | os.PathLike[str],
    options: FewShotOptions | None = None,
    echo: Echo = print,
) -> dict[str, Any]:
    """Run a few-shot benchmark and return its table.

    Parameters
    ----------
    root : path
        Folder of data sets (``planes``, ``instances``) or one data set of volumes
        (``chaos``).
    options : FewShotOptions, optional
        What to run.
    echo : callable
        Receives each line as it is ready.

    Returns
    -------
    dict
        ``rows`` per data set, class and number of supports; ``macro`` with the means
        and, as ``estimate``, how well the methods' own estimates foretell Dice;
        ``environment``. With several methods or models rows name theirs, ``macro`` is
        that of the first one, ``compared`` has all, ``significance`` each pair, and
        ``failed`` what could not be run.

    Raises
    ------
    DataError
        If the folder holds nothing to score, or an option has no meaning.
    FewShotError
        If the only method can't be run.
    """
    options = options or FewShotOptions()
    options.check()
    contenders = options.contenders()
    report = Report(contenders, options)
    journal = _journal(options)
    if len(journal):
        echo(f"going on: {len(journal)} episodes are known")
    for cell in cells(Path(root), options):
        for contender in contenders:
            found = _score(cell, contender, journal, Path(root), report)
            echo(report.add(Result(contender, cell, found)))
    if report.is_empty:
        raise DataError("Nothing could be scored. " + " ".join(report.reasons))
    table = report.table()
    for line in report.lines(table):
        echo(line)
    table["environment"] = {**environment(), **report.described()}
    _write(table, report, options)
    return table


def _journal(options: FewShotOptions) -> Journal:
    path = options.json_path
    beside = None if path is None else Path(path).with_suffix(".jsonl")
    return Journal(beside, resume=options.resume)


def _score(
    cell: Cell, contender: Contender, journal: Journal, root: Path, report: Report
) -> list[EpisodeScore]:
    """Let a contender work on the episodes of a row, or find what it gave before.

    One that can't run is left out of the row; alone, its error is raised.
    """
    engine = contender.engine(report.options.device)
    found: list[EpisodeScore] = []
    for task in cell.tasks:
        key = _key(root, cell, task, contender, report.options)
        score = journal.get(key)
        if score is None:
            try:
                score = task.score(engine)
            except Cancelled:
                raise
            except FewShotError as error:
                if len(report.contenders) == 1:
                    raise
                report.fail(contender, cell, error)
                return []
            journal.put(key, score)
        found.append(score)
    return found


def _key(
    root: Path, cell: Cell, task: Task, contender: Contender, options: FewShotOptions
) -> dict[str, Any]:
    """Return everything that the score of an episode depends on."""
    return {
        "version": __version__,
        "root": str(root.resolve()),
        "protocol": options.protocol,
        "flags": {k: v for k, v in options.flags.items() if k != "limit_volumes"},
        "hd95": options.hd95,
        "cell": [cell.dataset, cell.class_name, cell.shots],
        "group": task.group,
        "queries": list(task.queries),
        "method": contender.method,
        "model": contender.model,
        "params": {k: _plain(v) for k, v in contender.params.items()},
    }


def _plain(value: Any) -> Any:
    """Return a parameter as JSON gives it back."""
    return json.loads(json.dumps(value))


def _write(table: dict[str, Any], report: Report, options: FewShotOptions) -> None:
    if options.json_path is not None:
        write_text(options.json_path, json.dumps(table, indent=1))
    if options.csv_path is not None:
        write_text(options.csv_path, csv_text(report.results))
    if options.plot_path is not None:
        draw_plot(options.plot_path, report.results, report.headline)
