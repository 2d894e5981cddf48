"""Check supports: what to expect before a run, and what stands in the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QLabel, QPushButton, QVBoxLayout, QWidget

from napari_fewshot.widgets._trust_scale import ScaleQuestion

if TYPE_CHECKING:
    from napari_fewshot.session import Session, SessionState

SHORTCUT = "Alt+K"


class TrustBar(QWidget):  # type: ignore[misc]
    """The button, what came of it, and the question about pixel sizes.

    Parameters
    ----------
    session : Session
        Whose supports are checked.
    """

    check = Signal()
    failed = Signal(object)

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self.button = QPushButton("Check supports")
        self.button.setShortcut(SHORTCUT)
        self.button.setToolTip(
            "Segment every support with what the others teach, and nothing else: the "
            "Dice to expect, odd supports, and those that teach nothing new. "
            f"Shortcut: {SHORTCUT}."
        )
        self.found = QLabel()
        self.found.setWordWrap(True)
        self.question = ScaleQuestion(session)
        self.question.failed.connect(self.failed)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.button)
        layout.addWidget(self.found)
        layout.addWidget(self.question)
        self.button.clicked.connect(lambda: self.check.emit())

    def show_state(self, state: SessionState) -> None:
        """Show what the last check found, as long as it holds."""
        self.setVisible(bool(state.supports))
        used = [row for row in state.supports if not row.muted]
        self.button.setEnabled(bool(used) and not state.running)
        is_asking = self.question.show_state(state)
        lines = self._found(state)
        # What the question asks need not be said twice.
        lines += [] if is_asking else self._notes(state)
        self.found.setText("\n".join(lines))
        self.found.setVisible(bool(lines))

    def _found(self, state: SessionState) -> list[str]:
        expected = self._session.expectation
        if expected is None:
            return []
        if not expected.support_scores:
            return ["One support: expected Dice is a rough guess. Add a second one."]
        odd = sum(row.disagrees for row in state.supports if not row.muted)
        known = sum(row.redundant for row in state.supports if not row.muted)
        words = []
        if odd:
            words.append("1 disagrees" if odd == 1 else f"{odd} disagree")
        if known:
            words.append(f"{known} {'teaches' if known == 1 else 'teach'} nothing new")
        return [f"Checked: {', '.join(words) or 'they agree'}."]

    def _notes(self, state: SessionState) -> list[str]:
        """Return what was done to the supports, in the last check or run."""
        expected, prediction = self._session.expectation, state.prediction
        if expected is not None:
            return list(expected.notes)
        if prediction is None:
            return []
        return [str(note) for note in prediction.provenance.get("notes", ())]
