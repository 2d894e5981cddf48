"""``evaluate``: labels against truth, for files and folders."""

from __future__ import annotations

import html
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.errors import DataError, FewShotError
from napari_fewshot.evaluation import evaluate
from napari_fewshot.io import (
    SUFFIXES,
    is_store,
    open_labels,
    stem_of,
    suffix_of,
    write_text,
)

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Evaluation</title>
<style>body{{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem}}
table{{border-collapse:collapse}}td,th{{padding:.3rem .8rem;text-align:right;
border-bottom:1px solid #8884}}td:first-child,th:first-child{{text-align:left}}</style>
<h1>Evaluation</h1><p>{head}</p>{mean}<h2>Every case</h2>{rows}</html>
"""


def compare(
    predicted: Path,
    truth: Path,
    scale: str | None,
    json_path: Path | None,
    html_path: Path | None,
) -> int:
    """Compare and print; returns the exit code (3 if some files failed).

    Parameters
    ----------
    predicted, truth : Path
        Two files, or two folders whose files are matched by name.
    scale : str, optional
        Pixel size, ``"z,y,x"``.
    json_path, html_path : Path, optional
        Reports to write.

    Raises
    ------
    DataError
        If nothing matches.
    """
    import pandas as pd

    spacing = None if scale is None else [float(s) for s in scale.split(",")]
    frames, failures = [], []
    for name, mine, theirs in _pairs(predicted, truth):
        try:
            labels, wanted = open_labels(mine), open_labels(theirs)
            frames.append(
                evaluate(_mask(labels), _mask(wanted), scale=spacing, case=name)
            )
        except FewShotError as error:
            failures.append(f"{name}: {error}")
    if not frames:
        raise DataError("Nothing could be compared. " + " ".join(failures))
    table = pd.concat(frames, ignore_index=True)
    mean = _means(table)
    print(table.to_string(index=False, float_format=lambda v: f"{v:.4f}"))
    print("\nmean over defined values, with their number")
    print(mean.to_string(float_format=lambda v: f"{v:.4f}"))
    for line in failures:
        print(f"failed: {line}")
    if json_path is not None:
        content = {"rows": _json_rows(table), "failed": failures}
        write_text(json_path, json.dumps(content, indent=1))
    if html_path is not None:
        head = html.escape(f"{predicted} against {truth}, {len(frames)} cases")
        page = PAGE.format(
            head=head, mean=mean.to_html(), rows=table.to_html(index=False)
        )
        write_text(html_path, page)
    return 3 if failures else 0


def _pairs(predicted: Path, truth: Path) -> list[tuple[str, Path, Path]]:
    if predicted.is_dir() != truth.is_dir():
        raise DataError("Give two files or two folders, not one of each.")
    if not predicted.is_dir() or is_store(predicted):
        return [(stem_of(predicted), predicted, truth)]
    theirs = {
        stem_of(p): p for p in sorted(truth.iterdir()) if suffix_of(p) in SUFFIXES
    }
    found = []
    for path in sorted(predicted.iterdir()):
        stem = stem_of(path).removesuffix("_labels")
        match = theirs.get(stem) or theirs.get(f"{stem}_labels")
        if suffix_of(path) in SUFFIXES and match is not None:
            found.append((stem, path, match))
    if not found:
        raise DataError(
            f"No file of {predicted} has a partner of the same name in {truth}."
        )
    return found


def _mask(labels: Any) -> Any:
    """Read a 0/255 mask as class 1."""
    array = np.asarray(labels)
    values = np.unique(array)
    return (array > 0).astype(np.uint8) if set(values.tolist()) == {0, 255} else array


def _means(table: pd.DataFrame) -> pd.DataFrame:
    numbers = table.drop(columns="case").replace([np.inf, -np.inf], np.nan)
    grouped = numbers.groupby("class")
    mean = grouped.mean()
    mean["n"] = grouped["dice"].count()
    return mean


def _json_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    rows = table.to_dict("records")
    return [
        {
            str(k): None if isinstance(v, float) and not np.isfinite(v) else v
            for k, v in row.items()
        }
        for row in rows
    ]
