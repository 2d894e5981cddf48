"""Segment, Cancel, progress, and what went wrong. Never scrolls away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

if TYPE_CHECKING:
    from napari_fewshot.data import Prediction, Progress
    from napari_fewshot.session import SessionState

STEPS = 1000


class RunPanel(QWidget):  # type: ignore[misc]
    """The button that matters."""

    segment = Signal()
    cancel = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._stopped = ""
        self.message = QLabel()
        self.message.setWordWrap(True)
        self.message.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse
        )
        self.message.hide()
        self.segment_button = QPushButton("Segment")
        self.segment_button.setMinimumHeight(34)
        font = self.segment_button.font()
        font.setBold(True)
        self.segment_button.setFont(font)
        self.segment_button.setToolTip("Segment the chosen planes with your supports.")
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setToolTip("Stop; finished planes are kept.")
        self.bar = QProgressBar()
        self.bar.setRange(0, STEPS)
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(8)
        self.status = QLabel()
        policy = self.status.sizePolicy()
        policy.setHorizontalPolicy(QSizePolicy.Policy.Ignored)
        self.status.setSizePolicy(policy)
        # The bar keeps its place when idle, so that nothing jumps when a run starts.
        kept = self.bar.sizePolicy()
        kept.setRetainSizeWhenHidden(True)
        self.bar.setSizePolicy(kept)
        self.bar.hide()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 6, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.message)
        row = QHBoxLayout()
        row.addWidget(self.segment_button, 3)
        row.addWidget(self.cancel_button, 1)
        layout.addLayout(row)
        layout.addWidget(self.bar)
        layout.addWidget(self.status)
        self.segment_button.clicked.connect(lambda: self.segment.emit())
        self.cancel_button.clicked.connect(lambda: self.cancel.emit())
        self.cancel_button.setEnabled(False)

    def show_state(self, state: SessionState) -> None:
        """Show whether something runs."""
        self.cancel_button.setEnabled(state.running)
        self.segment_button.setEnabled(not state.running)
        self.bar.setVisible(state.running)
        if state.running and state.progress is not None:
            self.show_progress(state.progress)
        elif not state.running:
            self.bar.setValue(0)
        self._stopped = "" if state.running else _stop_of(state.document.result)
        if self._stopped:
            self.show_status("")

    def show_progress(self, progress: Progress) -> None:
        """Show one report."""
        if progress.total:
            self.bar.setValue(int(STEPS * progress.done / progress.total))
        text = progress.stage
        if progress.seconds_left is not None:
            text += f", about {say_seconds(progress.seconds_left)} left"
        self.status.setText(text)

    def show_status(self, text: str, tip: str = "") -> None:
        """Show what would be done; after a run that was stopped, what was."""
        is_over = bool(self._stopped)
        text = self._stopped or text
        self.status.setText(text)
        self.status.setToolTip(text if is_over or not tip else tip)

    def show_error(self, error: Exception | None) -> None:
        """Show what went wrong, or nothing."""
        self.message.setVisible(error is not None)
        self.message.setText("" if error is None else f"\u26a0 {error}")


def _stop_of(result: Prediction | None) -> str:
    """Return how far a run came that was stopped; empty for any other."""
    if result is None or "stopped" not in result.provenance:
        return ""
    return str(result.provenance["notes"][0])


def say_seconds(seconds: float) -> str:
    """Return a duration as people say it; minutes are rounded."""
    if seconds < 1:
        return "1 s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min"


def plan_text(count: int) -> str:
    """Return what a run would do."""
    return "1 plane" if count == 1 else f"{count:,} planes"
