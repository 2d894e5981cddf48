"""Show how: buttons for the layers that tell how a plane came out as it did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_fewshot.errors import FewShotError
from napari_fewshot.viewer._evidence import EvidenceLayers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_fewshot.inference import Evidence
    from napari_fewshot.session import SessionState
    from napari_fewshot.viewer._binding import Binding

UNCERTAINTY = "uncertainty"


class HowBar(QWidget):  # type: ignore[misc]
    """Asks for the evidence of the plane that is shown, and shows it.

    Parameters
    ----------
    binding : Binding
        Session and viewer.
    """

    failed = Signal(object)
    # Plane, class and prompts to continue from in the Prompts tab.
    run_from = Signal(int, int, object)

    def __init__(self, binding: Binding, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._binding = binding
        self._session = binding.session
        self.layers = EvidenceLayers(binding)
        self._asked: tuple[str | None] | None = None
        self._only: str | None = None
        self._plane = 0
        self._found: Mapping[int, Evidence] = {}
        self._of: Any = None
        self.show_button = _button(
            "Show how",
            "Show how the plane you see comes out: similarity, the points and boxes "
            "that the method makes, and the masks it considers, as layers.",
        )
        self.unsure_button = _button(
            "Uncertainty",
            "Show where the method is undecided on the plane you see: clear is sure, "
            "amber is undecided.",
        )
        self.hide_button = _button("Hide", "Remove these layers; yours stay.")
        self.classes = QComboBox()
        self.classes.setToolTip("Class whose evidence is shown.")
        self.maps = QComboBox()
        self.maps.setToolTip("Map that lies in front; the others are hidden.")
        self.line = QLabel()
        self.line.setWordWrap(True)
        self.run_button = _button(
            "Run from here",
            "Take these points and boxes, as you dragged them, to the Prompts tab: it "
            "outlines what they select, and you commit it.",
        )
        self._build()
        self._session.explained.connect(self._on_explained)

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        buttons = QHBoxLayout()
        for button in (self.show_button, self.unsure_button, self.hide_button):
            buttons.addWidget(button)
        layout.addLayout(buttons)
        self.details = QWidget()
        grid = QGridLayout(self.details)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.addWidget(self.line, 0, 0, 1, 2)
        grid.addWidget(self.classes, 1, 0)
        grid.addWidget(self.maps, 1, 1)
        grid.addWidget(self.run_button, 2, 0, 1, 2)
        grid.setColumnStretch(1, 1)
        layout.addWidget(self.details)
        self.show_button.clicked.connect(lambda: self.show_how())
        self.unsure_button.clicked.connect(lambda: self.show_how(UNCERTAINTY))
        self.hide_button.clicked.connect(self.hide_layers)
        self.classes.activated.connect(lambda _: self._show())
        self.maps.activated.connect(
            lambda _: self.layers.bring_to_front(self.maps.currentText())
        )
        self.run_button.clicked.connect(self._on_run_from)
        self._show_controls()

    def show_how(self, only: str | None = None) -> None:
        """Ask for the evidence of the plane that is shown, in the background.

        Parameters
        ----------
        only : str, optional
            Show this map and nothing else.
        """
        try:
            self._binding.flush()
            if not self._session.is_running:
                self._asked = (only,)
            self._session.explain(self._binding.plane_shown(), wait=False)
        except (FewShotError, TypeError, ValueError) as error:
            self.failed.emit(error)
            return
        self.failed.emit(None)

    def hide_layers(self) -> None:
        """Remove the layers; those of the user stay."""
        self.layers.clear()
        # What is still on its way is not wanted any more either.
        self._found, self._of, self._asked = {}, None, None
        self._show_controls()

    def show_state(self, state: SessionState) -> None:
        """Follow a state: evidence of another image goes."""
        can_ask = bool(state.supports or state.document.text) and not state.running
        for button in (self.show_button, self.unsure_button):
            button.setEnabled(can_ask)
        if not state.running:
            self._asked = None
        array = None if state.query is None else state.query.array
        if self._found and array is not self._of:
            self.hide_layers()

    def shut_down(self) -> None:
        """Remove our layers and let go of the session."""
        self._session.explained.disconnect(self._on_explained)
        self.layers.clear()

    # -- reactions -------------------------------------------------------------------

    def _on_explained(self, plane: int, found: dict[int, Evidence]) -> None:
        query = self._session.state.query
        if self._asked is None or query is None:
            # A script asked; what it gets is not for the screen.
            return
        (self._only,) = self._asked
        self._plane, self._found, self._of = plane, found, query.array
        names = self._session.state.classes.names
        chosen = self.classes.currentData()
        self.classes.clear()
        for value in found:
            self.classes.addItem(names.get(value, f"class {value}"), value)
        self.classes.setCurrentIndex(max(self.classes.findData(chosen), 0))
        self._show()

    def _show(self) -> None:
        """Show the evidence of the chosen class."""
        evidence = self._found.get(self.classes.currentData())
        if evidence is None:
            return
        self.layers.show(self._plane, evidence, only=self._only)
        self.maps.clear()
        self.maps.addItems(self.layers.names)
        self.maps.setCurrentText(self.layers.front or "")
        self.line.setText(self._words(evidence))
        self.run_button.setVisible(self._only is None and evidence.prompts is not None)
        self._show_controls()

    def _show_controls(self) -> None:
        is_shown = bool(self._found)
        self.details.setVisible(is_shown)
        self.hide_button.setEnabled(is_shown)
        self.classes.setVisible(len(self._found) > 1)
        self.maps.setVisible(self._only is None)

    def _words(self, evidence: Evidence) -> str:
        query = self._session.state.query
        where = f"Plane {self._plane}: " if query and query.n_planes > 1 else ""
        if self._only is not None:
            return f"{where}clear is sure, amber is undecided."
        parts = []
        if evidence.candidates is not None and len(evidence.candidates):
            parts.append(_count(len(evidence.candidates), "candidate"))
        prompts = evidence.prompts
        if prompts is None:
            return f"{where}{', '.join([*parts, 'no points or boxes here'])}."
        for given, word in ((prompts.points, "point"), (prompts.boxes, "box")):
            if given is not None:
                parts.append(_count(len(given), word))
        return f"{where}{', '.join(parts)} to drag."

    def _on_run_from(self) -> None:
        prompts = self.layers.read_prompts()
        if prompts.is_empty:
            self.failed.emit(
                FewShotError("All points and boxes are gone. Press Show how again.")
            )
            return
        self.layers.hide_prompts()
        self.run_from.emit(self._plane, self.classes.currentData(), prompts)


def _count(count: int, word: str) -> str:
    if count == 1:
        return f"1 {word}"
    return f"{count} {word}{'es' if word.endswith('x') else 's'}"


def _button(text: str, tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    return button
