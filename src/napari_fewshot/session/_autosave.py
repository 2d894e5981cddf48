"""`Autosaver`: projects are written in the background."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_fewshot.errors import StorageError
from napari_fewshot.session._project import write_project

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_fewshot.session._state import Document


@dataclass
class Autosaver:
    """Writes the newest version in a thread of its own; older ones are skipped.

    Parameters
    ----------
    on_error : callable
        Called with a `StorageError`, once until a write succeeds again.
    """

    on_error: Callable[[StorageError], None]
    _pending: tuple[Path, Document, dict[str, Any]] | None = None
    _condition: threading.Condition = field(default_factory=threading.Condition)
    _busy: bool = False
    _closed: bool = False
    _failed: bool = False
    _thread: threading.Thread | None = None

    def save(self, folder: Path, document: Document, drafts: dict[str, Any]) -> None:
        """Ask for a write; returns at once."""
        with self._condition:
            self._pending = (folder, document, drafts)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True)
                self._thread.start()
            self._condition.notify_all()

    def flush(self) -> None:
        """Wait until everything that was asked for is written."""
        with self._condition:
            self._condition.wait_for(lambda: self._pending is None and not self._busy)

    def close(self) -> None:
        """End the thread."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def _has_work(self) -> bool:
        return self._pending is not None or self._closed

    def _work(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(self._has_work)
                if self._pending is None:
                    return
                job, self._pending = self._pending, None
                self._busy = True
            try:
                write_project(*job, is_open=True)
                self._failed = False
            except StorageError as error:
                if not self._failed:
                    self._failed = True
                    self.on_error(error)
            finally:
                with self._condition:
                    self._busy = False
                    self._condition.notify_all()
