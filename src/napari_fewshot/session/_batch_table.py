"""Job files: a row per query, as CSV or JSON, checked before anything runs."""

from __future__ import annotations

import csv
import difflib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_fewshot.errors import DataError
from napari_fewshot.io import suffix_of
from napari_fewshot.session._batch_items import Item, on_plate

if TYPE_CHECKING:
    import os

COLUMNS = (
    "image",
    "support",
    "text",
    "scale",
    "axes",
    "channels",
    "out",
    "well",
    "field",
)
MAX_TOLD = 8


def read_jobs(path: str | os.PathLike[str]) -> list[Item]:
    """Read a job file.

    Parameters
    ----------
    path : path
        CSV with a header, or JSON: a list of objects, or an object with the list as
        ``jobs``. Names of files count from the folder of the job file. Columns, all but
        the first optional: ``image``; ``support``, ``image|mask`` pairs or concept
        files; ``text``; ``scale`` and ``channels``, numbers; ``axes``; ``out``, the
        name of the labels file; ``well`` and ``field``. Several supports, phrases or
        numbers stand in one cell, separated by semicolons, or are a list in JSON.

    Returns
    -------
    list of Item

    Raises
    ------
    DataError
        With the numbers of all rows that are wrong; rows are counted from 1, the
        header is not.
    """
    file = Path(path)
    rows = _read_json(file) if suffix_of(file) == ".json" else _read_csv(file)
    if not rows:
        raise DataError(f"{file.name} holds no jobs. Write a row per image.")
    items, problems = [], []
    names: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        try:
            item = _item(row, file.parent)
            if item.out and item.out.casefold() in names:
                first = names[item.out.casefold()]
                raise DataError(f"out={item.out} is that of row {first}, too")
            names.setdefault(item.out.casefold(), number)
            items.append(item)
        except DataError as error:
            problems.append(f"row {number}: {error}")
    if problems:
        more = len(problems) - MAX_TOLD
        told = "; ".join(problems[:MAX_TOLD]) + (f"; {more} more" if more > 0 else "")
        raise DataError(f"{file.name} can't be used as it is: {told}.")
    return items


def _read_csv(file: Path) -> list[dict[str, Any]]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines, strict=True)
            _check_names(file, reader.fieldnames or [])
            return [row for row in reader if any(_has(v) for v in row.values())]
    except OSError as error:
        raise DataError(
            f"The job file {file} can't be read ({error.strerror}). Check its name."
        ) from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(
            f"{file.name} can't be read as CSV in UTF-8 ({error})."
        ) from error


def _read_json(file: Path) -> list[dict[str, Any]]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"The job file {file} can't be read ({error.strerror}). Check its name."
        ) from error
    except ValueError as error:
        raise DataError(f"{file.name} can't be read as JSON ({error}).") from error
    jobs = content.get("jobs") if isinstance(content, dict) else content
    if not isinstance(jobs, list) or not all(isinstance(j, dict) for j in jobs):
        raise DataError(
            f"{file.name} holds no jobs. A job file is a list of objects such as "
            '{"image": "a.tif"}.'
        )
    _check_names(file, {name for job in jobs for name in job})
    return jobs


def _check_names(file: Path, names: Any) -> None:
    for name in sorted(str(n) for n in names):
        if name not in COLUMNS:
            close = difflib.get_close_matches(name, COLUMNS, 1)
            advice = f"; did you mean {close[0]!r}?" if close else "."
            known = ", ".join(COLUMNS)
            raise DataError(
                f"{file.name} has a column {name!r}, which is not known{advice} "
                f"Columns: {known}."
            )
    if "image" not in names:
        raise DataError(f"{file.name} has no column 'image'. Its rows name the images.")


def _item(row: dict[str, Any], folder: Path) -> Item:
    if None in row:
        raise DataError("it has more cells than the header")
    unknown = [n for n, v in row.items() if isinstance(v, dict)]
    if unknown:
        raise DataError(f"{unknown[0]} is an object, not a word or a list")
    image = _word(row, "image")
    if not image:
        raise DataError("image is empty")
    out = _word(row, "out")
    if out and (Path(out).name != out or out in (".", "..")):
        raise DataError(f"out={out} is more than the name of a file")
    options: dict[str, Any] = {}
    for name, kind in (("scale", float), ("channels", int)):
        if _has(row.get(name)):
            options[name] = _numbers(name, row[name], kind)
    if _has(row.get("axes")):
        options["axes"] = _word(row, "axes")
    path = folder / image
    item = Item(
        path,
        path.name,
        options=options,
        supports=tuple(_support(s, folder) for s in _list(row.get("support"))),
        text=tuple(str(t) for t in _list(row.get("text"))),
        out=out,
        well=_word(row, "well"),
        field=_word(row, "field"),
    )
    return on_plate(item)


def _support(given: Any, folder: Path) -> Any:
    parts = given if isinstance(given, list) else str(given).split("|")
    if len(parts) == 2 and all(str(p).strip() for p in parts):
        return tuple(folder / str(p).strip() for p in parts)
    if len(parts) == 1 and suffix_of(str(parts[0])) == ".fewshot":
        return folder / str(parts[0]).strip()
    raise DataError(f"support={given} is neither image|mask nor a .fewshot file")


def _numbers(name: str, given: Any, kind: Any) -> list[Any]:
    words = given if isinstance(given, list) else _list(str(given).replace(",", ";"))
    if isinstance(given, (int, float)):
        words = [given]
    try:
        return [kind(w) for w in words]
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}={given} are no numbers") from error


def _list(given: Any) -> list[Any]:
    if not _has(given):
        return []
    if isinstance(given, list):
        return given
    return [w.strip() for w in str(given).split(";") if w.strip()]


def _word(row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    return str(value).strip() if _has(value) else ""


def _has(value: Any) -> bool:
    return value is not None and value != [] and str(value).strip() != ""
