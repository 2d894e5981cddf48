"""`EmbeddingStore`: embeddings on disk, one small file each, within a number of bytes.

One file per embedding and not one zarr store for all: a file that is written beside its
place and renamed is complete or not there, so two programs may use one folder without a
lock, and making room is removing files. One that has vanished is never an error:
somebody else made room.

A file holds float16 arrays in the safetensors format, which cannot run code, and a
check sum over all of it: a damaged file is found out, removed and computed again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import tempfile
import time
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import numpy as np

from napari_fewshot.data import Embedding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from napari_fewshot._types import AnyArray

GB = 10**9
# Unless the user says otherwise; the smaller of the two.
MOST, SHARE_OF_FREE = 10 * GB, 0.1
# Making room leaves this share of the quota, so that not every write has to.
LEAVE = 0.9
# Other programs write, too: what they wrote is counted again after so many seconds.
RECOUNT_S = 30
# A use is noted at most once in so many seconds.
TOUCH_S = 60
# A half-written file as old as this was left by a program that died.
STALE_S = 3600
ENDING, WRITING = ".safetensors", ".writing-"
EXTRA, ENTRY = "extras.", "embedding"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Usage:
    """What a store holds.

    Attributes
    ----------
    folder : Path
        Where.
    bytes : int
        Of all files.
    quota : int
        Bytes that are allowed.
    models : dict of str to int
        Embeddings of each model.
    """

    folder: Path
    bytes: int
    quota: int
    models: Mapping[str, int] = field(default_factory=dict)

    @property
    def planes(self) -> int:
        """Number of embeddings."""
        return sum(self.models.values())


@dataclass(frozen=True)
class _File:
    path: Path
    bytes: int
    used: float


class EmbeddingStore:
    """Embeddings in a folder.

    Parameters
    ----------
    folder : Path
        Made when something is written.
    quota : int, optional
        Bytes; default 10 GB or 10 % of the free disk, the smaller.
    """

    def __init__(self, folder: Path, quota: int | None = None) -> None:
        self.folder = folder
        self._asked = quota
        self._held, self._counted = 0, -float("inf")

    @property
    def quota(self) -> int:
        """Bytes that are allowed."""
        return self._quota(self._held) if self._asked is None else self._asked

    @property
    def is_writable(self) -> bool:
        """Whether files may be made in the folder, as far as can be told."""
        try:
            place = self._place()
            return place.is_dir() and os.access(place, os.W_OK)
        except OSError:
            return False

    def has(self, key: str, model: str) -> bool:
        """Whether there is a file; it counts as used."""
        return self._touch(self._path(key, model))

    def read(self, key: str, model: str) -> Embedding | None:
        """Return an embedding, or None when it is not there or damaged.

        Parameters
        ----------
        key : str
            64 hexadecimal digits.
        model : str
            Name of the model.
        """
        path = self._path(key, model)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        try:
            found = _unpack(content, key)
        except Exception as error:  # noqa: BLE001 - whatever a damaged file may cause
            logger.warning("%s is damaged (%s) and is computed again", path, error)
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        self._touch(path)
        return found

    def write(self, key: str, embedding: Embedding) -> None:
        """Write an embedding and make room if the quota is exceeded.

        Parameters
        ----------
        key : str
            64 hexadecimal digits.
        embedding : Embedding
            Its values fit float16 exactly.

        Raises
        ------
        OSError
            If it can't be written or is larger than the quota.
        """
        content = _pack(embedding, key)
        if len(content) > self.quota:
            raise OSError(f"an embedding is larger than the quota of {self.quota} B")
        path = self._path(key, embedding.model)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=WRITING, dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
        self._held += len(content)
        if self._held > self.quota or time.monotonic() - self._counted > RECOUNT_S:
            self._make_room()

    def usage(self) -> Usage:
        """Count what is there; a folder of thousands of files takes a moment."""
        files = self._count()
        models = Counter(_model_of(f.path) for f in files if f.path.suffix == ENDING)
        return Usage(self.folder, self._held, self.quota, dict(sorted(models.items())))

    def clear(self) -> None:
        """Remove everything; files of others in the folder stay.

        Raises
        ------
        OSError
            If a file can't be removed.
        """
        for file in self._count():
            # What is being written belongs to whoever writes it.
            if file.path.suffix == ENDING:
                file.path.unlink(missing_ok=True)
        self._count()

    def _make_room(self) -> None:
        """Remove what was not used for longest until the quota is kept."""
        files = sorted(self._count(), key=lambda f: f.used)
        for file in files:
            if file.path.suffix != ENDING and time.time() - file.used > STALE_S:
                self._drop(file)
        if self._held <= self.quota:
            return
        goal = LEAVE * self.quota
        for file in files:
            if self._held <= goal:
                break
            if file.path.suffix == ENDING:
                self._drop(file)

    def _drop(self, file: _File) -> None:
        # On Windows a file that somebody reads stays for now.
        with contextlib.suppress(OSError):
            file.path.unlink(missing_ok=True)
            self._held -= file.bytes

    def _count(self) -> list[_File]:
        files = list(self._files())
        self._held = sum(f.bytes for f in files)
        self._counted = time.monotonic()
        return files

    def _files(self) -> Iterator[_File]:
        """Yield our files; what vanishes meanwhile is left out."""
        for number in range(256):
            folder = self.folder / f"{number:02x}"
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                for entry in entries:
                    name = entry.name
                    if name.endswith(ENDING) or name.startswith(WRITING):
                        with contextlib.suppress(OSError):
                            facts = entry.stat()
                            path = Path(entry.path)
                            yield _File(path, facts.st_size, facts.st_mtime)

    def _path(self, key: str, model: str) -> Path:
        # The model is in the name, so that a count of models opens no file.
        return self.folder / key[:2] / f"{key}.{quote(model, safe='')}{ENDING}"

    def _touch(self, path: Path) -> bool:
        """Note a use; returns whether the file is there."""
        try:
            if time.time() - path.stat().st_mtime > TOUCH_S:
                os.utime(path)
        except FileNotFoundError:
            return False
        except OSError:
            # A folder that may only be read: nothing is ever removed there.
            return path.is_file()
        return True

    def _quota(self, held: int) -> int:
        try:
            free = shutil.disk_usage(self._place()).free
        except OSError:
            return MOST
        return min(MOST, int(SHARE_OF_FREE * (free + held)))

    def _place(self) -> Path:
        """Return the folder, or what there is of the path to it."""
        places = (self.folder, *self.folder.parents)
        return next((p for p in places if p.exists()), self.folder)


def _model_of(path: Path) -> str:
    return unquote(path.name[: -len(ENDING)].partition(".")[2])


def _pack(embedding: Embedding, key: str) -> bytes:
    """Return the bytes of a file."""
    from safetensors.numpy import save

    arrays = {"array": embedding.array}
    arrays |= {f"{EXTRA}{n}": a for n, a in embedding.extras.items()}
    halves = {n: np.ascontiguousarray(a, np.float16) for n, a in arrays.items()}
    facts = {
        "key": key,
        "model": embedding.model,
        "image_shape": list(embedding.image_shape),
        "valid": list(embedding.valid),
    }
    about = json.dumps(facts)
    # One word only: several have no fixed order, and equal content is to be one file.
    return save(halves, {ENTRY: json.dumps([about, _check_sum(about, halves)])})


def _unpack(content: bytes, key: str) -> Embedding:
    """Return what `_pack` packed; raises something when it is not that."""
    from safetensors.numpy import load

    halves = load(content)
    length = int.from_bytes(content[:8], "little")
    # safetensors begins with the length of its header, a JSON object.
    words = json.loads(content[8 : 8 + length])["__metadata__"]
    about, check = json.loads(words[ENTRY])
    facts: dict[str, Any] = json.loads(about)
    if check != _check_sum(about, halves) or facts["key"] != key:
        raise ValueError("it does not hold what it says")
    arrays = {n: a.astype(np.float32) for n, a in halves.items()}
    height, width = facts["image_shape"]
    down, right = facts["valid"]
    extras = {n[len(EXTRA) :]: a for n, a in arrays.items() if n.startswith(EXTRA)}
    return Embedding(
        arrays["array"], (height, width), facts["model"], (down, right), extras
    )


def _check_sum(about: str, halves: Mapping[str, AnyArray]) -> str:
    """Return the CRC-32 of everything that a file says."""
    found = zlib.crc32(about.encode())
    for name in sorted(halves):
        found = zlib.crc32(f"{name} {halves[name].shape} ".encode(), found)
        found = zlib.crc32(halves[name].data, found)
    return f"{found:08x}"
