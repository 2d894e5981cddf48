"""How: what `auto` chose, and a form to choose otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QPoint, Qt, QTimer, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_fewshot.errors import FewShotError
from napari_fewshot.methods import get_method, method_names
from napari_fewshot.methods._registry import TEXT_METHODS
from napari_fewshot.models import installed_models
from napari_fewshot.widgets._area_slider import AreaSlider
from napari_fewshot.widgets._params_form import ParamsForm

if TYPE_CHECKING:
    from napari_fewshot.session import Session, SessionState

# Pixels that stay visible above the form when it opens: its heading.
MARGIN = 40


class HowPanel(QWidget):  # type: ignore[misc]
    """One line that says how; **change** opens method, model and parameters.

    Parameters
    ----------
    session : Session
        Whose method is shown and set.
    """

    failed = Signal(object)

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._shown: str | None = None
        self._is_filling = False
        self.line = QLabel()
        self.line.setWordWrap(True)
        self.change = QToolButton()
        self.change.setText("change")
        self.change.setCheckable(True)
        self.change.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.change.setArrowType(Qt.ArrowType.RightArrow)
        self.change.setToolTip("Choose method, model and parameters.")
        self.method = QComboBox()
        # Methods that read phrases are chosen in the Text tab.
        self.method.addItems([n for n in method_names() if n not in TEXT_METHODS])
        self.method.setToolTip(
            "How objects are found; auto tries all on your supports."
        )
        self.model = QComboBox()
        self._installed: tuple[str, ...] = ()
        self._list_models("auto")
        self.model.setToolTip("Turns pixels into features, for methods that use one.")
        self.summary = QLabel()
        self.summary.setWordWrap(True)
        self.area = AreaSlider(session)
        self.form = ParamsForm()
        self.reset = QPushButton("Reset to defaults")
        self.reset.setToolTip("Forget all changes of parameters.")
        self._build()

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        row = QHBoxLayout()
        row.addWidget(self.line, 1)
        row.addWidget(self.change)
        layout.addLayout(row)
        layout.addWidget(self.area)
        self.details = QWidget()
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("method", self.method)
        form.addRow("model", self.model)
        inner = QVBoxLayout(self.details)
        inner.setContentsMargins(0, 0, 0, 0)
        inner.addLayout(form)
        inner.addWidget(self.summary)
        inner.addWidget(self.form)
        inner.addWidget(self.reset)
        layout.addWidget(self.details)
        self.details.hide()
        self.change.toggled.connect(self._on_change)
        self.method.currentTextChanged.connect(self._on_method)
        self.model.currentTextChanged.connect(self._on_model)
        self.form.changed.connect(self._on_params)
        self.reset.clicked.connect(self._on_reset)
        self.area.failed.connect(self.failed)

    def _list_models(self, chosen: str) -> None:
        """List the models on this machine, and the chosen one wherever it is."""
        found = dict.fromkeys(("auto", *installed_models(), chosen))
        if tuple(found) != self._installed:
            self._installed = tuple(found)
            self.model.clear()
            self.model.addItems(self._installed)

    def show_state(self, state: SessionState) -> None:
        """Show the method of a state."""
        document, prediction = state.document, state.prediction
        text = document.method
        if prediction is not None and prediction.provenance.get("method") == text:
            text += f": {prediction.choice}" if prediction.choice else ""
        elif document.text and not state.supports:
            text = "by your words: see the Text tab"
        elif text == "auto":
            text += ": tries all methods on your supports"
        self.line.setText(text)
        self.area.show_state(state)
        self._is_filling = True
        self.method.setCurrentText(document.method)
        self._list_models(document.model)
        self.model.setCurrentText(document.model)
        spec = get_method(document.method).spec
        self.model.setEnabled(spec.uses_model)
        self.summary.setText(spec.summary)
        if self._shown != document.method or self.form.values() != dict(
            document.params
        ):
            self.form.show_params(spec.params, document.params)
            self._shown = document.method
        self._is_filling = False

    def _on_change(self, is_open: bool) -> None:
        self.details.setVisible(is_open)
        arrow = Qt.ArrowType.DownArrow if is_open else Qt.ArrowType.RightArrow
        self.change.setArrowType(arrow)
        if is_open:
            # Once the layout knows how large the form is.
            QTimer.singleShot(0, self._scroll_here)

    def _scroll_here(self) -> None:
        """Bring the form into view: it opens at the bottom of the dock."""
        parent = self.parentWidget()
        while parent is not None and not isinstance(parent, QScrollArea):
            parent = parent.parentWidget()
        if parent is not None and parent.widget() is not None:
            top = self.mapTo(parent.widget(), QPoint(0, 0)).y()
            parent.verticalScrollBar().setValue(top - MARGIN)

    def _on_method(self, name: str) -> None:
        if not self._is_filling:
            self._set(method=name)

    def _on_model(self, name: str) -> None:
        if not self._is_filling:
            self._set(model=name)

    def _on_params(self) -> None:
        if not self._is_filling:
            self._set(params=self.form.values())

    def _on_reset(self) -> None:
        self._shown = None
        self._set(params={})

    def _set(self, **choice: object) -> None:
        try:
            self._session.set_method(**choice)  # type: ignore[arg-type]
        except (FewShotError, TypeError, ValueError) as error:
            self.failed.emit(error)
