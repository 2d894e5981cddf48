"""Vectors of phrases on disk: read once by the text tower, then found again.

One small file per phrase. What can't be read or written is computed again; a damaged
file counts as missing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import tempfile
import time
from typing import TYPE_CHECKING

import numpy as np

from napari_fewshot.models._places import cache_folder, data_folder

if TYPE_CHECKING:
    from pathlib import Path

    from napari_fewshot._types import FloatArray

# Bytes on disk: some 30,000 phrases.
QUOTA = 64 * 2**20
# Share of the quota that is left when room is made.
LEFT = 0.8
MARK = b"nfstext1"
DIGEST = 16
SUFFIX = ".vec"
# Seconds after which what a killed process has left is removed.
STALE = 3600
ON, QUOTA_GB = "NAPARI_FEWSHOT_CACHE", "NAPARI_FEWSHOT_CACHE_GB"

logger = logging.getLogger(__name__)


def is_on() -> bool:
    """Whether vectors are kept on disk: the environment's word, or the user's choice.

    The same settings as for embeddings of images count.
    """
    said = os.environ.get(QUOTA_GB, "").strip()
    with contextlib.suppress(ValueError):
        if said and float(said) == 0:
            return False
    said = os.environ.get(ON, "").strip().lower()
    if said:
        return said not in ("0", "no", "off", "false")
    try:
        path = data_folder() / "embeddings.json"
        words = json.loads(path.read_text(encoding="utf-8"))
        return bool(words["is_on"])
    except (OSError, ValueError, TypeError, KeyError):
        return True


class TextStore:
    """Files of vectors.

    Parameters
    ----------
    folder : path, optional
        Default ``text`` in the user's cache folder.
    quota : int
        Bytes on disk; the vectors not read for longest make room.
    """

    def __init__(self, folder: Path | None = None, quota: int = QUOTA) -> None:
        self.folder = cache_folder() / "text" if folder is None else folder
        self.quota = quota
        self._bytes: int | None = None
        self._warned = False

    def read(self, key: str, length: int) -> FloatArray | None:
        """Return a vector; None if there is none, or its file is damaged.

        Parameters
        ----------
        key : str
            Of all that it depends on.
        length : int
            Numbers that it must have.
        """
        path = self._path(key)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        begin = len(MARK) + DIGEST
        body = content[begin:]
        whole = content[:begin] == MARK + _digest(body) and len(body) == 4 * length
        found: FloatArray = np.frombuffer(body if whole else b"", "<f4").astype(
            np.float32
        )
        if not whole or not np.isfinite(found).all():
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return found

    def write(self, key: str, vector: FloatArray) -> None:
        """Keep a vector if that works; log once if not.

        Parameters
        ----------
        key : str
            Of all that it depends on.
        vector : array (E,)
            float32.
        """
        body = np.ascontiguousarray(vector, "<f4").tobytes()
        path = self._path(key)
        temporary = ""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._make_room(len(MARK) + DIGEST + len(body))
            number, temporary = tempfile.mkstemp(prefix=".writing-", dir=path.parent)
            with os.fdopen(number, "wb") as file:
                file.write(MARK + _digest(body) + body)
            os.replace(temporary, path)
        except OSError as error:
            if temporary:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
            if not self._warned:
                logger.warning(
                    "%s can't be written (%s): phrases are read again in the next "
                    "session.",
                    self.folder,
                    error.strerror or error,
                )
            self._warned = True

    def _path(self, key: str) -> Path:
        name = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        return self.folder / name[:2] / f"{name}{SUFFIX}"

    def _make_room(self, wanted: int) -> None:
        """Remove the vectors that were not read for longest when the quota is full."""
        if self._bytes is None:
            self._bytes = sum(size for _, size, _ in self._files())
        self._bytes += wanted
        if self._bytes <= self.quota:
            return
        files = sorted(self._files())
        self._bytes = wanted + sum(size for _, size, _ in files)
        for _, size, path in files:
            if self._bytes <= LEFT * self.quota:
                break
            with contextlib.suppress(OSError):
                path.unlink()
                self._bytes -= size

    def _files(self) -> list[tuple[float, int, Path]]:
        """Return when each file was used, its size and path; sweep what was left."""
        found = []
        for path in self.folder.glob("??/*"):
            with contextlib.suppress(OSError):
                facts = path.stat()
                if path.suffix == SUFFIX:
                    found.append((facts.st_mtime, facts.st_size, path))
                elif time.time() - facts.st_mtime > STALE:
                    path.unlink()
        return found


def _digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=DIGEST).digest()
