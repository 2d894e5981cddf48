"""What is measured: a Labels layer, its image, and what counts as an object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QComboBox, QFormLayout, QWidget

from napari_fewshot.viewer._layers import KEY, image_layers
from napari_fewshot.viewer._measured import AUTO, RUN, SAID, image_of, measurable

if TYPE_CHECKING:
    import napari

NO_IMAGE = "none"


class MeasureChoices(QWidget):  # type: ignore[misc]
    """Three lists, filled from the layers of a viewer.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Whose layers.
    """

    def __init__(
        self, viewer: napari.viewer.Viewer, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._labels: list[Any] = []
        self._images: list[Any] = []
        self._is_filling = False
        self.labels, self.image, self.objects = _combo(), _combo(), _combo()
        self.labels.setToolTip("The Labels layer whose objects are measured.")
        self.image.setToolTip("The image for intensities and the pixel size.")
        self.objects.setToolTip(
            "What an object is. automatic: the objects of the run if it made any; "
            "else the number in the layer if there are many numbers, or the connected "
            "pieces of each class."
        )
        for name, how in (("automatic", AUTO), *((SAID[h], h) for h in SAID)):
            self.objects.addItem(name, how)
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Labels", self.labels)
        form.addRow("Image", self.image)
        form.addRow("Objects", self.objects)
        self.labels.currentIndexChanged.connect(self._on_labels)

    @property
    def has_labels(self) -> bool:
        """Whether there is anything to measure."""
        return bool(self._labels)

    @property
    def layer(self) -> Any:
        """The chosen Labels layer; None without."""
        at = self.labels.currentIndex()
        return self._labels[at] if 0 <= at < len(self._labels) else None

    @property
    def image_layer(self) -> Any:
        """The chosen image layer; None without."""
        at = self.image.currentIndex() - 1
        return self._images[at] if 0 <= at < len(self._images) else None

    @property
    def how(self) -> str:
        """What counts as an object."""
        return str(self.objects.currentData())

    @property
    def preferred(self) -> Any:
        """The selected Labels layer, else the latest result, else the top one."""
        active = self._viewer.layers.selection.active
        if active in self._labels:
            return active
        marks = [(x, x.metadata.get(KEY, {})) for x in self._labels]
        results = [x for x, m in marks if m and m.get("role") == "result"]
        return next(iter([*results, *self._labels]), None)

    def refresh(self) -> None:
        """List the layers anew; what is chosen stays if it can."""
        kept, image = self.layer, self.image_layer
        labels, images = measurable(self._viewer), image_layers(self._viewer)
        self._is_filling = True
        self._labels, self._images = labels, images
        self.labels.clear()
        self.labels.addItems([layer.name for layer in labels])
        self.image.clear()
        self.image.addItems([NO_IMAGE, *(layer.name for layer in images)])
        wanted = kept if kept in labels else self.preferred
        if wanted is not None:
            self.labels.setCurrentIndex(labels.index(wanted))
        if kept is not None and wanted is kept and image in images:
            self.image.setCurrentIndex(1 + images.index(image))
        self._is_filling = False
        if wanted is not kept or (image is not None and image not in images):
            self._on_labels()

    def choose(self, layer: Any) -> None:
        """Choose a Labels layer, and the image that belongs to it."""
        if layer in self._labels:
            self.labels.setCurrentIndex(self._labels.index(layer))
            self._offer_run(layer)

    def result_of(self, layer: Any) -> tuple[Any, bool]:
        """Return the result that a layer shows, and whether it was corrected.

        Parameters
        ----------
        layer : napari Labels layer
            Of a run, or any other: that has no result.
        """
        for widget in self._viewer.window.dock_widgets.values():
            binding = getattr(widget, "binding", None)
            if binding is not None and binding.result_layer is layer:
                state = binding.session.state
                is_edited = bool(state.accepted or state.document.rejected)
                return state.prediction, is_edited
        return None, False

    def _on_labels(self, *_: Any) -> None:
        """Choose the image that belongs to the chosen labels."""
        layer = self.layer
        if self._is_filling or layer is None:
            return
        found = image_of(self._viewer, layer)
        at = 1 + self._images.index(found) if found in self._images else 0
        self.image.setCurrentIndex(at)
        self._offer_run(layer)

    def _offer_run(self, layer: Any) -> None:
        """Offer the objects of the run where there are some."""
        prediction, _ = self.result_of(layer)
        has_objects = getattr(prediction, "instances", None) is not None
        at = self.objects.findData(RUN)
        self.objects.model().item(at).setEnabled(has_objects)
        if not has_objects and self.objects.currentIndex() == at:
            self.objects.setCurrentIndex(self.objects.findData(AUTO))


def _combo() -> QComboBox:
    found = QComboBox()
    found.setSizeAdjustPolicy(
        QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
    )
    found.setMinimumContentsLength(10)
    return found
