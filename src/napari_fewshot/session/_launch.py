"""`WorkerProcess`: start the worker, talk to it, end it.

It is started by `subprocess` as ``python -m napari_fewshot.worker``. The key of the
connection goes over standard input, never over the command line.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from multiprocessing.connection import Client, Listener
from typing import TYPE_CHECKING, Any

from napari_fewshot.errors import WorkerError
from napari_fewshot.io import log_folder

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

logger = logging.getLogger(__name__)
KEY_BYTES = 32
START_SECONDS = 120.0


class WorkerProcess:
    """One worker process and the connection to it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection[Any, Any] | None = None
        self._ready = threading.Event()
        self._starter: threading.Thread | None = None

    @property
    def pid(self) -> int | None:
        """Process number."""
        return None if self._process is None else self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it is running (or on its way up)."""
        if self._starter is not None and not self._ready.is_set():
            return self._starter.is_alive()
        return (
            self._process is not None
            and self._process.poll() is None
            and self._connection is not None
            and not self._connection.closed
        )

    def start(self, *, wait: bool = True) -> None:
        """Start it.

        Parameters
        ----------
        wait : bool
            Return only when it answers.

        Raises
        ------
        WorkerError
            If it does not come up.
        """
        self._starter = threading.Thread(target=self._launch, daemon=True)
        self._starter.start()
        if wait:
            self._await()

    def send(self, message: tuple[Any, ...]) -> None:
        """Send a message."""
        self._await().send(message)

    def receive(self) -> Any:
        """Return the next message; raises ``EOFError`` when the worker is gone."""
        return self._await().recv()

    def poll(self, seconds: float) -> bool:
        """Return whether a message is there, after at most some seconds."""
        return self._await().poll(seconds)

    def stop(self) -> None:
        """Ask it to end, and see that it does."""
        if self.is_alive and self._connection is not None:
            try:
                self._connection.send(("exit",))
                if self._process is not None:
                    self._process.wait(timeout=1.0)
            except (OSError, subprocess.TimeoutExpired):
                logger.info("the worker did not end by itself")
        self.kill()

    def kill(self) -> None:
        """End it now."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.kill()
            self._process.wait()
        if self._connection is not None:
            self._connection.close()

    def _await(self) -> Connection[Any, Any]:
        self._ready.wait(START_SECONDS)
        if self._connection is None:
            raise WorkerError(
                "The segmentation process could not be started. The log in "
                f"{log_folder()} says why; executor='inline' works without it."
            )
        return self._connection

    def _launch(self) -> None:
        key = os.urandom(KEY_BYTES)
        try:
            with Listener(authkey=key) as listener:
                self._process = _spawn(str(listener.address), key)
                watcher = threading.Thread(
                    target=self._unblock, args=(listener.address, key), daemon=True
                )
                watcher.start()
                connection = listener.accept()
                if connection.recv() == "ready":
                    self._connection = connection
        except (OSError, EOFError):
            logger.exception("the worker could not be started")
        finally:
            self._ready.set()

    def _unblock(self, address: Any, key: bytes) -> None:
        """Knock at our own door if the process dies before it does."""
        if self._process is None:
            return
        while not self._ready.wait(0.1):
            if self._process.poll() is not None:
                try:
                    with Client(address, authkey=key) as knock:
                        knock.send("dead")
                except (OSError, EOFError):
                    return
                return


def _spawn(address: str, key: bytes) -> subprocess.Popen[bytes]:
    folder = log_folder()
    folder.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {}
    if sys.platform == "win32":
        options["creationflags"] = subprocess.BELOW_NORMAL_PRIORITY_CLASS
    with (folder / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "napari_fewshot.worker"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            **options,
        )
    if process.stdin is not None:
        process.stdin.write(f"{address}\n{key.hex()}\n".encode())
        process.stdin.close()
    return process
