"""From worker threads to the GUI thread, and waiting without freezing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QEventLoop, QObject, Qt, QTimer, Signal

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_fewshot.session import Job, Session

POLL_MS = 10


class Dispatcher(QObject):  # type: ignore[misc]
    """Runs functions on the GUI thread, in order; does nothing once closed."""

    _called = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._open = True
        self._called.connect(self._run, Qt.ConnectionType.QueuedConnection)

    def __call__(self, call: Callable[[], None]) -> None:
        """Queue a function; may be called from any thread."""
        if self._open:
            try:
                self._called.emit(call)
            except RuntimeError:
                # The window was destroyed between the check and the call.
                self._open = False

    def close(self) -> None:
        """Drop whatever comes from now on."""
        self._open = False

    def _run(self, call: Callable[[], None]) -> None:
        if self._open:
            call()


def closer(dispatcher: Dispatcher, session: Session) -> Callable[..., None]:
    """Return what to call when a window is destroyed without being asked."""

    def close(*_: object) -> None:
        dispatcher.close()
        session.cancel()

    return close


def wait_for(job: Job) -> None:
    """Wait for a job while the window stays alive.

    Parameters
    ----------
    job : Job
        Returns when it is done.
    """
    loop = QEventLoop()
    timer = QTimer()
    timer.setInterval(POLL_MS)
    timer.timeout.connect(lambda: loop.quit() if job.done else None)
    timer.start()
    if not job.done:
        loop.exec()
    timer.stop()
