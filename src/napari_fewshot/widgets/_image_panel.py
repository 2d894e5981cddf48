"""Which image, and which planes of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QGridLayout,
    QLineEdit,
    QRadioButton,
    QWidget,
)

from napari_fewshot.errors import DataError, FewShotError
from napari_fewshot.viewer._layers import image_layers

if TYPE_CHECKING:
    from napari_fewshot.data import Image
    from napari_fewshot.viewer._binding import Binding

ALL_SELECTED = "all selected layers"
# Planes with a side of so many pixels may be segmented in part.
LARGE = 1024


class ImagePanel(QWidget):  # type: ignore[misc]
    """Choose the query: a layer, its channels and level, and its planes.

    Parameters
    ----------
    binding : Binding
        Told what was chosen.
    """

    failed = Signal(object)
    chosen = Signal()

    def __init__(self, binding: Binding, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._binding = binding
        self._layers: list[Any] = []
        self._image: Image | None = None
        self.error: Exception | None = None
        self._is_filling = False
        self.layer = QComboBox()
        self.layer.setToolTip("The image to segment.")
        self.layer.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.layer.setMinimumContentsLength(12)
        self.level = QComboBox()
        self.level.setToolTip(
            "Level of a multiscale image; level 0 is the finest, auto the one whose "
            "pixels are like those of the supports."
        )
        self.channels = QLineEdit()
        self.channels.setToolTip("Channels to use, counted from 0; empty is all.")
        self.channels.setPlaceholderText("all")
        self.this_plane = QRadioButton("this plane")
        self.this_plane.setToolTip("Segment the plane that the viewer shows.")
        self.whole = QRadioButton("whole stack")
        self.whole.setToolTip("Segment every plane that is not accepted yet.")
        self.some = QRadioButton("planes")
        self.some.setToolTip("Segment some planes, for example 3-12, 20.")
        self.range = QLineEdit()
        self.range.setPlaceholderText("3-12, 20")
        self.range.setToolTip("Planes, counted from 0, for example 3-12, 20.")
        self.whole.setChecked(True)
        self.in_view = QCheckBox("only the part in view")
        self.in_view.setToolTip(
            "Segment only what the canvas shows now; what was found elsewhere stays."
        )
        self.in_view.toggled.connect(self._on_part)
        self._build()
        self.refresh()

    def _build(self) -> None:
        self._planes = QWidget()
        grid = QGridLayout(self._planes)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.addWidget(self.whole, 0, 0)
        grid.addWidget(self.this_plane, 0, 1)
        grid.addWidget(self.some, 1, 0)
        grid.addWidget(self.range, 1, 1)
        grid.setColumnStretch(1, 1)
        self._form = QFormLayout(self)
        self._form.setContentsMargins(0, 0, 0, 0)
        self._form.setFieldGrowthPolicy(
            QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow
        )
        self._form.addRow("Image", self.layer)
        self._form.addRow("Level", self.level)
        self._form.addRow("Channels", self.channels)
        self._form.addRow("Segment", self._planes)
        self._form.addRow("", self.in_view)
        self.layer.currentIndexChanged.connect(self._on_layer_chosen)
        self.level.currentIndexChanged.connect(self._on_layer_chosen)
        self.channels.editingFinished.connect(self._on_layer_chosen)
        self.range.textEdited.connect(lambda _: self.some.setChecked(True))
        for button in (self.this_plane, self.whole, self.some):
            button.toggled.connect(lambda on: self.chosen.emit() if on else None)
        self.range.textEdited.connect(lambda _: self.chosen.emit())

    @property
    def image(self) -> Image | None:
        """The checked image; None when it can't be used."""
        current = self._binding.session.state.query
        mine = None if self._image is None else self._image.levels
        if current is None or mine is None or current.levels is None:
            return self._image
        # With new supports the level may have changed since it was chosen.
        is_same = current.levels.arrays[0] is mine.arrays[0]
        return current if is_same else self._image

    @property
    def is_all_selected(self) -> bool:
        """Whether every selected image layer is wanted."""
        return bool(self.layer.currentText().startswith(ALL_SELECTED))

    def refresh(self) -> None:
        """Fill the list of layers anew; the choice stays if it can."""
        self._is_filling = True
        current = self._current_layer()
        self._layers = image_layers(self._binding.viewer)
        self.layer.clear()
        self.layer.addItems([layer.name for layer in self._layers])
        count = len(self.selected_layers())
        if count > 1:
            self.layer.addItem(f"{ALL_SELECTED} ({count})")
        wanted = current if current in self._layers else self._active_layer()
        if wanted in self._layers:
            self.layer.setCurrentIndex(self._layers.index(wanted))
        self._is_filling = False
        if wanted is not current or self._image is None:
            self._on_layer_chosen()

    def choose(self, layer: Any) -> None:
        """Choose a layer."""
        if layer in self._layers:
            self.layer.setCurrentIndex(self._layers.index(layer))

    def selected_layers(self) -> list[Any]:
        """Return the selected image layers, top first."""
        selection = self._binding.viewer.layers.selection
        return [layer for layer in self._layers if layer in selection]

    def planes(self) -> list[int] | None:
        """Return the chosen planes; None is all.

        Raises
        ------
        DataError
            If the text does not name planes of the image.
        """
        if self._image is None or self._image.n_planes == 1 or self.whole.isChecked():
            return None
        if self.this_plane.isChecked():
            return [self._binding.plane_shown()]
        return parse_planes(self.range.text(), self._image.n_planes)

    def _current_layer(self) -> Any:
        at = self.layer.currentIndex()
        return self._layers[at] if 0 <= at < len(self._layers) else None

    def _active_layer(self) -> Any:
        active = self._binding.viewer.layers.selection.active
        if active in self._layers:
            return active
        return self._layers[0] if self._layers else None

    def _on_layer_chosen(self, *_: Any) -> None:
        if self._is_filling:
            return
        layer = self._current_layer()
        if layer is None:
            self._image = None if not self.is_all_selected else self._image
            self._show_rows()
            self.chosen.emit()
            return
        try:
            text = self.channels.text().strip()
            channels = [int(c) for c in re.split(r"[,\s]+", text)] if text else None
            row = self.level.currentIndex() if layer.multiscale else 0
            level = "auto" if row < 1 else row - 1
            self._image = self._binding.set_query(layer, level=level, channels=channels)
            self.error = None
        except (FewShotError, ValueError) as error:
            self._image, self.error = None, error
        self.failed.emit(self.error)
        self._show_rows()
        self.chosen.emit()

    def _show_rows(self) -> None:
        layer = self._current_layer()
        is_multiscale = layer is not None and layer.multiscale
        if is_multiscale and self.level.count() != len(layer.data) + 1:
            self._is_filling = True
            self.level.clear()
            self.level.addItem("auto")
            for number, data in enumerate(layer.data):
                size = " x ".join(map(str, np.shape(data)))
                self.level.addItem(f"{number} ({size})")
            self._is_filling = False
        has_channels = self._image is not None and len(self._image.channels) > 0
        is_rgb = layer is not None and layer.rgb
        many = bool(self.channels.text()) or (has_channels and not is_rgb)
        self._form.setRowVisible(self.level, is_multiscale)
        self._form.setRowVisible(self.channels, many or self._needs_channels(layer))
        has_stack = self._image is not None and self._image.n_planes > 1
        self._form.setRowVisible(self._planes, has_stack)
        shape = (0, 0) if self._image is None else self._image.plane_shape
        self._form.setRowVisible(self.in_view, max(shape) >= LARGE)
        self._on_part()

    def _on_part(self, *_: Any) -> None:
        is_there = self._form.isRowVisible(self.in_view)
        self._binding.only_view = is_there and self.in_view.isChecked()

    def _needs_channels(self, layer: Any) -> bool:
        """Whether the image was refused for its many channels."""
        return (
            layer is not None
            and self._image is None
            and "c" in "".join(map(str, layer.axis_labels))
        )


def parse_planes(text: str, count: int) -> list[int]:
    """Return plane numbers from text such as ``3-12, 20``.

    Raises
    ------
    DataError
        If the text names no plane, or one that does not exist.
    """
    planes: list[int] = []
    for part in filter(None, re.split(r"[,;\s]+", text.strip())):
        found = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if found is None:
            raise DataError(f"{part!r} is not a plane. Type planes like 3-12, 20.")
        first, last = int(found[1]), int(found[2] or found[1])
        planes += range(first, last + 1)
    if not planes:
        raise DataError("No plane was chosen. Type planes like 3-12, 20.")
    bad = [p for p in planes if p >= count]
    if bad:
        raise DataError(f"Plane {bad[0]} does not exist: planes are 0 to {count - 1}.")
    return sorted(set(planes))
