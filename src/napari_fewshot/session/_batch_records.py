"""What was finished: a line per file in a journal, folded into ``provenance.json``.

A line is on the disk before the next file begins, so that a crash costs the file that
was being made and no other.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from typing import TYPE_CHECKING, Any

from napari_fewshot.errors import StorageError
from napari_fewshot.io import write_text
from napari_fewshot.session._holding import hold

if TYPE_CHECKING:
    from pathlib import Path

JOURNAL, RECORDS = "journal.jsonl", "provenance.json"
# Folders of files that were being written, see `io.atomic_write`.
UNFINISHED = ".writing-*"


class Records:
    """Records of a folder of results, by the name of the labels file.

    Parameters
    ----------
    out : Path
        The folder; it is made. One batch at a time may hold it.

    Raises
    ------
    StorageError
        If nothing can be written there, or another batch does.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.path = out / RECORDS
        self._journal = out / JOURNAL
        try:
            out.mkdir(parents=True, exist_ok=True)
            was_cut = self._journal.exists()
            self._file, is_held = hold(self._journal)
        except OSError as error:
            raise StorageError(
                f"Nothing can be written to {out} ({error.strerror or error}). Choose "
                "another folder."
            ) from error
        if not is_held:
            self._file.close()
            raise StorageError(
                f"Another batch is writing to {out}. Wait until it is done, or choose "
                "another folder."
            )
        self.all = _read_records(self.path)
        lines = self._read_lines()
        self.all.update(lines)
        self._is_folded = not lines
        if was_cut:
            self._sweep()

    def add(self, name: str, record: dict[str, Any]) -> None:
        """Note that a file is finished; on disk when this returns.

        Raises
        ------
        StorageError
            If it can't be written.
        """
        line = json.dumps({"file": name, "record": record}) + "\n"
        try:
            self._file.write(line.encode("ascii"))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise StorageError(
                f"{self._journal} can't be written ({error.strerror or error}). Free "
                "space, and run the same again: what was finished is kept."
            ) from error
        self.all[name] = record
        self._is_folded = False

    def close(self) -> None:
        """Fold the journal into ``provenance.json``.

        Raises
        ------
        StorageError
            If that can't be written; the journal stays.
        """
        try:
            if not self._is_folded:
                write_text(self.path, json.dumps(self.all, indent=1))
            self._is_folded = True
            # While it is held, so that the journal of the next batch is not meant.
            # Windows lets no open file be removed: it is empty of news there.
            with contextlib.suppress(OSError):
                self._journal.unlink(missing_ok=True)
        finally:
            # An unwritten buffer of a full disk fails again here.
            with contextlib.suppress(OSError):
                self._file.close()

    def _read_lines(self) -> dict[str, Any]:
        """Return the records of the journal; a torn line is none."""
        self._file.seek(0)
        content = self._file.read()
        if content and not content.endswith(b"\n"):
            self._file.write(b"\n")
        found = {}
        for line in content.splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                entry = json.loads(line)
                if isinstance(entry["record"], dict):
                    found[str(entry["file"])] = entry["record"]
        return found

    def _sweep(self) -> None:
        """Remove what a run that was killed had begun to write."""
        for place in (self.out, self.out / "report"):
            for path in place.glob(UNFINISHED):
                shutil.rmtree(path, ignore_errors=True)


def _read_records(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    is_good = isinstance(content, dict)
    return {k: v for k, v in content.items() if isinstance(v, dict)} if is_good else {}
