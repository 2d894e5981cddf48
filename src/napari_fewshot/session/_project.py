"""Project folders: a session on disk, complete after every write, never a pickle.

::

    study.fewshot-project/
        project.json          what is what; replaced as a whole (atomic rename)
        arrays/<digest>.npy   pixels and labels, named by their content

Arrays are written before the JSON that names them, and removed after it no longer does.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fewshot.data import ClassTable, Image, TextChoice, TextPrompt
from napari_fewshot.errors import DataError, FewShotError, StorageError
from napari_fewshot.io import (
    atomic_write,
    data_folder,
    image_record,
    reopen_image,
    restore_image,
    restore_support,
    write_text,
)
from napari_fewshot.session._project_objects import (
    object_entry,
    pending_entry,
    read_objects,
    read_pending,
)
from napari_fewshot.session._state import Document, SupportRow

if TYPE_CHECKING:
    from napari_fewshot._types import AnyArray, LabelArray

VERSION = 1
SUFFIX = ".fewshot-project"
# Queries up to this size are kept whole; larger ones by path or fingerprint only.
MAX_QUERY_BYTES = 256 * 1024**2
# Content names of arrays that were hashed before.
_DIGESTS: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class ProjectInfo:
    """A project folder in short.

    Attributes
    ----------
    path : Path
    saved : str
        When, ISO 8601.
    supports : int
        How many supports it holds.
    query : str
        Name of its query.
    """

    path: Path
    saved: str
    supports: int
    query: str


def new_project() -> Path:
    """Return the path of a new project among the user's data (not made yet)."""
    name = f"{datetime.now():%Y-%m-%d-%H%M%S}-{uuid.uuid4().hex[:6]}{SUFFIX}"
    return data_folder() / "projects" / name


def write_project(
    folder: Path, document: Document, drafts: Mapping[str, LabelArray], *, is_open: bool
) -> None:
    """Write a session.

    Parameters
    ----------
    folder : Path
        Made if missing.
    document : Document
        What to write.
    drafts : mapping of str to array
        Painting that is not accepted yet.
    is_open : bool
        Whether a process is still working on it.

    Raises
    ------
    StorageError
        If it can't be written; what was there stays.
    """
    arrays = folder / "arrays"
    try:
        arrays.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"The project folder {folder} can't be written ({error.strerror}). Choose "
            "another folder; your work goes on in memory."
        ) from error
    writer = _Writer(arrays)
    content = {
        "version": VERSION,
        "saved": datetime.now().isoformat(timespec="seconds"),
        "open": os.getpid() if is_open else None,
        "supports": [writer.row(row) for row in document.rows],
        "classes": [[c.value, c.name, c.colour] for c in document.classes],
        "query": writer.query(document),
        "planes": document.planes,
        "method": document.method,
        "model": document.model,
        "device": document.device,
        "checkpoint": document.checkpoint,
        "params": {
            k: {str(c): x for c, x in v.items()} if isinstance(v, Mapping) else v
            for k, v in document.params.items()
        },
        "text": {str(v): asdict(t) for v, t in document.text.items()},
        "reading": asdict(document.reading),
        "accepted": {str(p): writer.array(a) for p, a in document.accepted.items()},
        "rejected": sorted(document.rejected),
        "objects": [object_entry(row, writer.array) for row in document.objects],
        "pending": pending_entry(document.pending, writer.array),
        "drafts": {name: writer.array(a) for name, a in drafts.items()},
    }
    write_text(folder / "project.json", json.dumps(content, indent=1))
    for path in arrays.glob("*.npy"):
        if path.name not in writer.used:
            path.unlink(missing_ok=True)


def read_project(folder: Path) -> tuple[Document, dict[str, LabelArray]]:
    """Read a session.

    Returns
    -------
    document : Document
    drafts : dict of str to array

    Raises
    ------
    DataError
        If the folder is no project, damaged, or from a newer version.
    """
    content = _read_json(folder)
    arrays = folder / "arrays"
    try:
        classes = content["classes"]
        query, source = _read_query(content["query"], arrays)
        planes = content["planes"]
        document = Document(
            rows=tuple(_read_row(row, arrays) for row in content["supports"]),
            classes=ClassTable.from_names(
                {v: n for v, n, _ in classes}, {v: c for v, _, c in classes}
            ),
            query=query,
            query_source=source,
            planes=None if planes is None else tuple(planes),
            method=content["method"],
            model=content["model"],
            device=content["device"],
            checkpoint=content.get("checkpoint"),
            params={
                k: {int(c): x for c, x in v.items()} if isinstance(v, dict) else v
                for k, v in content["params"].items()
            },
            accepted={
                int(p): _load(arrays, name) for p, name in content["accepted"].items()
            },
            rejected=frozenset(content["rejected"]),
            text={int(v): TextPrompt(**t) for v, t in content.get("text", {}).items()},
            reading=TextChoice(**content.get("reading", {})),
        )
        if query is not None:
            entries = content.get("objects", [])
            document = read_objects(document, entries, lambda n: _load(arrays, n))
        pending = read_pending(content.get("pending"), lambda n: _load(arrays, n))
        document = replace(document, pending=pending)
        drafts = {n: _load(arrays, name) for n, name in content["drafts"].items()}
    except FewShotError:
        raise
    except (KeyError, TypeError, ValueError, OSError, EOFError) as error:
        raise DataError(
            f"The project {folder.name} is damaged ({error}). Its arrays are still in "
            f"{arrays}."
        ) from error
    return document, drafts


