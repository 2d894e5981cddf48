"""Who reads the phrases, and what they count beside supports."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_fewshot.methods import get_method
from napari_fewshot.methods._registry import TEXT_METHODS
from napari_fewshot.models import get_model_spec, installed_text_models
from napari_fewshot.widgets._params_form import ParamsForm

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_fewshot.data import TextChoice
    from napari_fewshot.session import SessionState

# The smallest of those that any computer reads with, free for any use.
OFFERED = "clip/laion_vit_b_16"
SHARES = {
    "learnt": ("as much as they help", "Words count what they bring on the supports."),
    "equal": ("as much as supports", "Words and supports count the same."),
    "gate": (
        "only whether it is there",
        "Words say which planes hold the class; supports say where it is.",
    ),
    "alone": ("alone, without supports", "Supports are left out."),
}


class ReadingPanel(QWidget):  # type: ignore[misc]
    """One line that says who reads; **change** opens model, method and parameters."""

    # What was chosen: arguments of `Session.set_text`.
    changed = Signal(dict)
    wanted = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._is_filling = False
        self._reading: TextChoice | None = None
        self._form_of = ""
        self.offer = QLabel(offer_words())
        self.offer.setWordWrap(True)
        self.get_button = QPushButton("Get")
        self.get_button.setToolTip("Open the dock Models with this model selected.")
        self.share = QComboBox()
        self.share.setToolTip("What words count beside your supports.")
        for name, (title, tip) in SHARES.items():
            self.share.addItem(title, name)
            last = self.share.count() - 1
            self.share.setItemData(last, tip, Qt.ItemDataRole.ToolTipRole)
        self.line = QLabel()
        self.line.setWordWrap(True)
        self.change = QToolButton()
        self.change.setText("change")
        self.change.setCheckable(True)
        self.change.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.change.setArrowType(Qt.ArrowType.RightArrow)
        self.change.setToolTip("Choose model, method and parameters for words.")
        self.model = QComboBox()
        self.model.setToolTip("Who compares words with pixels; auto: the best here.")
        self.method = QComboBox()
        self.method.setToolTip("How the model is asked where a phrase fits.")
        for box in (self.share, self.model, self.method):
            box.setSizeAdjustPolicy(
                QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
            )
            box.setMinimumContentsLength(8)
        self.form = ParamsForm()
        self._build()

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.missing = QWidget()
        row = QHBoxLayout(self.missing)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.offer, 1)
        row.addWidget(self.get_button)
        self.beside = QWidget()
        row = QHBoxLayout(self.beside)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(QLabel("Words count"))
        row.addWidget(self.share, 1)
        layout.addWidget(self.beside)
        row = QHBoxLayout()
        row.addWidget(self.line, 1)
        row.addWidget(self.change)
        layout.addLayout(row)
        self.details = QWidget()
        inner = QVBoxLayout(self.details)
        inner.setContentsMargins(0, 0, 0, 0)
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("model", self.model)
        form.addRow("method", self.method)
        inner.addLayout(form)
        inner.addWidget(self.form)
        layout.addWidget(self.details)
        self.details.hide()
        self.change.toggled.connect(self._on_change)
        self.get_button.clicked.connect(lambda: self.wanted.emit(OFFERED))
        self.share.activated.connect(
            lambda _: self._tell(share=self.share.currentData())
        )
        self.model.activated.connect(lambda _: self._on_model())
        self.method.activated.connect(
            lambda _: self._tell(method=self.method.currentData())
        )
        self.form.changed.connect(lambda: self._tell(params=self.form.values()))

    def show_state(self, state: SessionState) -> None:
        """Show how phrases are read."""
        reading = self._reading = state.document.reading
        here = installed_text_models()
        named = reading.checkpoint or reading.model != "auto"
        self.missing.setVisible(not here and not named)
        self.change.setVisible(bool(here or named))
        self.beside.setVisible(bool(state.supports and state.document.text))
        self.setVisible(bool(here or named or state.supports))
        self.line.setVisible(bool(here or named))
        self.line.setText(f"Read by {reader_words(reading, here)}")
        self.line.setToolTip(str(reading.checkpoint or ""))
        self._is_filling = True
        self.share.setCurrentIndex(max(self.share.findData(reading.share), 0))
        if self.details.isVisibleTo(self):
            self._show_details(reading, here)
        self._is_filling = False

    def _show_details(self, reading: TextChoice, here: tuple[str, ...]) -> None:
        models = {"auto": "auto"} | {name: name for name in here}
        # Weights of one's own are no model of the list.
        own = reading.model if reading.model != "auto" else "own weights"
        if reading.checkpoint:
            models[reading.model] = f"{own}: {Path(reading.checkpoint).name}"
        models.setdefault(reading.model, reading.model)
        fill(self.model, models, reading.model)
        methods = fitting_methods(reading, here)
        fill(self.method, methods, reading.method)
        is_same = self.form.values() == dict(reading.params)
        if self._form_of != reading.method or not is_same:
            spec = get_method(reading.method).spec
            self.form.show_params(spec.params, reading.params)
            self._form_of = reading.method

    def _on_change(self, is_open: bool) -> None:
        self.details.setVisible(is_open)
        arrow = Qt.ArrowType.DownArrow if is_open else Qt.ArrowType.RightArrow
        self.change.setArrowType(arrow)
        if is_open and self._reading is not None:
            self._is_filling = True
            self._show_details(self._reading, installed_text_models())
            self._is_filling = False
        self.updateGeometry()

    def _on_model(self) -> None:
        name = self.model.currentData()
        kind = kind_of(name, None, installed_text_models())
        method = "text" if self._reading is None else self._reading.method
        fits = getattr(get_method(method), "model_kinds", ("clip",))
        # A method that another kind of model needs would fail in the run.
        more = {} if kind in fits else {"method": "text"}
        self._tell(model=name, **more)

    def _tell(self, **choice: Any) -> None:
        if not self._is_filling:
            self.changed.emit(choice)


def fill(box: QComboBox, items: Mapping[str, str], chosen: str) -> None:
    """List named things anew if they are others, and go to the chosen one."""
    if {box.itemData(i): box.itemText(i) for i in range(box.count())} != items:
        box.clear()
        for name, title in items.items():
            box.addItem(title, name)
    box.setCurrentIndex(max(box.findData(chosen), 0))


def kind_of(model: str, checkpoint: str | None, here: tuple[str, ...]) -> str:
    """Return the kind of a text model; see `ModelSpec.text`."""
    if model != "auto":
        return get_model_spec(model).text
    return "clip" if checkpoint or not here else get_model_spec(here[0]).text


def fitting_methods(reading: TextChoice, here: tuple[str, ...]) -> dict[str, str]:
    """Return the methods that work with a model, by name, with their titles."""
    kind = kind_of(reading.model, reading.checkpoint, here)
    fitting = [
        name
        for name in TEXT_METHODS
        if kind in getattr(get_method(name), "model_kinds", ("clip",))
    ]
    found = {n: "auto" if n == "text" else n for n in fitting}
    found.setdefault(reading.method, reading.method)
    return found


def reader_words(reading: TextChoice, here: tuple[str, ...]) -> str:
    """Return who reads, in a few words."""
    if reading.checkpoint:
        words = Path(reading.checkpoint).name
    elif reading.model == "auto":
        words = f"{here[0]} (auto)" if here else "no model yet"
    else:
        words = reading.model
    return words if reading.method == "text" else f"{words}, {reading.method}"


def offer_words() -> str:
    """Return the line that says what is missing."""
    spec = get_model_spec(OFFERED)
    return (
        f"Reading text needs a model: CLIP ViT-B/16 ({spec.size_mb:.0f} MB, "
        f"{spec.licence})."
    )
