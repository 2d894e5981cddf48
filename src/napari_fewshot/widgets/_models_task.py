"""Work of the dock *Models* that must not stop the window: threads and processes."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_fewshot.errors import Cancelled, WeightsError
from napari_fewshot.viewer._qt import Dispatcher

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Progress = Callable[[int, int], None]

# Seconds between two reports of progress.
EVERY = 0.1
PREFIX = "napari-fewshot: "


class Task(QObject):  # type: ignore[misc]
    """One piece of work at a time, in a thread; its signals come on the GUI thread."""

    progressed = Signal(object, object)
    done = Signal(object)
    failed = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._dispatch = Dispatcher(self)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.is_running = False

    def start(self, work: Callable[[Progress], Any]) -> None:
        """Run ``work(progress)``; ``progress`` stops it once it is cancelled."""
        self._stop.clear()
        self.is_running = True
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """Ask the work to stop; `failed` follows with `Cancelled`."""
        self._stop.set()

    def close(self) -> None:
        """Stop the work and drop whatever it reports; returns at once."""
        self._stop.set()
        self._dispatch.close()

    def _run(self, work: Callable[[Progress], Any]) -> None:
        try:
            found = work(self._reporter())
        except Exception as error:  # noqa: BLE001 - the boundary of the thread
            self._end(self.failed, error)
        else:
            self._end(self.done, found)

    def _end(self, signal: Any, what: object) -> None:
        def report() -> None:
            self.is_running = False
            signal.emit(what)

        self._dispatch(report)

    def _reporter(self) -> Progress:
        last = 0.0

        def progress(done: int, total: int) -> None:
            nonlocal last
            if self._stop.is_set():
                raise Cancelled("Stopped. What has arrived is kept.")
            now = time.monotonic()
            if now - last >= EVERY or done == total:
                last = now
                self._dispatch(lambda: self.progressed.emit(done, total))

        return progress


def run_command(words: Sequence[str], progress: Progress) -> str:
    """Run ``napari-fewshot models ...`` in a process of its own.

    Loading weights takes seconds and gigabytes; both are the process's.

    Parameters
    ----------
    words : sequence of str
        What follows ``models``.
    progress : callable
        Called while waiting, with 0 of 0; may raise to stop the process.

    Returns
    -------
    str
        What it printed.

    Raises
    ------
    WeightsError
        With the sentences it ended with.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "napari_fewshot", "models", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )
    try:
        while True:
            try:
                out, said = process.communicate(timeout=EVERY)
                break
            except subprocess.TimeoutExpired:
                progress(0, 0)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode:
        lines = [x.removeprefix(PREFIX) for x in said.splitlines() if PREFIX in x]
        raise WeightsError(" ".join(lines) or "It did not work; see the terminal.")
    return out.strip()