def find_recoverable() -> list[ProjectInfo]:
    """Return projects that were not closed and that nobody works on, newest first."""
    found = []
    for path in (data_folder() / "projects").glob(f"*{SUFFIX}"):
        try:
            content = _read_json(path)
        except DataError:
            continue
        owner = content.get("open")
        if owner is None or (owner != os.getpid() and _is_running(owner)):
            continue
        work = [content.get(part) for part in ("supports", "objects", "pending")]
        if owner == os.getpid() or not any(work):
            continue
        query = (content.get("query") or {}).get("name", "")
        found.append(
            ProjectInfo(path, content["saved"], len(content["supports"]), query)
        )
    return sorted(found, key=lambda info: info.saved, reverse=True)


class _Writer:
    """Writes arrays once, by content, and remembers which are used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.used: set[str] = set()

    def array(self, pixels: AnyArray) -> str:
        pixels = np.ascontiguousarray(pixels)
        head = f"{pixels.dtype.str}{pixels.shape}".encode()
        digest = hashlib.blake2b(head, digest_size=16)
        digest.update(pixels.data)
        name = f"{digest.hexdigest()}.npy"
        self.used.add(name)
        path = self.folder / name
        if not path.exists():
            with atomic_write(path) as temporary:
                np.save(temporary, pixels, allow_pickle=False)
        return name

    def _has(self, names: Sequence[str]) -> bool:
        return all((self.folder / name).exists() for name in names)

    def row(self, row: SupportRow) -> dict[str, Any]:
        support = row.support
        known = _DIGESTS.get(support)
        if known is None or not self._has(known["names"]):
            source, planes = support.source, support.used_planes
            images = {p: self.array(source.raw_plane(p)) for p in planes}
            labels = {p: self.array(support.label_plane(p)) for p in planes}
            names = [*images.values(), *labels.values()]
            known = {"images": images, "labels": labels, "names": names}
            _DIGESTS[support] = known
        self.used.update(known["names"])
        return {
            "key": row.key,
            "muted": row.muted,
            "accepted_plane": row.accepted_plane,
            "name": support.name,
            "classes": {str(v): n for v, n in (support.classes or {}).items()},
            "image": image_record(support.source),
            "images": {str(p): n for p, n in known["images"].items()},
            "labels": {str(p): n for p, n in known["labels"].items()},
        }

    def query(self, document: Document) -> dict[str, Any] | None:
        query = document.query
        if query is None:
            return None
        entry: dict[str, Any] = {**image_record(query), "path": document.query_source}
        size = int(np.prod(query.shape)) * np.dtype(query.array.dtype).itemsize
        if document.query_source is None and size <= MAX_QUERY_BYTES:
            known = _DIGESTS.get(query)
            if known is None or not self._has(known):
                known = [self.array(query.raw_plane(i)) for i in range(query.n_planes)]
                _DIGESTS[query] = known
            self.used.update(known)
            entry["planes"] = known
        return entry


def _read_row(entry: dict[str, Any], arrays: Path) -> SupportRow:
    images = {int(p): _load(arrays, n) for p, n in entry["images"].items()}
    labels = {int(p): _load(arrays, n) for p, n in entry["labels"].items()}
    classes = {int(v): n for v, n in entry["classes"].items()}
    support = restore_support(entry["image"], images, labels, classes, entry["name"])
    return SupportRow(entry["key"], support, entry["muted"], entry["accepted_plane"])


def _read_query(
    entry: dict[str, Any] | None, arrays: Path
) -> tuple[Image | None, str | None]:
    if entry is None:
        return None, None
    if entry["path"] is not None:
        if not Path(entry["path"]).exists():
            return None, entry["path"]
        return reopen_image(entry, entry["path"]), entry["path"]
    if "planes" not in entry:
        return None, None
    planes = {i: _load(arrays, name) for i, name in enumerate(entry["planes"])}
    return restore_image(entry, planes), None


def _load(arrays: Path, name: str) -> Any:
    if Path(name).name != name:
        raise DataError("The project names a file outside its folder; it is not safe.")
    return np.load(arrays / name, allow_pickle=False)


def _read_json(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / "project.json").read_text(encoding="utf-8"))
        version = content["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{folder} is not a project that can be read ({error}). Choose a folder "
            f"that ends in {SUFFIX}."
        ) from error
    if version > VERSION:
        raise DataError(
            f"{folder.name} was written by a newer version of napari-fewshot. Update "
            "it: pip install --upgrade napari-fewshot."
        )
    return dict(content)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
