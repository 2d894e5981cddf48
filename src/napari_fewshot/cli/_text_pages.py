"""What ``benchmark text`` writes beside its JSON: a page to be read, and a CSV."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_fewshot.cli._text_report import SENSE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_fewshot.cli._text_runs import TextResult


def markdown(table: Mapping[str, Any]) -> str:
    """Return a table to be read, with its conditions.

    Parameters
    ----------
    table : dict
        From `run_text_benchmark`.
    """
    conditions = table["conditions"]
    lines = ["# Text benchmark", "", f"Mode: **{conditions['mode']}**."]
    lines += [f"Labels are used: {r}." for r in conditions["labels_used"]]
    lines += [
        f"Phrases: {conditions['prompt_mode']}; settings: {conditions['hparams']}; "
        f"images: {conditions['images']}.",
        conditions["nsd"],
        "",
    ]
    columns = ("dataset", "class", "phrase", "method", "model", "mode", "n_queries")
    figures = ("iou", "nsd_2d", "nsd_slab", "coarse_dice", "auc", "pointing")
    head = [*columns, "dice (mean +- std)", "95 %", *figures, "random_dice", "s/image"]
    rows = []
    for row in (*table["rows"], *table["bounds"]):
        interval = f"{_cell(row['dice_low'])} to {_cell(row['dice_high'])}"
        dice = f"{_cell(row['dice'])} +- {_cell(row['dice_std'])}"
        shown = [_cell(row.get(n)) for n in (*figures, "random_dice")]
        seconds = f"{row['seconds_per_image']:.2f}"
        rows.append([*(str(row[c]) for c in columns), dice, interval, *shown, seconds])
    lines += _table(head, rows)
    if table.get("significance"):
        names = ("first", "second", "n", "difference", "better", "worse", "p", "p_holm")
        lines += ["", "Wilcoxon's signed-rank test over images, Holm's correction:", ""]
        lines += _table(
            names, [[_cell(r[n]) for n in names] for r in table["significance"]]
        )
    if table["sensitivity"]:
        told = ("dataset", "class", "method", "phrase", *SENSE, "verdict", "images")
        lines += ["", "Whether phrases change the map (1: like nonsense):", ""]
        lines += _table(
            told, [[_cell(r[n]) for n in told] for r in table["sensitivity"]]
        )
    failed = dict.fromkeys(
        f"{f['method']}: {f['reason']}" for f in table.get("failed", ())
    )
    lines += [f"\nNot run: {line}" for line in failed]
    return "\n".join(lines) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    safe = [[cell.replace("|", "/") for cell in row] for row in (head, *rows)]
    lines = ["| " + " | ".join(row) + " |" for row in safe]
    return [lines[0], "|" + "---|" * len(head), *lines[1:]]


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return "-" if value is None else str(value)


def csv_text(results: Sequence[TextResult]) -> str:
    """Return one line per image.

    Parameters
    ----------
    results : sequence of TextResult
        Of methods.
    """
    import pandas as pd

    rows = []
    for result in results:
        for score in (*result.scores, *result.nonsense):
            rows.append(
                {
                    "dataset": score.dataset,
                    "class": score.class_name,
                    "method": result.method,
                    "model": result.model,
                    "image": score.queries[0],
                    "asked": score.group,
                    "seconds": score.query_seconds,
                    **{name: values[0] for name, values in score.figures.items()},
                }
            )
    text: str = pd.DataFrame(rows).to_csv(index=False, lineterminator="\n")
    return text
