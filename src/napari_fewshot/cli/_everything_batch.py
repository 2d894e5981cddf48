"""``everything``: all objects of many files, one after the other, resumable.

A file whose record in ``provenance.json`` matches the request is skipped.
"""

from __future__ import annotations

import csv
import hashlib
import io as text_io
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress as Bar

from napari_fewshot.cli._segment import (
    DONE,
    FAILED_ALL,
    FAILED_SOME,
    INTERRUPTED,
    find_files,
)
from napari_fewshot.data import Hooks, Progress
from napari_fewshot.errors import Cancelled, DataError, FewShotError
from napari_fewshot.inference._everything import checked_params
from napari_fewshot.io import (
    labels_suffix,
    open_image,
    save_labels,
    stem_of,
    write_text,
)
from napari_fewshot.methods import parse_params
from napari_fewshot.methods.everything import EverythingParams
from napari_fewshot.session._everything import segment_everything

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

COLUMNS = (
    "image",
    "file",
    "id",
    "plane",
    "area",
    "y0",
    "x0",
    "y1",
    "x1",
    "predicted_iou",
    "stability",
    "point_y",
    "point_x",
)


@dataclass(frozen=True)
class BatchOptions:
    """Options of ``everything`` as typed."""

    out: Path
    model: str
    checkpoint: Path | None
    region: Path | None
    axes: str | None
    channels: str | None
    device: str
    params: Sequence[str]
    overwrite: bool


def run_batch(images: Sequence[str], options: BatchOptions) -> int:
    """Find all objects of all images; returns the exit code.

    Parameters
    ----------
    images : sequence of str
        Files, folders and globs.
    options : BatchOptions
        Everything else.

    Raises
    ------
    FewShotError
        If no image is there.
    TypeError, ValueError
        For unknown settings or values outside their limits.
    """
    settings = _parse(options.params)
    checked_params(settings)
    files = find_files(images)
    if not files:
        raise DataError("No image was named. Name files, a folder, or a pattern.")
    return _run(files, _Folder(options, settings))


def _parse(words: Sequence[str]) -> dict[str, Any]:
    """Return settings from ``name=value`` words."""
    texts = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not sign:
            raise DataError(f"--param {word} is not of the form name=value.")
        texts[name.strip()] = value.strip()
    # `parse_params` reads nothing but the fields.
    cls: Any = EverythingParams
    values = parse_params(cls, texts)
    return {name: getattr(values, name) for name in texts}


def _run(files: list[Path], folder: _Folder) -> int:
    """Do all files; returns the exit code."""
    failures = 0
    with Bar(console=Console(stderr=True)) as bar:
        task = bar.add_task("Everything")

        def show(progress: Progress) -> None:
            total = progress.total or None
            bar.update(task, completed=progress.done, total=total)

        for path in files:
            bar.update(task, description=path.name)
            try:
                folder.do(path, Hooks(show))
            except (KeyboardInterrupt, Cancelled):
                bar.console.print("Interrupted. What was finished is kept.")
                return INTERRUPTED
            except FewShotError as error:
                failures += 1
                bar.console.print(f"{path.name}: {error}", style="red")
    if not failures:
        return DONE
    return FAILED_ALL if failures == len(files) else FAILED_SOME


@dataclass
class _Folder:
    """The folder of results: labels, one table of objects, what was done with what."""

    options: BatchOptions
    settings: dict[str, Any]
    names: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        options = self.options
        self.out = options.out
        channels = options.channels
        self.image_options: dict[str, Any] = {
            "axes": options.axes,
            "channels": None
            if channels is None
            else [int(c) for c in channels.split(",")],
        }
        self.asked: dict[str, Any] = {
            "model": options.model,
            "checkpoint": options.checkpoint,
            "region": options.region,
            "device": options.device,
            **self.image_options,
            **self.settings,
        }
        self.table = self.out / "objects.csv"
        self.path = self.out / "provenance.json"
        self.records = _read_records(self.path)
        self.rows = _read_rows(self.table)
        words = json.dumps(self.asked, sort_keys=True, default=str)
        self.key = hashlib.blake2b(words.encode(), digest_size=16).hexdigest()

    def do(self, path: Path, hooks: Hooks) -> None:
        """Find the objects of a file, unless that was done before."""
        target = self._target(path)
        facts = path.stat()
        query = f"{path.resolve()}:{facts.st_size}:{facts.st_mtime_ns}"
        done = {"request": self.key, "query": query}
        known = self.records.get(target.name, {})
        is_done = target.exists() and done.items() <= known.items()
        if is_done and not self.options.overwrite:
            return
        found = segment_everything(path, hooks=hooks, **self.asked)
        objects = found.provenance.pop("objects")
        image = open_image(path, **self.image_options)
        save_labels(
            target,
            found.instances,
            like=path,
            scale=image.scale,
            axes=image.label_axes,
        )
        self.rows = [r for r in self.rows if r["file"] != target.name]
        here = {"image": path.name, "file": target.name}
        self.rows += [{**here, **o} for o in objects]
        buffer = text_io.StringIO()
        writer = csv.DictWriter(buffer, COLUMNS)
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.table, buffer.getvalue())
        # Last, since it says that the rest is there.
        self.records[target.name] = {**done, **found.provenance}
        write_text(self.path, json.dumps(self.records, indent=1))

    def _target(self, path: Path) -> Path:
        """Return the file of the result; equal names get a number."""
        stem, ending = f"{stem_of(path)}_labels", labels_suffix(path)
        name, number = f"{stem}{ending}", 2
        while name in self.names:
            name, number = f"{stem}_{number}{ending}", number + 1
        self.names.add(name)
        return self.out / name


def _read_records(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the objects of an earlier run."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows: list[dict[str, Any]] = list(csv.DictReader(file))
    except (OSError, ValueError):
        return []
    return [r for r in rows if set(r) == set(COLUMNS)]
