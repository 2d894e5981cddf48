"""``segment``: many files, one after the other, resumable.

What is done is recorded in ``provenance.json``, after every file unless that would take
longer than the files; a file whose record matches the request is skipped the next time.
"""

from __future__ import annotations

import csv
import glob
import hashlib
import io as text_io
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from napari_fewshot.cli._given import Given, open_given
from napari_fewshot.cli._told import told
from napari_fewshot.errors import Cancelled, DataError, FewShotError
from napari_fewshot.io import (
    SUFFIXES,
    labels_suffix,
    open_image,
    open_prompts,
    save_labels,
    stem_of,
    suffix_of,
    write_text,
)
from napari_fewshot.models import get_model_spec
from napari_fewshot.session import load_concept, segment
from napari_fewshot.session._concepts import fill_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fewshot.data import Prediction

# Writing the records takes at most this share of the time.
RECORD_SHARE = 0.05
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
    concept = None if options.concept is None else load_concept(options.concept)
    method, model = options.method or "auto", options.model or "auto"
    params: dict[str, Any] = {}
    if concept is not None:
        method, model, params = fill_in(concept, options.method, options.model, {})
    options = replace(options, method=method, model=model)
    get_model_spec(model)
    given = open_given(options, concept, params)
    if len(given.supports) or (options.prompts is None and not given.text):
        given.supports.check()
    files = find_files(queries)
    jobs: list[Any] = [*files] or ([given.query] if given.query is not None else [])
    if not jobs:
        raise DataError("No image was named. Name files, a folder, or a pattern.")
    batch = _Batch(options, given)
    try:
        with _progress_bar() as bar:
            task = bar.add_task("Segmenting", total=len(jobs))
            for job in jobs:
                bar.update(task, description=_name_of(job))
                batch.one(job)
                bar.advance(task)
    except (KeyboardInterrupt, Cancelled):
        batch.report()
        Console(stderr=True).print("Interrupted. What was finished is kept.")
        return INTERRUPTED
    finally:
        batch.save()
    batch.report()
    print(told(batch.rows, batch.records, options.out))
    return batch.exit_code()


def find_files(queries: Sequence[str]) -> list[Path]:
    """Return the image files that are meant, each once, in order.

    Raises
    ------
    DataError
        If a name matches nothing.
    """
    found: dict[Path, None] = {}
    for query in queries:
        path = Path(query)
        if path.is_dir() and suffix_of(path) != ".zarr":
            inside = [p for p in sorted(path.iterdir()) if suffix_of(p) in SUFFIXES]
            matches = [p for p in inside if not stem_of(p).endswith("_labels")]
        elif path.exists():
            matches = [path]
        else:
            matches = [Path(p) for p in sorted(glob.glob(query, recursive=True))]
        if not matches:
            raise DataError(f"{query} names no image. Check the name and the folder.")
        found.update(dict.fromkeys(matches))
    return list(found)


