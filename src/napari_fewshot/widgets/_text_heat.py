"""Show where: the heat map of a phrase, its threshold, and whether to trust it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from napari_fewshot.errors import FewShotError
from napari_fewshot.methods import get_method, make_params, sigmoid
from napari_fewshot.methods.text import ADVICE, NOT_UNDERSTOOD
from napari_fewshot.models import installed_text_models
from napari_fewshot.ops.heatmaps import clipped_log_odds
from napari_fewshot.viewer._heat import HeatLayer
from napari_fewshot.widgets._text_reading import kind_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_fewshot._types import FloatArray
    from napari_fewshot.data import TextChoice
    from napari_fewshot.inference import Evidence
    from napari_fewshot.session import SessionState, Understanding
    from napari_fewshot.viewer._binding import Binding

# Percent. Beyond these the map is no longer told apart: it is held within log-odds.
LEAST, MOST, MIDDLE = 2, 98, 50
# Log-odds of maps are held within this; see `methods.text`.
SURE = 8.0
# The threshold becomes a parameter once the slider rests.
REST_MS = 300
# Kinds of models whose maps can be compared with those of nonsense.
COMPARABLE = ("clip", "heat")
# Black on amber, and the sign besides: never colour alone.
AMBER = "background: #ffb000; color: #000000; padding: 4px; border-radius: 3px;"
THRESHOLD = (
    "How sure the model must be: to the left more is inside, to the right less. The "
    "outline follows at once, and Segment uses it, for all phrases. Arrow keys move it."
)


class HeatBox(QWidget):  # type: ignore[misc]
    """Asks where the phrases fit, shows one of them, and cuts it.

    Parameters
    ----------
    binding : Binding
        Session and viewer.
    """

    failed = Signal(object)
    # The button was pressed; what was typed is to be taken over first.
    wanted = Signal()
    # The threshold that the next runs use.
    levelled = Signal(float)

    def __init__(self, binding: Binding, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._binding = binding
        self._session = binding.session
        self.layer = HeatLayer(binding)
        self._value = 1
        self._asked: Any = None
        self._heats: dict[int, FloatArray] = {}
        self._of: Any = None
        self._plane = 0
        self._is_filling = False
        self._wants_check = False
        self._checked: Any = None
        self._verdicts: dict[int, Understanding] = {}
        self.show_button = QPushButton("Show where")
        self.show_button.setToolTip(
            "Show where the phrase fits on the plane you see, before anything is "
            "segmented."
        )
        self.hide_button = QPushButton("Hide")
        self.hide_button.setEnabled(False)
        self.hide_button.setToolTip("Remove the layer of Show where; yours stay.")
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(LEAST, MOST)
        self.slider.setPageStep(5)
        self.slider.setValue(MIDDLE)
        self.slider.setAccessibleName("Threshold")
        self.number = QLabel("0.50")
        self.verdict = QLabel()
        self.verdict.setWordWrap(True)
        self.verdict.hide()
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(REST_MS)
        self._build()
        self._session.shown_where.connect(self._on_shown)
        self._session.understood.connect(self._on_understood)

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        row = QHBoxLayout()
        row.addWidget(self.show_button, 2)
        row.addWidget(self.hide_button, 1)
        layout.addLayout(row)
        row = QHBoxLayout()
        title = QLabel("Threshold")
        row.addWidget(title)
        row.addWidget(self.slider, 1)
        row.addWidget(self.number)
        for part in (title, self.slider, self.number):
            part.setToolTip(THRESHOLD)
        layout.addLayout(row)
        layout.addWidget(self.verdict)
        self.show_button.clicked.connect(lambda: self.wanted.emit())
        self.hide_button.clicked.connect(self.hide_layer)
        self.slider.valueChanged.connect(self._on_slid)
        self.slider.sliderReleased.connect(self.flush)
        self._rest.timeout.connect(self.flush)

    @property
    def level(self) -> float:
        """The threshold that the slider shows."""
        return float(self.slider.value()) / 100

    def show_where(self) -> None:
        """Ask where the phrases fit on the plane that is shown, in the background."""
        try:
            self.flush()
            state = self._session.state
            reading = state.document.reading
            self._asked = _read_as(state), cut_of(reading)[1]
            self._session.where(self._binding.plane_shown(), wait=False)
        except (FewShotError, TypeError, ValueError) as error:
            self._asked = None
            self.failed.emit(error)
            return
        self.failed.emit(None)

    def hide_layer(self) -> None:
        """Remove the layer; those of the user stay."""
        self.layer.clear()
        self._heats, self._of, self._asked = {}, None, None
        self.hide_button.setEnabled(False)

    def choose(self, value: int) -> None:
        """Show another class, if it is known where it fits."""
        if value != self._value:
            self._value = value
            self._draw()
        self._show_verdict()

    def flush(self) -> None:
        """Make the threshold of the slider the one of the next runs."""
        self._rest.stop()
        _, level = cut_of(self._session.state.document.reading)
        if self.slider.isEnabled() and percent(level) != self.slider.value():
            self.levelled.emit(self.level)

    def show_state(self, state: SessionState) -> None:
        """Follow a state: maps of other words, or of another image, go."""
        document = state.document
        way, level = cut_of(document.reading)
        if not self._rest.isActive() and not self.slider.isSliderDown():
            self._is_filling = True
            self.slider.setValue(percent(level))
            self._is_filling = False
            self._show_level()
        self.slider.setEnabled(way == "auto")
        self.slider.setToolTip(
            THRESHOLD
            if way == "auto"
            else f"The parameter 'cut' is {way!r}, which sets the threshold itself. "
            "To move it choose 'auto' under change, below."
        )
        self.show_can_ask(is_typed=False)
        if self._heats and self._of != _read_as(state):
            self.hide_layer()
        if not state.running:
            self._asked = None
            if self._wants_check:
                # Not within the announcement that the last job is done.
                QTimer.singleShot(0, self._check)
        self._show_verdict()

    def show_can_ask(self, *, is_typed: bool) -> None:
        """Enable the button if there is something to ask.

        Parameters
        ----------
        is_typed : bool
            Whether there is a phrase that nobody has taken over yet.
        """
        state = self._session.state
        has_words = is_typed or bool(state.document.text)
        self.show_button.setEnabled(has_words and not state.running)

    def shut_down(self) -> None:
        """Remove our layer and let go of the session."""
        self._rest.stop()
        self._wants_check = False
        self._session.shown_where.disconnect(self._on_shown)
        self._session.understood.disconnect(self._on_understood)
        self.layer.clear()

    # -- reactions -------------------------------------------------------------------

    def _on_shown(self, plane: int, found: Mapping[int, Evidence]) -> None:
        if self._asked is None:
            # A script asked; what it gets is not for the screen.
            return
        self._of, level = self._asked
        way, _ = cut_of(self._session.state.document.reading)
        self._plane = plane
        # On the scale on which 0.5 is the usual cut, whatever the threshold was.
        self._heats = {
            value: rescaled(evidence.maps["heat map"], level)
            if way == "auto"
            else evidence.maps["heat map"]
            for value, evidence in found.items()
        }
        self._draw()
        self._wants_check = self._checked != self._of and self._is_comparable()

    def _draw(self) -> None:
        heat = self._heats.get(self._value)
        prompt = self._session.state.document.text.get(self._value)
        if heat is None or prompt is None:
            self.layer.clear()
            return
        self.layer.show(
            self._plane, prompt.phrases[0], heat, self._shown_level(), self._value
        )
        self.hide_button.setEnabled(True)

    def _shown_level(self) -> float:
        return self.level if self.slider.isEnabled() else 0.5

    def _on_slid(self) -> None:
        self._show_level()
        if self._is_filling:
            self.layer.cut(self._shown_level())
            return
        self.layer.cut(self.level)
        if not self.slider.isSliderDown():
            self._rest.start()

    def _show_level(self) -> None:
        self.number.setText(f"{self.level:.2f}")

    def _is_comparable(self) -> bool:
        reading = self._session.state.document.reading
        here = installed_text_models()
        return kind_of(reading.model, reading.checkpoint, here) in COMPARABLE

    def _check(self) -> None:
        """Compare with nonsense, in the background."""
        if not self._wants_check or self._session.is_running:
            return
        self._wants_check = False
        try:
            self._session.check_text(self._plane, wait=False)
        except FewShotError as error:
            self.failed.emit(error)

    def _on_understood(self, plane: int, found: tuple[Understanding, ...]) -> None:
        self._verdicts = {row.value: row for row in found}
        self._checked = _read_as(self._session.state)
        self._show_verdict()

    def _show_verdict(self) -> None:
        state = self._session.state
        row = self._verdicts.get(self._value)
        holds = row is not None and self._checked == _read_as(state)
        text, tip, style = "", "", ""
        if holds and row is not None:
            text, tip, style = verdict_words(row)
        elif self._was_not_understood(state):
            text, style = f"⚠ {ADVICE}", AMBER
            tip = "Found in the last run. Show where tells more."
        self.verdict.setText(text)
        self.verdict.setToolTip(tip)
        self.verdict.setStyleSheet(style)
        self.verdict.setVisible(bool(text))

    def _was_not_understood(self, state: SessionState) -> bool:
        """Whether the last run said so of the phrase that is there now."""
        prediction = state.prediction
        prompt = state.document.text.get(self._value)
        if prediction is None or prompt is None:
            return False
        read = prediction.provenance.get("text", {}).get("phrases", {})
        phrase = read.get(str(self._value), {}).get("phrases", [None])[0]
        notes = prediction.provenance.get("notes", ())
        told = [str(n) for n in notes if str(n).endswith(ADVICE)]
        start = repr(prompt.phrases[0])[:40]
        return phrase == prompt.phrases[0] and any(n.startswith(start) for n in told)


def cut_of(reading: TextChoice) -> tuple[str, float]:
    """Return how maps are cut, and the least certainty."""
    params: Any = make_params(get_method(reading.method).spec.params, reading.params)
    return params.cut, float(params.level)


def percent(level: float) -> int:
    """Return where the slider is for a threshold."""
    return int(np.clip(round(100 * level), LEAST, MOST))


def rescaled(heat: FloatArray, level: float) -> FloatArray:
    """Return a heat map made at some level as it is at the level of one half.

    Parameters
    ----------
    heat : array (H, W)
        In [0, 1], moved in log-odds by the level.
    level : float
        The parameter of the run that made it.
    """
    if level == 0.5:
        return heat
    wanted = clipped_log_odds(np.array(level), SURE)
    return sigmoid(clipped_log_odds(heat, SURE) + wanted)


def verdict_words(row: Understanding) -> tuple[str, str, str]:
    """Return what a check says of a phrase, with tooltip and style."""
    tip = (
        "Correlation of its map with that of letters without meaning "
        f"{_number(row.nonsense_r)}, of no phrase {_number(row.empty_r)}, of its "
        f"opposite or other classes {_number(row.other_r)}; above 0.90 maps are the "
        f"same. The image fits the phrase better than nonsense by {row.gap:+.3f}."
    )
    if not np.isfinite(row.gap):
        tip = tip[: tip.index(" The image fits")]
    if row.verdict == NOT_UNDERSTOOD:
        return f"⚠ {ADVICE}", tip, AMBER
    if row.verdict == "unsure":
        return "? The model is unsure of this phrase: look at the map first.", tip, ""
    return "✓ The phrase makes a difference: nonsense gives another map.", tip, ""


def _number(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else "not known"


def _read_as(state: SessionState) -> tuple[Any, ...]:
    """Return what a heat map depends on; the threshold is no part of it."""
    document = state.document
    reading = document.reading
    params = sorted((k, repr(v)) for k, v in reading.params.items() if k != "level")
    array = None if state.query is None else id(state.query.array)
    how = (reading.method, reading.model, reading.checkpoint)
    return (repr(dict(document.text)), *how, params, array)
