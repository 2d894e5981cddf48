"""A form made from the fields of a parameters dataclass."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QSpinBox,
    QWidget,
)

from napari_fewshot.methods import default_of

LARGEST = 2**31 - 1


class ParamsForm(QWidget):  # type: ignore[misc]
    """One control per parameter, with its words, unit and limits."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._layout = QFormLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._controls: dict[str, QWidget] = {}
        self._defaults: dict[str, Any] = {}
        self._kept: dict[str, Any] = {}

    def show_params(self, cls: type, values: Mapping[str, Any]) -> None:
        """Build the form for a parameters class.

        Parameters
        ----------
        cls : type
            Frozen dataclass derived from `CommonParams`.
        values : mapping
            What differs from the defaults.
        """
        while self._layout.rowCount():
            self._layout.removeRow(0)
        hints = typing.get_type_hints(cls)
        self._controls, self._defaults, self._kept = {}, {}, {}
        for f in fields(cls):
            default = default_of(f)
            if f.metadata["advanced"]:
                # Set elsewhere; the form must not forget it.
                if values.get(f.name, default) != default:
                    self._kept[f.name] = values[f.name]
                continue
            value = values.get(f.name, default)
            control = _control(f, hints[f.name], value)
            unit = f.metadata["unit"]
            control.setToolTip(f.metadata["help"] + (f" Unit: {unit}." if unit else ""))
            label = f.name.replace("_", " ") + (f" ({unit})" if unit else "")
            self._layout.addRow(label, control)
            self._layout.labelForField(control).setToolTip(control.toolTip())
            _changed_signal(control).connect(lambda *_: self.changed.emit())
            self._controls[f.name] = control
            self._defaults[f.name] = default

    def values(self) -> dict[str, Any]:
        """Return what differs from the defaults."""
        found = {name: _value(control) for name, control in self._controls.items()}
        changed = {n: v for n, v in found.items() if v != self._defaults[n]}
        return {**self._kept, **changed}


def _control(f: Any, hint: Any, value: Any) -> QWidget:
    low, high = f.metadata["low"], f.metadata["high"]
    if typing.get_origin(hint) is Literal:
        choice = QComboBox()
        choice.addItems([str(a) for a in typing.get_args(hint)])
        choice.setCurrentText(str(value))
        return choice
    if hint is bool:
        box = QCheckBox()
        box.setChecked(bool(value))
        return box
    if hint is int:
        whole = QSpinBox()
        whole.setRange(int(low or 0), min(int(high or LARGEST), LARGEST))
        whole.setValue(int(value))
        return whole
    number = QDoubleSpinBox()
    number.setRange(float(low or 0), float(high or 1e9))
    number.setSingleStep(float(f.metadata["step"] or 1.0))
    number.setDecimals(2 if f.metadata["step"] else 0)
    number.setSpecialValueText(f.metadata["at_low"])
    # A limit per class is set in scripts; the form shows the largest.
    number.setValue(
        max(value.values(), default=0) if isinstance(value, Mapping) else value
    )
    return number


def _changed_signal(control: QWidget) -> Any:
    if isinstance(control, QComboBox):
        return control.currentTextChanged
    if isinstance(control, QCheckBox):
        return control.toggled
    return control.valueChanged


def _value(control: QWidget) -> Any:
    if isinstance(control, QComboBox):
        return control.currentText()
    if isinstance(control, QCheckBox):
        return control.isChecked()
    return control.value()