class _Batch:
    """State of a batch: what was done before, and what comes of each file."""

    def __init__(self, options: BatchOptions, given: Given) -> None:
        self.options, self.given = options, given
        self.rows: list[dict[str, Any]] = []
        self.failures = 0
        self.path = options.out / "provenance.json"
        self.records = _read_records(self.path)
        self.key = self._request_key()
        self.names: set[str] = set()
        self.next_save = 0.0
        self.is_saved = True

    def one(self, query: Any) -> None:
        """Segment one query; a failure is recorded, not raised."""
        name = _name_of(query)
        target = self._target(query)
        if not self.options.overwrite and self._is_done(query, target):
            self.rows.append(
                {"image": name, "status": "done before", "file": target.name}
            )
            return
        try:
            prediction = self._segment(query)
            image = open_image(query, **self._image_options())
            save_labels(
                target,
                prediction.labels,
                like=query if isinstance(query, Path) else None,
                scale=image.scale,
                axes=image.label_axes,
            )
        except FewShotError as error:
            if isinstance(error, Cancelled):
                raise
            self.failures += 1
            self.rows.append({"image": name, "status": "failed", "message": str(error)})
            Console(stderr=True).print(f"{name}: {error}", style="red")
            return
        self.records[target.name] = {
            "request": self.key,
            "query": _fingerprint(query),
            **prediction.provenance,
        }
        self.is_saved = False
        self.rows.append(_row(name, target, prediction))
        if time.monotonic() >= self.next_save:
            self.save()

    def save(self) -> None:
        """Write ``provenance.json``: the record of every image."""
        if self.is_saved:
            return
        start = time.monotonic()
        write_text(self.path, json.dumps(self.records, indent=1))
        now, self.is_saved = time.monotonic(), True
        self.next_save = now + (now - start) / RECORD_SHARE

    def report(self) -> None:
        """Write ``report.csv``: a row per image."""
        columns = ["image", "status", "file", "seconds", "message"]
        extra = sorted({k for row in self.rows for k in row} - set(columns))
        buffer = text_io.StringIO()
        writer = csv.DictWriter(buffer, [*columns, *extra])
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.options.out / "report.csv", buffer.getvalue())

    def exit_code(self) -> int:
        """0 all done, 1 all failed, 3 some failed."""
        if not self.failures:
            return DONE
        return FAILED_ALL if self.failures == len(self.rows) else FAILED_SOME

    def _segment(self, query: Any) -> Prediction:
        options, given = self.options, self.given
        return segment(
            query,
            given.supports,
            text=given.text or None,
            **given.reader(),
            prompts=open_prompts(options.prompts) if options.prompts else None,
            method=options.method,
            model=options.model,
            device=options.device,
            checkpoint=options.checkpoint,
            executor=options.executor,
            keep_probabilities=False,
            **self._image_options(),
            **given.params,
        )

    def _image_options(self) -> dict[str, Any]:
        options = self.options
        scale, channels = options.scale, options.channels
        return {
            "axes": options.axes,
            "scale": None if scale is None else [float(s) for s in scale.split(",")],
            "channels": None
            if channels is None
            else [int(c) for c in channels.split(",")],
        }

    def _target(self, query: Any) -> Path:
        """Return the file of the result; equal names get a number."""
        source = query if isinstance(query, Path) else None
        ending = labels_suffix(source)
        if ending == ".png" and source is not None and suffix_of(source) != ".png":
            ending = ".png"
        stem = f"{stem_of(source) if source else 'query'}_labels"
        name, number = f"{stem}{ending}", 2
        while name in self.names:
            name, number = f"{stem}_{number}{ending}", number + 1
        self.names.add(name)
        return self.options.out / name

    def _is_done(self, query: Any, target: Path) -> bool:
        record = self.records.get(target.name)
        return (
            record is not None
            and target.exists()
            and record.get("request") == self.key
            and record.get("query") == _fingerprint(query)
        )

    def _request_key(self) -> str:
        """Fingerprint of everything but the query."""
        options = self.options
        digest = hashlib.blake2b(digest_size=16)
        for support in self.given.supports:
            for plane in support.used_planes:
                digest.update(support.source.plane_digest(plane).encode())
                digest.update(support.label_plane(plane).tobytes())
        words = [
            options.method,
            options.model,
            self.given.record(),
            self._image_options(),
        ]
        digest.update(json.dumps(words, sort_keys=True).encode())
        return digest.hexdigest()


def _read_records(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _fingerprint(query: Any) -> str:
    """Path, size and time of a file: enough to see that it is the same one."""
    if not isinstance(query, Path):
        return str(query.plane_digest(0))
    facts = query.stat()
    return f"{query.resolve()}:{facts.st_size}:{facts.st_mtime_ns}"


def _name_of(query: Any) -> str:
    return query.name if query.name else "query"


def _row(name: str, target: Path, prediction: Prediction) -> dict[str, Any]:
    seconds = sum(prediction.provenance["seconds"].values())
    row: dict[str, Any] = {
        "image": name,
        "status": "done",
        "file": target.name,
        "seconds": f"{seconds:.2f}",
    }
    for value, label in prediction.classes.items():
        row[f"expected dice {label}"] = f"{prediction.scores[value]:.3f}"
        row[f"area {label}"] = int((np.asarray(prediction.labels) == value).sum())
        row[f"present {label}"] = prediction.present[value]
    return row


def _progress_bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
