"""What the next run will take, in one quiet line under Segment."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Qt, QTimer

from napari_fewshot.errors import DataError, FewShotError
from napari_fewshot.session._resources import free_memory, say_bytes, say_duration
from napari_fewshot.viewer._qt import Dispatcher
from napari_fewshot.viewer._view import wanted_part
from napari_fewshot.widgets._estimate_choices import Choices, workers_of
from napari_fewshot.widgets._run_panel import plan_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_fewshot.session import Estimate
    from napari_fewshot.widgets.main import FewShotWidget

WAIT_MS = 200
# Results that take less on the disk are not worth a word.
MUCH_DISK = 100e6
LINES = 2
MEASURED = "The time is that of earlier runs of this method on this computer."
GUESSED = (
    "The time is a guess: this method has not run on this computer yet. After a run it "
    "is known."
)
BORROWED = "The time is right if the workers are as fast as this computer."
PEAK = "Memory: the most that is needed at once, on the generous side."
AGAIN = "Press Segment again to try all the same."


class EstimateLine(QObject):  # type: ignore[misc]
    """Keeps the line in step with what is chosen in a dock.

    Shapes are looked at in a thread; no pixels are read, and nothing waits for it.

    Parameters
    ----------
    dock : FewShotWidget
        Its choices are followed, its status line is written.
    """

    def __init__(self, dock: FewShotWidget) -> None:
        super().__init__(dock)
        self._dock = dock
        self._dispatcher = Dispatcher(self)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(WAIT_MS)
        self._timer.timeout.connect(self._ask)
        self._is_busy = self._is_late = False
        self._brief = self._text = self._tip = ""
        self._known: tuple[Choices, Estimate | None] | None = None
        self._warned: Choices | None = None
        status = dock.run_panel.status
        status.setWordWrap(True)
        status.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
        # Room for a warning, so that nothing jumps when there is one.
        status.setMinimumHeight(LINES * status.fontMetrics().lineSpacing() + 2)
        viewer = dock.viewer
        self._events = [
            (viewer.scene.camera.events.center, self._on_view),
            (viewer.scene.camera.events.zoom, self._on_view),
            (viewer.dims.events.current_step, self._on_slider),
        ]
        for event, call in self._events:
            event.connect(call)
        # A window that is closed destroys the dock without asking it.
        dock.destroyed.connect(_letting_go(self._events))
        dock.where_panel.connected.connect(self.show)
        dock.where_panel.here.toggled.connect(self.show)
        dock.image_panel.in_view.toggled.connect(self.show)

    def close(self) -> None:
        """Stop listening; what a thread still finds is dropped."""
        self._timer.stop()
        self._dispatcher.close()
        _letting_go(self._events)()

    def show(self, *_: Any) -> None:
        """Show what is chosen, and soon what it will take."""
        dock = self._dock
        if dock.session.is_running:
            return
        image = dock.image_panel.image
        if image is None:
            self._timer.stop()
            self._say("Open an image to begin.", "", "")
            return
        try:
            planes = dock.image_panel.planes()
        except FewShotError:
            planes = []
        accepted = dock.session.state.accepted
        count = image.n_planes if planes is None else len(planes)
        count -= len(accepted if planes is None else accepted & set(planes))
        brief = plan_text(count)
        if brief != self._brief:
            self._say(brief, brief, "")
        else:
            # Until it is known better: the line does not flicker.
            self._say(self._text, brief, self._tip)
        self._timer.start()

    def confirm(self) -> None:
        """Hold back a run that can't fit, once.

        Raises
        ------
        DataError
            With the reason and what would fit. When asked again for the same, nothing
            is raised: estimates are on the generous side.
        """
        try:
            choices = self._choices()
            is_known = self._known is not None and choices.is_like(self._known[0])
            found = self._known[1] if self._known and is_known else choices.look()
        except (FewShotError, TypeError, ValueError):
            # The run says what is wrong.
            return
        if found is None or found.fits or choices.is_like(self._warned):
            self._warned = None
            return
        self._warned = choices
        advice = self._advice(found, is_long=True)
        raise DataError(" ".join([*found.reasons, advice, AGAIN]))

    # -- asking ----------------------------------------------------------------------

    def _choices(self) -> Choices:
        """Return what is chosen now."""
        dock, binding = self._dock, self._dock.binding
        document = dock.session.state.document
        workers = workers_of(dock.session.place)
        if dock.image_panel.is_all_selected:
            layers = tuple(dock.image_panel.selected_layers())
            return Choices(document, layers=layers, workers=workers)
        planes = dock.image_panel.planes()
        chosen = None if planes is None else tuple(planes)
        region = None
        if binding.only_view and document.query is not None:
            layer = binding.query_layer
            part = wanted_part(dock.viewer, layer, document.query, only=True)
            region = part["region"]
        return Choices(document, chosen, region, workers=workers)

    def _ask(self) -> None:
        if self._dock.session.is_running:
            return
        if self._is_busy:
            self._is_late = True
            return
        try:
            choices = self._choices()
        except FewShotError:
            self._say(self._brief, self._brief, "")
            return
        self._is_busy = True

        def look() -> None:
            found: Estimate | None = None
            # What is wrong, the run says.
            with contextlib.suppress(Exception):
                found = choices.look()
            self._dispatcher(lambda: self._on_found(choices, found))

        threading.Thread(target=look, name="napari-fewshot-plan", daemon=True).start()

    def _on_found(self, choices: Choices, found: Estimate | None) -> None:
        self._is_busy = False
        self._known = choices, found
        if self._is_late:
            self._is_late = False
            self._ask()
            return
        if self._dock.session.is_running:
            return
        if found is None:
            self._say(self._brief, self._brief, "")
        elif not found.fits:
            needs, advice = _needs(found), self._advice(found, is_long=False)
            whole = " ".join([*found.reasons, self._advice(found, is_long=True)])
            self._say(f"\u26a0 {needs} {advice}", self._brief, whole)
        else:
            text = say_estimate(found, choices.workers)
            self._say(text, self._brief, _origin(found, choices.workers))

    def _say(self, text: str, brief: str, tip: str) -> None:
        self._text, self._brief, self._tip = text, brief, tip
        self._dock.run_panel.show_status(text, tip)

    def _advice(self, found: Estimate, *, is_long: bool) -> str:
        """Return what would fit, in words of the dock."""
        layer = self._dock.binding.query_layer
        coarser = ["a coarser level"] if getattr(layer, "multiscale", False) else []
        if "disk" in found.reasons[0]:
            words = ["Free some space", *(f"or choose {c}" for c in coarser)]
            if is_long:
                words.append("or set NAPARI_FEWSHOT_HOME to a folder on another disk")
            return ", ".join(words) + "."
        choices = ["tile 512", *coarser, "a smaller model"]
        if not is_long:
            return f"Choose {choices[0]} or {choices[1]}."
        return (
            f"Choose {', '.join(choices)} (How, change), smaller supports, or close "
            "other programs."
        )

    # -- reactions -------------------------------------------------------------------

    def _on_view(self, _event: Any = None) -> None:
        if self._dock.binding.only_view:
            self._timer.start()

    def _on_slider(self, _event: Any = None) -> None:
        if self._dock.image_panel.this_plane.isChecked():
            self.show()


def say_estimate(found: Estimate, workers: int = 0) -> str:
    """Return one short line: what, how long, memory, and disk if it is much.

    Parameters
    ----------
    found : Estimate
        That fits.
    workers : int
        Of a cluster, whose memory is not known; 0 is this computer, -1 a cluster that
        was not asked yet.
    """
    what = plan_text(found.n_planes)
    if found.n_windows > found.n_planes:
        what += f" in {found.n_windows:,} tiles"
    time = f"about {say_duration(found.seconds)}"
    if workers < 0:
        words = [what, "on a cluster"]
    elif workers:
        many = "1 worker" if workers == 1 else f"{workers} workers"
        words = [what, f"{time} on {many}"]
    else:
        words = [what, time, f"{say_bytes(found.memory_bytes)} memory"]
    if found.disk_bytes >= MUCH_DISK:
        words.append(f"{say_bytes(found.disk_bytes)} disk")
    return " \u00b7 ".join(words)


def _letting_go(events: list[tuple[Any, Any]]) -> Callable[..., None]:
    """Return what disconnects from events of the viewer, once."""

    def let_go(*_: object) -> None:
        while events:
            event, call = events.pop()
            event.disconnect(call)

    return let_go


def _needs(found: Estimate) -> str:
    """Return what is missing, shortly."""
    if "disk" in found.reasons[0]:
        return f"Needs {say_bytes(found.disk_bytes)} of disk, more than is free."
    free = free_memory()
    there = "" if free is None else f", {say_bytes(free)} are free"
    return f"Needs {say_bytes(found.memory_bytes)} of memory{there}."


def _origin(found: Estimate, workers: int) -> str:
    """Return where the numbers come from."""
    lines = [GUESSED if found.is_guess else MEASURED]
    if workers < 0:
        return "What a cluster needs is known when it is connected."
    lines.append(BORROWED if workers else PEAK)
    return "\n".join(lines)
