"""Size: how much of the plane the target should cover, with the mask following."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSlider, QWidget

from napari_fewshot.errors import FewShotError
from napari_fewshot.session._sizing import NAME, can_redraw, has_size

if TYPE_CHECKING:
    from napari_fewshot.session import Session, SessionState

# Steps of the slider; small sizes have most of them.
STEPS = 200
AS_FOUND = "as found"
TIP = (
    "How much of the plane each class should cover; all the way to the left it is as "
    "found. Arrow keys move it."
)
AT_ONCE = " The masks follow at once, and the next run uses it."
LATER = (
    " The next run uses it; masks follow at once where the result is of a single "
    "plane and nothing in it was made by hand."
)


class AreaSlider(QWidget):  # type: ignore[misc]
    """Sets the size of the target; hidden where the method takes none.

    Parameters
    ----------
    session : Session
        Whose method and result are changed.
    """

    failed = Signal(object)

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._is_filling = False
        title = QLabel("Size")
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, STEPS)
        self.slider.setPageStep(STEPS // 20)
        self.slider.setAccessibleName("Size of the target")
        self.number = QLabel(AS_FOUND)
        # The widest text, so that the slider does not change its length while it moves.
        self.number.setMinimumWidth(self.number.sizeHint().width())
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(title)
        row.addWidget(self.slider, 1)
        row.addWidget(self.number)
        self._parts = (title, self.slider, self.number)
        self.slider.valueChanged.connect(self._on_slid)
        self.slider.sliderReleased.connect(self._on_released)

    def show_state(self, state: SessionState) -> None:
        """Follow a state."""
        document = state.document
        self.setVisible(has_size(document.method))
        self.slider.setEnabled(not state.running)
        for part in self._parts:
            part.setToolTip(TIP + (AT_ONCE if can_redraw(document) else LATER))
        value = step_of(float(document.params.get(NAME, 0.0)))
        if not self.slider.isSliderDown() and value != self.slider.value():
            self._is_filling = True
            self.slider.setValue(value)
            self._is_filling = False
        self._show_number()

    def _on_slid(self) -> None:
        self._show_number()
        if not self._is_filling:
            self._set(live=self.slider.isSliderDown())

    def _on_released(self) -> None:
        self._set(live=False)

    def _set(self, *, live: bool) -> None:
        try:
            self._session.set_target_area(percent_of(self.slider.value()), live=live)
        except (FewShotError, TypeError, ValueError) as error:
            self.failed.emit(error)

    def _show_number(self) -> None:
        percent = percent_of(self.slider.value())
        self.number.setText(f"{percent:.4g} %" if percent else AS_FOUND)


def percent_of(step: int) -> float:
    """Return the share of the plane that a step of the slider stands for."""
    return min(99.0, round(100 * (step / STEPS) ** 2, 2))


def step_of(percent: float) -> int:
    """Return the step that is nearest to a share of the plane."""
    root: float = (percent / 100) ** 0.5
    return round(STEPS * root)
